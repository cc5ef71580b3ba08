"""Ways to fine-tune a model side by side, as a page with its JSON and its charts."""

from __future__ import annotations

from pathlib import Path

import altair as alt

from ..core.artifacts import write_atomically
from ..core.errors import disk_errors
from ..core.json_files import json_bytes
from ..finetuning.comparison import Comparison, Tuned
from . import charts, index_charts, numbers
from .charts import Chart, _axis, _data, _framed, _series, _tip
from .images import write_image
from .page import Card, Figure, Page, Section, Table

_CHANCE_BITS = 5.0  # which a secret that was never seen has once in 32 times
_METHODS = {"full": "full", "lora": "LoRA", "dora": "DoRA", "qlora": "QLoRA"}


def write_finetuning(result: Comparison, out: Path) -> None:
    """Write comparison.json, index.html and the charts as SVG and PNG into the folder `out`."""
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / "comparison.json", json_bytes(result.to_json()))
        finetuning_page(result).write(out / "index.html")
        for name, chart in {"front": front_chart(result), "overfitting": gap_chart(result)}.items():
            for suffix in (".svg", ".png"):
                write_image(chart, out / f"{name}{suffix}", width=520)


def finetuning_page(result: Comparison) -> Page:
    advised, own = result.advised(), result.texts[0]
    return Page(
        "Ways to fine-tune",
        f"{numbers.count(len(result.tuned))} ways, {numbers.count(result.rows, 'row')}, "
        f"{numbers.count(result.steps)} steps each: what each learns, forgets and costs.",
        _cards(result),
        [_front(result), _overfitting(result), *_sizes(result), *_canaries(result)],
        f"Learned: what the loss on held-out answers fell by. Forgotten: what the loss on {own} rose by. Memory is "
        "foretold for a step at the full context, of tensors alone.",
        {
            "Take": advised.way.name,
            "Parameters": numbers.count(result.parameters),
            "Epochs": numbers.fixed(result.epochs, 1),
        },
    )


def _cards(result: Comparison) -> list[Card]:
    advised, own = result.advised(), result.texts[0]
    most = max(result.tuned, key=lambda one: one.learned)
    fastest = min(result.tuned, key=lambda one: one.seconds)
    forgotten = advised.forgotten(own)
    return [
        Card("Take", advised.way.name, "learned most for what it forgot", "good"),
        Card("It learned", f"{numbers.fixed(advised.learned, 3)} nats",
             f"held-out answers at {numbers.fixed(advised.points[-1].held_out, 3)}"),
        Card("It forgot", f"{numbers.fixed(forgotten, 3, sign=True)} nats", f"on {own}",
             "bad" if forgotten > advised.learned else ""),
        Card("Learned most", most.way.name, f"and forgot {numbers.fixed(most.forgotten(own), 3)} nats"),
        Card("Fastest", fastest.way.name, f"{numbers.fixed(fastest.seconds, 0)} s"),
    ]  # fmt: skip


def front_chart(result: Comparison) -> Chart:
    """Learned over forgotten; the front is a line."""
    own, front = result.texts[0], result.front()
    rows = [
        {"learned": one.learned, "forgotten": one.forgotten(own), "way": one.way.name,
         "method": _METHODS[one.way.method]}
        for one in result.tuned
    ]  # fmt: skip
    x = alt.X("forgotten:Q", title=f"nats a token forgotten of {own}", axis=alt.Axis(tickCount=5, grid=False),
              scale=alt.Scale(zero=False))  # fmt: skip
    y = alt.Y("learned:Q", title="nats an answer token learned", scale=alt.Scale(zero=False), axis=_axis(5))
    tips = [_tip("way", ""), _tip("learned", "learned", "Q"), _tip("forgotten", "forgotten", "Q")]
    order = [name for name in _METHODS.values() if any(row["method"] == name for row in rows)]
    color = _series("method", order).legend(title=None, columns=2)
    points = _data(rows).mark_point(filled=True, size=90).encode(x=x, y=y, color=color, tooltip=tips)
    line = _data([{"learned": one.learned, "forgotten": one.forgotten(own)} for one in front])
    drawn = line.mark_line(style="guide", strokeDash=[5, 4]).encode(x=x, y=y, order="learned:Q")
    return _framed(alt.LayerChart(layer=[drawn, points]), height=300)


def gap_chart(result: Comparison) -> Chart:
    """Held-out loss by step, a line a way: of each method the one that learned most."""
    best: dict[str, Tuned] = {}
    for one in result.tuned:
        if one.way.method not in best or one.learned > best[one.way.method].learned:
            best[one.way.method] = one
    rows = [
        {"step": point.step, "nats": nats, "series": f"{_METHODS[method]}{suffix}"}
        for method, one in best.items() for point in one.points[1:]
        for suffix, nats in ((", held out", point.held_out), (", trained on", point.train))
    ]  # fmt: skip
    order = [f"{_METHODS[method]}{suffix}" for method in best for suffix in (", held out", ", trained on")]
    steps = sorted({point.step for one in best.values() for point in one.points[1:]})
    dashed = [name for name in order if name.endswith("trained on")]
    return index_charts.lines(
        rows, "step", "nats", order, "step", "nats an answer token", dashed=dashed, x_values=steps
    )


