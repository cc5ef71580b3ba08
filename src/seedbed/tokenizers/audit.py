"""What a tokenizer costs: on given texts, and by language on parallel ones.

Fertility and continued words are from Rust et al. 2021 (section 4.1), Rényi efficiency from Zouhar et al. 2023,
premiums from Petrov et al. 2023. What each id is good for is in token_kinds.py, under-trained ids are in glitches.py.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike

from ..core.errors import ConfigError, DataError
from .glitches import GlitchReport, GlitchToken, glitch_tokens
from .token_kinds import KINDS, TokenKinds, token_kinds
from .tokenizer import Tokenizer

__all__ = [
    "KINDS", "Fertility", "GlitchReport", "GlitchToken", "LanguageCost", "Parity", "TokenKinds", "fertility", "gini",
    "glitch_tokens", "has_spaced_words", "parity", "renyi_efficiency", "token_kinds",
]  # fmt: skip

# Scripts that leave no space between words: Thai, Lao, Tibetan, Burmese, Khmer, Yi, kana, and Han with its extensions.
_UNSPACED = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\ua000-\ua4cf\U00020000-\U0003ffff]"
)
_LONGEST_MEAN_WORD = 16  # characters; Kalaallisut has 15, and what is longer marks words by other signs (Ethiopic's ፡)
_SMALLEST_TRANSLATION = 0.1  # of the reference's characters; Chinese needs a third of English's
_MOST_UNKNOWN = 0.1  # of the tokens, beyond which a premium says nothing (Petrov et al. 2023)


class Fertility(TypedDict):
    """Counts over some texts, and their ratios. None where white space does not part words."""

    texts: int
    words: int  # between white space
    characters: int
    bytes: int
    tokens: int
    tokens_per_word: float | None  # "fertility"
    bytes_per_token: float  # compression
    characters_per_token: float
    continued_words: float | None  # share of words that became more than one token
    unknown_share: float  # of the tokens
    renyi_efficiency: float
    unused_tokens: int  # ids, control tokens aside, that these texts never use


def fertility(tokenizer: Tokenizer, texts: Iterable[str], threads: int | None = None) -> Fertility:
    """Measure `tokenizer` on `texts`. Control tokens that texts spell count as ordinary text.

    Raises:
        DataError: there is no word in the texts, or they become no token at all.
    """
    listed = list(texts)
    words = Counter(word for text in listed for word in text.split())
    if not words:
        raise DataError("there is no word to measure the tokenizer on")
    ids = tokenizer.encode_batch(listed, threads, parse_special=False).values
    if not len(ids):
        raise DataError("the tokenizer drops all of this text: there is nothing to measure")
    # A word as it stands inside a text: with the space before it.
    lengths = tokenizer.encode_batch([f" {word}" for word in words], threads, parse_special=False).lengths
    counts = np.bincount(ids, minlength=tokenizer.vocab_size)
    ordinary = np.ones(tokenizer.vocab_size, dtype=bool)
    ordinary[list(tokenizer.special_tokens.values())] = False
    characters, total = sum(map(len, listed)), words.total()
    size = sum(len(text.encode("utf-8")) for text in listed)
    spaced = has_spaced_words(words)
    return Fertility(
        texts=len(listed),
        words=total,
        characters=characters,
        bytes=size,
        tokens=len(ids),
        tokens_per_word=len(ids) / total if spaced else None,
        bytes_per_token=size / len(ids),
        characters_per_token=characters / len(ids),
        continued_words=sum(n for n, length in zip(words.values(), lengths, strict=True) if length > 1) / total
        if spaced
        else None,
        unknown_share=_unknown_share(tokenizer, ids),
        renyi_efficiency=renyi_efficiency(counts),
        unused_tokens=int(((counts == 0) & ordinary).sum()),
    )


def renyi_efficiency(counts: ArrayLike, alpha: float = 2.5) -> float:
    """H_alpha(p) / log V of the unigram distribution p: 1 when all V ids are equally frequent, 0 when there is one.

    Source: Zouhar et al. 2023, "Tokenization and the Noiseless Channel", equation 9; they find alpha 2.5 to go best
    with the quality of translation.

    Args:
        counts: how often each id of the vocabulary occurs, (V,).

    Raises:
        DataError: nothing occurs.
    """
    found = np.asarray(counts, dtype=np.float64)
    if not found.sum() > 0:
        raise DataError("no id occurs, so there is no distribution")
    if len(found) < 2:
        return 0.0
    p = found[found > 0] / found.sum()
    if math.isclose(alpha, 1.0):
        entropy = -float(np.sum(p * np.log(p)))
    else:
        entropy = math.log(float(np.sum(p**alpha))) / (1 - alpha)
    return max(entropy, 0.0) / math.log(len(found))


def gini(values: ArrayLike) -> float:
    """Gini's coefficient of costs (n,) that are not negative: 0 when all pay the same, near 1 when one pays all."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    ranks = np.arange(1, len(ordered) + 1)
    return float(np.sum((2 * ranks - len(ordered) - 1) * ordered) / (len(ordered) * ordered.sum()))


