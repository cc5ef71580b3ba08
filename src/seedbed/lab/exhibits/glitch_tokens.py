"""Ids that training never met: found in the embedding alone, and whether the model can say them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from pydantic import Field

from ...core.artifacts import open_artifact
from ...evaluation.tokenizer_audit import audit_model
from ...reports import charts
from ...tokenizers.glitches import INDICATORS, GlitchReport
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict

_FOUND, _HARD = 0.9, 0.75  # AUROC from which an indicator finds them, and from which they are hard to say
_SHOWN = 3000  # ids in the chart
_NAMES = {"norm": "length of the row", "cosine": "cosine distance to rows never used"}


class GlitchTokensSettings(Settings):
    share: float = Field(0.02, gt=0, le=0.5, description="of the ranking that the model is asked to say")


def measure(bench: Bench, settings: GlitchTokensSettings) -> Finding:
    tokenizer = bench.tokenizer
    counts = np.bincount(bench.tokens("train").tokens, minlength=tokenizer.vocab_size)
    bench.advance(f"{tokenizer.vocab_size:,} ids, and prompts for the {settings.share:.0%} that look least trained")
    report = audit_model(open_artifact(bench.run / "base", "base").path, tokenizer, counts, share=settings.share)
    found = report.auroc.get(report.indicator)
    separation = report.separation
    named = found is not None and found >= _FOUND
    unsayable = separation is not None and separation >= _HARD
    verdict: Verdict = "holds" if named and unsayable else "holds in part" if named or unsayable else "does not hold"
    never = report.never_occurred or 0
    others = {name: value for name, value in report.auroc.items() if name != report.indicator}
    worst = min(others, key=lambda name: others[name], default=None)
    first = (
        f"Of {len(report.candidates):,} ids {never:,} never occurred in training; "
        + (f"the {INDICATORS[report.indicator]} tells them from the others with an AUROC of {found:.3f}"
           if found is not None else "so there is nothing to tell from the others")
        + (f", while the {INDICATORS[worst]} has {others[worst]:.3f}." if worst and others[worst] < 0.95 else ".")
    )  # fmt: skip
    second = (
        "No prompt asked for them, since there are no whole words to make prompts of."
        if separation is None else
        f"Asked to repeat the {len(report.tokens):,} that look least trained, the model gives them a probability of "
        f"{_said(report):.1e} (median; {report.control_probability:.1e} for well-trained ids): one of them is less "
        f"sayable than a well-trained one with probability {separation:.2f}."
    )  # fmt: skip
    rows: list[list[Any]] = [
        [json.dumps(one.token, ensure_ascii=False), one.count, one.indicator,
         "" if one.probability is None else f"{one.probability:.1e}"]
        for one in report.tokens[:12]
    ]  # fmt: skip
    return Finding(
        verdict, (first, second), ("Token", "Times trained", "Indicator", "Probability when asked"), rows,
        [("", charts.training_counts(_points(report, counts, bench), _NAMES.get(report.indicator, "indicator"), _GROUPS,
                                     colours=_GROUPS[::-1]))],
        {"auroc": -1.0 if found is None else found, "never": float(never),
         "separation": -1.0 if separation is None else separation},
        f"The {min(12, len(report.tokens))} ids that look least trained. Indicator: {INDICATORS[report.indicator]}; "
        "the head is " + ("the embedding itself, so that ids which are never the answer are pushed away." if report.tied
                      else "a matrix of its own."),
    )  # fmt: skip


_GROUPS = ("least trained", "others")


def _said(report: GlitchReport) -> float:
    return float(np.median([one.probability for one in report.tokens if one.probability is not None]))


def _points(report: GlitchReport, counts: np.ndarray, bench: Bench) -> list[dict[str, Any]]:
    listed = {one.id for one in report.tokens}
    rest = [int(one) for one in report.candidates if int(one) not in listed]
    chosen = [*sorted(listed), *rest[:: -(-len(rest) // _SHOWN) or 1]]
    return [
        {"count": int(counts[one]), "value": float(report.values[one]), "token": bench.tokenizer.id_to_token(one),
         "group": _GROUPS[0] if one in listed else _GROUPS[1]}
        for one in chosen
    ]  # fmt: skip


EXHIBIT = Exhibit(
    question="Are there ids in the vocabulary that the model never learnt, and what does it do with them?",
    claim="Ids that training never met stand out in the embedding, and the model cannot say them even when told to.",
    formula="tied head: d(i) = 1 − cos(e_i, mean of rows known to be unused); untied: ‖e_i‖.",
    source="Land and Bartolo 2024, section 2",
    settings=GlitchTokensSettings,
    measure=measure,
    needs=("tokenizer", "tokens", "base"),
)