def _front(result: Comparison) -> Section:
    front, own = result.front(), result.texts[0]
    columns = ("Way", "Learned", *(f"Forgotten: {name}" for name in result.texts), "Seconds", "Trained", "Memory", "")
    rows = [
        (one.way.name, numbers.fixed(one.learned, 3),
         *(numbers.fixed(one.forgotten(name), 3, sign=True) for name in result.texts),
         numbers.fixed(one.seconds, 1), numbers.count(one.trained), numbers.memory(one.memory),
         "front" if one in front else "")
        for one in sorted(result.tuned, key=lambda one: -one.learned)
    ]  # fmt: skip
    lead = (
        "A name tells the method, the rank of its adapter, a remedy against forgetting and the peak learning rate. On "
        "the front nothing learns more without forgetting more. That adapters forget less is no law: rank and learning "
        f"rate decide. Advised is what learned most after what it forgot of {own} is taken off."
    )
    return Section(
        "front", "Learned and forgotten", lead,
        [Figure("The front", [("", front_chart(result))], "Up and to the left is better.", wide=True),
         Table("All ways", columns, rows, "Learned and forgotten in nats a token.", wide=True)],
    )  # fmt: skip


def _overfitting(result: Comparison) -> Section:
    rows = [
        (one.way.name, numbers.fixed(one.points[-1].train, 3), numbers.fixed(one.points[-1].held_out, 3),
         numbers.fixed(one.gap, 3, sign=True),
         numbers.count(min(one.points, key=lambda point: point.held_out).step))
        for one in sorted(result.tuned, key=lambda one: one.gap)
    ]  # fmt: skip
    lead = (
        "Rows that were trained on and rows that were held out: where they part, more steps make the model worse for "
        "anything but the rows that it knows."
    )
    columns = ("Way", "Trained on", "Held out", "Gap", "Best step")
    caption = "Of each method the way that learned most. Whole lines: held out; broken ones: trained on."
    return Section(
        "overfitting", "Overfitting", lead,
        [Figure("By step", [("", gap_chart(result))], caption, wide=True),
         Table("Nats an answer token", columns, rows, "At the last step.", wide=True)],
    )  # fmt: skip


def size_chart(result: Comparison) -> Chart:
    """Loss at the end by the number of rows, on rows trained on and on others."""
    order = ("held out", "trained on")
    rows = [
        {"rows": one.rows, "nats": nats, "series": name}
        for one in result.sizes for name, nats in zip(order, (one.held_out, one.train), strict=True)
    ]  # fmt: skip
    counts = [one.rows for one in result.sizes]
    return index_charts.lines(rows, "rows", "nats", order, "rows", "nats an answer token", x_values=counts, form=",d")


def _sizes(result: Comparison) -> list[Section]:
    if len(result.sizes) < 2:
        return []
    fewest, most = result.sizes[0], result.sizes[-1]
    rows = [
        (numbers.count(one.rows), numbers.fixed(one.epochs, 1), numbers.fixed(one.train, 3),
         numbers.fixed(one.held_out, 3), numbers.fixed(one.held_out - one.train, 3, sign=True))
        for one in result.sizes
    ]  # fmt: skip
    lead = (
        f"{result.advised().way.name}, trained for as many steps on fewer rows, so that it sees each more often. With "
        f"{numbers.count(fewest.rows, 'row')} trained and held-out rows part by "
        f"{numbers.fixed(fewest.held_out - fewest.train, 3)} nats, with {numbers.count(most.rows)} by "
        f"{numbers.fixed(most.held_out - most.train, 3)}."
    )
    columns = ("Rows", "Epochs", "Trained on", "Held out", "Gap")
    return [
        Section(
            "sizes", "Fewer rows", lead,
            [Figure("By rows", [("", size_chart(result))], "Loss after the last step."),
             Table("Nats an answer token", columns, rows)],
        )
    ]  # fmt: skip


def _canaries(result: Comparison) -> list[Section]:
    if not result.exposures:
        return []
    limit, passes = result.exposures[0].limit, result.canary_epochs
    rows = [{"times": numbers.count(round(one.repeats * passes), "time"), "bits": one.bits} for one in result.exposures]
    lead = (
        f"Secrets of random digits were planted among {numbers.count(result.canary_rows, 'row')} for "
        f"{result.advised().way.name}, each so many times; its steps read all of these rows "
        f"{numbers.fixed(passes, 1)} times. Exposure is how far the planted secret stands before "
        f"{numbers.count(2**limit - 1)} others of its kind: a secret that was never seen has one bit on average, and "
        f"{numbers.fixed(limit, 0)} bits say that the model prefers it to all others. {_held(result)}"
    )
    chart = charts.bars(rows, "times", "bits", "exposure, bits", lambda bits: numbers.fixed(bits, 1))
    caption = "After Carlini et al. 2019: log2 of the number of candidates less log2 of the rank by loss."
    return [Section("canaries", "Secrets held", lead, [Figure("By how often it was seen", [("", chart)], caption)])]


def _held(result: Comparison) -> str:
    """What the exposures come to, in words."""
    seen = [one for one in result.exposures if one.repeats]
    known = [one for one in seen if one.bits == one.limit]
    if known:
        times = numbers.count(round(min(one.repeats for one in known) * result.canary_epochs), "time")
        return f"Seen {times}, a secret is known: do not train on such rows so often, or keep secrets out of them."
    most = max(seen, key=lambda one: one.bits, default=None)
    if most is None or most.bits < _CHANCE_BITS:
        return "None of them stands out more than chance allows: at this length of training nothing is held."
    times = numbers.count(round(most.repeats * result.canary_epochs), "time")
    return (
        f"None is known outright; the most exposed, seen {times}, would stand so far ahead by chance once in "
        f"{numbers.count(round(2**most.bits))}."
    )
