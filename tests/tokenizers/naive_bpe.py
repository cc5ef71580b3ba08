"""Byte-pair encoding in a few lines, as the paper says it: slow, and what the native code must equal."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

Merge = tuple[int, int]


def merge(symbols: list[int], pair: Merge, new: int) -> list[int]:
    """Every occurrence of `pair`, from left to right, becomes `new`."""
    merged: list[int] = []
    i = 0
    while i < len(symbols):
        if tuple(symbols[i : i + 2]) == pair:
            merged.append(new)
            i += 2
        else:
            merged.append(symbols[i])
            i += 1
    return merged


def train(words: Counter[bytes], byte_ids: dict[int, int], first_id: int, vocab_size: int, min_frequency: int):
    """Learn merges: a list of (pair, new id), counting all pairs anew for each."""
    rows = {word: [byte_ids[byte] for byte in word] for word in words}
    spelling = {number: bytes([byte]) for byte, number in byte_ids.items()}
    merges: list[tuple[Merge, int]] = []
    while len(spelling) + first_id < vocab_size:
        counts: Counter[Merge] = Counter()
        for word, row in rows.items():
            for pair in pairwise(row):
                counts[pair] += words[word]
        if not counts:
            break
        pair = min(counts, key=lambda pair: (-counts[pair], pair))  # the most frequent, then the smaller ids
        if counts[pair] < min_frequency:
            break
        new = first_id + len(spelling)
        spelling[new] = spelling[pair[0]] + spelling[pair[1]]
        merges.append((pair, new))
        rows = {word: merge(row, pair, new) for word, row in rows.items()}
    return merges


def encode(word: bytes, byte_ids: dict[int, int], merges: list[tuple[Merge, int]]) -> list[int]:
    """Apply the merges to one word in the order in which they were learnt."""
    row = [byte_ids[byte] for byte in word]
    for pair, new in merges:
        row = merge(row, pair, new)
    return row
