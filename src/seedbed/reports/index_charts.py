"""Charts of vectors and of indexes: pure functions from rows to Altair charts, in the language of `charts`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import numpy.typing as npt

from .charts import Chart, Row, _axis, _data, _framed, _series, _tip

_LEAST_MISS = 0.0005  # a recall above 99.95% stands at the upper end
_NINES = (0.3, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
STRUCTURE, QUANTISATION = "by graph or partition", "by quantisation"


def recall_frontier(
    rows: Sequence[Row], series: str, order: Sequence[str], exact: float, speeds: tuple[float, float], *,
    lowest: float = 0.3,
) -> Chart:  # fmt: skip
    """Recall over queries per second, a line for each of the series; recall on a scale of the neighbours missed.

    Args:
        rows: `recall`, `speed`, `dial` (words), `series`; those below `lowest` are left out.
        exact: speed of the exact scan.
        speeds: ends of the axis, so that charts side by side have the same.
    """
    placed = [{**row, "place": _place(row["recall"])} for row in rows if row["recall"] >= lowest]
    x = alt.X(
        "speed:Q", title="queries per second, one thread", axis=alt.Axis(format="~s", tickCount=5, grid=False),
        scale=alt.Scale(type="log", domain=[speeds[0] / 1.3, speeds[1] * 1.3], nice=False),
    )  # fmt: skip
    ticks = [_place(recall) for recall in _NINES]
    y = alt.Y(
        "place:Q", title="recall", scale=alt.Scale(domain=[_place(lowest), _place(1)], nice=False),
        axis=alt.Axis(values=ticks, labelExpr="format(1 - pow(10, -datum.value), '.3~p')"),
    )  # fmt: skip
    tips = [_tip(series, ""), _tip("dial", "search"), _tip("recall", "recall", "Q"), _tip("speed", "per second", "Q")]
    line = _data(placed).mark_line(point=alt.OverlayMarkDef(size=42, filled=True)).encode(
        x=x, y=y, order="place:Q", color=_series(series, order).legend(title=None, columns=2), tooltip=tips
    )  # fmt: skip
    scan = [{"speed": exact, "label": "exact scan", "place": _place(lowest)}]
    rule = _data(scan).mark_rule(style="guide", strokeDash=[5, 4]).encode(x=x)
    words = _data(scan).mark_text(style="quiet", align="left", dx=6, dy=-8, fontSize=11)
    return _framed(
        alt.LayerChart(layer=[rule, line, words.encode(x=x, y=y, text="label:N")]), height=330
    )  # fmt: skip


def _place(recall: float) -> float:
    return -math.log10(max(1 - recall, _LEAST_MISS))


def losses(rows: Sequence[Row], dial: str, highest: float) -> Chart:
    """Shares of the true neighbours that were lost, over the dial: what the structure lost, and codes on top of it.

    Args:
        rows: `value`, `by_structure`, `by_quantisation`.
        highest: end of the axis, so that charts side by side have the same.
    """
    stacked = [
        {"value": str(row["value"]), "lost": row[key], "blame": blame, "rank": rank}
        for row in rows
        for rank, (key, blame) in enumerate((("by_structure", STRUCTURE), ("by_quantisation", QUANTISATION)))
    ]
    x = alt.X("value:O", sort=None, title=dial, axis=alt.Axis(labelAngle=0, labelOverlap=True))
    y = alt.Y(
        "lost:Q", title=None, stack="zero", scale=alt.Scale(domain=[0, highest], nice=False),
        axis=alt.Axis(format=".0%", tickCount=4),
    )  # fmt: skip
    tips = [_tip("blame", "lost"), _tip("value", dial), _tip("lost", "share", "Q")]
    marks = _data(stacked).mark_bar(cornerRadiusEnd=0).encode(
        x=x, y=y, color=_series("blame", (STRUCTURE, QUANTISATION), legend=False), order="rank:O", tooltip=tips
    )  # fmt: skip
    return _framed(marks, height=130)


def histogram(
    series: Sequence[tuple[str, npt.NDArray[np.float64]]], title: str, *, bins: int = 60, mean: float | None = None
) -> Chart:
    """Share of the values in each bin, an outline for each of the series."""
    everything = np.concatenate([values for _, values in series])
    low, high = np.quantile(everything, [0.001, 0.999])
    edges = np.linspace(low, max(high, low + 1e-9), bins + 1)
    rows = [
        {"value": float(middle), "share": float(share), "of": name}
        for name, values in series
        for middle, share in zip(
            (edges[1:] + edges[:-1]) / 2, np.histogram(values, edges)[0] / max(len(values), 1), strict=True
        )
    ]
    x = alt.X("value:Q", title=title, axis=alt.Axis(tickCount=6, grid=False), scale=alt.Scale(nice=False, zero=False))
    y = alt.Y("share:Q", title=None, axis=alt.Axis(format=".0%", tickCount=4), stack=None)
    order = [name for name, _ in series]
    marks = _data(rows).mark_area(opacity=0.35, line=True, interpolate="monotone").encode(
        x=x, y=y, color=_series("of", order, legend=len(order) > 1),
        tooltip=[_tip("of", ""), _tip("value", title, "Q"), _tip("share", "share", "Q")],
    )  # fmt: skip
    return _framed(marks)


def hubs(occurrences: npt.NDArray[np.int64], k: int) -> Chart:
    """Bars of how many vectors are among the neighbours of so many others, over ranges that double."""
    edges = [0, 1]
    while edges[-1] <= occurrences.max():
        edges.append(edges[-1] * 2)
    rows: list[dict[str, Any]] = []
    for low, high in itertools.pairwise(edges):
        within = int(((occurrences >= low) & (occurrences < high)).sum())
        name = f"{low}" if high - low == 1 else f"{low}–{high - 1}"
        rows.append({"range": name, "vectors": within, "share": within / len(occurrences)})
    x = alt.X("range:O", sort=None, title=f"times among the {k} nearest of others", axis=alt.Axis(labelAngle=-40))
    y = alt.Y("share:Q", title="share of the vectors", axis=alt.Axis(format=".0%", tickCount=5))
    tips = [_tip("range", "times"), _tip("vectors", "vectors", "Q"), _tip("share", "share", "Q")]
    return _framed(_data(rows).mark_bar().encode(x=x, y=y, tooltip=tips))


def lines(
    rows: Sequence[Row], x: str, y: str, order: Sequence[str], x_title: str, y_title: str, *,
    dashed: Sequence[str] = (), x_values: Sequence[float] = (), form: str = "~r", y_log: bool = False,
    y_axis: str = "~r", y_domain: tuple[float, float] | None = None, x_log: bool = True,
) -> Chart:  # fmt: skip
    """A quantity over another, by default on a logarithmic axis, a line for each `series`; those `dashed` are theory.

    Args:
        rows: `x`, `y` and `series`.
        form: of the numbers below the axis; `y_axis` beside it.
    """
    values = [row[x] for row in rows]
    across = alt.X(
        f"{x}:Q", title=x_title, axis=alt.Axis(grid=False, format=form, values=list(x_values) or alt.Undefined),
        scale=alt.Scale(type="log", domain=[min(values) / 1.15, max(values) * 1.15], nice=False)
        if x_log else alt.Scale(nice=False, zero=False),
    )  # fmt: skip
    scale: dict[str, Any] = {"type": "log", "nice": False} if y_log else {"zero": False}
    if y_domain is not None:
        scale |= {"domain": list(y_domain), "nice": False}
    # On a logarithmic axis nine lines a decade would hide the data; those with a number are enough.
    grid = {"condition": {"test": "datum.label !== ''", "value": 1}, "value": 0} if y_log else alt.Undefined
    axis = alt.Axis(format=y_axis, tickCount=5, gridOpacity=grid)
    up = alt.Y(f"{y}:Q", title=y_title, scale=alt.Scale(**scale), axis=axis)
    tips = [_tip("series", ""), _tip(x, x_title, "Q"), _tip(y, y_title, "Q")]
    color = _series("series", order).legend(title=None, columns=2)  # more would be cut off on a phone
    measured, theory = (
        [row for row in rows if (row["series"] in dashed) == wanted] for wanted in (False, True)
    )  # fmt: skip
    layers = [_data(measured).mark_line(point=alt.OverlayMarkDef(size=50, filled=True))]
    if theory:
        layers.insert(0, _data(theory).mark_line(strokeDash=[5, 4]))
    return _framed(alt.LayerChart(layer=[one.encode(x=across, y=up, color=color, tooltip=tips) for one in layers]))


def memory(rows: Sequence[Row], dim: int) -> Chart:
    """Bars of measured bytes a vector, a mark where the prediction was, and a line at what the vectors alone take.

    Args:
        rows: `index`, `measured`, `predicted`, in bytes a vector.
    """
    most = max(row["measured"] for row in rows) * 1.05
    y = alt.Y("index:N", sort=None, title=None)
    scale = alt.Scale(domain=[0, most], nice=False)
    x, at, own = (
        alt.X(f"{name}:Q", title="bytes a vector", scale=scale, axis=_axis(count=5))
        for name in ("measured", "predicted", "own")
    )
    tips = [_tip("index", ""), _tip("measured", "measured", "Q"), _tip("predicted", "predicted", "Q")]
    base = _data(rows)
    bars = base.mark_bar(height={"band": 0.62}).encode(x=x, y=y, tooltip=tips)
    marks = base.mark_tick(style="second", thickness=3, size=20).encode(x=at, y=y, tooltip=tips)
    vectors = _data([{"own": 4 * dim}]).mark_rule(style="guide", strokeDash=[5, 4]).encode(x=own)
    return _framed(alt.LayerChart(layer=[bars, marks, vectors]), height=len(rows) * 27 + 8)
