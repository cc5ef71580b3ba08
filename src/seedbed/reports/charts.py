"""The report's charts: pure functions from rows to Altair charts, in one visual language.

No chart names a colour: series take the page's category range in the order of their domain, sizes its ordinal range
and single marks one of its styles (first, second, third, guide, quiet, inside), so that one chart serves light and
dark. Numbers beside marks are formatted here, so that they read as in the text around the chart.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import altair as alt
import numpy.typing as npt

from . import numbers

Row = Mapping[str, Any]
Chart = alt.Chart | alt.LayerChart
Label = Callable[[float], str]
_HEIGHT = 230
_GOLDEN = (5**0.5 - 1) / 2  # its multiples, modulo 1, spread evenly
_POINTS = 400  # of a curve: more than a screen can show, and a long training has many thousands


def bars(rows: Sequence[Row], name: str, value: str, title: str, label: Label = numbers.value) -> Chart:
    """Horizontal bars in the order of `rows`, each with its number at the end."""
    labelled = [{**row, "label": label(row[value])} for row in rows]
    most = max((row[value] for row in rows), default=1) or 1
    y = alt.Y(f"{name}:N", sort=None, title=None)
    x = alt.X(f"{value}:Q", title=title, scale=alt.Scale(domain=[0, most]), axis=_axis(count=4))
    bar = _data(labelled).mark_bar(height={"band": 0.62})
    layers = [bar.encode(x=x, y=y, tooltip=[_tip(name, ""), _tip("label", title)])]
    # The number of a long bar stands inside it: beside it there is no room on a phone.
    inside, outside = ([row for row in labelled if (row[value] > most / 2) == long] for long in (True, False))
    if inside:
        text = _data(inside).mark_text(style="inside", align="right", dx=-6)
        layers.append(text.encode(x=x, y=y, text="label:N"))
    if outside:
        text = _data(outside).mark_text(align="left", dx=5)
        layers.append(text.encode(x=x, y=y, text="label:N"))
    return _framed(alt.LayerChart(layer=layers), height=max(len(rows) * 27 + 8, 60))


def grouped_bars(
    rows: Sequence[Row], name: str, group: str, value: str, title: str, order: Sequence[str], *,
    colours: Sequence[str] = (), label: Label = numbers.value, highest: float | None = None,
) -> Chart:  # fmt: skip
    """Upright bars side by side: one place for each `name`, one bar for each `group`.

    Args:
        order: of the groups.
        colours: the groups in the order of the colours, if it is another.
        highest: end of the axis, where the scale has one.
    """
    labelled = [{**row, "label": label(row[value])} for row in rows]
    most = highest or max((row[value] for row in rows), default=1) * 1.12
    x = alt.X(f"{name}:N", sort=None, title=None, axis=alt.Axis(labelAngle=0), scale=alt.Scale(paddingInner=0.25))
    offset = alt.XOffset(f"{group}:N", sort=list(order), scale=alt.Scale(paddingInner=0.08))
    y = alt.Y(f"{value}:Q", title=title, scale=alt.Scale(domain=[0, most]), axis=_axis(count=5))
    base = _data(labelled)
    marks = base.mark_bar().encode(
        x=x, xOffset=offset, y=y, color=_series(group, colours or order).legend(title=None, values=list(order)),
        tooltip=[_tip(group, ""), _tip(name, "of"), _tip("label", title)],
    )  # fmt: skip
    text = base.mark_text(dy=-8, fontSize=11).encode(x=x, xOffset=offset, y=y, text="label:N")
    return _framed(alt.LayerChart(layer=[marks, text]))


def curve(rows: Sequence[Row], x: str, y: str, x_title: str, y_title: str, *, height: int = 150) -> Chart:
    """One quantity over steps."""
    marks = _data(thinned(rows)).mark_line().encode(
        x=_over(x, x_title), y=alt.Y(f"{y}:Q", title=y_title, scale=alt.Scale(zero=False), axis=_axis(count=4)),
        tooltip=[_tip(x, x_title, "Q"), _tip(y, y_title, "Q")],
    )  # fmt: skip
    return _framed(marks, height=height)


def loss_curves(
    rows: Sequence[Row], x: str, y: str, series: str, order: Sequence[str], x_title: str, y_title: str,
    points: Sequence[Row] = (), point_label: str = "validation",
) -> Chart:  # fmt: skip
    """Noisy series, each as it is (faint) and as a running mean; `points` of held-out measurements on top.

    Args:
        points: rows with `x` and `y`.
    """
    domain = [*order, point_label] if points else list(order)
    each = [[row for row in rows if row[series] == name] for name in order]
    noisy = [row for one in each for row in thinned(one)]
    smooth = [row for one in each for row in thinned(running_mean(one, y))]
    color = _series(series, domain, legend=len(domain) > 1)
    place = {"x": _over(x, x_title), "y": alt.Y(f"{y}:Q", title=y_title, scale=alt.Scale(zero=False))}
    tips = [_tip(series, ""), _tip(x, x_title, "Q"), _tip(y, y_title, "Q")]
    raw = _data(noisy).mark_line(strokeWidth=1, opacity=0.28).encode(**place, color=color)
    mean = _data(smooth).mark_line().encode(**place, color=color, tooltip=tips)
    layers: list[alt.Chart] = [raw, mean]
    if points:
        held = [{**row, series: point_label, "label": numbers.fixed(row[y])} for row in points]
        layers.append(
            _data(held).mark_point(filled=True, size=70, opacity=1).encode(**place, color=color, tooltip=tips)
        )
        last = _data(held[-1:]).mark_text(align="right", dx=4, dy=-14, fontWeight=600)
        layers.append(last.encode(**place, text="label:N"))
    return _framed(alt.LayerChart(layer=list(layers)))


def thinned(rows: Sequence[Row], most: int = _POINTS) -> list[Row]:
    """At most `most` rows, evenly spaced, the first and the last among them."""
    if len(rows) <= most:
        return list(rows)
    return [rows[round(place * (len(rows) - 1) / (most - 1))] for place in range(most)]


def running_mean(rows: Sequence[Row], y: str) -> list[dict[str, Any]]:
    """Each value as the mean of those around it, over a window of about a twentieth of the rows."""
    half = max(len(rows) // 40, 1)
    windows = [rows[max(place - half, 0) : place + half + 1] for place in range(len(rows))]
    return [{**row, y: sum(one[y] for one in window) / len(window)} for row, window in zip(rows, windows, strict=True)]


def forecast(rungs: Sequence[Row], expected: Row, measured: float | None) -> Chart:
    """The ladder's losses over tokens by size of model; the forecast with its interval; what the main run reached.

    Args:
        rungs: `params`, `tokens`, `loss`.
        expected: `params`, `tokens`, `loss`, `low`, `high`.
    """
    sizes = sorted({row["params"] for row in rungs})
    points = [{**row, "size": numbers.tight(row["params"])} for row in sorted(rungs, key=lambda row: row["tokens"])]
    main = {**expected, "label": f"forecast {numbers.fixed(expected['loss'])}"}
    ends = [row["tokens"] for row in (*rungs, expected)]
    x = alt.X(
        "tokens:Q", title="training tokens", axis=alt.Axis(format="~s", tickCount=6, grid=False, labelSeparation=12),
        scale=alt.Scale(type="log", domain=[min(ends) / 1.15, max(ends) * 1.3], nice=False),
    )  # fmt: skip
    loss = alt.Y("loss:Q", title="validation loss, nats per token", scale=alt.Scale(zero=False))
    color = alt.Color(
        "size:O", sort=[numbers.tight(size) for size in sizes], legend=alt.Legend(title="parameters of the rung")
    )
    tips = [_tip("size", "parameters"), _tip("tokens", "tokens", "Q"), _tip("loss", "loss", "Q")]
    ladder = _data(points).mark_line(point=alt.OverlayMarkDef(size=55, filled=True)).encode(
        x=x, y=loss, color=color, tooltip=tips
    )  # fmt: skip
    low, high = (alt.Y(f"{end}:Q", title="validation loss, nats per token") for end in ("low", "high"))
    spread = _data([main])
    bar = spread.mark_rule(style="second", size=3).encode(x=x, y=low, y2="high:Q")
    ends_of_bar = [
        spread.mark_tick(style="second", orient="horizontal", size=16, thickness=3).encode(x=x, y=one)
        for one in (low, high)
    ]
    point = _data([main]).mark_point(style="second", filled=True, size=80, opacity=1).encode(x=x, y=loss)
    # Which of the two stands higher takes the upper label, so that the labels keep apart.
    over = measured is None or expected["loss"] >= measured
    words = _data([main]).mark_text(align="right", dx=-12, dy=-9 if over else 9, fontWeight=600)
    layers: list[alt.Chart] = [ladder, bar, *ends_of_bar, point, words.encode(x=x, y=loss, text="label:N")]
    if measured is not None:
        fact = [{"tokens": expected["tokens"], "loss": measured, "label": f"measured {numbers.fixed(measured)}"}]
        found = _data(fact).mark_point(style="third", filled=True, shape="diamond", size=130, opacity=1)
        words = _data(fact).mark_text(align="right", dx=-12, dy=9 if over else -9, fontWeight=600)
        layers += [found.encode(x=x, y=loss), words.encode(x=x, y=loss, text="label:N")]
    return _framed(alt.LayerChart(layer=list(layers)), height=320)


def interval(expected: Row, measured: float | None) -> Chart:
    """The forecast's interval close up: `low`, `loss`, `high`; and where the fact lies."""
    marks = [{"name": "forecast", "low": expected["low"], "high": expected["high"], "loss": expected["loss"]}]
    known = [expected["low"], expected["high"], *([] if measured is None else [measured])]
    margin = (max(known) - min(known)) * 0.12
    scale = alt.Scale(domain=[min(known) - margin, max(known) + margin], nice=False)
    x, low = (
        alt.X(f"{name}:Q", title="validation loss, nats per token", scale=scale, axis=_axis(count=5))
        for name in ("loss", "low")
    )
    y = alt.Y("name:N", sort=["forecast", "measured"], title=None, scale=alt.Scale(domain=["forecast", "measured"]))
    base = _data(marks)
    bar = base.mark_bar(style="second", opacity=0.3, cornerRadius=4, height=18).encode(x=low, x2="high:Q", y=y)
    middle = base.mark_tick(style="second", size=26, thickness=3).encode(x=x, y=y)
    layers: list[alt.Chart] = [bar, middle]
    if measured is not None:
        fact = _data([{"name": "measured", "loss": measured}])
        layers += [
            fact.mark_rule(style="third", strokeDash=[4, 3]).encode(x=x),
            fact.mark_point(style="third", filled=True, shape="diamond", size=150, opacity=1).encode(x=x, y=y),
        ]
    return _framed(alt.LayerChart(layer=list(layers)), height=130)


