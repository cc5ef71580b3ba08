"""Charts of scaling laws: the ladder and its envelope, iso-FLOP parabolas, bets, diminishing returns, the data wall."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np

from ..scaling.frontier import Parabola
from ..scaling.laws import FLOPS_PER_PARAMETER_AND_TOKEN, Law, least_loss
from ..scaling.runs import RunTable
from . import numbers
from .charts import Chart, Row, _axis, _data, _framed, _series, _tip

_LOSS = "validation loss, nats per token"
_POINTS = 60
_SIZES_IN_LEGEND = 8


def ladder(runs: RunTable, law: Law) -> Chart:
    """Losses over FLOPs by size, the law through them, and the envelope: the least loss for each budget."""
    sizes = np.unique(runs.params)
    flops = FLOPS_PER_PARAMETER_AND_TOKEN * runs.params * runs.tokens
    fresh = runs.repeats <= 0.01
    rows = [
        {"flops": float(cost), "loss": float(loss), "size": numbers.tight(size), "tokens": float(tokens)}
        for cost, loss, size, tokens in zip(flops, runs.loss, runs.params, runs.tokens, strict=True)
    ]  # fmt: skip
    curves: list[Row] = []
    for size in sizes if len(sizes) <= _SIZES_IN_LEGEND else []:
        spent = flops[(runs.params == size) & fresh]
        if len(spent) > 1:
            along = np.geomspace(spent.min(), spent.max(), _POINTS)
            reached = law.predict(size, along / FLOPS_PER_PARAMETER_AND_TOKEN / size)
            curves += [{"flops": float(x), "loss": float(y), "size": numbers.tight(size)}
                       for x, y in zip(along, reached, strict=True)]  # fmt: skip
    budgets = np.geomspace(flops.min(), flops.max() * 4, _POINTS)
    envelope = [{"flops": float(one), "loss": least_loss(law, float(one)).loss, "what": "best"} for one in budgets]
    x, y = _budget_axis(flops.min(), flops.max() * 4), _loss_axis()
    order = [numbers.tight(one) for one in sizes]
    legend = alt.Legend(title="parameters") if len(sizes) <= _SIZES_IN_LEGEND else None
    color = alt.Color("size:O", sort=order, legend=legend)
    tips = [_tip("size", "parameters"), _tip("tokens", "tokens", "Q"), _tip("loss", "loss", "Q")]
    best = _data(envelope).mark_line(style="second", strokeDash=[6, 4]).encode(x=x, y=y)
    points = _data(rows).mark_point(filled=True, size=50, opacity=0.9).encode(x=x, y=y, color=color, tooltip=tips)
    layers = [best, points]
    if curves:
        layers.insert(1, _data(curves).mark_line(strokeWidth=1.5, opacity=0.7).encode(x=x, y=y, color=color))
    words = _data(envelope[_POINTS // 2 :][:1]).mark_text(style="quiet", align="right", dy=16)
    layers.append(words.encode(x=x, y=y, text=alt.value("best for the budget")))
    return _framed(alt.LayerChart(layer=layers), height=320)


def isoflop(runs: RunTable, parabolas: Sequence[Parabola]) -> Chart:
    """Loss over size, one parabola for each budget, with its bottom."""
    names = [f"{one.optimum.flops:.2g}" for one in parabolas]
    flops = FLOPS_PER_PARAMETER_AND_TOKEN * runs.params * runs.tokens
    points, curves, bottoms = [], [], []
    for name, one in zip(names, parabolas, strict=True):
        near = np.abs(np.log(flops / one.optimum.flops)) < 0.3
        points += [{"params": float(size), "loss": float(loss), "budget": name}
                   for size, loss in zip(runs.params[near], runs.loss[near], strict=True)]  # fmt: skip
        along = np.geomspace(one.low, one.high, _POINTS)
        curves += [{"params": float(size), "loss": float(loss), "budget": name}
                   for size, loss in zip(along, one.loss(along), strict=True)]  # fmt: skip
        bottoms.append({"params": one.optimum.params, "loss": one.optimum.loss, "budget": name})
    low, high = min(one.low for one in parabolas), max(one.high for one in parabolas)
    x = _log_axis("params", "parameters", low / 1.2, high * 1.2)
    color = alt.Color("budget:O", sort=names, legend=alt.Legend(title="FLOPs"))
    layers = [
        _data(curves).mark_line(strokeWidth=1.5).encode(x=x, y=_loss_axis(), color=color),
        _data(points).mark_point(filled=True, size=45, opacity=0.9).encode(x=x, y=_loss_axis(), color=color),
        _data(bottoms).mark_point(style="second", filled=True, shape="diamond", size=110, opacity=1).encode(
            x=x, y=_loss_axis(), tooltip=[_tip("params", "best size", "Q"), _tip("loss", "loss", "Q")]
        ),
    ]  # fmt: skip
    return _framed(alt.LayerChart(layer=layers), height=320)


def bets(rows: Sequence[Row]) -> Chart:
    """Forecasts against facts, in per cent of the forecast: the interval as a bar, the fact as a diamond.

    Args:
        rows: `name`, `loss`, `low`, `high`, and `fact` or None.
    """
    scaled = [
        {**row, **{f"{end}_share": row[end] / row["loss"] - 1 for end in ("low", "high")},
         "fact_share": None if row["fact"] is None else row["fact"] / row["loss"] - 1}
        for row in rows
    ]  # fmt: skip
    y = alt.Y("name:N", sort=None, title=None)
    title = "difference from the forecast"
    axis = alt.Axis(format="+.1%", tickCount=7)
    low = alt.X("low_share:Q", title=title, axis=axis)
    base = _data(scaled)
    layers = [
        base.mark_bar(style="second", opacity=0.3, cornerRadius=4, height=16).encode(x=low, x2="high_share:Q", y=y),
        _data([{"zero": 0}]).mark_rule(style="guide").encode(x=alt.X("zero:Q", title=title)),
        _data([row for row in scaled if row["fact"] is not None])
        .mark_point(style="third", filled=True, shape="diamond", size=130, opacity=1)
        .encode(x=alt.X("fact_share:Q", title=title), y=y, tooltip=[_tip("fact", "measured", "Q")]),
    ]
    return _framed(alt.LayerChart(layer=layers), height=max(60, 36 * len(rows) + 20))


def returns(law: Law, flops: float, *, unique_tokens: float | None = None) -> Chart:
    """Diminishing returns: what each doubling of the budget takes off the loss, around the plan's."""
    rows = []
    for doublings in range(-4, 7):
        budget = flops * 2.0**doublings
        now, before = (least_loss(law, one, unique_tokens).loss for one in (budget, budget / 2))
        rows.append({"budget": budget, "gain": before - now, "loss": now, "planned": doublings == 0})
    x = _log_axis("budget", "budget, FLOPs", rows[0]["budget"] / 1.6, rows[-1]["budget"] * 1.6)
    y = alt.Y("gain:Q", title="gain of the last doubling, nats", axis=_axis(count=5))
    tips = [_tip("budget", "FLOPs", "Q"), _tip("loss", "loss", "Q"), _tip("gain", "gain", "Q")]
    line = _data(rows).mark_line(point=alt.OverlayMarkDef(size=45, filled=True)).encode(x=x, y=y, tooltip=tips)
    chosen = [{**row, "label": "the plan"} for row in rows if row["planned"]]
    mark = _data(chosen).mark_point(style="second", filled=True, size=110, opacity=1).encode(x=x, y=y)
    words = _data(chosen).mark_text(align="left", dx=8, dy=-9, fontWeight=600).encode(x=x, y=y, text="label:N")
    return _framed(alt.LayerChart(layer=[line, mark, words]))


