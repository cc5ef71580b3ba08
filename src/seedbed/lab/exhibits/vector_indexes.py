"""Approximate indexes of a run's vectors: recall against speed and memory, and where each of them collapses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from ...evaluation.index_limits import RatePoint, loss_by_rate
from ...evaluation.index_setups import FLAT, compared_setups
from ...evaluation.indexes import Curve, exact_neighbours, measure_setup
from ...reports import index_charts, numbers
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict

_TITLES = ("HNSW", "IVF, no codes", "PQ", "LSH")
_YOURS, _GAUSSIAN = "yours", "random"


class VectorIndexesSettings(Settings):
    vectors: int = Field(20_000, ge=300, description="drawn from the run's, at most")
    queries: int = Field(200, ge=1, description="asked of each index")
    k: int = Field(10, ge=1, description="neighbours looked for")
    recall: float = Field(0.9, gt=0, le=1, description="at which speeds are compared")


def measure(bench: Bench, settings: VectorIndexesSettings) -> Finding:
    drawn = bench.vectors.sampled(settings.vectors, settings.queries, settings.seed)
    vectors, queries, metric = drawn.vectors, drawn.queries, drawn.metric
    exact = exact_neighbours(vectors, queries, settings.k, metric)
    curves = []
    for setup in (FLAT, *compared_setups(*vectors.shape)):
        if setup is FLAT or setup.title in _TITLES:
            bench.advance(setup.title)
            curves.append(measure_setup(setup, vectors, queries, exact, metric, seed=settings.seed, threads=1))
    bench.advance("product codes as their bits fall")
    rates = loss_by_rate(vectors, queries, metric, k=settings.k, seed=settings.seed, threads=1)
    return judge(curves[0], curves[1:], rates, settings.recall, len(vectors), vectors.shape[1])


def judge(
    flat: Curve, curves: Sequence[Curve], rates: Sequence[RatePoint], recall: float, count: int, dim: int
) -> Finding:
    scan = flat.points[0].queries_per_second
    reached = {curve.setup.title: point for curve in curves if (point := curve.at(recall)) is not None}
    gains = {title: point.queries_per_second / scan for title, point in reached.items()}
    best = max(gains, key=lambda title: gains[title], default="")
    falls = {curve.setup.title: curve.points[0].recall for curve in curves}
    lowest = rates[0].yours if rates else None
    fastest = best == "HNSW" and gains[best] > 1
    verdict: Verdict = (
        "holds" if fastest and len(gains) == len(curves) and min(gains.values()) > 1
        else "holds in part" if any(gain > 1 for gain in gains.values())
        else "does not hold"
    )  # fmt: skip
    listed = ", ".join(f"{title} {gain:.1f}" for title, gain in sorted(gains.items(), key=lambda one: -one[1]))
    short = [curve.setup.title for curve in curves if curve.setup.title not in reached]
    sentences = (
        f"With {count:,} vectors of {dim} dimensions the exact scan answers {numbers.short(scan)} queries a second; at "
        f"{recall:.0%} of its neighbours the others are so many times as fast: {listed or 'none gets there'}"
        f"{'' if not short else '; never there: ' + ', '.join(short)}.",
        f"With the narrowest search {_least(falls)}"
        + (
            f", and codes alone find {lowest.recall:.0%} at {lowest.bits_per_dimension:.3g} bits a dimension."
            if lowest else "."
        ),
    )  # fmt: skip
    rows: list[list[Any]] = [
        [flat.setup.title, 1.0, round(scan), 1.0, flat.build_seconds, flat.memory_bytes / count],
        *_rows(curves, recall, scan, count),
    ]
    return Finding(
        verdict, sentences,
        ("Index", "Recall", "Queries a second", "Of the scan's speed", "Building, s", "Bytes a vector"), rows,
        _charts(curves, rates, scan),
        {"scan": scan, **{f"gain_{title}": gain for title, gain in gains.items()}},
        f"Of each index the fastest search that finds {recall:.0%}, or else its best. All keep the vectors beside "
        "their codes; one thread.",
    )  # fmt: skip


def _least(falls: dict[str, float]) -> str:
    return ", ".join(f"{title} finds {recall:.0%}" for title, recall in sorted(falls.items(), key=lambda one: one[1]))


def _rows(curves: Sequence[Curve], recall: float, scan: float, count: int) -> list[list[Any]]:
    rows = []
    for curve in curves:
        point = curve.at(recall) or max(curve.points, key=lambda one: one.recall)
        rows.append([
            curve.setup.title, point.recall, round(point.queries_per_second), point.queries_per_second / scan,
            curve.build_seconds, curve.memory_bytes / count,
        ])  # fmt: skip
    return rows


def _charts(curves: Sequence[Curve], rates: Sequence[RatePoint], scan: float) -> list[tuple[str, Any]]:
    points: list[dict[str, Any]] = [
        {"recall": one.recall, "speed": one.queries_per_second, "index": curve.setup.title,
         "dial": f"{curve.setup.dial}={one.value}"}
        for curve in curves for one in curve.points
    ]  # fmt: skip
    speeds = [scan, *(row["speed"] for row in points)]
    titles = [curve.setup.title for curve in curves]
    charts: list[tuple[str, Any]] = [
        ("Recall against speed", index_charts.recall_frontier(
            points, "index", titles, scan, (min(speeds), max(speeds)), lowest=0.3
        )),
    ]  # fmt: skip
    if rates:
        falling: list[dict[str, Any]] = [
            {"bits": one.bits_per_dimension, "recall": one.recall, "series": name}
            for pair in rates for name, one in ((_YOURS, pair.yours), (_GAUSSIAN, pair.random))
        ]  # fmt: skip
        charts.append(("Product codes alone, as their bits fall", index_charts.lines(
            falling, "bits", "recall", (_YOURS, _GAUSSIAN), "bits a dimension", "recall",
            x_values=sorted({row["bits"] for row in falling}), y_axis=".0%",
        )))  # fmt: skip
    return charts


EXHIBIT = Exhibit(
    question="Which approximate index is worth its loss of recall, and where does each collapse?",
    claim="At a recall of nine in ten approximate indexes answer faster than a scan of everything, and a graph is the "
    "fastest of them.",
    formula="recall@k = |found ∩ exact| / k; a code of R bits a dimension loses at least 2^(−2R) of a Gaussian’s "
    "variance.",
    source="Aumüller et al. 2020 (ann-benchmarks), section 4; Jégou et al. 2011 (PQ), section III",
    settings=VectorIndexesSettings,
    measure=measure,
    needs=("corpus", "encoder", "index"),
)
