"""A small index of each kind, for the tests that hold for all of them: a new kind is one more entry here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seedbed.indexes import (
    BM25Index,
    FlatIndex,
    GraphIndex,
    HNSWIndex,
    Index,
    IVFIndex,
    LSHIndex,
    MultiVectorIndex,
    PQIndex,
    SparseIndex,
)
from seedbed.indexes.loading import INDEXES

COUNT, DIM = 65, 6
_VECTORS = np.random.default_rng(0).normal(size=(COUNT, DIM)).astype(np.float32)
_VECTORS[-5:] = _VECTORS[:5]  # some stand there twice
_TEXTS = [
    f"text {i} is about {word}" for i in range(13) for word in ("csv", "json.dumps", "naïve café", "", "the file")
]
_WEIGHTS = [(np.arange(i % 5) * 3, np.arange(1, i % 5 + 1) / 2) for i in range(COUNT)]  # some have none


@dataclass(frozen=True)
class Example:
    """What a test needs of a kind of index.

    Attributes:
        new: an empty index, trained where its kind needs that.
        items: what can be added, COUNT of them.
        predicted: bytes of an index of `items`; `slack` is how far off, as a share, that may be.
    """

    new: Callable[[], Index]
    items: Sequence[Any]
    predicted: Callable[[], int]
    slack: float = 0.1

    def build(self) -> Index:
        """An index with a history: items under ids 0, 3, 6, ..., and two removed."""
        index = self.new()
        index.add(self.items, np.arange(COUNT) * 3)
        index.remove([0, 9])
        return index

    @property
    def queries(self) -> Sequence[Any]:
        return self.items[5:9]


EXAMPLES = {
    "flat": Example(lambda: FlatIndex(DIM), _VECTORS, lambda: FlatIndex.predict_memory_bytes(COUNT, DIM)),
    "hnsw": Example(
        lambda: HNSWIndex(DIM, m=4, threads=1), _VECTORS, lambda: HNSWIndex.predict_memory_bytes(COUNT, DIM, m=4)
    ),
    "graph": Example(lambda: GraphIndex(DIM, threads=1), _VECTORS, lambda: GraphIndex.predict_memory_bytes(COUNT, DIM)),
    "ivf": Example(
        lambda: IVFIndex(DIM, 3, "pq", "l2", subspaces=2, rerank=True).train(_VECTORS),
        _VECTORS,
        lambda: IVFIndex.predict_memory_bytes(COUNT, DIM, 3, "pq", "l2", subspaces=2, rerank=True),
    ),
    "pq": Example(
        lambda: PQIndex(DIM, 3, 4).train(_VECTORS),
        _VECTORS,
        lambda: PQIndex.predict_memory_bytes(COUNT, DIM, 3, 4),
    ),
    "lsh": Example(
        lambda: LSHIndex(DIM, 3, 5, "l2"), _VECTORS, lambda: LSHIndex.predict_memory_bytes(COUNT, DIM, 3, 5)
    ),
    "bm25": Example(BM25Index, _TEXTS, lambda: BM25Index.predict_memory_bytes(COUNT, 4.6, 25), slack=0.25),
    "sparse": Example(
        lambda: SparseIndex(20), _WEIGHTS, lambda: SparseIndex.predict_memory_bytes(COUNT, 2, 20), slack=0.25
    ),
    "multivector": Example(
        lambda: MultiVectorIndex(DIM, centroids=16, threads=1),
        [_VECTORS[i : i + i % 4 + 1] for i in range(COUNT)],
        lambda: MultiVectorIndex.predict_memory_bytes(COUNT, 2.5, DIM, centroids=16),
        slack=0.25,
    ),
}
KINDS = [index.kind for index in INDEXES]
