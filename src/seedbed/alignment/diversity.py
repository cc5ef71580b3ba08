"""How different a policy's answers are: what falls when it has found one answer for everything."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

_PIECES = re.compile(r"\w+|[^\w\s]")


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Different n-grams of words over all n-grams of all texts (Li et al. 2016); 0 if there are none."""
    grams = [gram for text in texts for gram in _grams(pieces(text), n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def unique_share(texts: Sequence[str]) -> float:
    """Different texts over texts."""
    return len(set(texts)) / len(texts)


def self_bleu(texts: Sequence[str], most: int = 4) -> float:
    """Mean BLEU of each text against all others (Zhu et al. 2018), up to n-grams of `most`: 1 if all are alike.

    Counts of n-grams that are in no other text are smoothed by 1 (Chen and Cherry 2014, method 2).
    """
    words = [pieces(text) for text in texts]
    if len(words) < 2:
        return 0.0
    logs = [0.0] * len(words)
    for n in range(1, most + 1):
        counts = [Counter(_grams(one, n)) for one in words]
        often = _often(counts)
        smooth = n > 1
        for row, own in enumerate(counts):
            found = sum(min(count, often[gram][often[gram][0] == count]) for gram, count in own.items())
            logs[row] += math.log(max(found + smooth, 1e-9) / max(own.total() + smooth, 1)) / most
    return sum(math.exp(log + _brevity(row, words)) for row, log in enumerate(logs) if words[row]) / len(words)


def _often(counts: Sequence[Counter[tuple[str, ...]]]) -> dict[tuple[str, ...], tuple[int, int]]:
    """The largest and the second largest count of each n-gram in a text."""
    often: dict[tuple[str, ...], tuple[int, int]] = {}
    for own in counts:
        for gram, count in own.items():
            first, second = often.get(gram, (0, 0))
            often[gram] = (count, first) if count > first else (first, max(second, count))
    return often


def _brevity(row: int, words: Sequence[list[str]]) -> float:
    length = len(words[row])
    nearest = min((abs(len(other) - length), len(other)) for place, other in enumerate(words) if place != row)[1]
    return min(0.0, 1 - nearest / length)


def pieces(text: str) -> list[str]:
    """Words and signs, in small letters."""
    return _PIECES.findall(text.lower())


def _grams(words: list[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[start:] for start in range(n)), strict=False))
