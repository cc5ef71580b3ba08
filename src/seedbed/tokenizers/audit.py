"""What a tokenizer costs on given texts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

import numpy as np

from ..core.errors import DataError
from .tokenizer import Tokenizer


class Fertility(TypedDict):
    """Counts over some texts, and their ratios."""

    texts: int
    words: int  # between white space
    characters: int
    bytes: int
    tokens: int
    tokens_per_word: float  # "fertility" (Rust et al. 2021, section 4.1)
    bytes_per_token: float  # compression
    characters_per_token: float
    continued_words: float  # share of words that became more than one token
    unused_tokens: int  # ids, control tokens aside, that these texts never use


def fertility(tokenizer: Tokenizer, texts: Iterable[str], threads: int | None = None) -> Fertility:
    """Measure `tokenizer` on `texts`. Control tokens that texts spell count as ordinary text.

    Raises:
        DataError: there is no word in the texts.
    """
    listed = list(texts)
    words = [word for text in listed for word in text.split()]
    if not words:
        raise DataError("there is no word to measure the tokenizer on")
    ids = tokenizer.encode_batch(listed, threads, parse_special=False).values
    # A word as it stands inside a text: with the space before it.
    per_word = tokenizer.encode_batch([f" {word}" for word in words], threads, parse_special=False).lengths
    used = np.zeros(tokenizer.vocab_size, dtype=bool)
    used[ids] = True
    used[list(tokenizer.special_tokens.values())] = True
    characters = sum(map(len, listed))
    size = sum(len(text.encode("utf-8")) for text in listed)
    return Fertility(
        texts=len(listed),
        words=len(words),
        characters=characters,
        bytes=size,
        tokens=len(ids),
        tokens_per_word=len(ids) / len(words),
        bytes_per_token=size / len(ids),
        characters_per_token=characters / len(ids),
        continued_words=float((per_word > 1).mean()),
        unused_tokens=int((~used).sum()),
    )
