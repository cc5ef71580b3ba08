"""What each id of a vocabulary is good for: whether any text becomes it, and whether it is text at all.

Source: the tokenizer analysis of Land & Bartolo 2024 ("Fishing for Magikarp", section 2.1), which asks whether an id
survives decoding and encoding. Here an id counts as reachable when it comes back in any of a few contexts: a piece that
continues words never comes back alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .tokenizer import Tokenizer

KINDS = (
    "reachable",
    "special",  # a control token
    "byte",  # one byte of a character, or a byte where a vocabulary of pieces falls back on bytes
    "undecodable",  # several bytes that are no characters: not UTF-8 on their own
    "unreachable",  # its text becomes one other id
    "unreachable, split",  # its text becomes several ids
    "empty",  # no token has the id
)
_REACHABLE, _SPECIAL, _BYTE, _UNDECODABLE, _SINGLE, _SPLIT, _EMPTY = range(len(KINDS))
# Bytes that are in no UTF-8 text, so that their ids are never trained on: references for free.
NEVER_IN_UTF8 = (0xC0, 0xC1, *range(0xF5, 0x100))
_FALLBACK = re.compile("<0x[0-9A-F]{2}>")
_CONTEXTS = ("{}", " {}", "a{}", "«{}", "1{}", "z{}", "\n{}", "{}a", "中{}")


@dataclass(frozen=True)
class TokenKinds:
    """Each id's kind.

    kinds: int8 (V,), places in KINDS.
    becomes: of each unreachable id, the ids that its text becomes.
    """

    kinds: NDArray[np.int8]
    becomes: dict[int, list[int]]

    def ids(self, kind: str) -> NDArray[np.int64]:
        """The ids of a kind of KINDS, ascending."""
        return np.flatnonzero(self.kinds == KINDS.index(kind))

    def counts(self) -> dict[str, int]:
        return {name: int((self.kinds == place).sum()) for place, name in enumerate(KINDS)}

    def to_json(self) -> dict[str, Any]:
        return {
            "counts": self.counts(),
            "unreachable": {str(number): ids for number, ids in self.becomes.items()},
        }


def token_kinds(tokenizer: Tokenizer, threads: int | None = None) -> TokenKinds:
    """The kind of every id, found by decoding and encoding it."""
    size = tokenizer.vocab_size
    kinds = np.full(size, _REACHABLE, dtype=np.int8)
    kinds[list(tokenizer.special_tokens.values())] = _SPECIAL
    pieces: dict[int, str] = {}
    for number in range(size):
        name = tokenizer.id_to_token(number)
        if name is None:
            kinds[number] = _EMPTY
        elif _FALLBACK.fullmatch(name):
            kinds[number] = _BYTE
        elif kinds[number] != _SPECIAL:
            data = token_bytes(tokenizer, number)
            try:
                pieces[number] = data.decode("utf-8")
            except UnicodeDecodeError:
                kinds[number] = _BYTE if len(data) == 1 else _UNDECODABLE
    becomes = _unreachable(tokenizer, pieces, threads)
    for number, ids in becomes.items():
        kinds[number] = _SINGLE if len(ids) == 1 else _SPLIT
    return TokenKinds(kinds, becomes)


def token_bytes(tokenizer: Tokenizer, number: int) -> bytes:
    """The bytes of text that an id stands for inside a text: of a word's beginning, with the space before it."""
    name = tokenizer.id_to_token(number)
    assert name is not None
    if _FALLBACK.fullmatch(name):
        return bytes([int(name[3:5], 16)])
    return tokenizer.specification.model.bytes_of(name)


def token_text(tokenizer: Tokenizer, number: int) -> str:
    """The same as text to show; what is no UTF-8 is written out (`\\xe4`)."""
    return token_bytes(tokenizer, number).decode("utf-8", "backslashreplace")


def byte_ids(tokenizer: Tokenizer, values: Sequence[int]) -> list[int]:
    """The ids of single bytes, those that the vocabulary has."""
    wanted = {bytes([value]) for value in values}
    return [
        number
        for number in range(tokenizer.vocab_size)
        if tokenizer.id_to_token(number) is not None and token_bytes(tokenizer, number) in wanted
    ]


def _unreachable(tokenizer: Tokenizer, pieces: dict[int, str], threads: int | None) -> dict[int, list[int]]:
    """The ids that come back in no context, with what their text becomes alone."""
    left, alone = list(pieces), {}
    for context in _CONTEXTS:
        encoded = tokenizer.encode_batch(
            [context.format(pieces[number]) for number in left], threads, parse_special=False
        )
        if context == _CONTEXTS[0]:
            alone = {number: ids.tolist() for number, ids in zip(left, encoded, strict=True)}
        left = [number for number, ids in zip(left, encoded, strict=True) if number not in ids]
    return {number: alone[number] for number in left}
