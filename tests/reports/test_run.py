"""The report of a run: what its artifacts say stands on the page, hostile or missing."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from seedbed.core.artifacts import open_artifact
from seedbed.core.errors import FormatError
from seedbed.reports import page
from seedbed.reports.alignment_sections import over_optimisation
from seedbed.reports.evidence import Evidence
from seedbed.reports.model_sections import forecast
from seedbed.reports.run import key_figures, report_page, write_run_report

_STAGES = ("corpus", "tokenizer", "tokens", "forecast", "base", "sft", "reward", "policy", "encoder", "index")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "vega_bundle", lambda: "window.vegaEmbed = null;")


def test_every_stage_has_its_section_and_its_numbers(grown: Path, tmp_path: Path) -> None:
    write_run_report(grown, tmp_path / "index.html")
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    keys = re.findall(r'<section id="([a-z]+)"', html)
    assert keys == [
        "corpus", "tokenizer", "forecast", "pretraining", "finetuning", "reward", "alignment", "search", "cost",
    ]  # fmt: skip
    for words in (
        "9,800 documents (3.1 MB)", "measured 12, bound 40", "3.36 bytes", "the forecast was 1.2% too high",
        "inside the interval", "its chain is unbroken", "11.8% fewer", "4.21 to 2.31", "trains 3.1% as many", "87.3%",
        "+0.167, standard error 0.013", "no over-optimisation shows", "0.688 by both together, ahead of either",
    ):  # fmt: skip
        assert words in html, words
    assert "<img" not in html
    assert "/home/somebody" not in html
    assert str(grown) not in html


def test_key_figures_of_finished_stages_only(grown: Path) -> None:
    metrics = {stage: open_artifact(grown / stage, stage).metrics for stage in _STAGES}
    cards = {card.label: card for card in key_figures(metrics)}
    assert {label: card.value for label, card in cards.items()} == {
        "Documents": "9,360", "Bytes per token": "3.36", "Forecast error": "+1.2%", "Bits per byte, test": "1.544",
        "Answer loss": "2.31", "Reward model": "87.3%", "Gold reward after PPO": "0.801", "Search, MRR@10": "0.688",
        "HNSW recall@10": "99.6%",
    }  # fmt: skip
    assert all(card.tone == "good" for label, card in cards.items() if label in ("Forecast error", "Search, MRR@10"))
    assert key_figures({}) == []
    early = {stage: metrics[stage] for stage in ("corpus", "forecast")}
    assert [card.label for card in key_figures(early)] == ["Documents", "Forecast loss"]


def test_figures_that_went_wrong_are_shown_as_such(grown: Path) -> None:
    metrics = {stage: open_artifact(grown / stage, stage).metrics for stage in _STAGES}
    worse: dict[str, Any] = json.loads(json.dumps(metrics))
    worse["base"]["validation_loss"] = 4.5
    worse["base"]["ngram"]["test"]["bits_per_byte"] = 1.2
    worse["index"]["evaluation"]["hybrid"]["mrr@10"] = 0.5
    worse["policy"] |= {"gold_gain": -0.2}
    bad = {card.label for card in key_figures(worse) if card.tone == "bad"}
    assert bad == {"Forecast error", "Bits per byte, test", "Search, MRR@10", "Gold reward after PPO"}


@pytest.mark.parametrize("missing", [_STAGES[1:], ("base", "index"), _STAGES])
def test_a_run_under_way_has_a_report(grown: Path, tmp_path: Path, missing: tuple[str, ...]) -> None:
    run = tmp_path / "run"
    shutil.copytree(grown, run, ignore=lambda _, names: [name for name in names if name in missing])
    assert report_page(run).html().startswith("<!doctype html>")


def test_a_ledger_that_was_changed_is_named(grown: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(grown, run)
    ledger = run / "ledger.jsonl"
    ledger.write_text(ledger.read_text().replace("3.642", "3.6"))
    section = forecast(Evidence(run))
    assert section is not None
    assert "The ledger cannot be trusted" in section.lead


def test_broken_metrics_name_their_line(grown: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(grown, run)
    with open(run / "base" / "metrics.jsonl", "a") as handle:
        handle.write("[1]\n")
    with pytest.raises(FormatError, match=r"metrics\.jsonl:122.*no JSON object"):
        Evidence(run).rows("base")


@pytest.mark.parametrize(
    ("gain", "proxy", "curve", "wanted"),
    [
        (0.2, 1.0, [0.5, 0.6, 0.7], "no over-optimisation"),
        (-0.2, 1.0, [0.7, 0.6, 0.5], "was over-optimised"),
        (-0.2, -1.0, [0.7, 0.6, 0.5], "did harm"),
        (0.01, 1.0, [0.5, 0.5, 0.5], "may be none"),
        (0.2, 1.0, [0.5, 0.9, 0.7], "highest in iteration 2"),
    ],
)
def test_over_optimisation_is_told_from_progress(gain: float, proxy: float, curve: list[float], wanted: str) -> None:
    rows = [{"iteration": number, "gold": gold} for number, gold in enumerate(curve, start=1)]
    assert wanted in over_optimisation({"gold_gain": gain, "gold_gain_error": 0.02, "proxy_gain": proxy}, rows)