def change(
    rows: Sequence[Row], name: str, title: str, *, label: Label = numbers.value, highest: float | None = None
) -> Chart:
    """From `before` to `after`, one line for each `name`: a hollow point, a filled one and the way between.

    Args:
        highest: end of the axis, where the scale has one.
    """
    known = [{**row, "text": f"{label(row['before'])} → {label(row['after'])}"} for row in rows]
    most = highest or max((max(row["before"], row["after"]) for row in rows), default=1)
    axis = alt.Axis(values=[highest * place / 5 for place in range(6)]) if highest else _axis(count=5)
    domain = alt.Scale(domain=[0, most * 1.06])
    y = alt.Y(f"{name}:N", sort=None, title=None)
    x = {one: alt.X(f"{one}:Q", title=title, scale=domain, axis=axis) for one in ("before", "after")}
    tips = [_tip(name, ""), _tip("text", title)]
    way = _data(known).mark_rule(style="guide", size=2).encode(x=x["before"], x2="after:Q", y=y)
    start = _data(known).mark_point(style="guide", filled=False, size=60, fillOpacity=0, opacity=1)
    end = _data(known).mark_point(style="first", filled=True, size=90, opacity=1)
    layers = [way, start.encode(x=x["before"], y=y), end.encode(x=x["after"], y=y, tooltip=tips)]
    # Words above the way reach towards the middle of the chart, where there is room for them on a phone too.
    sides: tuple[tuple[Literal["left", "right"], Callable[..., float]], ...] = (("left", min), ("right", max))
    for align, edge in sides:
        words = [
            {**row, "edge": edge(row["before"], row["after"])}
            for row in known
            if (row["before"] + row["after"] < most) == (align == "left")
        ]
        if words:
            text = _data(words).mark_text(align=align, dy=-14)
            edges = alt.X("edge:Q", title=title, scale=domain, axis=axis)
            layers.append(text.encode(x=edges, y=y, text="text:N"))
    return _framed(alt.LayerChart(layer=layers), height=len(rows) * 48 + 30)


