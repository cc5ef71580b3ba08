"""What dimension does to neighbourhoods: distances that are all alike, hubs, and searches that miss, on the first
principal directions of a run's vectors and on random ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from ...evaluation.index_limits import GROWTH_EF, DimensionPoint, recall_by_dimension
from ...reports import index_charts, numbers
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict

_YOURS, _RANDOM, _LAW = "yours", "random", "1 / √(2d)"
_LEAST_LOSS = 0.05  # of recall


class DimensionalitySettings(Settings):
    vectors: int = Field(4000, ge=50, description="drawn from the run's, and as many random ones")
    queries: int = Field(200, ge=1, description="asked in each number of dimensions")
    k: int = Field(10, ge=1, description="neighbours looked for")
    ef: int = Field(GROWTH_EF, ge=1, description="width of the search in the graph, the same in all dimensions")


def measure(bench: Bench, settings: DimensionalitySettings) -> Finding:
    drawn = bench.vectors.sampled(settings.vectors, settings.queries, settings.seed)
    points = recall_by_dimension(
        drawn.vectors, drawn.queries, "l2", k=settings.k, ef=settings.ef, seed=settings.seed, threads=2
    )
    return judge([one for one in points if one.vectors == _YOURS], [one for one in points if one.vectors == _RANDOM])


def judge(yours: Sequence[DimensionPoint], random: Sequence[DimensionPoint]) -> Finding:
    """The finding of points by rising dimension, one of each for each dimension."""
    suffering = [_suffers(points) for points in (random, yours)]
    verdict: Verdict = "holds" if all(suffering) else "holds in part" if any(suffering) else "does not hold"
    first, last, chance = yours[0], yours[-1], random[-1]
    sentences = (
        f"From {first.dim} to {last.dim} dimensions the spread of distances between random vectors falls from "
        f"{random[0].pair_deviation:.0%} to {chance.pair_deviation:.1%} of their mean, the skewness of hubs goes from "
        f"{numbers.fixed(random[0].hub_skewness, 1)} to {chance.hub_skewness:.1f}, and the same search in a graph "
        f"finds {chance.recall:.0%} of the neighbours instead of {random[0].recall:.0%}.",
        f"Among your vectors the spread goes from {first.pair_deviation:.0%} to {last.pair_deviation:.0%}, the "
        f"skewness from {numbers.fixed(first.hub_skewness, 1)} to {last.hub_skewness:.1f} and recall from "
        f"{first.recall:.0%} to {last.recall:.0%}: near a vector they spread in {last.intrinsic_dimension:.0f} "
        f"dimensions, the random ones in {chance.intrinsic_dimension:.0f}.",
    )
    rows: list[list[Any]] = [
        [a.dim, a.pair_deviation, b.pair_deviation, a.hub_skewness, b.hub_skewness, a.recall, b.recall,
         a.intrinsic_dimension, b.intrinsic_dimension]
        for a, b in zip(yours, random, strict=True)
    ]  # fmt: skip
    return Finding(
        verdict, sentences,
        ("Dimensions", "Spread, yours", "random", "Hubs, yours", "random", "Recall, yours", "random",
         "Intrinsic, yours", "random"),
        rows,
        [("Spread of the distances", _spread(yours, random)),
         ("Recall of the same search", _lines([*yours, *random], "recall", "recall", ".0%")),
         ("Hubs", _lines([*yours, *random], "hub_skewness", "skewness of N₁₀", "~r"))],
        {"spread_random": chance.pair_deviation, "recall_random": chance.recall, "recall_yours": last.recall,
         "skewness_random": chance.hub_skewness},
        "Spread: standard deviation of the distances of random pairs over their mean. Hubs: skewness of how often a "
        "vector is among the nearest ten of others. Intrinsic: local dimension by maximum likelihood.",
    )  # fmt: skip


def _suffers(points: Sequence[DimensionPoint]) -> bool:
    """Whether distances concentrate, hubs stand out and recall falls from the fewest dimensions to the most."""
    first, last = points[0], points[-1]
    return (
        last.pair_deviation < first.pair_deviation
        and last.hub_skewness > first.hub_skewness
        and last.recall < first.recall - _LEAST_LOSS
    )


def _spread(yours: Sequence[DimensionPoint], random: Sequence[DimensionPoint]) -> Any:
    rows = _rows([*yours, *random], "pair_deviation")
    rows += [{"dim": one.dim, "value": 1 / math.sqrt(2 * one.dim), "series": _LAW} for one in random]
    dims = [one.dim for one in yours]
    return index_charts.lines(
        rows, "dim", "value", (_YOURS, _RANDOM, _LAW), "dimensions", "deviation over mean", dashed=(_LAW,),
        x_values=dims, y_log=True, y_axis=".0%",
    )  # fmt: skip


def _lines(points: Sequence[DimensionPoint], value: str, title: str, form: str) -> Any:
    dims = sorted({one.dim for one in points})
    rows = _rows(points, value)
    return index_charts.lines(
        rows, "dim", "value", (_YOURS, _RANDOM), "dimensions", title, x_values=dims, y_axis=form
    )  # fmt: skip


def _rows(points: Sequence[DimensionPoint], value: str) -> list[dict[str, Any]]:
    return [{"dim": one.dim, "value": getattr(one, value), "series": one.vectors} for one in points]


EXHIBIT = Exhibit(
    question="What becomes of nearest neighbours as vectors get more dimensions?",
    claim="As dimensions grow distances become alike, a few vectors become the neighbours of many, and the same "
    "approximate search finds less.",
    formula="Distances of two normal vectors: deviation / mean → 1 / √(2d); N_k(x): lists of k nearest that x is in.",
    source="Beyer et al. 1999, theorem 1; Radovanović et al. 2010, section 2",
    settings=DimensionalitySettings,
    measure=measure,
    needs=("corpus", "encoder", "index"),
)