def data_wall(law: Law, flops: float, unique_tokens: float, exhausted_at: float | None) -> Chart:
    """The least loss for each budget with so much text, and if the text never ran out."""
    low = min(flops, exhausted_at or flops) / 30
    budgets = np.geomspace(low, max(flops, exhausted_at or flops) * 30, _POINTS)
    order = ("text without end", "this text")
    rows = [
        {"budget": float(one), "loss": least_loss(law, float(one), unique).loss, "text": name}
        for name, unique in zip(order, (None, unique_tokens), strict=True)
        for one in budgets
    ]
    x = _log_axis("budget", "budget, FLOPs", low, float(budgets[-1]))
    layers: list[alt.Chart] = [_data(rows).mark_line().encode(x=x, y=_loss_axis(), color=_series("text", order))]
    marks = [("the plan", flops)] + ([("text read once", exhausted_at)] if exhausted_at else [])
    highest = least_loss(law, low, unique_tokens).loss
    for name, at in marks:
        place = [{"budget": at, "loss": highest, "label": name}]
        layers.append(_data(place).mark_rule(style="guide", strokeDash=[5, 4]).encode(x=x))
        words = _data(place).mark_text(style="quiet", align="left", dx=5, dy=-2 if name == "the plan" else 12)
        layers.append(words.encode(x=x, y=_loss_axis(), text="label:N"))
    return _framed(alt.LayerChart(layer=layers), height=280)


def _loss_axis() -> alt.Y:
    return alt.Y("loss:Q", title=_LOSS, scale=alt.Scale(zero=False), axis=_axis(count=5))


def _budget_axis(low: float, high: float) -> alt.X:
    return _log_axis("flops", "training FLOPs", float(low) / 1.3, float(high) * 1.3)


def _log_axis(name: str, title: str, low: float, high: float) -> alt.X:
    exponent = alt.Axis(format=".1~e" if high > 1e12 else "~s", tickCount=6, grid=False, labelSeparation=14)
    return alt.X(f"{name}:Q", title=title, axis=exponent, scale=alt.Scale(type="log", domain=[low, high], nice=False))
