"""Quality rules, score apart from decide: `measure` names numbers, once for each text, and `decide` compares them with
bounds, so that a corpus can be decided anew from its scores alone.

Word scores say nothing about scripts that put no spaces between words: there they are not measured (NaN), and rules on
what was not measured pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..core.errors import ConfigError
from .presets import preset_named

SCORES = {
    "characters": "length of the text",
    "letter_share": "letters and their marks / characters that are not white space",
    "repeated_line_share": "characters in lines that repeat an earlier line / characters in all lines",
    "mean_word_length": "characters / words (split at white space)",
    "longest_word": "characters of the longest word",
    "symbol_word_ratio": "number of '#' and of ellipses / number of words",
    "gopher_words": "words that are more than punctuation",
    "gopher_mean_word_length": "their characters / their number",
    "hash_word_ratio": "number of '#' / number of words",
    "ellipsis_word_ratio": "number of ellipses / number of words",
    "bullet_line_share": "lines that begin with a bullet or a hyphen / lines",
    "ellipsis_line_share": "lines that end with an ellipsis / lines",
    "alphabetic_word_share": "words with a letter / words",
    "stop_words": "how many of the, be, to, of, and, that, have, with occur",
    "duplicate_line_share": "lines that repeat an earlier one / lines",
    "duplicate_line_character_share": "characters of lines that repeat an earlier one / characters",
    "duplicate_paragraph_share": "paragraphs that repeat an earlier one / paragraphs",
    "duplicate_paragraph_character_share": "characters of paragraphs that repeat an earlier one / characters",
    **{f"top_{n}gram_share": f"characters of the most frequent run of {n} words / characters" for n in (2, 3, 4)},
    **{
        f"duplicate_{n}gram_share": f"characters of runs of {n} words that repeat an earlier one / characters"
        for n in range(5, 11)
    },
    "fineweb_punctuated_line_share": "lines that end as sentences / lines that are not empty",
    "fineweb_short_line_share": "lines of at most 30 characters / lines that are not empty",
    "fineweb_duplicate_line_character_share": "characters of lines that repeat an earlier one / characters but for LFs",
    "fineweb_newline_word_ratio": "number of LFs / number of words",
    "dclm_stop_word_count": "occurrences of the, be, to, of, and, that, have, with",
    "dclm_repeated_line_share": "lines that occur more than once, each time / lines",
    "dclm_repeated_line_character_share": "their characters / characters of lines",
    "dclm_repeated_paragraph_share": "paragraphs that occur more than once, each time / paragraphs",
    "dclm_repeated_paragraph_character_share": "their characters / characters of paragraphs",
    **{
        f"dclm_top_{n}gram_share": f"characters of the most frequent run of {n} words, if it repeats / those of words"
        for n in (2, 3, 4)
    },
    **{
        f"dclm_repeated_{n}gram_share": f"characters of words in runs of {n} that occur more than once / those of words"
        for n in range(5, 11)
    },
    "c4_sentences": "sentences in the lines that are kept",
    "c4_lorem_ipsum": "lines with 'lorem ipsum'",
    "c4_curly_brackets": "lines with '{'",
    "dclm_removed_word_share": "words in lines that were dropped / words",
    "language_score": "probability of the likeliest language",
    "perplexity": "exp of the mean cost of a character in nats under the n-gram model of perplexity_model",
}
SCORE_NAMES = tuple(SCORES)
_COLUMN = {name: column for column, name in enumerate(SCORE_NAMES)}
_TEXT_COLUMNS = len(_native.TEXT_SCORES)
assert SCORE_NAMES[:_TEXT_COLUMNS] == _native.TEXT_SCORES

# Bits of the native module's families of scores.
FAMILIES = {"prose": 1, "gopher": 2, "repetition": 4, "fineweb": 8, "dclm": 16}
_ALL = sum(FAMILIES.values())
_CLEANING_COLUMNS = ("c4_sentences", "c4_lorem_ipsum", "c4_curly_brackets", "dclm_removed_word_share")


def rule_names() -> list[str]:
    return [f"{side}_{score}" for score in SCORES for side in ("min", "max")]


def rules_of(preset: str, changes: Mapping[str, float | None]) -> dict[str, float]:
    """The bounds of a preset with `changes` on top; None switches a rule off.

    Raises:
        ConfigError: an unknown preset or rule.
    """
    known = set(rule_names())
    for name in changes:
        if name not in known:
            raise ConfigError(f"unknown rule '{name}'", hint=f"There are min_ and max_ of: {', '.join(SCORES)}.")
    return {name: bound for name, bound in {**preset_named(preset).rules, **changes}.items() if bound is not None}


@dataclass(frozen=True)
class Measured:
    """
    Attributes:
        scores: float64 (n, len(SCORE_NAMES)), NaN where a score was not measured.
        texts: what is kept of each text: the text itself, or its lines that cleaning left.
        dropped_lines: int64 (n,).
        languages: code of the language of each text, "" where unsure; empty where they were not asked for.
    """

    scores: NDArray[np.float64]
    texts: Sequence[str]
    dropped_lines: NDArray[np.int64]
    languages: Sequence[str] = ()


def measure(texts: Sequence[str], lines: str = "", threads: int = 1, families: int = _ALL) -> Measured:
    """Every score of each text.

    Args:
        lines: how lines are cleaned (see presets.Preset).
        families: bits of FAMILIES; the scores of others are NaN.
    """
    listed = list(texts)
    scores = np.full((len(listed), len(SCORE_NAMES)), np.nan)
    if not lines:
        scores[:, :_TEXT_COLUMNS] = _native.text_scores(listed, families, threads)
        return Measured(scores, listed, np.zeros(len(listed), np.int64))
    cleaned, counts = _native.clean_lines(listed, lines, threads)
    scores[:, :_TEXT_COLUMNS] = _native.text_scores(listed, families & ~FAMILIES["fineweb"], threads)
    if families & FAMILIES["fineweb"]:
        after = _native.text_scores(cleaned, FAMILIES["fineweb"], threads)
        columns = [_COLUMN[name] for name in SCORE_NAMES if name.startswith("fineweb_")]
        scores[:, columns] = after[:, columns]
    scores[:, [_COLUMN[name] for name in _CLEANING_COLUMNS]] = counts[:, :4]
    # What a style does not count, its rules cannot judge.
    counted = _CLEANING_COLUMNS[3:] if lines == "dclm" else _CLEANING_COLUMNS[:3]
    for name in _CLEANING_COLUMNS:
        if name not in counted:
            scores[:, _COLUMN[name]] = np.nan
    return Measured(scores, cleaned, counts[:, 4].astype(np.int64))


@dataclass(frozen=True)
class Broken:
    """A rule that a text breaks, with what was measured and the bound."""

    rule: str
    value: float
    bound: float

    @property
    def detail(self) -> str:
        side, _, score = self.rule.partition("_")
        return f"{SCORES[score]}: {'below' if side == 'min' else 'above'} the bound"


def decide(scores: NDArray[np.float64], rules: Mapping[str, float]) -> list[Broken | None]:
    """For each row of scores (n, len(SCORE_NAMES)) the first rule that it breaks, or None where all hold."""
    first: list[Broken | None] = [None] * len(scores)
    open = np.ones(len(scores), bool)
    for rule, bound in rules.items():
        side, _, score = rule.partition("_")
        values = scores[:, _COLUMN[score]]
        broken = open & (values < bound if side == "min" else values > bound)
        for row in np.flatnonzero(broken):
            first[row] = Broken(rule, float(values[row]), bound)
        open &= ~broken
    return first
