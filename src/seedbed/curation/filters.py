"""Quality rules, score apart from decide: `measure` names numbers, a preset bounds them, `decide` compares.

A rule is called `min_SCORE` or `max_SCORE` after the score that it bounds; a value on the bound passes. Word rules say
nothing about scripts that put no spaces between words, so there their scores are not measured and their rules pass.

The preset `prose` is ours: permissive enough for documentation with code, meant to drop what is no text.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache

from ..core.errors import ConfigError

SCORES = {
    "characters": "length of the text",
    "letter_share": "letters and their marks / characters that are not white space",
    "mean_word_length": "characters / words (split at white space)",
    "longest_word": "characters of the longest word",
    "repeated_line_share": "characters in lines that repeat an earlier line / characters in all lines",
    "symbol_word_ratio": "number of '#' and of ellipses / number of words (Gopher, table A1)",
}

PRESETS: dict[str, dict[str, float]] = {
    "none": {},
    "prose": {
        "min_characters": 40,
        "min_letter_share": 0.4,
        "min_mean_word_length": 2,
        "max_mean_word_length": 25,
        "max_longest_word": 1000,
        "max_repeated_line_share": 0.6,
        "max_symbol_word_ratio": 0.4,
    },
}

# Southeast Asian scripts and Tibetan, Ethiopic, kana, Han, Yi and Vai.
_SPACELESS = re.compile(
    "[\u0e00-\u109f\u1200-\u139f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua63f\U00020000-\U0003ffff]"
)
_SPACELESS_SHARE = 0.3


def rule_names() -> list[str]:
    return [f"{side}_{score}" for score in SCORES for side in ("min", "max")]


def rules_of(preset: str, changes: Mapping[str, float | None]) -> dict[str, float]:
    """The bounds of a preset with `changes` on top; None switches a rule off.

    Raises:
        ConfigError: an unknown preset or rule.
    """
    if preset not in PRESETS:
        raise ConfigError(f"unknown preset '{preset}'", hint=f"There are: {', '.join(PRESETS)}.")
    known = rule_names()
    for name in changes:
        if name not in known:
            raise ConfigError(f"unknown rule '{name}'", hint=f"There are: {', '.join(known)}.")
    return {name: bound for name, bound in {**PRESETS[preset], **changes}.items() if bound is not None}


def measure(text: str) -> dict[str, float]:
    """Every score of a text (see SCORES)."""
    counts = Counter(text)
    visible = letters = spaceless = 0
    for character, count in counts.items():
        if character.isspace():
            continue
        visible += count
        if _is_letter(character):
            letters += count
            if _SPACELESS.match(character):
                spaceless += count
    scores = {
        "characters": float(len(text)),
        "letter_share": letters / visible if visible else 0.0,
        "repeated_line_share": _repeated_line_share(text),
    }
    if letters and spaceless / letters > _SPACELESS_SHARE:
        return scores
    words = text.split()
    if words:
        symbols = counts["#"] + counts["…"] + text.count("...")
        scores["mean_word_length"] = visible / len(words)
        scores["longest_word"] = float(max(map(len, words)))
        scores["symbol_word_ratio"] = symbols / len(words)
    return scores


def decide(scores: Mapping[str, float], rules: Mapping[str, float]) -> tuple[str, float, float] | None:
    """The first rule that the scores break, as (rule, value, bound), or None where all hold."""
    for rule, bound in rules.items():
        side, _, score = rule.partition("_")
        value = scores.get(score)
        if value is not None and (value < bound if side == "min" else value > bound):
            return rule, value, bound
    return None


@lru_cache(maxsize=65536)
def _is_letter(character: str) -> bool:
    return unicodedata.category(character)[0] in "LM"


def _repeated_line_share(text: str) -> float:
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    total = sum(map(len, lines))
    distinct = sum(map(len, set(lines)))
    return (total - distinct) / total if total else 0.0
