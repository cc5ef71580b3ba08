"""Named sets of quality rules with their published thresholds.

A rule is called `min_SCORE` or `max_SCORE` after the score that it bounds (filters.SCORES); a value on the bound
passes. The first rule that a document breaks is the one that it is dropped for, so the order counts in reports.

    none     no rules
    prose    ours: permissive enough for documentation with code, meant to drop what is no text
    gopher   Rae et al. 2021, table A1, as datatrove reads it: repeats count after the first
    c4       Raffel et al. 2020, section 2.2: lines that end as sentences, and pages of five sentences
    fineweb  Penedo et al. 2024, section 3: a language that is sure (it keeps English alone: say languages=("en",)),
             Gopher's rules, C4's without the ends of lines, then its own; MinHash
    dclm     Li et al. 2024, appendix K (after RefinedWeb): all copies of what repeats count, stop words count each time
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..core.errors import ConfigError


@dataclass(frozen=True)
class Preset:
    """
    Attributes:
        rules: bounds in the order in which they are tried.
        lines: how lines are cleaned ("c4", "fineweb", "dclm"), "" to leave them alone. Scores called `fineweb_` are
            then of the cleaned text, all others of the text as it came.
        near_duplicates: a key of near_duplicates.PARAMETERS, "" for none.
        personal_data: kinds of personal data that are masked.
    """

    rules: Mapping[str, float] = field(default_factory=dict)
    lines: str = ""
    near_duplicates: str = ""
    personal_data: tuple[str, ...] = ()


_GOPHER_REPETITION = {
    "max_duplicate_paragraph_share": 0.30,
    "max_duplicate_paragraph_character_share": 0.20,
    "max_duplicate_line_share": 0.30,
    "max_duplicate_line_character_share": 0.20,
    "max_top_2gram_share": 0.20,
    "max_top_3gram_share": 0.18,
    "max_top_4gram_share": 0.16,
    "max_duplicate_5gram_share": 0.15,
    "max_duplicate_6gram_share": 0.14,
    "max_duplicate_7gram_share": 0.13,
    "max_duplicate_8gram_share": 0.12,
    "max_duplicate_9gram_share": 0.11,
    "max_duplicate_10gram_share": 0.10,
}
_GOPHER_QUALITY = {
    "min_gopher_words": 50,
    "max_gopher_words": 100_000,
    "min_gopher_mean_word_length": 3,
    "max_gopher_mean_word_length": 10,
    "max_hash_word_ratio": 0.1,
    "max_ellipsis_word_ratio": 0.1,
    "max_bullet_line_share": 0.9,
    "max_ellipsis_line_share": 0.3,
    "min_alphabetic_word_share": 0.8,
    "min_stop_words": 2,
}
_C4 = {"max_c4_lorem_ipsum": 0, "max_c4_curly_brackets": 0, "min_c4_sentences": 5}
_FINEWEB_LANGUAGE = {"min_language_score": 0.65}
_FINEWEB = {
    "min_fineweb_punctuated_line_share": 0.12,
    "max_fineweb_short_line_share": 0.67,
    "max_fineweb_duplicate_line_character_share": 0.01,
    "max_fineweb_newline_word_ratio": 0.3,
}
_DCLM = {
    "min_gopher_words": 50,
    "max_gopher_words": 100_000,
    "min_gopher_mean_word_length": 3,
    "max_gopher_mean_word_length": 10,
    "max_symbol_word_ratio": 0.1,
    "max_bullet_line_share": 0.9,
    "max_ellipsis_line_share": 0.3,
    "min_alphabetic_word_share": 0.8,
    "min_dclm_stop_word_count": 2,
    "max_dclm_repeated_line_share": 0.30,
    "max_dclm_repeated_paragraph_share": 0.30,
    "max_dclm_repeated_line_character_share": 0.20,
    "max_dclm_repeated_paragraph_character_share": 0.20,
    "max_dclm_top_2gram_share": 0.20,
    "max_dclm_top_3gram_share": 0.18,
    "max_dclm_top_4gram_share": 0.16,
    "max_dclm_repeated_5gram_share": 0.15,
    "max_dclm_repeated_6gram_share": 0.14,
    "max_dclm_repeated_7gram_share": 0.13,
    "max_dclm_repeated_8gram_share": 0.12,
    "max_dclm_repeated_9gram_share": 0.11,
    "max_dclm_repeated_10gram_share": 0.10,
    "max_dclm_removed_word_share": 0.05,
}

PRESETS: dict[str, Preset] = {
    "none": Preset(),
    "prose": Preset(
        {
            "min_characters": 40,
            "min_letter_share": 0.4,
            "min_mean_word_length": 2,
            "max_mean_word_length": 25,
            "max_longest_word": 1000,
            "max_repeated_line_share": 0.6,
            "max_symbol_word_ratio": 0.4,
        }
    ),
    "gopher": Preset({**_GOPHER_REPETITION, **_GOPHER_QUALITY}),
    "c4": Preset(_C4, lines="c4"),
    "fineweb": Preset(
        {**_FINEWEB_LANGUAGE, **_GOPHER_REPETITION, **_GOPHER_QUALITY, **_C4, **_FINEWEB},
        lines="fineweb",
        near_duplicates="fineweb",
        personal_data=("email", "ip"),
    ),
    "dclm": Preset(_DCLM, lines="dclm"),
}


def preset_named(name: str) -> Preset:
    """
    Raises:
        ConfigError: there is no such preset.
    """
    if name not in PRESETS:
        raise ConfigError(f"unknown preset '{name}'", hint=f"There are: {', '.join(PRESETS)}.")
    return PRESETS[name]
