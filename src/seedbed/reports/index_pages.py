"""What explains indexes, as a page with its JSON and its charts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..core.artifacts import write_atomically
from ..core.errors import disk_errors
from ..evaluation.index_explanation import Explanation
from ..evaluation.index_limits import GROWTH_EF
from ..evaluation.indexes import Curve
from . import index_charts as charts
from . import numbers
from .images import write_image
from .page import Block, Card, Figure, Page, Section, Table

TARGET = 0.95
_TALLEST = 0.6  # bar of a loss: more of a narrow search would hide the rest


def write_explanation(result: Explanation, out: Path) -> None:
    """Write explain.json, index.html and the charts as SVG and PNG into the folder `out`."""
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(_finite(result.to_json()), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        write_atomically(out / "explain.json", text.encode())
        explanation_page(result).write(out / "index.html")
        pictures = {name: chart for (_, chart), name in zip(frontier_panels(result), ("graphs", "codes"), strict=False)}
        pictures["dimension"] = dimension_chart(result)
        if result.rates:
            pictures["bits"] = rate_chart(result)
        for name, chart in pictures.items():
            for suffix in (".svg", ".png"):
                write_image(chart, out / f"{name}{suffix}")


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def explanation_page(result: Explanation) -> Page:
    source, sample = result.source, result.sample
    sections = [_vectors(result), _frontier(result), _losses(result), _costs(result), _limits(result)]
    return Page(
        "Indexes, explained",
        "How hard these vectors are to search, what each index finds of the true neighbours, what it loses and by "
        "what, and where indexes reach their limits.",
        _cards(result),
        sections,
        "Relative contrast after He et al. 2012, local intrinsic dimension after Levina and Bickel 2004, hubness "
        f"after Radovanović et al. 2010. {_sampling(result)}",
        {
            "Vectors": f"{numbers.count(len(source.vectors))} × {source.vectors.shape[1]}",
            "Metric": source.metric,
            "Indexes built of": numbers.count(len(sample.vectors)),
            "Queries": f"{numbers.count(len(sample.queries))}{', held out' if sample.held_out else ''}",
        },
    )


def _sampling(result: Explanation) -> str:
    source, sample = result.source, result.sample
    words = (
        f"Indexes hold {numbers.count(len(sample.vectors))} vectors drawn from {numbers.count(len(source.vectors))}"
        if len(sample.vectors) < len(source.vectors)
        else f"Indexes hold all {numbers.count(len(source.vectors), 'vector')}"
    )
    asked = "vectors held out of them" if sample.held_out else "queries of their own kind"
    words += f" and were asked {numbers.count(len(sample.queries))} {asked}"
    if source.copies:
        words += f"; {numbers.count(source.copies, 'copy', 'copies')} of other vectors were left out"
    return (
        f"{words}. The limits are of {numbers.count(result.limits_sample)}. Recalls repeat, but for graphs built by "
        "several threads; queries per second are of processor time on one thread, and vary."
    )


def best_curve(result: Explanation, recall: float = TARGET) -> Curve | None:
    """The approximate index that reaches `recall` the fastest."""
    reached = [(point.queries_per_second, curve) for curve in result.curves if (point := curve.at(recall)) is not None]
    return max(reached, key=lambda one: one[0])[1] if reached else None


def _cards(result: Explanation) -> list[Card]:
    near = result.neighbourhoods.summary()
    cards = [
        Card("Intrinsic dimension", numbers.fixed(near["intrinsic_dimension"], 1),
             f"of {result.source.vectors.shape[1]}; the median over vectors"),
        Card("Relative contrast", numbers.fixed(near["relative_contrast"]),
             f"at the {result.neighbourhoods.k}th neighbour; 1: all equally far"),
        Card("Hubness", numbers.fixed(near["hub_skewness"]),
             f"skewness; {numbers.percent(near['anti_hubs'])} are nobody’s neighbour"),
    ]  # fmt: skip
    exact = result.flat.points[0].queries_per_second
    cards.append(Card("Exact scan", f"{numbers.tight(exact)}/s", "queries on one thread"))
    best = best_curve(result)
    if best is not None:
        point = best.at(TARGET)
        assert point is not None
        cards.append(Card(
            f"Fastest at {TARGET:.0%} recall", f"{numbers.tight(point.queries_per_second)}/s", best.setup.title, "good"
        ))  # fmt: skip
    return cards


def _vectors(result: Explanation) -> Section:
    near, found = result.neighbourhoods, result.neighbourhoods.summary()
    lead = (
        f"Two random vectors are {numbers.fixed(found['pair_distance'])} apart, give or take "
        f"{numbers.percent(found['pair_deviation'])}; the nearest neighbour is "
        f"{numbers.fixed(found['nearest_distance'])} away. Around a vector its neighbours spread as in "
        f"{numbers.fixed(found['intrinsic_dimension'], 1)} dimensions: this number, not the length of the vectors, "
        "says how hard they are to search. One vector in "
        f"{numbers.count(len(near.occurrences))} is among the {near.hub_k} nearest of "
        f"{numbers.count(found['largest_hub'])} others."
    )
    known = near.dimensions[np.isfinite(near.dimensions)]
    blocks: list[Block] = [
        Figure(
            "Distance concentration",
            [("", charts.histogram((("to the nearest", near.distances), ("of random pairs", near.pairs)), "distance"))],
            "Euclidean distance. The more the two overlap, the less “nearest” means.",
        ),
        Figure(
            "Hubs", [("", charts.hubs(near.occurrences, near.hub_k))],
            f"Each vector is a neighbour {near.hub_k} times on average. Hubs answer many queries, anti-hubs (0) none. "
            f"Of a sample of {numbers.count(len(near.occurrences))}.",
        ),
    ]  # fmt: skip
    if len(known):
        blocks.insert(1, Figure(
            "Local intrinsic dimension", [("", charts.histogram((("", known),), "dimension", bins=40))],
            f"By maximum likelihood from the {near.k} nearest of {numbers.count(near.count)}, for "
            f"{numbers.count(len(near.dimensions))} vectors.",
        ))  # fmt: skip
    blocks.append(Table("Figures", ("", ""), [
        ("Local intrinsic dimension, median", numbers.fixed(found["intrinsic_dimension"], 1)),
        (f"Relative contrast at {near.k}, median", numbers.fixed(found["relative_contrast"])),
        ("Skewness of the occurrences", numbers.fixed(found["hub_skewness"])),
        ("Anti-hubs", numbers.percent(found["anti_hubs"])),
        ("Deviation of distances over their mean", numbers.percent(found["pair_deviation"])),
        ("Distance to the nearest, median", numbers.fixed(found["nearest_distance"], 3)),
        ("Distance of random pairs, mean", numbers.fixed(found["pair_distance"], 3)),
    ]))  # fmt: skip
    return Section("vectors", "The vectors", lead, blocks)


def _frontier(result: Explanation) -> Section:
    exact = result.flat.points[0].queries_per_second
    best = best_curve(result)
    lead = f"The exact scan answers {numbers.short(exact)} queries per second and misses nothing. "
    if best is not None and (point := best.at(TARGET)) is not None:
        lead += (
            f"At a recall of {TARGET:.0%} or more, {best.setup.title} answers "
            f"{numbers.short(point.queries_per_second)} ({best.setup.dial} {point.value}), "
            f"{numbers.fixed(point.queries_per_second / exact, 1)} times as many."
        )
    else:
        lead += f"No approximate index reached a recall of {TARGET:.0%}."
    caption = (
        f"Recall of the {result.k} nearest, on a scale of the neighbours missed. Each point is a width of search; up "
        "and to the right is better."
    )
    blocks: list[Block] = [Figure("Recall against speed", frontier_panels(result), caption, wide=True)]
    rows = []
    for curve in (result.flat, *result.curves):
        at = curve.at(TARGET)
        row: list[object] = [
            curve.setup.title,
            "" if at is None or at.value is None else f"{curve.setup.dial} {at.value}",
        ]
        for recall in (0.9, 0.95, 0.99):
            point = curve.at(recall)
            row.append("" if point is None else numbers.count(point.queries_per_second))
        rows.append(row)
    blocks.append(Table(
        "Queries per second at a recall of", ("", "search at 95%", "90%", "95%", "99%"), rows,
        "The fastest point measured that reaches the recall; between points nothing is interpolated.", wide=True,
    ))  # fmt: skip
    return Section("frontier", "Recall against speed", lead, blocks)


def frontier_panels(result: Explanation) -> list[tuple[str, charts.Chart]]:
    """Graphs in one chart, all else in the other, on the same axes."""
    exact = result.flat.points[0].queries_per_second
    shown = [point.queries_per_second for curve in result.curves for point in curve.points if point.recall >= 0.3]
    ends = (min([exact, *shown]), max([exact, *shown]))
    panels = []
    for heading, graphs in (("Graphs", True), ("Partitions and codes", False)):
        curves = [curve for curve in result.curves if (curve.setup.structure == "graph") == graphs]
        rows = [
            {"index": curve.setup.title, "recall": point.recall, "speed": point.queries_per_second,
             "dial": f"{curve.setup.dial} {point.value}"}
            for curve in curves for point in curve.points
        ]  # fmt: skip
        if rows:
            order = [curve.setup.title for curve in curves]
            panels.append((heading, charts.recall_frontier(rows, "index", order, exact, ends)))
    return panels


def _losses(result: Explanation) -> Section:
    told = [curve for curve in result.curves if all(point.loss is not None for point in curve.points)]
    highest = max(
        (1 - point.recall for curve in told for point in curve.points), default=1.0
    )  # fmt: skip
    cut = "; bars end at 60%" if highest > _TALLEST else ""
    panels = [
        (
            curve.setup.title,
            charts.losses(
                [
                    {"value": point.value, "by_structure": point.loss.by_structure,
                     "by_quantisation": point.loss.by_quantisation}
                    for point in curve.points if point.loss is not None
                ],
                curve.setup.dial or "", min(highest, _TALLEST),
            ),
        )
        for curve in told
    ]  # fmt: skip
    lead = (
        "A neighbour that is missed was lost by quantisation if the same search finds it when it compares with whole "
        "vectors instead of codes; else the graph did not lead there, or the part where it lies was not looked into. "
        "The first is mended by finer codes or more reranking, the second by a wider search or a denser graph."
    )
    blocks: list[Block] = [Figure(
        "Neighbours lost, by what", panels,
        f"Green: {charts.STRUCTURE}; orange: {charts.QUANTISATION}. Shares of the true neighbours, from the narrowest "
        f"search to the widest{cut}.", wide=True,
    )]  # fmt: skip
    rows = [
        (curve.setup.title, f"{curve.setup.dial} {point.value}", numbers.percent(point.recall),
         numbers.percent(point.alone), numbers.percent(point.loss.by_structure) if point.loss else "")
        for curve in result.curves for point in curve.points[-1:] if point.alone is not None
    ]  # fmt: skip
    if rows:
        blocks.append(Table(
            "What reranking is worth", ("", "Search", "Reranked", "Codes alone", "Lost by partition"), rows,
            "The widest search measured, as it is (the best by codes are ranked again by their vectors), and with the "
            "codes’ order as the last word.", wide=True,
        ))  # fmt: skip
    return Section("losses", "What is lost, and by what", lead, blocks)


def _costs(result: Explanation) -> Section:
    count, dim = len(result.sample.vectors), result.source.vectors.shape[1]
    curves = (result.flat, *result.curves)
    bars: list[dict[str, Any]] = [
        {"index": curve.setup.title, "measured": curve.memory_bytes / count,
         "predicted": curve.memory_bytes_predicted / count}
        for curve in curves
    ]  # fmt: skip
    worst = max(abs(row["predicted"] / row["measured"] - 1) for row in bars)
    lead = (
        f"Memory is predicted before anything is built; measured here, the predictions were off by "
        f"{numbers.percent(worst)} at most."
    )
    rows = [
        (
            curve.setup.title, curve.setup.described(), numbers.memory(curve.memory_bytes),
            numbers.percent(curve.memory_bytes_predicted / curve.memory_bytes - 1, 1, True),
            numbers.duration(curve.build_seconds),
        )
        for curve in curves
    ]  # fmt: skip
    links = charts.lines(
        [
            {"m": point.m, "bytes": value, "series": name}
            for point in result.links
            for name, value in (("measured", point.measured), ("predicted", point.predicted), ("paper", point.paper))
        ],
        "m", "bytes", ("measured", "predicted", "paper"), "M", "bytes a vector", dashed=("predicted", "paper"),
        x_values=[point.m for point in result.links], y_axis=",~r",
    )  # fmt: skip
    blocks: list[Block] = [
        Figure("Memory", [("", charts.memory(bars, dim))],
               "Bars: measured. Orange: predicted. Dashed: the vectors alone, in float32."),
        Figure("HNSW’s memory over M", [("", links)],
               "M links a vector on each layer, twice as many on the lowest. The paper’s formula: 4 (2 M + M / ln M) "
               f"bytes for links, besides 4 × {dim} for the vector."),
        Table("Memory and building", ("", "Setup", "Memory", "Prediction off by", "Built in"), rows,
              f"Of {numbers.count(count)} vectors.", wide=True),
    ]  # fmt: skip
    return Section("costs", "Memory and building", lead, blocks)


def _limits(result: Explanation) -> Section:
    yours = [point for point in result.dimensions if point.vectors == "yours"]
    random = [point for point in result.dimensions if point.vectors == "random"]
    lead = (
        f"The same graph with the same width of search (HNSW, ef {GROWTH_EF}) finds "
        f"{numbers.percent(yours[-1].recall)} of the neighbours among these vectors in {yours[-1].dim} dimensions, "
        f"whose intrinsic dimension is {numbers.fixed(yours[-1].intrinsic_dimension, 1)}, and "
        f"{numbers.percent(random[-1].recall)} among random ones of as many dimensions, where it is estimated at "
        f"{numbers.fixed(random[-1].intrinsic_dimension, 1)}."
    )
    blocks: list[Block] = [Figure(
        "Recall as dimension grows", [("", dimension_chart(result))],
        "These vectors in their first principal directions, and Gaussian vectors of as many. Dashed: neighbours in all "
        "dimensions that an exact search in so many finds.",
    )]  # fmt: skip
    if result.rates:
        last = result.rates[0].yours
        lead += (
            f" With {numbers.value(last.bits_per_dimension)} bits a dimension, product codes lose "
            f"{numbers.percent(last.lost)} of the variance and find {numbers.percent(last.recall)} of the "
            "neighbours."
        )
        blocks.append(Figure(
            "Product quantisation as bits fall", [("", rate_chart(result))],
            "Share of the variance lost, on vectors that trained nothing. Dashed: the least that Gaussian vectors can "
            "lose, alike in all directions (2⁻²ᴿ) and with the variances of these.",
        ))  # fmt: skip
        blocks.append(Table(
            "Product codes", ("Bits a dimension", "Bytes a vector", "Variance lost", "Random vectors", "2⁻²ᴿ",
                              "Least for these variances", "Recall by codes alone"),
            [
                (numbers.value(one.yours.bits_per_dimension), one.yours.subspaces, numbers.percent(one.yours.lost),
                 numbers.percent(one.random.lost), numbers.percent(one.yours.gaussian),
                 numbers.percent(one.yours.spectral), numbers.percent(one.yours.recall))
                for one in result.rates
            ],
            wide=True,
        ))  # fmt: skip
    rows = [
        (mine.dim, numbers.percent(mine.recall), numbers.fixed(mine.intrinsic_dimension, 1),
         numbers.fixed(mine.relative_contrast), numbers.percent(other.recall),
         numbers.fixed(other.intrinsic_dimension, 1), numbers.fixed(other.relative_contrast))
        for mine, other in zip(yours, random, strict=True)
    ]  # fmt: skip
    blocks.append(Table(
        "Dimension by dimension", ("Dimensions", "Recall", "Intrinsic", "Contrast", "Random: recall", "Intrinsic",
                                   "Contrast"), rows,
        "Estimates of the intrinsic dimension fall short where it is high and vectors are few.", wide=True,
    ))  # fmt: skip
    return Section("limits", "Limits", lead, blocks)


def dimension_chart(result: Explanation) -> charts.Chart:
    names = ("these vectors", "random vectors", "kept by projection")
    rows = [
        {"dim": point.dim, "recall": point.recall, "series": names[0 if point.vectors == "yours" else 1]}
        for point in result.dimensions
    ]
    rows += [
        {"dim": point.dim, "recall": point.kept, "series": names[2]}
        for point in result.dimensions if point.kept is not None
    ]  # fmt: skip
    ticks = sorted({point.dim for point in result.dimensions})[::2]
    return charts.lines(
        rows, "dim", "recall", names, "dimensions", f"recall of the {result.k} nearest", dashed=names[2:],
        x_values=ticks, y_axis=".0%", y_domain=(0, 1),
    )  # fmt: skip


def rate_chart(result: Explanation) -> charts.Chart:
    names = ("these vectors", "random vectors", "least, these variances", "2⁻²ᴿ")
    rows = [
        {"rate": point.yours.bits_per_dimension, "lost": value, "series": name}
        for point in result.rates
        for name, value in zip(
            names, (point.yours.lost, point.random.lost, point.yours.spectral, point.yours.gaussian), strict=True
        )
    ]
    return charts.lines(
        rows, "rate", "lost", names, "bits a dimension", "share of the variance lost", dashed=names[2:],
        x_values=[point.yours.bits_per_dimension for point in result.rates], form=".3~r", y_axis=".0%", y_domain=(0, 1),
    )  # fmt: skip
