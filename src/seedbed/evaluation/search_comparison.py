"""Ways to search side by side on a test collection: words, vectors, both, and late interaction to rank again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.errors import DataError
from ..embeddings import SentenceEncoder
from ..embeddings.fusion import fuse
from ..embeddings.rerank import MaxSimReranker, Reranker, rank_again, token_vectors
from ..indexes import BM25Index, FlatIndex
from ..indexes.base import Ids
from ..models import Encoder
from .collections import Collection
from .retrieval import per_query
from .statistics import Difference, paired_bootstrap

METRICS = (("ndcg", 10), ("mrr", 10), ("recall", 100), ("map", 1000))
_DEPTH = 1000  # documents of a ranking
_CONSTANT = 60.0  # of reciprocal-rank fusion (Cormack et al. 2009)


@dataclass(frozen=True)
class Way:
    """One way to search: its mean metrics, and nDCG@10 of each query."""

    name: str
    metrics: dict[str, float]
    ndcg: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    ways: list[Way]
    differences: dict[tuple[str, str], Difference]  # of nDCG@10: how the second differs from the first

    def to_json(self) -> dict[str, Any]:
        return {
            "ways": {way.name: way.metrics | {"ndcg@10 by query": way.ndcg.tolist()} for way in self.ways},
            "differences": [
                {"first": first, "second": second, **asdict(one)} for (first, second), one in self.differences.items()
            ],
        }


def compare_ways(
    collection: Collection, encoder: SentenceEncoder, *, rerank: Sequence[Reranker] | None = None, seed: int = 0
) -> Comparison:
    """Search a collection by BM25, by an encoder's vectors (exact), by both (reciprocal-rank fusion, weights alike),
    and by rerankers on the best of both.

    Every pair of ways is told apart by a paired bootstrap over the queries.

    Args:
        rerank: None for late interaction of the encoder's own token vectors, fused with the order of both, where its
            tokens see each other.

    Raises:
        DataError: no query has a relevant document that is there.
    """
    ids = list(collection.documents)
    texts = [collection.documents[one] for one in ids]
    queries = [collection.queries[one] for one in collection.asked]
    if not queries or not texts:
        raise DataError("no query has a relevant document", hint="Check that judgements name the collection's ids.")
    depth = min(_DEPTH, len(texts))
    words = BM25Index()
    words.add(texts)
    flat = FlatIndex(encoder.dim, "cosine")
    flat.add(encoder.encode_documents(texts, normalize=True))
    rankings: dict[str, Ids] = {
        "BM25": words.search(queries, depth)[1],
        "dense": flat.search(encoder.encode_queries(queries, normalize=True), depth)[1],
    }
    scores, hybrid = fuse([rankings["BM25"], rankings["dense"]], [0.5, 0.5], _CONSTANT, depth)
    rankings["hybrid"] = hybrid
    if rerank is None:
        own = isinstance(encoder.model, Encoder)
        rerank = [MaxSimReranker(token_vectors(encoder), weight=0.5)] if own else []
    for again in rerank:
        rankings[f"hybrid, {again.name} again"] = rank_again(again, queries, texts.__getitem__, (scores, hybrid))[1]
    ways = [_way(name, ranking, ids, collection) for name, ranking in rankings.items()]
    differences = {
        (first.name, second.name): paired_bootstrap(first.ndcg, second.ndcg, seed=seed)
        for place, first in enumerate(ways)
        for second in ways[place + 1 :]
    }
    return Comparison(ways, differences)


def _way(name: str, ranking: Ids, ids: Sequence[str], collection: Collection) -> Way:
    ranked: list[list[Any]] = [[ids[place] for place in row.tolist() if place >= 0] for row in ranking]
    relevant = collection.relevant
    metrics = {f"{metric}@{k}": float(per_query(metric, ranked, relevant, k).mean()) for metric, k in METRICS}
    return Way(name, metrics, per_query("ndcg", ranked, relevant, 10))
