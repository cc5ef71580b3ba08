"""Runs of words as numbers: what word lists and evaluation sets are looked up by.

Words are those of the native shingler: letters, marks and numbers in lower case, all else parts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .. import _native

_BASE = np.uint64(0x9E6C63D0876A9A47)


def word_hashes(texts: Sequence[str]) -> list[NDArray[np.uint64]]:
    """The hash of each word of each text, in order."""
    hashes, offsets = _native.word_hashes(list(texts))
    return [hashes[start:end] for start, end in pairwise(offsets.tolist())]


def run_hashes(words: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    """The hash of each run of `length` words (max(0, len(words) - length + 1),)."""
    count = max(0, len(words) - length + 1)
    runs = np.zeros(count, np.uint64)
    for start in range(length):
        runs = runs * _BASE + words[start : start + count]
    return runs


class WordList:
    """Words and phrases to count in texts.

    Args:
        lines: one word or phrase each; empty ones and those that begin with '#' are left out.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        by_length: dict[int, list[np.uint64]] = {}
        listed = [line for line in map(str.strip, lines) if line and not line.startswith("#")]
        for words in word_hashes(listed):
            if len(words):
                by_length.setdefault(len(words), []).append(run_hashes(words, len(words))[0])
        self._by_length = {length: np.unique(np.array(hashes)) for length, hashes in by_length.items()}

    def __len__(self) -> int:
        return sum(map(len, self._by_length.values()))

    def count(self, texts: Sequence[str]) -> list[int]:
        """Occurrences in each text."""
        return [
            sum(int(np.isin(run_hashes(words, length), known).sum()) for length, known in self._by_length.items())
            for words in word_hashes(texts)
        ]
