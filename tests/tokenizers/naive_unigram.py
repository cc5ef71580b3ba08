"""The unigram language model in plain Python: what native/tokenizer/unigram.cpp does, for few words."""

from __future__ import annotations

import math


def best_path(word: str, scores: dict[str, float], unknown: float) -> tuple[list[str], float]:
    """The pieces of a word whose scores sum highest, and their sum; of equals the one that begins earlier stays."""
    best: list[tuple[float, int] | None] = [(0.0, 0)] + [None] * len(word)
    for start in range(len(word)):
        here = best[start][0]
        for end in range(start + 1, len(word) + 1):
            score = scores.get(word[start:end], unknown if end == start + 1 else None)
            if score is not None and (best[end] is None or here + score > best[end][0]):
                best[end] = (here + score, start)
    pieces = []
    end = len(word)
    while end:
        start = best[end][1]
        pieces.append(word[start:end])
        end = start
    return pieces[::-1], best[-1][0]


def marginal(word: str, scores: dict[str, float]) -> float:
    """The logarithm of a word's probability, over all ways to cut it."""
    forward = [0.0] + [-math.inf] * len(word)
    for end in range(1, len(word) + 1):
        ways = [
            forward[start] + scores[word[start:end]]
            for start in range(end)
            if word[start:end] in scores and forward[start] > -math.inf
        ]
        if ways:
            most = max(ways)
            forward[end] = most + math.log(sum(math.exp(way - most) for way in ways))
    return forward[-1]
