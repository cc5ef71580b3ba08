"""Each quality rule at its bound: a value on it passes, one step beyond is dropped."""

from __future__ import annotations

import pytest

from seedbed.core.config import build
from seedbed.core.errors import ConfigError
from seedbed.curation.filters import PRESETS, decide, measure, rule_names, rules_of
from seedbed.curation.pipeline import CurationConfig

_PROSE = PRESETS["prose"]
_SENTENCE = "The quick brown fox jumps over the lazy dog today."


@pytest.mark.parametrize(
    ("rule", "passes", "fails"),
    [
        ("min_characters", "abcd " * 7 + "abcde", "abcd " * 7 + "abcd"),
        ("min_letter_share", "ab123 " * 10, "a1234 " * 10),
        ("min_mean_word_length", "ab " * 20, "ab " * 19 + "a a a "),
        ("max_mean_word_length", "a" * 25 + " " + "b" * 25, "a" * 25 + " " + "b" * 26),
        ("max_longest_word", f"{_SENTENCE * 10} {'a' * 1000}", f"{_SENTENCE * 10} {'a' * 1001}"),
        ("max_repeated_line_share", f"{_SENTENCE}\n" * 2 + "x" * 10, f"{_SENTENCE}\n" * 3),
        ("max_symbol_word_ratio", "words # words # words " * 10, "# words " * 10 + "words words words"),
    ],
)
def test_rules_at_their_bounds(rule: str, passes: str, fails: str) -> None:
    alone = {rule: _PROSE[rule]}
    assert decide(measure(passes), alone) is None
    broken = decide(measure(fails), alone)
    assert broken is not None
    assert broken[0] == rule
    assert broken[2] == _PROSE[rule]


def test_scores_by_hand() -> None:
    scores = measure("ab #c 12...\nab #c 12...\nxyz")
    assert scores == {
        "characters": 27,
        "letter_share": 9 / 21,
        "repeated_line_share": 11 / 25,
        "mean_word_length": 21 / 7,
        "longest_word": 5,
        "symbol_word_ratio": 4 / 7,
    }
    assert set(measure("すべての人間は、生まれながらにして自由である。")) == {
        "characters",
        "letter_share",
        "repeated_line_share",
    }


def test_presets_and_changes() -> None:
    assert rules_of("none", {}) == {}
    assert rules_of("prose", {"min_characters": None, "max_characters": 9}) == {
        **{name: bound for name, bound in _PROSE.items() if name != "min_characters"},
        "max_characters": 9,
    }
    assert set(_PROSE) <= set(rule_names())
    with pytest.raises(ConfigError, match=r"unknown preset 'gopher'\. There are: none, prose"):
        rules_of("gopher", {})
    with pytest.raises(ConfigError, match="unknown rule 'min_words'"):
        build(CurationConfig, {"rules": {"min_words": 3}})
