"""Retrieval metrics, as trec_eval defines them.

`ranked` holds, query by query, item ids best first (an int array (q, n), padded with -1, or lists); `relevant` holds
for each query its relevant items, or a mapping from item to gain. Means are over all queries; a query without any
relevant item counts 0.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..core.errors import ConfigError, DataError

Ranked: TypeAlias = Sequence[Iterable[Hashable]] | npt.NDArray[np.int64]
Relevant: TypeAlias = Sequence[Iterable[Hashable] | Mapping[Hashable, float]]


def mrr(ranked: Ranked, relevant: Relevant, k: int = 10) -> float:
    """Mean of 1 / (rank of the first relevant item), 0 where none is among the first k."""
    return _mean(per_query("mrr", ranked, relevant, k))


def recall(ranked: Ranked, relevant: Relevant, k: int = 10) -> float:
    """Mean share of the relevant items that are among the first k."""
    return _mean(per_query("recall", ranked, relevant, k))


def precision(ranked: Ranked, relevant: Relevant, k: int = 10) -> float:
    """Mean share of the first k places that hold a relevant item."""
    return _mean(per_query("precision", ranked, relevant, k))


def map(ranked: Ranked, relevant: Relevant, k: int = 1000) -> float:
    """Mean average precision: precision at each relevant item among the first k, over all relevant ones."""
    return _mean(per_query("map", ranked, relevant, k))


def ndcg(ranked: Ranked, relevant: Relevant, k: int = 10) -> float:
    """Normalised discounted cumulative gain: gain / log2(rank + 1), against the best possible order."""
    return _mean(per_query("ndcg", ranked, relevant, k))


def per_query(metric: str, ranked: Ranked, relevant: Relevant, k: int = 10) -> npt.NDArray[np.float64]:
    """A metric's value for each query, in their order: what `statistics.paired_bootstrap` compares.

    Raises:
        ConfigError: `metric` is none of METRICS.
        DataError: not as many rankings as queries, or a ranking names an item twice.
    """
    if metric not in METRICS:
        raise ConfigError(f"'{metric}' is not a metric", where="metric", hint=f"Choose of {', '.join(METRICS)}.")
    function = METRICS[metric]
    return np.array([function(found, every, k) for found, every in _gains(ranked, relevant, k)], dtype=np.float64)


# Of one query: gains of the first k items in their order, and all gains that there are.


def _reciprocal_rank(found: list[float], every: list[float], k: int) -> float:
    return next((1.0 / (place + 1) for place, gain in enumerate(found) if gain > 0), 0.0)


def _recall(found: list[float], every: list[float], k: int) -> float:
    return _relevant(found) / max(1, _relevant(every))


def _precision(found: list[float], every: list[float], k: int) -> float:
    return _relevant(found) / k


def _average_precision(found: list[float], every: list[float], k: int) -> float:
    hits = np.array(found) > 0
    at_each = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(at_each[hits].sum()) / max(1, _relevant(every))


def _ndcg(found: list[float], every: list[float], k: int) -> float:
    ideal = _discounted(sorted(every, reverse=True)[:k])
    return _discounted(found) / ideal if ideal > 0 else 0.0


def _discounted(gains: list[float]) -> float:
    return float(np.sum(np.array(gains) / np.log2(np.arange(2, len(gains) + 2))))


def _relevant(gains: list[float]) -> int:
    return sum(gain > 0 for gain in gains)


METRICS: Mapping[str, Callable[[list[float], list[float], int], float]] = {
    "mrr": _reciprocal_rank, "ndcg": _ndcg, "recall": _recall, "precision": _precision, "map": _average_precision,
}  # fmt: skip


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
    vectors = encoder.encode_queries(held_out.queries, normalize=True)
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


def _mean(values: npt.NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 0.0
