"""The frame of the lab: exhibits as artifacts, their settings, their page, and errors that name what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seedbed.core.errors import ConfigError, FormatError
from seedbed.lab import catalogue, page, runner
from seedbed.lab.exhibit import Finding

_TINY = {"widths": [4, 64], "queries": 64}


def _run(out: Path, **settings: object) -> tuple[runner.Shown, list[str]]:
    lines: list[str] = []
    return runner.run_exhibit("scaled-attention", out / "no-run", out, _TINY | settings, lines.append), lines


def test_a_finished_exhibit_is_measured_again_only_for_other_settings(tmp_path: Path) -> None:
    first, lines = _run(tmp_path)
    again, silent = _run(tmp_path)
    assert lines
    assert not silent
    assert again == first
    assert _run(tmp_path, seed=1)[0].finding.numbers != first.finding.numbers
    assert [one.name for one in runner.finished(tmp_path)] == ["scaled-attention"]


def test_the_page_shows_question_sentences_and_verdict(tmp_path: Path) -> None:
    shown, _ = _run(tmp_path)
    html = page.write_lab_page(tmp_path).read_text(encoding="utf-8")
    for text in (catalogue.title(shown.name), shown.finding.verdict, shown.formula, shown.source, '"mark"',
                 f'href="#{shown.name}"'):  # fmt: skip
        assert text in html


def test_errors_name_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no exhibit 'perpetuum'"):
        runner.run_exhibit("perpetuum", tmp_path, tmp_path, {}, print)
    with pytest.raises(ConfigError, match="widthz"):
        _run(tmp_path, widthz=3)
    with pytest.raises(ConfigError, match=r"'kv-cache\.steps' sets nothing"):
        runner.settings_of({"kv-cache.steps": 3}, ["scaled-attention"])
    with pytest.raises(FormatError, match="verdict"):
        Finding.from_json(_run(tmp_path)[0].finding.to_json() | {"verdict": "maybe"})


def test_every_exhibit_of_the_catalogue_says_what_it_claims_and_where_from() -> None:
    for name in catalogue.names():
        exhibit = catalogue.find(name)
        assert exhibit.question.endswith("?"), name
        assert exhibit.claim.endswith("."), name
        assert exhibit.formula, name
        assert any(character.isdigit() for character in exhibit.source), f"{name}: the year of its source"
        exhibit.settings()


def test_scaled_attention_against_numpy(tmp_path: Path) -> None:
    shown, _ = _run(tmp_path, widths=[8, 128], queries=4096)
    random = np.random.default_rng(7)
    for column, power in (("Variance, plain", 0.0), ("Scaled", -0.5)):
        place = list(shown.finding.columns).index(column)
        for row in shown.finding.rows:
            q, k = random.standard_normal((4096, row[0])), random.standard_normal((64, row[0]))
            assert row[place] == pytest.approx((q @ k.T * row[0] ** power).var(), rel=0.35)
    weights = np.exp(q @ k.T)
    largest = (weights / weights.sum(axis=1, keepdims=True)).max(axis=1).mean()
    assert shown.finding.numbers["largest_plain"] == pytest.approx(largest, abs=0.03)
