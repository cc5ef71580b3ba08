"""What optimising a reward bought and cost, as a page with its JSON and its charts, and as tables for a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import altair as alt

from ..alignment.limits import Curve
from ..alignment.study import START, AlignmentStudy
from ..core.artifacts import write_atomically
from ..core.console import table
from ..core.errors import disk_errors
from ..core.json_files import json_bytes
from . import numbers
from .charts import Chart, _axis, _data, _framed, _series, _tip
from .images import write_image
from .page import Card, Figure, Page, Section, Table

_CURVE_POINTS = 40
_PAGE_ALONE = (
    "First",
    "a",
    "±",
    "b",
    "± ",
    "Calibration error",
    "Self-BLEU",
    "Deviation",
    "Proxy",
)  # a terminal is narrow


def write_alignment(study: AlignmentStudy, out: Path) -> None:
    """Write alignment.json, index.html and the charts as SVG and PNG into the folder `out`."""
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / "alignment.json", json_bytes(study.to_json()))
        alignment_page(study).write(out / "index.html")
        for name in ("gold", "proxy"):
            for suffix in (".svg", ".png"):
                write_image(frontier_chart(study, name), out / f"{name}{suffix}", width=520)


def show_alignment(study: AlignmentStudy) -> None:
    """The tables on the terminal."""
    for section in _sections(study):
        for block in section.blocks:
            if isinstance(block, Table):
                kept = [place for place, column in enumerate(block.columns) if column not in _PAGE_ALONE]
                rows = [[row[place] for place in kept] for row in block.rows]
                table([block.columns[place].lower() for place in kept], rows, title=block.title)


def alignment_page(study: AlignmentStudy) -> Page:
    return Page(
        "The limits of alignment",
        "What optimising a reward model buys in the gold reward that nobody trains on, and what it costs.",
        _cards(study),
        _sections(study),
        "Forms after Gao, Schulman and Hilton 2022; estimators after Schulman 2020; pass@k after Chen et al. 2021. d "
        "is the root of the divergence from the fine-tuned model, in nats per answer.",
        {
            "Questions": numbers.count(len({answer["policy"] for answer in study.diversity}), "policy", "policies"),
            "Reward models": numbers.count(len(study.reward_models)),
        },
    )


def _sections(study: AlignmentStudy) -> list[Section]:
    parts = [_frontier(study), *_remedies(study), _reward_models(study), _diversity(study), _estimators(study)]
    return [*parts, _hacks(study)]


def _cards(study: AlignmentStudy) -> list[Card]:
    first = study.diversity[0]
    best = max(study.diversity[1:], key=lambda row: row["gold"], default=first)
    furthest = max(study.diversity, key=lambda row: row["divergence"])
    found = sum(row["found"] == row["flaw"] for row in study.hacks)
    return [
        Card("Fine-tuned", numbers.fixed(first["gold"], 3), "gold reward"),
        Card("Best policy", numbers.fixed(best["gold"], 3), str(best["policy"]), "good" if best is not first else ""),
        Card("Furthest policy", numbers.fixed(furthest["gold"], 3),
             f"{furthest['policy']}, {numbers.fixed(furthest['divergence'], 1)} nats away",
             "bad" if furthest["gold"] < first["gold"] else ""),
        Card("Planted flaws found", f"{found} of {len(study.hacks)}", "by the reward's residual"),
    ]  # fmt: skip


def frontier_chart(study: AlignmentStudy, value: str) -> Chart:
    """Gold or proxy over d, a line for each way of optimising; dashed what was fitted."""
    order = [one.name for one in study.curves]
    points = [{"series": one.name, "d": point["d"], "y": point[value]} for one in study.curves for point in one.points]
    titles = {"gold": "gold reward", "proxy": "proxy, deviations"}
    x = alt.X("d:Q", title="d, root of the divergence", axis=alt.Axis(grid=False, tickCount=6))
    y = alt.Y("y:Q", title=titles[value], scale=alt.Scale(zero=False), axis=_axis(count=5))
    color = _series("series", order).legend(title=None, columns=2)
    tips = [_tip("series", ""), _tip("d", "d", "Q"), _tip("y", titles[value], "Q")]
    layers: list[alt.Chart] = [_data(points).mark_circle(size=30, opacity=0.75)]
    if value == "gold" and (fitted := [row for one in study.curves for row in _fitted(one)]):
        layers.insert(0, _data(fitted).mark_line(strokeDash=[5, 4], opacity=0.7))
    return _framed(alt.LayerChart(layer=[one.encode(x=x, y=y, color=color, tooltip=tips) for one in layers]))


def _fitted(curve: Curve) -> list[dict[str, Any]]:
    if curve.fitted is None or not curve.fitted.bends:
        return []
    most = curve.points[-1]["d"]
    ends = [most * place / _CURVE_POINTS for place in range(1, _CURVE_POINTS + 1)]
    return [{"series": curve.name, "d": d, "y": curve.fitted.start + float(curve.fitted.gain(d))} for d in ends]


def _frontier(study: AlignmentStudy) -> Section:
    rows = []
    for one in study.curves:
        best = max(one.points, key=lambda point: point["gold"])
        last = one.points[-1]
        rows.append((
            one.name, numbers.fixed(one.points[0]["gold"], 3), numbers.fixed(best["gold"], 3),
            numbers.fixed(best["d"], 2), numbers.fixed(last["gold"], 3), numbers.fixed(last["d"], 2), *_form(one),
        ))  # fmt: skip
    columns = ("Way", "First", "Best", "at d", "Last", "at d ", "a", "±", "b", "± ", "Peak", "Bends")
    lead = (
        "Every point is a policy: its distance from the fine-tuned model, and what its answers are worth. Where the "
        "proxy goes on rising while the gold reward falls, the reward model is being over-optimised."
    )
    caption = (
        "Best of n: gain d (a - b d); the others: d (a - b log d), fitted by least squares. It bends if Akaike's "
        "criterion prefers the form to a line."
    )
    return Section(
        "frontier", "Gold against proxy", lead,
        [
            Figure("Gold reward", [("", frontier_chart(study, "gold"))], "Dashed: the fitted form, where it bends."),
            Figure("Proxy", [("", frontier_chart(study, "proxy"))], "The reward model's score of the same answers."),
            Table("Curves", columns, rows, caption, wide=True),
        ],
    )  # fmt: skip


def _remedies(study: AlignmentStudy) -> list[Section]:
    rows = [
        (row["policy"], numbers.fixed(row["gold"], 3), _difference(row["gain"], row["gain_error"]),
         "" if row["against"] is None else _difference(row["over"], row["over_error"]), numbers.fixed(row["proxy"], 2),
         numbers.fixed(row["divergence"], 1), numbers.fixed(row["entropy"], 2), numbers.percent(row["pass_k"]))
        for row in study.remedies
    ]  # fmt: skip
    if not rows:
        return []
    first = study.diversity[0]
    rows.append((
        START, numbers.fixed(first["gold"], 3), "", "", numbers.fixed(first["proxy"], 2),
        numbers.fixed(first["divergence"], 1), numbers.fixed(first["entropy"], 2), numbers.percent(first["pass_k"]),
    ))  # fmt: skip
    columns = ("Policy", "Gold", f"Over {START}", "Over none", "Proxy", "Nats away", "Entropy", f"Pass@{first['k']}")
    lead = (
        "The same training with something that holds it back: a price of divergence, fixed or following a target; a "
        "bonus for entropy; several reward models less their disagreement; a stop where the fitted curve peaks. Over "
        f"none is the gain in gold over the same method without a remedy; differences have the standard error over "
        f"questions. {_helped(study)}"
    )
    caption = f"Over none: {', '.join(dict.fromkeys(row['against'] for row in study.remedies if row['against']))}."
    return [Section("remedies", "Remedies", lead, [Table("Gold with each remedy", columns, rows, caption, wide=True)])]


def _difference(value: float, error: float) -> str:
    return f"{numbers.fixed(value, 3, sign=True)} ± {numbers.fixed(error, 3)}"


def _helped(study: AlignmentStudy) -> str:
    """Which remedies helped beyond their error, in words."""
    tried = [row for row in study.remedies if row["against"] is not None]
    helped = [row["policy"] for row in tried if row["over"] > 2 * row["over_error"]]
    harmed = [row["policy"] for row in tried if row["over"] < -2 * row["over_error"]]
    said = [f"By more than twice that, {what}: {'; '.join(names)}." for names, what in (
        (helped, "these helped"), (harmed, "these harmed")) if names]  # fmt: skip
    stopped = any("stopped" in row["policy"] for row in tried)
    said += [] if stopped else ["No curve without a price bends within its points, so there was no peak to stop at."]
    return " ".join(said) if helped or harmed else " ".join(["None made a difference of twice that.", *said])


def _form(curve: Curve) -> tuple[str, ...]:
    fitted = curve.fitted
    if fitted is None:
        return ("", "", "", "", "", "too few points")
    peak = "" if fitted.peak is None else numbers.fixed(fitted.peak, 2)
    return (
        numbers.fixed(fitted.alpha, 3),
        numbers.fixed(fitted.errors[0], 3),
        numbers.fixed(fitted.beta, 3),
        numbers.fixed(fitted.errors[1], 3),
        peak,
        "yes" if fitted.bends and fitted.beta > 0 else "no",
    )


def _reward_models(study: AlignmentStudy) -> Section:
    rows = [
        (row["name"], numbers.percent(row["accuracy"]), numbers.percent(row["calibration_error"]),
         numbers.fixed(row["correlation"], 2), numbers.fixed(row["gold_first"], 3), numbers.fixed(row["gold_best"], 3),
         str(row["best_n"]), numbers.fixed(row["gold_last"], 3))
        for row in study.reward_models
    ]  # fmt: skip
    last = study.reward_models[0]["last_n"] if study.reward_models else 0
    columns = ("Reward model", "Accuracy", "Calibration error", "Correlation", "One answer", "Best", "of n",
               f"Best of {last}")  # fmt: skip
    lead = (
        "The same answers, chosen from by reward models of fewer blocks, on fewer preferences, and by several at once. "
        "Accuracy is on held-out pairs; the correlation is of score and gold reward over all answers."
    )
    return Section("models", "Size, preferences, ensembles", lead,
                   [Table("Best of n by reward model", columns, rows, wide=True)])  # fmt: skip


def _diversity(study: AlignmentStudy) -> Section:
    k = study.diversity[0]["k"]
    rows = [
        (row["policy"], numbers.fixed(row["gold"], 3), numbers.fixed(row["divergence"], 2),
         numbers.fixed(row["entropy"], 2), numbers.percent(row["distinct_2"]), numbers.fixed(row["self_bleu"], 2),
         numbers.percent(row["unique"]), numbers.percent(row["pass_1"]), numbers.percent(row["pass_k"]))
        for row in study.diversity
    ]  # fmt: skip
    columns = (
        "Policy",
        "Gold",
        "Nats away",
        "Entropy",
        "Distinct 2-grams",
        "Self-BLEU",
        "Unique",
        "Pass@1",
        f"Pass@{k}",
    )
    lead = (
        "A policy that has found one good answer gives it always: it passes more often at the first try and gains less "
        "from further ones. Unique is the share of different answers to one question."
    )
    crossed = [
        str(row["policy"]) for row in study.diversity[1:]
        if row["pass_1"] > study.diversity[0]["pass_1"] and row["pass_k"] < study.diversity[0]["pass_k"]
    ]  # fmt: skip
    verdict = f"Better at the first try and worse at {k}: {', '.join(crossed)}." if crossed else (
        f"No policy is better at the first try and worse at {k}."
    )  # fmt: skip
    return Section("diversity", "Variety", lead, [Table("Answers of each policy", columns, rows, verdict, wide=True)])


def _estimators(study: AlignmentStudy) -> Section:
    exact = {row["policy"]: row["mean"] for row in study.estimators if row["estimator"] == "exact"}
    rows = [
        (row["policy"], row["estimator"], numbers.fixed(row["mean"], 4), numbers.fixed(row["deviation"], 4),
         numbers.percent(row["negative"]),
         "" if row["estimator"] == "exact" or not exact[row["policy"]]
         else numbers.percent(row["mean"] / exact[row["policy"]] - 1, sign=True))
        for row in study.estimators
    ]  # fmt: skip
    columns = ("Policy", "Estimator", "Nats per token", "Deviation", "Below zero", "Off the exact")
    lead = (
        "The divergence of a token's distribution, exact over the whole vocabulary, and as estimated from the one "
        "token that was sampled. k1 is right on average and often negative; k2 is off where policies differ much."
    )
    return Section("estimators", "Estimating the divergence", lead,
                   [Table("Estimators", columns, rows, wide=True)])  # fmt: skip


def _hacks(study: AlignmentStudy) -> Section:
    rows = [
        (row["flaw"], row["found"], f"{numbers.fixed(row['correlation_without'], 2)} → "
         f"{numbers.fixed(row['correlation'], 2)}", numbers.fixed(row["gold_honest"], 3),
         numbers.fixed(row["gold_misled"], 3), numbers.fixed(row["feature_first"], 2),
         numbers.fixed(row["feature_misled"], 2))
        for row in study.hacks
    ]  # fmt: skip
    columns = ("Planted flaw", "Found", "Correlation", "Gold, honest", "Gold, flawed", "Trait before", "Trait after")
    n = study.hacks[0]["n"] if study.hacks else 0
    lead = (
        "Flaws that people found in rewards, added to the reward model on purpose. What the gold reward does not "
        f"explain of a score gives the flaw away; the best of {n} answers shows what it would have cost."
    )
    return Section("hacks", "Planted flaws", lead, [Table("Found by the residual", columns, rows, wide=True)])