def calibration(rows: Sequence[Row]) -> Chart:
    """Belief against the share of right choices; the diagonal is perfect calibration.

    Args:
        rows: `belief`, `accuracy`, `pairs`.
    """
    lowest = min([0.5, *(row["accuracy"] for row in rows)])
    y_scale = alt.Scale(domain=[math.floor(lowest * 10) / 10, 1])
    x = alt.X("belief:Q", title="the model's belief in its choice", scale=alt.Scale(domain=[0.5, 1]), axis=_share())
    y = alt.Y("accuracy:Q", title="share of right choices", scale=y_scale, axis=_share())
    ideal = _data([{"belief": 0.5, "accuracy": 0.5}, {"belief": 1.0, "accuracy": 1.0}])
    line = ideal.mark_line(style="guide", strokeDash=[5, 4], strokeWidth=1.5).encode(x=x, y=y)
    ends = sorted({edge(row["pairs"] for row in rows) for edge in (min, max)})
    size = alt.Size("pairs:Q", scale=alt.Scale(range=[30, 420]), legend=alt.Legend(title="pairs", values=ends))
    tips = [_tip(one, one, "Q") for one in ("belief", "accuracy", "pairs")]
    points = _data(rows).mark_point(style="first", filled=True, opacity=0.8, clip=False)
    return _framed(alt.LayerChart(layer=[line, points.encode(x=x, y=y, size=size, tooltip=tips)]))


