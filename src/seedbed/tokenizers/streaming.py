"""Text of ids that arrive one after another, as a generating model gives them."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from typing import Protocol


class Decoder(Protocol):
    """What a tokenizer needs to be streamed from."""

    @property
    def text_is_bytes(self) -> bool: ...
    def token_bytes(self, number: int, skip_special_tokens: bool = False) -> bytes: ...
    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str: ...
    def decode_bytes(self, ids: list[int], skip_special_tokens: bool = False) -> bytes: ...


class StreamDecoder:
    """Gives out whole characters only: a token that ends inside of one waits for the rest of it.

    All pieces joined are what `decode` makes of all ids. A piece is what the text grows by when its ids are decoded
    behind those before them, so tokens that are written otherwise at the start of a text come out right.
    """

    def __init__(self, tokenizer: Decoder, skip_special_tokens: bool = False) -> None:
        self._tokenizer, self._skip = tokenizer, skip_special_tokens
        self._plain = tokenizer.text_is_bytes  # no token is written otherwise than it stands
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._given: list[int] = []  # the ids of the piece before
        self._waiting: list[int] = []

    def push(self, ids: int | Iterable[int]) -> str:
        """The characters that these ids complete; "" if there are none yet.

        Raises:
            DataError: an id is not in the vocabulary.
        """
        new = [int(number) for number in ids] if isinstance(ids, Iterable) else [int(ids)]
        if self._plain:
            return self._utf8.decode(b"".join([self._tokenizer.token_bytes(number, self._skip) for number in new]))
        data = self._tokenizer.decode_bytes(new, self._skip)
        if not data:  # left out, or no id at all
            return ""
        self._waiting += new
        self._utf8.decode(data)
        return "" if self._utf8.getstate()[0] else self._give()

    def finish(self) -> str:
        """What is left: the beginning of a character that never ended becomes U+FFFD. The decoder starts anew."""
        piece = self._utf8.decode(b"", True) if self._plain else self._give() if self._waiting else ""
        self.__init__(self._tokenizer, self._skip)  # type: ignore[misc]
        return piece

    def _give(self) -> str:
        before = self._tokenizer.decode(self._given, self._skip) if self._given else ""
        text = self._tokenizer.decode(self._given + self._waiting, self._skip)
        self._given, self._waiting = self._waiting, []
        return text[len(before) :]
