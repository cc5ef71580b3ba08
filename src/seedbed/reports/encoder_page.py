"""What an encoder's vectors cannot do, as a page with its JSON and its charts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.artifacts import write_atomically
from ..core.errors import disk_errors
from ..core.json_files import json_bytes
from ..evaluation.encoder_kinds import TRANSFORMER
from ..evaluation.encoder_limits import EncoderStudy
from . import charts, index_charts, numbers
from .images import write_image
from .page import Card, Figure, Page, Section, Table

_METRICS = {"cosine": "cosine", "dot": "inner product", "l2": "Euclidean distance"}
_ONE = {"rare words": "rare word", "numbers": "number", "names": "name"}
_BYTES = [step * 10**power for power in range(2, 7) for step in (1, 2, 5)]  # ticks
_FREE, _OWN = "fitted vectors", "this encoder's vector"


def write_encoder_study(result: EncoderStudy, out: Path) -> None:
    """Write measure.json, index.html and the charts as SVG and PNG into the folder `out`."""
    drawn = {"limits": limits_chart(result), "words": words_chart(result), "sets": sets_chart(result)}
    if result.storage:
        drawn["storage"] = storage_chart(result)
    if result.kinds:
        drawn["kinds"] = kinds_chart(result)
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / "measure.json", json_bytes(result.to_json()))
        encoder_page(result).write(out / "index.html")
        for name, chart in drawn.items():
            for suffix in (".svg", ".png"):
                write_image(chart, out / f"{name}{suffix}", width=520)


def encoder_page(result: EncoderStudy) -> Page:
    sections = [_spaces(result), _measures(result), _limits(result), _words(result), _sets(result)]
    return Page(
        "What the vectors cannot do",
        f"An encoder of {numbers.count(result.dim)} dimensions on {numbers.count(result.documents, 'document')} of "
        "one's own.",
        _cards(result),
        [*sections, *([_storage(result)] if result.storage else []), *([_kinds(result)] if result.kinds else [])],
        "Searches are for known items: a document's opening sentence, taken out of it, has to find the rest of it. "
        f"MRR@10 over {numbers.count(result.queries, 'query', 'queries')}.",
        {
            "Encoder": result.name,
            "Dimensions": numbers.count(result.dim),
            "Tokens read": numbers.count(result.max_length),
            "Documents": numbers.count(result.documents),
            "Queries": numbers.count(result.queries),
        },
    )


def _cards(result: EncoderStudy) -> list[Card]:
    own, last = result.spaces[0], result.limits[-1]
    told = {row["way"]: row["told_apart"] for row in result.sets}
    rare = {(row["kind"], row["way"]): row["recall"] for row in result.words}
    kind = result.words[0]["kind"] if result.words else ""
    cards = [
        Card("Known items", numbers.fixed(own["mrr"], 3), "MRR@10 by cosine"),
        Card("Mean cosine", numbers.fixed(own["mean_cosine"], 3), f"IsoScore {numbers.fixed(own['isoscore'], 3)}"),
        Card("Cut off", numbers.percent(last["cut"]), f"of the texts are longer than {last['tokens']} tokens",
             "bad" if last["cut"] > 0.05 else ""),
        Card("Pairs told apart", numbers.percent(told["one vector"]),
             f"by one vector; {numbers.percent(told['BM25'])} by BM25",
             "bad" if told["one vector"] < 0.9 * told["BM25"] else "good"),
    ]  # fmt: skip
    if kind:
        cards.append(
            Card(f"By one {_ONE[kind]}", numbers.percent(rare[kind, "dense"]),
                 f"recall@10; BM25 {numbers.percent(rare[kind, 'BM25'])}")
        )  # fmt: skip
    return cards


def _spaces(result: EncoderStudy) -> Section:
    columns = ("Vectors", "MRR@10", "Mean cosine", "Partition", "IsoScore", "Uniformity", "Alignment", "Hub skewness",
               "In no list", "Intrinsic dimension")  # fmt: skip
    rows = [
        (row["space"].capitalize(), numbers.fixed(row["mrr"], 3), numbers.fixed(round(row["mean_cosine"], 3) + 0.0, 3),
         numbers.fixed(row["partition"], 3), numbers.fixed(row["isoscore"], 3), numbers.fixed(row["uniformity"], 2),
         numbers.fixed(row["alignment"], 2), numbers.fixed(row["hub_skewness"], 2), numbers.percent(row["anti_hubs"]),
         numbers.fixed(row["intrinsic_dimension"], 1))
        for row in result.spaces
    ]  # fmt: skip
    before, best = result.spaces[0], max(result.spaces, key=lambda row: row["mrr"])
    verdict = (
        "None of what straightens the space finds more here."
        if best is before
        else f"Searching is best {best['space']}: {numbers.fixed(best['mrr'] - before['mrr'], 3, sign=True)}."
    )
    lead = (
        "Vectors that fill their space evenly have a mean cosine near 0 and an IsoScore near 1. Evenness alone is no "
        f"virtue: what counts is the search. {verdict}"
    )
    return Section(
        "space", "The space", lead,
        [Table("As it is, and straightened", columns, rows,
               "Mean and directions are learnt from the texts; whitening wants many more texts than dimensions. "
               "Partition: least over largest of Z(a), 1 where no direction stands out. "
               "In no list: texts that are among nobody's ten nearest.", wide=True)],
    )  # fmt: skip


def _measures(result: EncoderStudy) -> Section:
    rows = [
        (
            row["vectors"].capitalize(),
            _METRICS[row["metric"]],
            numbers.fixed(row["mrr"], 3),
            numbers.percent(row["same"]),
        )
        for row in result.measures
    ]
    spread = result.measures[0]["length_deviation"]
    lead = (
        f"The lengths of the vectors deviate by {numbers.percent(spread)} of their mean. Of vectors of length 1 all "
        "three comparisons give one order; what differs there is rounding."
    )
    columns = ("Vectors", "Compared by", "MRR@10", "Same ten as by cosine")
    return Section("measures", "How they are compared", lead, [Table("Three ways", columns, rows, wide=True)])


def limits_chart(result: EncoderStudy) -> charts.Chart:
    rows = [{"tokens": row["tokens"], "mrr": row["mrr"], "series": "MRR@10"} for row in result.limits]
    tokens = [row["tokens"] for row in rows]
    return index_charts.lines(rows, "tokens", "mrr", ["MRR@10"], "tokens read", "MRR@10", x_values=tokens)


def _limits(result: EncoderStudy) -> Section:
    rows = [(row["tokens"], numbers.percent(row["cut"]), numbers.fixed(row["mrr"], 3)) for row in result.limits]
    first, last = result.limits[0], result.limits[-1]
    lead = (
        f"What lies behind the limit is not read. Reading {first['tokens']} tokens instead of {last['tokens']} changes "
        f"MRR@10 by {numbers.fixed(first['mrr'] - last['mrr'], 3, sign=True)}."
    )
    return Section(
        "limits", "The token limit", lead,
        [Figure("By tokens read", [("", limits_chart(result))], "The queries are read whole."),
         Table("By tokens read", ("Tokens", "Texts cut", "MRR@10"), rows)],
    )  # fmt: skip


def words_chart(result: EncoderStudy) -> charts.Chart:
    return charts.grouped_bars(
        result.words, "kind", "way", "recall", "recall@10", ["BM25", "dense", "hybrid"],
        label=lambda share: numbers.percent(share, 0), highest=1.1,
    )  # fmt: skip


def _words(result: EncoderStudy) -> Section:
    counts = dict.fromkeys((row["kind"], row["queries"]) for row in result.words)
    told = ", ".join(f"{count} {kind}" for kind, count in counts)
    lead = (
        "One word that only one or two documents hold is the whole query. A vector of a fixed length has no place for "
        f"every word; an inverted index has. Asked: {told}."
    )
    return Section(
        "words", "Rare words, numbers, names", lead,
        [Figure("Found among the first ten", [("", words_chart(result))],
                "Hybrid: reciprocal ranks of both, weights alike.", wide=True)],
    )  # fmt: skip


def sets_chart(result: EncoderStudy) -> charts.Chart:
    own = [
        {"dimensions": row["dimensions"], "share": row["told_apart"], "series": _OWN}
        for row in result.sets
        if row["dimensions"]
    ]
    free = [{"dimensions": row["dimensions"], "share": row["told_apart"], "series": _FREE} for row in result.free]
    ends = (min(row["dimensions"] for row in free + own), max(row["dimensions"] for row in free + own))
    flat = [
        {"dimensions": end, "share": row["told_apart"], "series": row["way"]}
        for row in result.sets
        if not row["dimensions"]
        for end in ends
    ]
    ways = list(dict.fromkeys(row["series"] for row in flat))
    ticks = [row["dimensions"] for row in own if row["dimensions"] & (row["dimensions"] - 1) == 0]
    return index_charts.lines(
        free + own + flat, "dimensions", "share", [_OWN, _FREE, *ways], "dimensions", "pairs told apart", dashed=ways,
        x_values=ticks[::2], y_axis=".0%", y_domain=(0, 1.02),
    )  # fmt: skip


def _sets(result: EncoderStudy) -> Section:
    rows = [
        (row["way"].capitalize() if row["way"] != "BM25" else "BM25", row["dimensions"] or "",
         numbers.percent(row["told_apart"]), numbers.percent(row["recall"]))
        for row in result.sets
    ]  # fmt: skip
    enough = next((row["dimensions"] for row in result.free if row["told_apart"] > 0.999), None)
    fits = (
        f"Vectors fitted to the answers need {enough} dimensions"
        if enough
        else f"Vectors fitted to the answers do not manage it in {result.free[-1]['dimensions']} dimensions"
    )
    lead = (
        f"{numbers.count(result.limit_documents)} documents say what people like, and every pair of them is the answer "
        f"to one question. {fits}: what an encoder misses beyond that is a matter of its training, not of the width."
    )
    return Section(
        "sets", "Sets of documents", lead,
        [Figure("Pairs told apart", [("", sets_chart(result))],
                "The share of questions whose two documents come first. Dashed: ways that have no width."),
         Table("By way", ("Way", "Dimensions", "Told apart", "Recall@2"), rows)],
    )  # fmt: skip


def storage_chart(result: EncoderStudy) -> charts.Chart:
    rows = [{"bytes": row["bytes"], "mrr": row["mrr"], "series": _pooling(row["pooling"])} for row in result.storage]
    order = list(dict.fromkeys(row["series"] for row in rows))
    least, most = min(row["bytes"] for row in rows), max(row["bytes"] for row in rows)
    ticks = [size for size in _BYTES if least <= size <= most]
    return index_charts.lines(rows, "bytes", "mrr", order, "bytes a document", "MRR@10", form="~s", x_values=ticks)


def _pooling(factor: int) -> str:
    return "every token" if factor == 1 else f"{factor} tokens merged"


def _storage(result: EncoderStudy) -> Section:
    rows = [
        (_pooling(row["pooling"]).capitalize(), row["bits"], numbers.size(row["bytes"]), numbers.fixed(row["mrr"], 3))
        for row in result.storage
    ]
    exact = result.storage[0]
    least = min(
        (row for row in result.storage if row["mrr"] >= 0.98 * exact["mrr"]),
        key=lambda row: row["bytes"],
        default=exact,
    )
    lead = (
        "Late interaction by the encoder's own token vectors, which nothing taught to be compared: a vector for every "
        f"token costs {numbers.size(exact['bytes'])} a document in float16. Within 2% of its MRR the least is "
        f"{numbers.size(least['bytes'])}, at {least['bits']} bits with {_pooling(least['pooling'])}."
    )
    return Section(
        "storage", "What late interaction stores", lead,
        [Figure("Bytes against quality", [("", storage_chart(result))],
                "From the left: 1, 2 and 4 bits a component, and float16, exact."),
         Table("By bits and pooling", ("Vectors", "Bits", "A document", "MRR@10"), rows)],
    )  # fmt: skip


def kinds_chart(result: EncoderStudy) -> charts.Chart:
    rows = [
        {"kind": row["kind"], "when": when, "mrr": row[key]}
        for row in result.kinds
        for when, key in (("before training", "before"), ("after", "mrr"))
    ]
    return charts.grouped_bars(
        rows, "kind", "when", "mrr", "MRR@10", ["before training", "after"], label=lambda mrr: numbers.fixed(mrr, 2),
        highest=1.25 * max(row["mrr"] for row in rows),
    )  # fmt: skip


def _kinds(result: EncoderStudy) -> Section:
    rows = [
        (row["kind"].capitalize(), numbers.fixed(row["mrr"], 3), numbers.fixed(row["before"], 3), _differs(row),
         numbers.fixed(row["mrr_long"], 3), numbers.fixed(row["order"], 3), numbers.count(row["parameters"]),
         numbers.count(round(row["texts_per_second"])))
        for row in result.kinds
    ]  # fmt: skip
    columns = ("Encoder", "MRR@10", "Untrained", "Against the transformer", "Longer texts", "Moved by order",
               "Parameters", "Texts per second")  # fmt: skip
    certain = {row["kind"]: row["high"] < 0 for row in result.kinds if row["kind"] != TRANSFORMER}
    behind = [kind for kind, worse in certain.items() if worse]
    alike = [kind for kind, worse in certain.items() if not worse]
    verdict = f"Behind the transformer with certainty: {', '.join(behind) or 'none'}." + (
        f" Not behind it: {', '.join(alike)}." if alike else ""
    )
    lead = (
        "Small encoders, taught alike on these texts and asked for others that were held out. A recurrent state has "
        "to carry all that was read; with attention the last state looks back at every other; a transformer's tokens "
        f"look at each other from the start. {verdict} One training each, so that another seed may shift them."
    )
    return Section(
        "kinds", "Recurrence, attention, transformer", lead,
        [Figure("Known items, held out", [("", kinds_chart(result))], "All start from the same word vectors.",
                wide=True),
         Table("By kind", columns, rows,
               "Words alone: the mean of their vectors, projected. Recurrent: the last states of an LSTM in both "
               "directions. Attentive: what these states attend to. The last three have as many parameters. "
               "Moved by order: 1 − cosine of a text and of its words shuffled. "
               "Against the transformer: difference of MRR@10 with its 95% interval.", wide=True)],
    )  # fmt: skip


def _differs(row: dict[str, Any]) -> str:
    if row["kind"] == TRANSFORMER:
        return ""
    low, high = (numbers.fixed(row[end], 3, sign=True) for end in ("low", "high"))
    return f"{numbers.fixed(row['difference'], 3, sign=True)} [{low}, {high}]"
