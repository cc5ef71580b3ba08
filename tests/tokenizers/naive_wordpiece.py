"""WordPiece in a few lines, as the papers say it: slow, and what the native code must equal."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise


def encode(word: str, vocabulary: dict[str, int], unknown: int, most_characters: int = 100) -> list[int]:
    """The longest piece of the vocabulary again and again, from left to right."""
    ids: list[int] = []
    start = 0
    while start < len(word) <= most_characters:
        pieces = (("##" if start else "") + word[start:end] for end in range(len(word), start, -1))
        piece = next((piece for piece in pieces if piece in vocabulary), None)
        if piece is None:
            return [unknown]
        ids.append(vocabulary[piece])
        start += len(piece) - (2 if start else 0)
    return ids if start == len(word) else [unknown]


def train(
    words: Counter[str], specials: list[str], vocab_size: int, min_frequency: int, limit_alphabet: int
) -> dict[str, int]:
    """Merge the most frequent pair of symbols, counting all pairs anew for each; of equals that of smaller ids."""
    characters: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            characters[character] += count
    alphabet = sorted(sorted(characters, key=lambda c: (-characters[c], c))[:limit_alphabet])
    inside = {character for word in words for character in word[1:]}
    names = [*specials, *alphabet, *(f"##{character}" for character in alphabet if character in inside)]
    ids = {name: number for number, name in enumerate(names)}
    rows = {word: [f"##{c}" if place else c for place, c in enumerate(word) if c in set(alphabet)] for word in words}
    while len(ids) < vocab_size:
        counts: Counter[tuple[str, str]] = Counter()
        for word, row in rows.items():
            for pair in pairwise(row):
                counts[pair] += words[word]
        if not counts:
            break
        pair = min(counts, key=lambda pair: (-counts[pair], ids[pair[0]], ids[pair[1]]))
        if counts[pair] < max(min_frequency, 1):
            break
        merged = pair[0] + pair[1].removeprefix("##")
        ids.setdefault(merged, len(ids))
        for word, row in rows.items():
            new: list[str] = []
            for symbol in row:
                if new and (new[-1], symbol) == pair:
                    new[-1] = merged
                else:
                    new.append(symbol)
            rows[word] = new
    return ids
