"""What our indexes hand over: their items as points.

BM25 becomes sparse vectors whose product with a query's (BM25Index.sparse_queries), weighed by the engine's idf, is our
score. The engine counts for its idf only points that have a sparse vector with an entry; so that N is the number of all
texts, one without terms has an entry that no query asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..core.errors import ConfigError
from .base import Floats, Ids, Index, Metric, VectorIndex
from .bm25 import BM25Index
from .handover import Layout, Point, Space, Sparse
from .hnsw import HNSWIndex

WITHOUT_TERMS = 0xFFFFFFFF  # the index of the entry; numbers of terms stay below it

_AT_ONCE = 4096


class MultiVectors(Protocol):
    """Several vectors an item, compared by MaxSim: a MultiVectorIndex, whose codes are decoded, or another's own."""

    dim: int

    @property
    def ids(self) -> Ids: ...

    def vectors(self, ids: npt.ArrayLike) -> Sequence[Floats]: ...  # of each item (n, dim)


def layout_of(
    dense: Mapping[str, Index],
    sparse: Mapping[str, BM25Index] | None = None,
    many: Mapping[str, MultiVectors] | None = None,
    about: Mapping[str, Any] | None = None,
    *,
    many_metric: Metric = "cosine",
) -> Layout:
    """The layout of a collection for these indexes, under their names there.

    Multi-vectors get no graph: links between single token vectors take much memory, and engines are fastest when they
    rank by MaxSim what dense or sparse vectors have found.

    Raises:
        ConfigError: an index cannot be handed over.
    """
    spaces: dict[str, Space] = {}
    for name, index in dense.items():
        if not isinstance(index, VectorIndex):
            raise ConfigError(
                f"'{name}' is a {type(index).__name__}, which keeps no vectors to hand over",
                hint="Hand over a FlatIndex, HNSWIndex or GraphIndex of them.",
            )
        graph = {"m": index.m, "ef_construction": max(4, index.ef_construction)} if isinstance(index, HNSWIndex) else {}
        spaces[name] = Space(dim=index.dim, metric=index.metric, **graph)
    for name, items in (many or {}).items():
        spaces[name] = Space(dim=items.dim, metric=many_metric, many=True, m=0)
    for name, words in (sparse or {}).items():
        if words.variant != "lucene":
            raise ConfigError(
                f"'{name}' scores by BM25's variant {words.variant}, and Qdrant's idf is that of lucene",
                hint="Build the index with variant lucene.",
            )
    return Layout(spaces=spaces, sparse=tuple(sparse or ()), about=dict(about or {}))


def points_of(
    dense: Mapping[str, VectorIndex],
    sparse: Mapping[str, BM25Index] | None = None,
    many: Mapping[str, MultiVectors] | None = None,
    payload: Callable[[int], Mapping[str, Any]] = lambda id: {},
) -> Iterator[Point]:
    """A point for every id of these indexes, ascending, with what each of them has under it."""
    words = {name: _SparseRows(index) for name, index in (sparse or {}).items()}
    givers: dict[str, VectorIndex | MultiVectors] = {**dense, **(many or {})}
    there = {name: holder.ids for name, holder in [*givers.items(), *words.items()]}
    ids = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *there.values()]))
    for start in range(0, len(ids), _AT_ONCE):
        chunk = ids[start : start + _AT_ONCE]
        points = {id: Point(id, payload=dict(payload(id))) for id in chunk.tolist()}
        for name, giver in givers.items():
            held = np.intersect1d(chunk, there[name])
            for id, vector in zip(held.tolist(), giver.vectors(held), strict=True):
                if len(vector):
                    points[id].vectors[name] = vector
        for name, rows in words.items():
            for id in np.intersect1d(chunk, there[name]).tolist():
                points[id].sparse[name] = rows[id]
        yield from points.values()


class _SparseRows:
    def __init__(self, index: BM25Index) -> None:
        self.ids, self._terms, self._values = index.sparse_vectors()
        self._places = {id: place for place, id in enumerate(self.ids.tolist())}

    def __getitem__(self, id: int) -> Sparse:
        place = self._places[id]
        if not len(self._terms[place]):
            return Sparse(np.array([WITHOUT_TERMS], dtype=np.uint32), np.ones(1, dtype=np.float32))
        return Sparse(self._terms[place], self._values[place])
