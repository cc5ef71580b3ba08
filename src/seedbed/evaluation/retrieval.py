"""Retrieval metrics, as trec_eval defines them.

`ranked` holds, query by query, item ids best first (an int array (q, n), padded with -1, or lists); `relevant` holds
for each query its relevant items, or a mapping from item to gain. Means are over all queries; a query without any
relevant item counts 0.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..core.errors import DataError

Ranked: TypeAlias = Sequence[Iterable[Hashable]] | npt.NDArray[np.int64]
Relevant: TypeAlias = Sequence[Iterable[Hashable] | Mapping[Hashable, float]]


def mrr(ranked: Ranked, relevant: Relevant, k: int = 10) -> float:
    """Mean of 1 / (rank of the first relevant item), 0 where none is among the first k."""
    return _mean(
        next((1.0 / (i + 1) for i, gain in enumerate(g) if gain > 0), 0.0) for g, _ in _gains(ranked, relevant, k)
    )


def recall(ranked: Ranked, relevant: Relevant, k: int = 10) -> float:
    """Mean share of the relevant items that are among the first k."""
    return _mean(
        sum(gain > 0 for gain in found) / max(1, sum(gain > 0 for gain in all_gains))
        for found, all_gains in _gains(ranked, relevant, k)
    )


def map(ranked: Ranked, relevant: Relevant, k: int = 1000) -> float:
    """Mean average precision: precision at each relevant item among the first k, over all relevant ones."""

    def average_precision(found: list[float], all_gains: list[float]) -> float:
        hits = np.array(found) > 0
        precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
        return float(precision[hits].sum()) / max(1, sum(gain > 0 for gain in all_gains))

    return _mean(average_precision(found, all_gains) for found, all_gains in _gains(ranked, relevant, k))


def ndcg(ranked: Ranked, relevant: Relevant, k: int = 10) -> float:
    """Normalised discounted cumulative gain: gain / log2(rank + 1), against the best possible order."""

    def discounted(gains: list[float]) -> float:
        return float(np.sum(np.array(gains) / np.log2(np.arange(2, len(gains) + 2))))

    return _mean(
        discounted(found) / ideal if (ideal := discounted(sorted(all_gains, reverse=True)[:k])) > 0 else 0.0
        for found, all_gains in _gains(ranked, relevant, k)
    )


def neighbour_recall(found: npt.NDArray[np.int64], exact: npt.NDArray[np.int64]) -> float:
    """Share of the exact neighbours (q, k) that an approximate search found (q, k); padding (-1) does not count."""
    hits = sum(len(np.intersect1d(a[a >= 0], b[b >= 0])) for a, b in zip(found, exact, strict=True))
    return hits / max(1, int((exact >= 0).sum()))


def evaluate_search(
    index: Path, corpus: Path, encoder: Any, *, split: str = "test", efs: Sequence[int] = (10, 20, 40, 80, 160)
) -> tuple[dict[str, Any], dict[str, Any]]:
    """How well an index directory finds held-out documents (see embeddings.heldout), and its graph exact neighbours.

    Returns:
        metrics: queries; for "bm25", "dense" and "hybrid" {"mrr@10", "ndcg@10", "recall@10"} of known documents;
            "hnsw": [{"ef", "recall@10"}] of the graph against the exact answer, "hnsw_recall@10" at the ef in use.
        measurements: "hnsw": [{"ef", "queries_per_second"}] on one thread, "exact_queries_per_second".
    """
    from ..embeddings.heldout import open_held_out
    from ..embeddings.search import Searcher

    held_out = open_held_out(index, corpus, split, encoder)
    metrics: dict[str, Any] = {"queries": len(held_out.queries)}
    for mode in ("bm25", "dense", "hybrid"):
        ranked = held_out.ranked(mode, 10)
        metrics[mode] = {
            f"{function.__name__}@10": function(ranked, held_out.relevant, 10) for function in (mrr, ndcg, recall)
        }
    searcher = Searcher.open(index, encoder)
    dense, ef_used = searcher.dense, searcher.settings.ef
    if not held_out.queries or dense is None:
        return metrics, {}
    vectors = encoder.encode(held_out.queries, normalize=True)
    start = time.perf_counter()
    exact = dense.search(vectors, 10, ef=max(1, len(dense)))[1]  # as many candidates as vectors: a full scan
    measurements: dict[str, Any] = {"exact_queries_per_second": len(vectors) / (time.perf_counter() - start)}
    metrics["hnsw"], measurements["hnsw"] = [], []
    for ef in sorted({*efs, ef_used}):
        start = time.perf_counter()
        found = dense.search(vectors, 10, ef=ef)[1]
        measurements["hnsw"].append({"ef": ef, "queries_per_second": len(vectors) / (time.perf_counter() - start)})
        metrics["hnsw"].append({"ef": ef, "recall@10": neighbour_recall(found, exact)})
        if ef == ef_used:
            metrics["hnsw_recall@10"] = metrics["hnsw"][-1]["recall@10"]
    return metrics, measurements


def _gains(ranked: Ranked, relevant: Relevant, k: int) -> Iterable[tuple[list[float], list[float]]]:
    """Query by query: the gains of the first k items in their order, and all gains that there are."""
    if len(ranked) != len(relevant):
        raise DataError(f"{len(ranked)} rankings for {len(relevant)} queries")
    for row, (items, right) in enumerate(zip(ranked, relevant, strict=True)):
        gains = dict(right) if isinstance(right, Mapping) else dict.fromkeys(right, 1.0)
        listed = items.tolist() if isinstance(items, np.ndarray) else list(items)
        first = [item for item in listed if item != -1][:k]
        if len(set(first)) != len(first):
            raise DataError(f"ranking {row} names an item twice")
        yield [max(0.0, float(gains.get(item, 0.0))) for item in first], [max(0.0, float(g)) for g in gains.values()]


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return float(np.mean(listed)) if listed else 0.0
