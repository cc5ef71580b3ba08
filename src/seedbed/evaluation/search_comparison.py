"""Ways to search side by side on a test collection: words, vectors, both, and late interaction to rank again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..core.errors import DataError
from ..core.ragged import Ragged
from ..embeddings import MultiVectorEncoder, SentenceEncoder
from ..embeddings.multivector import LateInteractionConfig
from ..embeddings.search import fuse
from ..indexes import BM25Index, FlatIndex
from ..indexes.base import Ids
from ..indexes.multivector import maxsim
from ..models import Encoder
from .collections import Collection
from .retrieval import per_query
from .statistics import Difference, paired_bootstrap

METRICS = (("ndcg", 10), ("mrr", 10), ("recall", 100), ("map", 1000))
_DEPTH = 1000  # documents of a ranking
_AGAIN = 100  # documents that are ranked again
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


def compare_ways(collection: Collection, encoder: SentenceEncoder, *, rerank: bool = True, seed: int = 0) -> Comparison:
    """Search a collection by BM25, by an encoder's vectors (exact), by both (reciprocal-rank fusion, weights alike),
    and by late interaction of the encoder's token vectors on the best of both, fused with them.

    Every pair of ways is told apart by a paired bootstrap over the queries.

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
    flat.add(encoder.encode(texts, normalize=True))
    rankings: dict[str, Ids] = {
        "BM25": words.search(queries, depth)[1],
        "dense": flat.search(encoder.encode(queries, normalize=True), depth)[1],
    }
    rankings["hybrid"] = fuse([rankings["BM25"], rankings["dense"]], [0.5, 0.5], _CONSTANT, depth)[1]
    if rerank and isinstance(encoder.model, Encoder):
        again = _by_tokens(encoder, texts, queries, rankings["hybrid"][:, :_AGAIN])
        rankings["hybrid, MaxSim again"] = fuse([rankings["hybrid"], again], [0.5, 0.5], _CONSTANT, depth)[1]
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


def _by_tokens(encoder: SentenceEncoder, texts: Sequence[str], queries: Sequence[str], candidates: Ids) -> Ids:
    """Candidates of each query (q, n) by falling MaxSim of the encoder's own hidden states."""
    length = encoder.max_length
    config = LateInteractionConfig(
        query_prefix=None, document_prefix=None, query_length=length, document_length=length, do_query_expansion=False
    )
    assert isinstance(encoder.model, Encoder)
    tokens = MultiVectorEncoder(encoder.model, encoder.tokenizer, torch.eye(encoder.dim), config)
    wanted = np.unique(candidates[candidates >= 0])
    places = {int(document): row for row, document in enumerate(wanted)}
    vectors = tokens.encode_documents([texts[document] for document in wanted])
    asked = tokens.encode_queries(list(queries))
    ranked = np.full_like(candidates, -1)
    for row, query in enumerate(asked):
        found = candidates[row][candidates[row] >= 0]
        documents = Ragged.from_rows((vectors[places[int(one)]] for one in found), np.float32) if len(found) else None
        if documents is None:
            continue
        scores = maxsim(Ragged(query, np.array([0, len(query)])), documents)[0]
        ranked[row, : len(found)] = found[np.argsort(-scores, kind="stable")]
    return ranked