def recall_against_speed(rows: Sequence[Row], exact: float | None) -> Chart:
    """One point for each width of search: exact neighbours found against queries answered in a second.

    Args:
        rows: `ef`, `recall`, `speed`.
        exact: queries per second of the full scan.
    """
    labelled = [{**row, "label": f"{row['ef']}"} for row in rows]
    speeds = [row["speed"] for row in rows] + ([exact] if exact else [])
    x = alt.X(
        "speed:Q", title="queries per second, one thread", axis=alt.Axis(format="~s", tickCount=5, grid=False),
        scale=alt.Scale(type="log", domain=[min(speeds) / 1.3, max(speeds) * 1.45], nice=False),
    )  # fmt: skip
    lowest = min(row["recall"] for row in rows)
    # Room above 1, where the labels of the widest searches stand.
    bottom, top = lowest - (1 - lowest) * 0.15 - 0.002, 1 + (1 - lowest) * 0.12 + 0.002
    y = alt.Y(
        "recall:Q", title="recall@10 against exact search", scale=alt.Scale(domain=[bottom, top], nice=False),
        axis=alt.Axis(format=".1%" if lowest > 0.9 else ".0%", tickCount=5),
    )  # fmt: skip
    tips = [_tip("ef", "ef", "Q"), _tip("recall", "recall@10", "Q"), _tip("speed", "queries per second", "Q")]
    base = _data(labelled)
    line = base.mark_line(point=alt.OverlayMarkDef(size=60, filled=True)).encode(
        x=x, y=y, order="ef:Q", tooltip=tips
    )  # fmt: skip
    # Above and below in turn, where the falling line leaves room and neighbours do not meet.
    above = _data(labelled[::2]).mark_text(align="left", dx=7, dy=-8, fontSize=11)
    below = _data(labelled[1::2]).mark_text(align="right", dx=-6, dy=11, fontSize=11)
    layers = [line, *(words.encode(x=x, y=y, text="label:N") for words in (above, below))]
    if exact:
        scan = [{"speed": exact, "label": "exact", "recall": bottom}]
        rule = _data(scan).mark_rule(style="guide", strokeDash=[5, 4]).encode(x=x)
        words = _data(scan).mark_text(style="quiet", align="left", dx=6, dy=-8, fontSize=11)
        layers += [rule, words.encode(x=x, y=y, text="label:N")]
    return _framed(alt.LayerChart(layer=list(layers)), height=260)


