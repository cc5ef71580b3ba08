"""Where indexes reach their limits: recall as dimension grows, product quantisation as bits fall, memory as M grows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.randomness import numpy_generator
from ..indexes import HNSWIndex
from ..indexes.base import Floats
from ..indexes.collapse import Collapse, pq_collapse
from .indexes import exact_neighbours
from .neighbourhoods import measure_neighbourhoods
from .retrieval import neighbour_recall

DIMENSIONS = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
RATES = (0.125, 0.25, 0.5, 1.0, 2.0)
LINKS = (4, 8, 16, 32, 64)
GROWTH_EF = 32


@dataclass(frozen=True)
class DimensionPoint:
    """One graph, one width of search, vectors of `dim` dimensions.

    Attributes:
        recall: of the graph against exact search in those dimensions.
        pair_deviation: standard deviation of the distances of random pairs over their mean.
        hub_skewness: of how often vectors are neighbours of others.
        kept: share of the neighbours in all dimensions that exact search in these finds; None for synthetic vectors.
    """

    vectors: str
    dim: int
    recall: float
    relative_contrast: float
    intrinsic_dimension: float
    pair_deviation: float
    hub_skewness: float
    kept: float | None = None


def recall_by_dimension(
    vectors: Floats, queries: Floats, metric: str, *, k: int = 10, ef: int = GROWTH_EF, seed: int = 0,
    threads: int | None = None,
) -> list[DimensionPoint]:  # fmt: skip
    """Recall of HNSW at a fixed `ef` on the first principal directions of `vectors` (n, dim), and on as many random
    vectors of each dimension, whose intrinsic dimension is all of it."""
    dims = [dim for dim in DIMENSIONS if dim < vectors.shape[1]] + [vectors.shape[1]]
    moment = vectors.T.astype(np.float64) @ vectors
    directions = np.linalg.eigh(moment)[1][:, ::-1].astype(np.float32)
    truth = exact_neighbours(vectors, queries, k, metric, threads)
    out = []
    for dim in dims:
        turn = directions[:, :dim]
        random = numpy_generator(seed, "dimension", dim)
        drawn = random.standard_normal((len(vectors) + len(queries), dim), dtype=np.float32)
        for name, base, asked in (
            ("yours", vectors @ turn, queries @ turn),
            ("random", drawn[: len(vectors)], drawn[len(vectors) :]),
        ):
            exact = exact_neighbours(base, asked, k, metric, threads)
            index = HNSWIndex(dim, metric, ef_construction=64, seed=seed, threads=threads)
            index.add(base)
            found = index.search(asked, k, ef=ef, threads=threads)[1]
            near = measure_neighbourhoods(base, metric, most=2000, seed=seed, threads=threads).summary()
            out.append(DimensionPoint(
                name, dim, neighbour_recall(found, exact), near["relative_contrast"], near["intrinsic_dimension"],
                near["pair_deviation"], near["hub_skewness"],
                neighbour_recall(exact, truth) if name == "yours" else None,
            ))  # fmt: skip
    return out


@dataclass(frozen=True)
class RatePoint:
    """Product codes of one size on the vectors, and on Gaussian ones alike in all directions."""

    yours: Collapse
    random: Collapse


def loss_by_rate(
    vectors: Floats, queries: Floats, metric: str, *, k: int = 10, seed: int = 0, threads: int | None = None
) -> list[RatePoint]:
    """Distortion and recall of product codes (8 bits a part) on `vectors` (n, dim) as their bits fall.

    Fewer vectors than 16 an entry, or too few dimensions for parts, give no points.
    """
    count, dim = vectors.shape
    parts = sorted({round(dim * rate / 8) for rate in RATES} - {0})
    if count < 16 << 8 or not parts:
        return []
    drawn = numpy_generator(seed, "rates").standard_normal((count + len(queries), dim), dtype=np.float32)
    yours = pq_collapse(vectors, queries, k=k, metric=metric, subspaces=parts, seed=seed, threads=threads)
    random = pq_collapse(drawn[:count], drawn[count:], k=k, metric="l2", subspaces=parts, seed=seed, threads=threads)
    return [RatePoint(*pair) for pair in zip(yours, random, strict=True)]


@dataclass(frozen=True)
class LinksPoint:
    """Bytes a vector of HNSW with M links: measured, predicted by the index, and by its paper's formula."""

    m: int
    measured: float
    predicted: float
    paper: float


def hnsw_paper_bytes(dim: int, m: int) -> float:
    """float32 components and 4-byte links: 4 dim + 4 (2 M + M / ln M). Malkov & Yashunin, section 4.2.3."""
    return 4 * dim + 4 * (2 * m + m / math.log(m))


def memory_by_links(dim: int, *, count: int = 3000, links: Sequence[int] = LINKS, seed: int = 0) -> list[LinksPoint]:
    """Memory of HNSW over M. What the vectors are does not matter to it: they are random, and linked in haste."""
    vectors = numpy_generator(seed, "links").standard_normal((count, dim), dtype=np.float32)
    out = []
    for m in links:
        index = HNSWIndex(dim, m=m, ef_construction=4, seed=seed)
        index.add(vectors)
        predicted = HNSWIndex.predict_memory_bytes(count, dim, m)
        out.append(LinksPoint(m, index.memory_bytes() / count, predicted / count, hnsw_paper_bytes(dim, m)))
    return out
