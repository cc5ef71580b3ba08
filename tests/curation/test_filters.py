"""Scores against a plain twin and against datatrove; each preset's thresholds as published; rules at their bounds."""

from __future__ import annotations

import math
import re
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seedbed import _native
from seedbed.core.config import build
from seedbed.core.errors import ConfigError
from seedbed.curation.config import CurationConfig
from seedbed.curation.filters import SCORE_NAMES, Broken, decide, measure, rule_names, rules_of
from seedbed.curation.normalize import normalize
from seedbed.curation.presets import PRESETS

_PROSE = PRESETS["prose"].rules
_SENTENCE = "The quick brown fox jumps over the lazy dog today."


def _scores(text: str, lines: str = "") -> dict[str, float]:
    row = measure([text], lines).scores[0]
    return {name: value for name, value in zip(SCORE_NAMES, row.tolist(), strict=True) if not math.isnan(value)}


def _broken(text: str, rules: dict[str, float]) -> Broken | None:
    return decide(measure([text]).scores, rules)[0]


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
def test_prose_at_its_bounds(rule: str, passes: str, fails: str) -> None:
    alone = {rule: _PROSE[rule]}
    assert _broken(passes, alone) is None
    broken = _broken(fails, alone)
    assert broken is not None
    assert (broken.rule, broken.bound) == (rule, _PROSE[rule])


def test_scores_by_hand() -> None:
    scores = _scores("ab #c 12...\nab #c 12...\nxyz")
    assert {name: scores[name] for name in SCORE_NAMES[:6]} == {
        "characters": 27,
        "letter_share": 9 / 21,
        "repeated_line_share": 11 / 25,
        "mean_word_length": 21 / 7,
        "longest_word": 5,
        "symbol_word_ratio": 4 / 7,
    }
    japanese = _scores("すべての人間は、生まれながらにして自由である。")
    assert japanese["letter_share"] == 21 / 23
    assert not {"mean_word_length", "gopher_words", "top_2gram_share", "dclm_stop_word_count"} & set(japanese)


# What each project publishes, under the names that it uses for its thresholds.
_GOPHER_TABLE_A1 = {2: 0.20, 3: 0.18, 4: 0.16, 5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}


@pytest.mark.parametrize(("preset", "prefix"), [("gopher", ""), ("fineweb", ""), ("dclm", "dclm_")])
def test_published_thresholds_of_gophers_rules(preset: str, prefix: str) -> None:
    rules, kind = PRESETS[preset].rules, "repeated" if prefix else "duplicate"
    for n, bound in _GOPHER_TABLE_A1.items():
        assert rules[f"max_{prefix}{'top' if n < 5 else kind}_{n}gram_share"] == bound
    for segment in ("line", "paragraph"):
        assert rules[f"max_{prefix}{kind}_{segment}_share"] == 0.30
        assert rules[f"max_{prefix}{kind}_{segment}_character_share"] == 0.20
    assert (rules["min_gopher_words"], rules["max_gopher_words"]) == (50, 100_000)
    assert (rules["min_gopher_mean_word_length"], rules["max_gopher_mean_word_length"]) == (3, 10)
    assert (rules["max_bullet_line_share"], rules["max_ellipsis_line_share"]) == (0.9, 0.3)
    assert rules["min_alphabetic_word_share"] == 0.8


def test_published_thresholds_of_the_other_rules() -> None:
    assert PRESETS["c4"].rules == {"max_c4_lorem_ipsum": 0, "max_c4_curly_brackets": 0, "min_c4_sentences": 5}
    assert {name: bound for name, bound in PRESETS["fineweb"].rules.items() if "fineweb" in name} == {
        "min_fineweb_punctuated_line_share": 0.12,
        "max_fineweb_short_line_share": 0.67,
        "max_fineweb_duplicate_line_character_share": 0.01,
        "max_fineweb_newline_word_ratio": 0.3,
    }
    assert PRESETS["fineweb"].rules.items() >= {**PRESETS["gopher"].rules, **PRESETS["c4"].rules}.items()
    assert PRESETS["fineweb"].rules["min_language_score"] == 0.65
    assert PRESETS["dclm"].rules["max_dclm_removed_word_share"] == 0.05
    assert all(set(preset.rules) <= set(rule_names()) for preset in PRESETS.values())


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "none"])
def test_a_value_on_the_bound_passes_and_the_next_does_not(preset: str) -> None:
    for rule, bound in PRESETS[preset].rules.items():
        scores = np.full((2, len(SCORE_NAMES)), np.nan)
        outwards = -np.inf if rule.startswith("min") else np.inf
        scores[:, SCORE_NAMES.index(rule[4:])] = bound, np.nextafter(bound, outwards)
        assert decide(scores, PRESETS[preset].rules) == [
            None,
            Broken(rule, scores[1, SCORE_NAMES.index(rule[4:])], bound),
        ]


