"""The exhibit of curation: what is planted is what steps remove, and a step is worth what its model pays without it."""

from __future__ import annotations

import numpy as np
import pytest

from seedbed.lab.bench import Bench
from seedbed.lab.curation_ablation import Ablated
from seedbed.lab.exhibits import curation_steps

from ..conftest import Measure


def test_dirt_is_copies_near_copies_and_rubbish() -> None:
    texts = [f"river number {'abcdefghij'[n % 10] * 6} runs from one hill to another sea {n}" for n in range(40)]
    settings = curation_steps.CurationStepsSettings(share=0.1, copies=3, rubbish=0.25)
    made = curation_steps.dirty(texts, settings)
    assert len(made) == 40 + 4 * 3 + 4 * 3 + 10
    assert sum(made.count(text) == 4 for text in texts) == 4
    near = [one for one in made if one not in texts and any(letter.isalpha() for letter in one)]
    assert len(near) == 12
    for one in near:
        differing = [sum(a != b for a, b in zip(one.split(), text.split(), strict=True)) for text in texts]
        assert min(differing) == 1


def _ablated(step: str, *bits: float) -> list[Ablated]:
    return [Ablated(step, 100, 1000, 2.0, one) for one in bits]


def test_a_step_is_worth_what_is_paid_without_it() -> None:
    found = {
        "": _ablated("", 2.0, 2.02),
        "rules": _ablated("rules", 2.3, 2.5),
        "near-duplicates": _ablated("n", 2.0, 2.04),
    }
    finding = curation_steps.judge(found)
    assert finding.numbers["worth_rules"] == pytest.approx(0.39)
    assert finding.rows[1][6] == pytest.approx(np.std([0.3, 0.48], ddof=1) / 2**0.5)
    assert finding.verdict == "holds in part"
    assert curation_steps.judge({key: found[key] for key in ("", "rules")}).verdict == "holds"
    assert curation_steps.judge({key: found[key] for key in ("", "near-duplicates")}).verdict == "does not hold"


def test_steps_remove_what_was_planted(measure: Measure, bench: Bench) -> None:
    sizes = {"documents": 60, "hidden_size": 8, "steps": 1, "vocab_size": 400}
    finding = measure("curation-steps", **sizes)
    kept = {row[0]: row[1] for row in finding.rows}
    assert list(kept) == [
        "all steps",
        "without quality rules",
        "without the removal of exact copies",
        "without the removal of near copies",
    ]
    settings = curation_steps.CurationStepsSettings(**sizes)
    texts = bench.texts("train", 60)
    rubbish = round(settings.rubbish * len(texts))
    # A tenth or so goes to other splits.
    assert kept["without quality rules"] - kept["all steps"] == pytest.approx(0.9 * rubbish, abs=0.2 * rubbish)
    assert kept["without the removal of near copies"] > kept["all steps"]
    assert max(kept.values()) < len(curation_steps.dirty(texts, settings))
