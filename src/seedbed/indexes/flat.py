"""The exact index: every query against every vector, by blocked matrix products. The truth of all other indexes."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from ..core.errors import DataError, FormatError
from .base import (
    Floats,
    Found,
    Ids,
    check_filter,
    check_ids,
    check_metric,
    check_size,
    check_vectors,
    next_ids,
    no_results,
)
from .storage import Stored, write_sections

_QUERIES, _ROWS = 128, 8192  # a block of scores stays in the cache


class FlatIndex:
    """Exact nearest neighbours.

    >>> index = FlatIndex(dim=384, metric="cosine")
    >>> index.add(vectors)
    >>> cosines, ids = index.search(queries, k=10)
    """

    kind = "flat"

    def __init__(self, dim: int, metric: str = "cosine") -> None:
        self.dim = check_size("dim", dim, 1, 1 << 20)
        self.metric = check_metric(metric)
        self._vectors: Floats = np.zeros((0, self.dim), dtype=np.float32)
        self._ids: Ids = np.zeros(0, dtype=np.int64)
        self._highest = -1

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> Ids:
        return self._ids

    def add(self, items: npt.ArrayLike, ids: npt.ArrayLike | None = None) -> None:
        """Add `items` (n, dim) under `ids`, or under the next free numbers.

        Raises:
            DataError: the vectors or the ids cannot be used; nothing is added then.
        """
        rows = check_vectors(items, self.dim, self.metric)
        listed = next_ids(self._highest, len(rows)) if ids is None else check_ids(ids, len(rows))
        known = np.isin(listed, self._ids)
        if known.any():
            raise DataError(f"id {int(listed[np.argmax(known)])} is in the index already")
        # Searches under way keep the arrays that they began with.
        self._vectors = np.concatenate([self._vectors, rows])
        self._ids = np.concatenate([self._ids, listed])
        self._highest = max(self._highest, int(listed.max(initial=-1)))

    def remove(self, ids: npt.ArrayLike) -> None:
        """Remove `ids`.

        Raises:
            DataError: one of them is not there; nothing is removed then.
        """
        listed = check_ids(ids)
        missing = ~np.isin(listed, self._ids)
        if missing.any():
            raise DataError(f"id {int(listed[np.argmax(missing)])} is not in the index")
        kept = ~np.isin(self._ids, listed)
        self._vectors, self._ids = self._vectors[kept], self._ids[kept]

    def search(
        self, queries: npt.ArrayLike, k: int = 10, *, filter: npt.ArrayLike | None = None, threads: int | None = None
    ) -> Found:
        """The k closest of each of `queries` (q, dim): distances (q, k) and ids (q, k). Ties go to what came first.

        Args:
            filter: ids that may be returned.
            threads: accepted for the protocol; the matrix products use the threads that NumPy's BLAS was given.
        """
        rows = check_vectors(queries, self.dim, self.metric, "queries")
        k = check_size("k", k, 0, 1 << 31)
        vectors, ids = self._vectors, self._ids
        allowed = check_filter(filter)
        if allowed is not None:
            mask = np.isin(ids, allowed)
            vectors, ids = vectors[mask], ids[mask]
        distances, found = no_results(self.metric, len(rows), k)
        width = min(k, len(ids))
        if width == 0:
            return distances, found
        for start in range(0, len(rows), _QUERIES):
            block = slice(start, start + _QUERIES)
            scores, places = self._closest(rows[block], vectors, width)
            distances[block, :width] = scores
            found[block, :width] = ids[places]
        return distances, found

    def _closest(self, queries: Floats, vectors: Floats, k: int) -> tuple[Floats, npt.NDArray[np.intp]]:
        best_scores = np.zeros((len(queries), 0), dtype=np.float32)
        best_places = np.zeros((len(queries), 0), dtype=np.intp)
        for start in range(0, len(vectors), _ROWS):
            block = vectors[start : start + _ROWS]
            scores = queries @ block.T
            if self.metric == "l2":  # ranks as the distance does; the distance itself is taken exactly below
                scores = 2 * scores - np.einsum("ij,ij->i", block, block)
            # Products round differently in blocks of different shape: a few more than k are ranked again exactly.
            spare = min(k + 8, scores.shape[1])
            places = np.argpartition(-scores, spare - 1, axis=1)[:, :spare] if spare < scores.shape[1] else None
            if places is None:
                places = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
            exact = self._exact(queries, block, places)
            joined_scores = np.concatenate([best_scores, exact], axis=1)
            joined_places = np.concatenate([best_places, places + start], axis=1)
            order = np.lexsort((joined_places, joined_scores if self.metric == "l2" else -joined_scores), axis=1)
            order = order[:, :k]
            best_scores = np.take_along_axis(joined_scores, order, axis=1)
            best_places = np.take_along_axis(joined_places, order, axis=1)
        return best_scores, best_places

    def _exact(self, queries: Floats, block: Floats, places: npt.NDArray[np.intp]) -> Floats:
        out = np.empty(places.shape, dtype=np.float32)
        for i, row in enumerate(places):
            chosen = block[row]
            if self.metric == "l2":
                chosen = chosen - queries[i]
                out[i] = np.einsum("ij,ij->i", chosen, chosen)
            else:
                out[i] = np.einsum("ij,j->i", chosen, queries[i])
        return out

    def memory_bytes(self) -> int:
        return self._vectors.nbytes + self._ids.nbytes

    @staticmethod
    def predict_memory_bytes(count: int, dim: int) -> int:
        """Memory of `count` vectors before building."""
        return count * (4 * dim + 8)

    def save(self, path: str | Path) -> None:
        settings = {"dim": self.dim, "metric": self.metric, "highest": self._highest}
        write_sections(Path(path), self.kind, settings, {"vectors": self._vectors, "ids": self._ids})

    @classmethod
    def from_stored(cls, stored: Stored) -> Self:
        index = cls(stored.setting("dim", int), stored.setting("metric", str))
        vectors, ids = stored.array("vectors", np.float32), stored.array("ids", np.int64)
        if len(vectors) != len(ids) * index.dim:
            raise FormatError("the vectors and the ids do not belong together", where=stored.path)
        index._vectors, index._ids = vectors.reshape(len(ids), index.dim), ids
        index._highest = stored.setting("highest", int)
        return index