def by_size(rows: Sequence[Row], y: str, series: str, order: Sequence[str], x_title: str, y_title: str) -> Chart:
    """A quantity over sizes, one line with points for each of the series.

    Args:
        rows: `size`, `y` and `series`.
    """
    sizes = sorted({row["size"] for row in rows})
    # Algorithms seldom fill a vocabulary to the same last id: sizes that stand together have one label.
    marked = [size for place, size in enumerate(sizes) if place == 0 or size > 1.2 * sizes[place - 1]]
    x = alt.X(
        "size:Q", title=x_title, axis=alt.Axis(values=marked, format=".2~s", grid=False),
        scale=alt.Scale(type="log", domain=[sizes[0] / 1.25, sizes[-1] * 1.25], nice=False),
    )  # fmt: skip
    marks = _data(rows).mark_line(point=alt.OverlayMarkDef(size=60, filled=True)).encode(
        x=x, y=alt.Y(f"{y}:Q", title=y_title, scale=alt.Scale(zero=False), axis=_axis(count=5)),
        color=_series(series, order),
        tooltip=[_tip(series, ""), _tip("size", x_title, "Q"), _tip(y, y_title, "Q")],
    )  # fmt: skip
    return _framed(marks)


def ranking(rows: Sequence[Row], name: str, value: str, title: str, marked: Sequence[str]) -> Chart:
    """Many things in order of one value, from the highest: a point each, and the names of those `marked`."""
    placed = [{**row, "place": place} for place, row in enumerate(sorted(rows, key=lambda row: -row[value]), 1)]
    ends = alt.Scale(domain=[0, len(placed) + 1], nice=False)
    x = alt.X("place:Q", title="rank", scale=ends, axis=alt.Axis(grid=False, tickCount=6))
    y = alt.Y(f"{value}:Q", title=title, scale=alt.Scale(zero=True), axis=_axis(count=5))
    points = _data(placed).mark_circle(size=18, opacity=0.6).encode(
        x=x, y=y, tooltip=[_tip(name, ""), _tip("place", "rank", "Q"), _tip(value, title, "Q")]
    )  # fmt: skip
    chosen = [row for row in placed if row[name] in marked]
    spots = _data(chosen).mark_point(style="second", filled=True, size=46, opacity=1).encode(x=x, y=y)
    words = _data(chosen).mark_text(align="left", dx=6, dy=-9, fontSize=11).encode(x=x, y=y, text=f"{name}:N")
    return _framed(alt.LayerChart(layer=[points, spots, words]), height=300)


def training_counts(rows: Sequence[Row], title: str, order: Sequence[str], colours: Sequence[str] = ()) -> Chart:
    """Ids by how often training met them: what an indicator says of each.

    Args:
        rows: `count`, `value`, `group`, `token`.
        order: of the groups.
        colours: the groups in the order of the colours, if it is another.
    """
    # A logarithm that has a place for none at all; equal small counts stand side by side, or many would look like one.
    spread = [
        {**row, "place": math.log10(1 + row["count"]) + 0.1 * (number * _GOLDEN % 1 - 0.5) / (1 + row["count"])}
        for number, row in enumerate(rows)
    ]
    most = max((row["place"] for row in spread), default=1.0)
    powers = [0.0, *(math.log10(1 + 10**power) for power in range(math.ceil(most) + 1))]
    x = alt.X(
        "place:Q", title="times in the training tokens", scale=alt.Scale(domain=[-0.15, most + 0.1], nice=False),
        axis=alt.Axis(values=powers, labelExpr="format(pow(10, datum.value) - 1, ',.0f')", grid=False),
    )  # fmt: skip
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False), axis=_axis(count=5))
    tips = [_tip("token", "token"), _tip("count", "times", "Q"), _tip("value", title, "Q")]
    marks = _data(spread).mark_circle(size=22, opacity=0.55)
    color = _series("group", colours or order).legend(title=None, values=list(order))
    return _framed(marks.encode(x=x, y=y, color=color, tooltip=tips), height=300)


