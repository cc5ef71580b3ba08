"""All that is measured of a set of vectors and of indexes of it: what `seedbed index explain` shows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..core.console import progress
from ..core.devices import machine
from .index_limits import (
    DimensionPoint,
    LinksPoint,
    RatePoint,
    loss_by_rate,
    memory_by_links,
    recall_by_dimension,
)
from .index_setups import FLAT, compared_setups
from .indexes import Curve, exact_neighbours, measure_setup
from .neighbourhoods import Neighbourhoods, measure_neighbourhoods
from .vector_sources import VectorSet

_LIMITS_SAMPLE = 4500  # vectors that show limits: many small indexes are built of them
_LIMITS_QUERIES = 300
_ENOUGH = 0.9995  # wider searches than the first that reaches this cost more and show nothing


@dataclass(frozen=True)
class Explanation:
    """What indexes of some vectors cost and lose, and why.

    Attributes:
        source: the whole set; `sample` is what indexes were built of and asked.
        flat: the exact scan.
        curves: of all approximate indexes.
    """

    source: VectorSet
    sample: VectorSet
    k: int
    seed: int
    neighbourhoods: Neighbourhoods
    flat: Curve
    curves: tuple[Curve, ...]
    dimensions: tuple[DimensionPoint, ...]
    rates: tuple[RatePoint, ...]
    links: tuple[LinksPoint, ...]
    limits_sample: int

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source.name, "metric": self.source.metric, "vectors": len(self.source.vectors),
            "dim": self.source.vectors.shape[1], "copies": self.source.copies, "k": self.k, "seed": self.seed,
            "sample": len(self.sample.vectors), "queries": len(self.sample.queries),
            "queries_held_out": self.sample.held_out, "machine": machine(),
            "neighbourhoods": self.neighbourhoods.summary(),
            "indexes": [
                {
                    "index": curve.setup.title, "setup": curve.setup.described(), "dial": curve.setup.dial,
                    "build_seconds": curve.build_seconds, "memory_bytes": curve.memory_bytes,
                    "memory_bytes_predicted": curve.memory_bytes_predicted,
                    "points": [asdict(point) for point in curve.points],
                }
                for curve in (self.flat, *self.curves)
            ],
            "limits_sample": self.limits_sample,
            "recall_by_dimension": [asdict(point) for point in self.dimensions],
            "loss_by_rate": [asdict(point) for point in self.rates],
            "memory_by_links": [asdict(point) for point in self.links],
        }  # fmt: skip


def explain_indexes(
    source: VectorSet, *, k: int = 10, sample: int = 20_000, queries: int = 500, seed: int = 0,
    threads: int | None = None,
) -> Explanation:  # fmt: skip
    """Build and measure every kind of index on vectors of `source`, and the vectors themselves.

    Args:
        k: neighbours asked for.
        sample: vectors that indexes are built of, at most.
        queries: asked of each, at most.
        threads: for building and for exact answers (None: all processors); searches are timed on one.
    """
    drawn = source.sampled(sample, queries, seed)
    small = drawn.sampled(_LIMITS_SAMPLE, _LIMITS_QUERIES, seed)
    metric, vectors, asked = drawn.metric, drawn.vectors, drawn.queries
    setups = compared_setups(len(vectors), vectors.shape[1])
    with progress("explain", total=len(setups) + 5) as task:

        def done(what: str) -> None:
            task.advance(1, last=what)

        near = measure_neighbourhoods(source.vectors, metric, seed=seed, threads=threads)
        done("neighbourhoods")
        exact = exact_neighbours(vectors, asked, k, metric, threads)
        flat = measure_setup(FLAT, vectors, asked, exact, metric)
        done(FLAT.title)
        curves = []
        for setup in setups:
            curves.append(
                measure_setup(setup, vectors, asked, exact, metric, seed=seed, threads=threads, enough=_ENOUGH)
            )
            done(setup.title)
        grown = recall_by_dimension(small.vectors, small.queries, metric, k=k, seed=seed, threads=threads)
        done("dimensions")
        rates = loss_by_rate(small.vectors, small.queries, metric, k=k, seed=seed, threads=threads)
        done("bits")
        links = memory_by_links(vectors.shape[1], seed=seed)
        done("links")
    return Explanation(
        source, drawn, k, seed, near, flat, tuple(curves), tuple(grown), tuple(rates), tuple(links), len(small.vectors)
    )  # fmt: skip