def _repeats(parts: list[str]) -> tuple[int, int]:
    again = [part for i, part in enumerate(parts) if part in parts[:i]]
    return len(again), sum(map(len, again))


def _twin(text: str) -> dict[str, float]:
    """Gopher's and FineWeb's scores, by their definitions."""
    words, lines, paragraphs = text.split(), re.split("\n+", text), re.split("\n{2,}", text.strip())
    filled = [line for line in text.split("\n") if line.strip()]
    found = {
        "duplicate_line_share": _repeats(lines)[0] / len(lines),
        "duplicate_line_character_share": _repeats(lines)[1] / len(text),
        "duplicate_paragraph_share": _repeats(paragraphs)[0] / len(paragraphs),
        "duplicate_paragraph_character_share": _repeats(paragraphs)[1] / len(text),
        "hash_word_ratio": text.count("#") / len(words),
        "ellipsis_word_ratio": (text.count("...") + text.count("…")) / len(words),
        "alphabetic_word_share": sum(any(map(str.isalpha, word)) for word in words) / len(words),
        "stop_words": len({"the", "be", "to", "of", "and", "that", "have", "with"} & set(words)),
        "bullet_line_share": sum(line.lstrip()[:1] in ("•", "-") and line.strip() != "" for line in text.splitlines())
        / len(text.splitlines()),
        "fineweb_short_line_share": sum(len(line) <= 30 for line in filled) / len(filled),
        "fineweb_duplicate_line_character_share": _repeats(filled)[1] / len(text.replace("\n", "")),
        "fineweb_newline_word_ratio": text.count("\n") / len(words),
        "fineweb_punctuated_line_share": sum(line[-1] in ".!?" for line in filled) / len(filled),
    }
    for n in (2, 3, 4):
        grams = [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
        if grams:
            top, count = Counter(grams).most_common(1)[0]
            found[f"top_{n}gram_share"] = len(top) * count / len(text)
    for n in range(5, 11):
        seen, repeated, at = set(), 0, 0
        while at + n <= len(words):
            gram = "".join(words[at : at + n])
            repeated += len(gram) * (gram in seen)
            at += n if gram in seen else 1
            seen.add(gram)
        found[f"duplicate_{n}gram_share"] = repeated / len(text)
    real = [word for word in words if not all(character in ".!?#-…•" for character in word)]
    counts = Counter(filled_line := [line.strip() for line in filled])
    repeated_lines = [line for line in filled_line if counts[line] > 1]
    found["dclm_repeated_line_share"] = len(repeated_lines) / len(filled)
    for n in (2, 6):
        runs = [tuple(real[i : i + n]) for i in range(len(real) - n + 1)]
        times = Counter(runs)
        if n == 2:
            most = max(times.values(), default=0)
            longest = max((len("".join(run)) for run, count in times.items() if count == most), default=0)
            value = longest * most if most > 1 else 0
        else:
            places = {k for i, run in enumerate(runs) if times[run] > 1 for k in range(i, i + n)}
            value = sum(len(real[k]) for k in places)
        if real:
            found[f"dclm_{'top' if n == 2 else 'repeated'}_{n}gram_share"] = value / len("".join(real))
    return found


@settings(max_examples=60)
@given(
    st.lists(
        st.sampled_from(["the ", "of ", "a", "b ", "é ", "\n", "\n\n", "- x", "#", "... ", "end.", "… "]),
        min_size=1,
        max_size=120,
    )
)
def test_scores_are_their_twins(parts: list[str]) -> None:
    text = normalize("".join(parts))
    if not text.strip():
        return
    scores = _scores(text)
    for name, value in _twin(text).items():
        assert scores[name] == pytest.approx(value, abs=1e-12), name


def test_threads_change_nothing_and_any_bytes_are_measured() -> None:
    texts = [f"{_SENTENCE}\n" * n for n in range(1, 300)]
    assert np.array_equal(measure(texts, "fineweb").scores, measure(texts, "fineweb", 2).scores, equal_nan=True)
    strange = ["", "\n", " \n\n ", "\0", "#" * 1000, "a " * 5000, "\U0010ffff"]
    for style in ("", "c4", "fineweb", "dclm"):
        assert measure(strange, style).scores.shape == (len(strange), len(SCORE_NAMES))
    assert _native.text_scores([b"\xff\xfe\x80"], 31).shape == (1, len(_native.TEXT_SCORES))  # type: ignore[list-item]


def test_lines_that_c4_and_fineweb_drop() -> None:
    keep = ["This line ends as a sentence[12] should.", 'He said: "three words."']
    drop = ["We use cookies on this page.", "Please enable JavaScript to go on.", "Two words.", "x" * 1001 + " a b c."]
    found = measure(["\n".join([*keep, *drop, "", "This one has no end"])], "c4")
    assert found.texts == ["This line ends as a sentence should.\n" + keep[1]]
    assert found.dropped_lines.tolist() == [6]
    loose = measure(["\n".join([*keep, *drop, "", "This one has no end"])], "fineweb")
    assert loose.texts[0].endswith("\nThis one has no end")
    for text, rule in (
        ("A curly { bracket it is.", "max_c4_curly_brackets"),
        ("So Lorem Ipsum it is.", "max_c4_lorem_ipsum"),
    ):
        broken = decide(measure([text], "c4").scores, PRESETS["c4"].rules)[0]
        assert broken is not None
        assert broken.rule == rule
    five = " ".join(["One more sentence here."] * 5)
    assert decide(measure([five, five[24:]], "c4").scores, PRESETS["c4"].rules) == [
        None,
        Broken("min_c4_sentences", 4, 5),
    ]


def test_lines_that_dclm_drops() -> None:
    text = "A line of words that stays.\nALL IN CAPITALS HERE\n12,345 likes\nword\n20240101\nmore items in cart"
    assert measure([text], "dclm").texts == ["A line of words that stays.\nmore"]
    assert _scores(text, "dclm")["dclm_removed_word_share"] == pytest.approx(1 - 7 / 18)


def test_real_text_is_judged_as_datatrove_judges_it(
    shared_data: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With white space between words for both: datatrove's own words need a model of each language."""
    filters = pytest.importorskip("datatrove.pipeline.filters")
    from datatrove.data import Document
    from datatrove.pipeline.filters import (
        c4_filters,
        fineweb_quality_filter,
        gopher_quality_filter,
        gopher_repetition_filter,
    )

    for module in (gopher_quality_filter, gopher_repetition_filter, fineweb_quality_filter):
        monkeypatch.setattr(module, "split_into_words", lambda text, language: text.split())
    monkeypatch.setattr(c4_filters, "split_into_sentences", lambda text, language: [text])
    texts = []
    for name in ("webtext", "movie_reviews", "abc"):
        with zipfile.ZipFile(shared_data(f"text/{name}.zip")) as archive:
            for file in [one for one in archive.namelist() if one.endswith(".txt")][:30]:
                text = normalize(archive.read(file).decode("utf-8", "replace"))
                texts += [part.strip("\n") for part in re.findall(r"(?s).{1,900}", text)][:30]
    texts = [text for text in texts if text.strip()]
    rules = PRESETS["fineweb"].rules
    gopher = {name: bound for name, bound in rules.items() if "c4" not in name and "fineweb" not in name}
    own = {name: bound for name, bound in rules.items() if "fineweb" in name}
    quality, repetition = filters.GopherQualityFilter(), filters.GopherRepetitionFilter()
    lines, fineweb = (
        filters.C4QualityFilter(filter_no_terminal_punct=False, min_num_sentences=0),
        filters.FineWebQualityFilter(),
    )
    measured = measure(texts, "fineweb")
    ours = zip(texts, decide(measured.scores, gopher), decide(measured.scores, own), measured.texts, strict=True)
    counts = [0, 0]
    for text, by_gopher, by_fineweb, cleaned in ours:
        document = Document(text=text, id="")
        theirs = all(one.filter(document) is True for one in (repetition, quality))
        assert theirs == (by_gopher is None)
        if lines.filter(document) is True:
            assert document.text == cleaned
            assert (fineweb.filter(document) is True) == (by_fineweb is None and cleaned != "")
            counts[by_gopher is None] += 1
    assert min(counts) > 20  # both ways are seen


def test_presets_and_changes() -> None:
    assert rules_of("none", {}) == {}
    assert rules_of("prose", {"min_characters": None, "max_characters": 9}) == {
        **{name: bound for name, bound in _PROSE.items() if name != "min_characters"},
        "max_characters": 9,
    }
    with pytest.raises(ConfigError, match=r"unknown preset 'goofer'\. There are: none, prose, gopher"):
        rules_of("goofer", {})
    with pytest.raises(ConfigError, match="unknown rule 'min_words'"):
        build(CurationConfig, {"rules": {"min_words": 3}})