def heat_map(
    values: npt.NDArray[Any], rows: Sequence[str], columns: Sequence[str], x_title: str, y_title: str, title: str, *,
    form: str = ".2~g", domain: tuple[float, float] | None = None, height: int = 250,
) -> Chart:  # fmt: skip
    """A field for each value of a matrix (R, C), the deeper in colour the higher; row 0 is at the top.

    Args:
        rows, columns: their names, of which the same may stand twice; of many, some are shown.
        domain: ends of the scale; by default those of the values.
    """
    fields = [
        {"row": row, "column": column, "value": float(values[row, column]), "of": rows[row], "to": columns[column]}
        for row in range(len(rows))
        for column in range(len(columns))
    ]
    # Between the theme's two ends in a straight line: round the colour circle it would pass through brighter ones.
    scale = alt.Scale(interpolate="rgb", domain=alt.Undefined if domain is None else list(domain))
    legend = alt.Legend(title=title, format=form, gradientLength=110, gradientThickness=9, direction="horizontal")
    x, y = _places("column", columns, x_title), _places("row", rows, y_title)
    tips = [_tip("of", y_title), _tip("to", x_title), _tip("value", title, "Q")]
    return _framed(
        _data(fields).mark_rect().encode(
            x=alt.X(**x), y=alt.Y(**y), color=alt.Color("value:Q", scale=scale, legend=legend), tooltip=tips
        ),
        height=height,
    )  # fmt: skip


def _places(field: str, names: Sequence[str], title: str) -> dict[str, Any]:
    """Channel of a heat map: places in their order, of which a dozen are called by their names."""
    shown = list(range(0, len(names), math.ceil(len(names) / 16)))
    short = json.dumps([short_label(name) for name in names])
    # A column's names stand upright where they would meet.
    angle = -90 if field == "column" and max(map(len, names)) > 2 and len(names) > 4 else 0
    axis = alt.Axis(
        values=shown, labelExpr=f"{short}[datum.value]", ticks=False, domain=False, labelAngle=angle, labelLimit=90
    )  # fmt: skip
    return {"shorthand": f"{field}:O", "title": title, "axis": axis, "sort": None}


def short_label(text: str, most: int = 12) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _data(rows: Sequence[Row]) -> alt.Chart:
    return alt.Chart(alt.InlineData(values=[_finite(row) for row in rows]))


def _finite(row: Row) -> dict[str, Any]:
    """JSON has no infinity; a gap in the line shows that a value is none."""
    return {key: None if isinstance(one, float) and not math.isfinite(one) else one for key, one in row.items()}


def _framed(chart: Chart, height: float = _HEIGHT) -> Chart:
    framed: Chart = chart.properties(width="container", height=height)
    return framed


def _series(name: str, order: Sequence[str], legend: bool = True) -> alt.Color:
    return alt.Color(
        f"{name}:N", scale=alt.Scale(domain=list(order)), legend=alt.Legend(title=None) if legend else None
    )


def _over(x: str, title: str) -> alt.X:
    return alt.X(
        f"{x}:Q",
        title=title,
        axis=alt.Axis(tickCount=5, tickMinStep=1, grid=False, format=",~f"),
        scale=alt.Scale(nice=False),
    )


def _axis(count: int) -> alt.Axis:
    return alt.Axis(tickCount=count)


def _share() -> alt.Axis:
    return alt.Axis(format=".0%", tickCount=5)


def _tip(name: str, title: str, kind: str = "N") -> alt.Tooltip:
    return alt.Tooltip(f"{name}:{kind}", title=title or name, format=",.4~r" if kind == "Q" else alt.Undefined)