def has_spaced_words(words: Mapping[str, int]) -> bool:
    """Whether words (with their counts), cut at white space, are words.

    They are not where most letters are of a script written without spaces, or where "words" are as long as sentences.
    """
    sizes = [(len(word), len(_UNSPACED.findall(word)), count) for word, count in words.items()]
    characters = sum(length * count for length, _, count in sizes)
    unspaced = sum(found * count for _, found, count in sizes)
    return 2 * unspaced < characters <= _LONGEST_MEAN_WORD * sum(words.values())


@dataclass(frozen=True)
class LanguageCost:
    """What the same text costs in one language."""

    language: str
    tokens: int
    premium: float  # tokens over those of the reference
    bytes: int
    characters: int
    tokens_per_word: float | None  # None where white space does not part words
    bytes_per_token: float
    characters_per_token: float
    unknown_share: float

    @property
    def readable(self) -> bool:
        """Whether the tokenizer knows enough of the language for the premium to mean anything."""
        return self.unknown_share <= _MOST_UNKNOWN


@dataclass(frozen=True)
class Parity:
    """Languages by premium, the costliest first; those that the tokenizer cannot read stand last."""

    reference: str
    languages: tuple[LanguageCost, ...]
    gini: float  # over tokens of the languages that can be read
    left_out: Mapping[str, str]  # language to the reason

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def parity(
    tokenizer: Tokenizer,
    parallel: Mapping[str, str | Sequence[str]],
    reference: str = "English",
    threads: int | None = None,
) -> Parity:
    """What the same text costs in each language, against `reference` (Petrov et al. 2023).

    Args:
        parallel: by language, a text or its passages; lists of passages are aligned, so all have the same length.

    A text with less than a tenth of the reference's characters is no translation of it and is left out, with the
    reason.

    Raises:
        ConfigError: `reference` is not among the languages.
        DataError: lists of different lengths, or no text in the reference.
    """
    if reference not in parallel:
        raise ConfigError(
            f"'{reference}' is not among the languages", where="reference", hint=f"There are: {_some(parallel)}."
        )
    passages = {name: [text] if isinstance(text, str) else list(text) for name, text in parallel.items()}
    for name, listed in passages.items():
        if len(listed) != len(passages[reference]):
            raise DataError(
                f"{name} has {len(listed)} passages where {reference} has {len(passages[reference])}",
                hint="Parallel texts are aligned passage by passage, or one text each.",
            )
    sizes = {name: sum(map(len, listed)) for name, listed in passages.items()}
    if not any(map(str.strip, passages[reference])):
        raise DataError(f"the text in {reference} is empty")
    left_out = {
        name: f"{size:,} characters, too few for a translation of {sizes[reference]:,}"
        for name, size in sizes.items()
        if size < _SMALLEST_TRANSLATION * sizes[reference]
    }
    kept = [name for name in passages if name not in left_out]
    flat = [text for name in kept for text in passages[name]]
    ids, offsets = tokenizer.encode_batch(flat, threads, parse_special=False).pair()
    ends = offsets[:: len(passages[reference])]
    whole = int(ends[kept.index(reference) + 1] - ends[kept.index(reference)])
    if not whole:
        raise DataError(f"the tokenizer drops all of the text in {reference}")
    costs = [
        _cost(tokenizer, name, passages[name], ids[ends[place] : ends[place + 1]], whole)
        for place, name in enumerate(kept)
    ]
    costs.sort(key=lambda cost: (not cost.readable, -cost.premium, cost.language))
    comparable = [cost.tokens for cost in costs if cost.readable] or [whole]
    return Parity(reference, tuple(costs), gini(comparable), left_out)


def _cost(tokenizer: Tokenizer, language: str, texts: Sequence[str], ids: np.ndarray, reference: int) -> LanguageCost:
    words = Counter(word for text in texts for word in text.split())
    size, characters = sum(len(text.encode()) for text in texts), sum(map(len, texts))
    count = max(len(ids), 1)
    return LanguageCost(
        language,
        tokens=len(ids),
        premium=len(ids) / reference,
        bytes=size,
        characters=characters,
        tokens_per_word=len(ids) / words.total() if has_spaced_words(words) else None,
        bytes_per_token=size / count,
        characters_per_token=characters / count,
        unknown_share=_unknown_share(tokenizer, ids),
    )


def _unknown_share(tokenizer: Tokenizer, ids: np.ndarray) -> float:
    unknown = tokenizer.specification.model.unknown_id
    return 0.0 if unknown is None or not len(ids) else float((ids == unknown).mean())


def _some(names: Iterable[str], most: int = 8) -> str:
    listed = sorted(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
