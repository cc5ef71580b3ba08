"""What a decoder does beyond its trained context, as a page with its JSON and its charts."""

from __future__ import annotations

from pathlib import Path

from ..core.artifacts import write_atomically
from ..core.errors import disk_errors
from ..core.json_files import json_bytes
from ..generation.long_context import CACHES, METHODS, ContextStudy
from . import charts, index_charts, numbers
from .images import write_image
from .page import Card, Figure, Page, Section, Table

_TITLES = {"none": "as trained", "linear": "linear", "ntk": "NTK-aware", "yarn": "YaRN"}


def write_context(result: ContextStudy, out: Path) -> None:
    """Write context.json, index.html and the charts as SVG and PNG into the folder `out`."""
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / "context.json", json_bytes(result.to_json()))
        context_page(result).write(out / "index.html")
        for name, chart in {"positions": position_chart(result), "recall": recall_chart(result)}.items():
            for suffix in (".svg", ".png"):
                write_image(chart, out / f"{name}{suffix}", width=520)


def context_page(result: ContextStudy) -> Page:
    return Page(
        "Beyond the context",
        f"A decoder trained with {numbers.count(result.context)} tokens at a time, on texts that are longer.",
        _cards(result),
        [_positions(result), _caches(result), _recall(result), _mass(result)],
        "Linear interpolation after Chen et al. 2023, YaRN after Peng et al. 2023, sinks after Xiao et al. 2024. "
        "Errors are standard errors over texts.",
        {
            "Trained context": numbers.count(result.context, "token"),
            "Window of the caches": numbers.count(result.window, "token"),
            "First tokens kept": numbers.count(result.sinks),
        },
    )


def _furthest(result: ContextStudy) -> dict[str, float]:
    """Loss in the last stretch of each method, set for the largest multiple."""
    last = max(one.stop for one in result.positions)
    return {one.method: one.nats for one in result.positions if one.stop == last}


def _cards(result: ContextStudy) -> list[Card]:
    inside = next(one for one in result.positions if one.method == "none")
    furthest = _furthest(result)
    multiple = max(one.multiple for one in result.positions)
    best = min(furthest, key=lambda method: furthest[method])
    caches = {one.cache: one for one in result.caches}
    share = caches["window + sinks"].bytes / caches["dense"].bytes
    return [
        Card("Within the context", f"{numbers.fixed(inside.nats)} nats", "per token"),
        Card(f"At {multiple} times, as trained", f"{numbers.fixed(furthest['none'])} nats",
             f"{numbers.fixed(furthest['none'] - inside.nats, sign=True)} against within", "bad"),
        Card(f"At {multiple} times, best", f"{numbers.fixed(furthest[best])} nats", _TITLES[best]),
        Card("Window and sinks", numbers.percent(share), "of the dense cache's bytes"),
    ]  # fmt: skip


def position_chart(result: ContextStudy) -> charts.Chart:
    """Each method set for the largest multiple."""
    largest = max(one.multiple for one in result.positions)
    rows = [
        {"end": one.stop, "nats": one.nats, "series": _TITLES[one.method]}
        for one in result.positions
        if one.multiple == largest
    ]
    order = [_TITLES[method] for method in METHODS]
    ends = sorted({one.stop for one in result.positions})
    return index_charts.lines(rows, "end", "nats", order, "tokens up to", "nats per token", x_values=ends, form="~s")


def recall_chart(result: ContextStudy) -> charts.Chart:
    rows = [{"distance": one.distance, "nats": one.nats, "series": one.cache} for one in result.recall]
    distances = sorted({one.distance for one in result.recall})
    return index_charts.lines(
        rows, "distance", "nats", CACHES, "tokens back", "nats gained", x_values=distances, form="~s"
    )


def _positions(result: ContextStudy) -> Section:
    ranges = sorted({(one.start, one.stop) for one in result.positions})
    nats = {(one.method, one.multiple, one.start): numbers.fixed(one.nats, 3) for one in result.positions}
    settings = list(dict.fromkeys((one.method, one.multiple) for one in result.positions))
    rows = [
        (_TITLES[method] if method == "none" else f"{_TITLES[method]}, for {multiple}×",
         *(nats.get((method, multiple, start), "") for start, _ in ranges))
        for method, multiple in settings
    ]  # fmt: skip
    error = max(one.error for one in result.positions)
    lead = (
        "Rotary positions beyond those seen in training turn queries and keys by angles that the model never met. Each "
        "method maps the longer range onto angles that it knows; none was trained on afterwards."
    )
    columns = ("Positions", *(f"{start:,} to {stop:,}" for start, stop in ranges))
    return Section(
        "positions", "Loss by position", lead,
        [
            Figure("By where a token stands", [("", position_chart(result))],
                   "Each method is set for the longest range. A point is the mean up to there from the point before."),
            Table("Nats per token", columns, rows, f"Standard errors over texts: {numbers.fixed(error, 3)} at most."),
        ],
    )  # fmt: skip


def _caches(result: ContextStudy) -> Section:
    rows = [
        (one.cache, numbers.fixed(one.nats, 3), numbers.fixed(one.error, 3), numbers.fixed(one.perplexity, 1),
         f"{numbers.fixed(one.bytes / 1024, 0)} KiB", numbers.fixed(one.tokens_per_second, 0))
        for one in result.caches
    ]  # fmt: skip
    columns = ("Cache", "Nats per token", "Error", "Perplexity", "Bytes per text", "Tokens per second")
    lead = (
        f"The same texts, four times the trained context, read token by token. Dense keeps all; a window keeps the "
        f"latest {result.window}; sinks keep the first {result.sinks} as well and count positions within the cache; "
        f"recomputation reads the latest {result.window} anew for each token."
    )
    return Section("caches", "Caches side by side", lead, [Table("Measured", columns, rows, wide=True)])


def _recall(result: ContextStudy) -> Section:
    layers = result.mass.shape[0]
    gained = {(one.cache, one.distance): numbers.fixed(round(one.nats, 3) + 0.0, 3, sign=True) for one in result.recall}
    distances = sorted({one.distance for one in result.recall})
    rows = [(numbers.count(far), *(gained[name, far] for name in CACHES)) for far in distances]
    columns = ("Tokens back", *(name.capitalize() for name in CACHES))
    right = max(one.right for one in result.recall)
    lead = (
        "A key and a value stand in a text, and the key comes again later: how much likelier is the value for having "
        f"been told? Nothing can be left beyond {numbers.count(result.window * layers)} tokens, what {layers} layers "
        f"of a window of {result.window} reach; sinks keep the text fluent and do not lengthen this memory."
    )
    return Section(
        "recall", "Recall", lead,
        [
            Figure("By distance", [("", recall_chart(result))], "0: the told value is no likelier than another."),
            Table("Nats gained", columns, rows,
                  f"The told value is likeliest of all candidates in at most {numbers.percent(right, 0)} of tries."),
        ],
    )  # fmt: skip


def _mass(result: ContextStudy) -> Section:
    columns = ("Layer", *(f"Head {head}" for head in range(result.mass.shape[1])))
    rows = [(str(layer), *(numbers.percent(share) for share in heads)) for layer, heads in enumerate(result.mass)]
    even = sum(result.sinks / place for place in range(result.sinks + 1, result.context + 1))
    even /= result.context - result.sinks
    lead = (
        f"The share of attention that goes to the first {result.sinks} tokens. Heads that look at all tokens alike "
        f"would give them {numbers.percent(even)}; what is above rests there because it has to rest somewhere."
    )
    return Section("mass", "First tokens", lead, [Table("By layer and head", columns, rows, wide=True)])
