"""How much of a graph a search walks through, as the graph grows: counted on HNSW, at one recall for all sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from ...core.randomness import numpy_generator
from ...evaluation.indexes import exact_neighbours
from ...evaluation.retrieval import neighbour_recall
from ...indexes import HNSWIndex
from ...indexes.base import Floats
from ...reports import index_charts, numbers
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict

_YOURS, _RANDOM, _LOGARITHM = "yours", "random", "as the logarithm"
_TOLERANCE = 1.5  # times the logarithm's growth that still count as it


class GraphTraversalSettings(Settings):
    smallest: int = Field(300, ge=20, description="vectors of the smallest graph; sizes double from there")
    largest: int = Field(20_000, ge=40, description="vectors of the largest graph, at most")
    queries: int = Field(100, ge=1, description="asked of each graph")
    k: int = Field(10, ge=1, description="neighbours looked for")
    recall: float = Field(0.95, gt=0, le=1, description="that the width of each search is chosen for")
    widest: int = Field(1024, ge=10, description="width of a search, at most")


@dataclass(frozen=True)
class Effort:
    """A graph of `size` vectors, searched with the least width `ef` that reaches the recall asked for (or the widest).

    Attributes:
        hops: vectors whose links led to others, on all layers; a query's mean.
        distances: computed; a query's mean.
    """

    size: int
    layers: int
    ef: int
    recall: float
    hops: float
    distances: float


def measure(bench: Bench, settings: GraphTraversalSettings) -> Finding:
    owned = bench.vectors.sampled(settings.largest, settings.queries, settings.seed)
    sizes = _sizes(len(owned.vectors), settings.smallest)
    draws = numpy_generator(settings.seed, "graph-traversal")
    drawn = draws.standard_normal((sizes[-1] + len(owned.queries), owned.vectors.shape[1]), dtype=np.float32)
    order = draws.permutation(len(owned.vectors))  # passages of one document lie together
    efforts: dict[str, list[Effort]] = {}
    for name, vectors, queries, metric in (
        (_YOURS, owned.vectors[order], owned.queries, owned.metric),
        (_RANDOM, drawn[: sizes[-1]], drawn[sizes[-1] :], "l2"),
    ):
        bench.advance(f"graphs of {name.removesuffix('s')} vectors")
        efforts[name] = [effort(vectors[:size], queries, metric, settings) for size in sizes]
    return _finding(efforts, settings)


def effort(vectors: Floats, queries: Floats, metric: str, settings: GraphTraversalSettings) -> Effort:
    """Build a graph of `vectors` (n, dim), find the width that is enough, and count what it takes for `queries`."""
    index = HNSWIndex(vectors.shape[1], metric, ef_construction=100, threads=1, seed=settings.seed)
    index.add(vectors)
    exact = exact_neighbours(vectors, queries, settings.k, metric)

    def recall(ef: int) -> float:
        return neighbour_recall(index.search(queries, settings.k, ef=ef, threads=None)[1], exact)

    low, high = settings.k, settings.widest
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if recall(middle) >= settings.recall else (middle + 1, high)
    traces = [index.trace(query, ef=low) for query in queries]
    hops = np.mean([len(np.unique(np.stack([one.levels, one.origins]), axis=1).T) - 1 for one in traces])
    distances = np.mean([len(one.ids) for one in traces])
    layers = int(traces[0].levels[0]) + 1
    return Effort(len(vectors), layers, low, recall(low), float(hops), float(distances))


def growth(efforts: list[Effort]) -> float:
    """How many times more distances the largest graph takes than the smallest."""
    return efforts[-1].distances / efforts[0].distances


def _sizes(count: int, smallest: int) -> list[int]:
    """Doubling from `smallest`, and all of them at the end."""
    doubled = [smallest << power for power in range(40) if (smallest << power) * 1.4 < count]
    return [*doubled, count]


def _finding(efforts: dict[str, list[Effort]], settings: GraphTraversalSettings) -> Finding:
    yours, random = efforts[_YOURS], efforts[_RANDOM]
    first, last = yours[0], yours[-1]
    larger, logarithm = last.size / first.size, math.log(last.size) / math.log(first.size)
    own = growth(yours)
    reached = min(one.recall for one in yours) >= settings.recall
    verdict: Verdict = (
        "holds" if reached and own <= _TOLERANCE * logarithm
        else "holds in part" if own < math.sqrt(larger)
        else "does not hold"
    )  # fmt: skip
    sentences = (
        f"From {first.size:,} to {last.size:,} of your vectors, {larger:.0f} times as many, a search at recall "
        f"{settings.recall:.0%} computes {own:.1f} times the distances, where the logarithm grows {logarithm:.1f} times"
        f"{'' if reached else ', and not every graph reaches that recall'}.",
        f"At the end it follows the links of {last.hops:.0f} vectors and looks at {last.distances:,.0f}, "
        f"{last.distances / last.size:.1%} of all; among random vectors as wide, at {random[-1].distances:,.0f} "
        f"({growth(random):.1f} times those of the smallest graph).",
    )
    rows: list[list[Any]] = [
        [a.size, a.layers, a.ef, round(a.hops, 1), round(a.distances, 1), a.distances / a.size,
         round(b.distances, 1), b.recall]
        for a, b in zip(yours, random, strict=True)
    ]  # fmt: skip
    points = [
        {"size": one.size, "distances": one.distances, "series": name} for name in efforts for one in efforts[name]
    ]
    points += [
        {"size": one.size, "distances": first.distances * math.log(one.size) / math.log(first.size),
         "series": _LOGARITHM}
        for one in yours
    ]  # fmt: skip
    chart = index_charts.lines(
        points, "size", "distances", (_YOURS, _RANDOM, _LOGARITHM), "vectors in the graph", "distances a query",
        dashed=(_LOGARITHM,), x_values=[one.size for one in yours], form="~s", y_log=True, y_axis="~s",
    )  # fmt: skip
    return Finding(
        verdict, sentences,
        ("Vectors", "Layers", "Width", "Hops", "Distances", "Share of all", "Random: distances", "Random: recall"),
        rows,
        [("", chart)],
        {"growth": own, "growth_random": growth(random), "logarithm": logarithm, "distances": last.distances},
        f"Means of {numbers.count(settings.queries, 'query', 'queries')} at most. Width: candidates kept, the fewest "
        "that reach the recall. Hops: vectors whose links led to others, on all layers.",
    )  # fmt: skip


EXHIBIT = Exhibit(
    question="How many more vectors does a search in a graph look at when there are more of them?",
    claim="The work of a search in a navigable small-world graph with layers grows as the logarithm of the number of "
    "vectors.",
    formula="distances(n) = a · ln n at a fixed recall.",
    source="Malkov and Yashunin 2018, section 4.2.1",
    settings=GraphTraversalSettings,
    measure=measure,
    needs=("corpus", "encoder", "index"),
)
