"""HNSW: approximate nearest neighbours in a hierarchical navigable small-world graph (native/index/hnsw.hpp).

Malkov & Yashunin, arXiv:1603.09320, with their neighbour-selection heuristic (Algorithm 4).
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from .. import _native
from ..core.devices import cpu_count
from ..core.errors import FormatError
from .base import (
    Floats,
    Found,
    Ids,
    as_data_error,
    check_filter,
    check_ids,
    check_metric,
    check_size,
    check_vectors,
    next_ids,
    places_of,
)
from .storage import Stored, write_sections

_ARRAYS = {
    "vectors": np.float32,
    "labels": np.int64,
    "levels": np.uint8,
    "flags": np.uint8,
    "ring": np.uint32,
    "links": np.uint32,
    "upper_start": np.uint32,
    "upper": np.uint32,
}
_REMOVED = 1  # in the flags of a slot


class HNSWIndex:
    """Approximate nearest neighbours, incremental, with deletion and filters.

    Searches may run in many threads, also while another thread adds or removes. With `threads=1` the same vectors
    added in the same order give the same graph, to the bit; several threads keep the recall and lose that.

    Args:
        m: links of a vector on each layer; twice as many on the lowest.
        ef_construction: candidates weighed when a vector is linked in.
        threads: for adding (None: all processors).
        seed: of the layers that vectors are drawn into.
    """

    kind = "hnsw"

    def __init__(
        self,
        dim: int,
        metric: str = "cosine",
        m: int = 16,
        ef_construction: int = 200,
        threads: int | None = None,
        seed: int = 0,
    ) -> None:
        self.dim = check_size("dim", dim, 1, 1 << 20)
        self.metric = check_metric(metric)
        self.m = check_size("m", m, 2, 512)
        self.ef_construction = check_size("ef_construction", ef_construction, 1, 1 << 20)
        self.seed = check_size("seed", seed, 0, (1 << 63) - 1)
        self.threads = check_size("threads", threads, 1, 256) if threads is not None else None
        self._graph = _native.Hnsw(self.dim, self.metric == "l2", self.m, self.ef_construction, self.seed)
        self._highest = -1
        self._changing = threading.Lock()

    def __len__(self) -> int:
        return len(self._graph)

    @property
    def ids(self) -> Ids:
        return self._graph.ids().reshape(-1)

    def add(self, items: npt.ArrayLike, ids: npt.ArrayLike | None = None) -> None:
        """Add `items` (n, dim) under `ids`, or under the next free numbers.

        Raises:
            DataError: the vectors or the ids cannot be used; nothing is added then.
        """
        rows = check_vectors(items, self.dim, self.metric)
        with self._changing:
            listed = next_ids(self._highest, len(rows)) if ids is None else check_ids(ids, len(rows))
            as_data_error(self._graph.add, rows, listed, self.threads or cpu_count())
            self._highest = max(self._highest, int(listed.max(initial=-1)))

    def remove(self, ids: npt.ArrayLike) -> None:
        """Remove `ids`. The graph around them is mended, so that recall does not fade with deletions.

        Raises:
            DataError: one of them is not there; nothing is removed then.
        """
        with self._changing:
            as_data_error(self._graph.remove, check_ids(ids))

    def search(
        self,
        queries: npt.ArrayLike,
        k: int = 10,
        *,
        ef: int = 64,
        filter: npt.ArrayLike | None = None,
        threads: int | None = 1,
    ) -> Found:
        """The k closest found for each of `queries` (q, dim): distances (q, k) and ids (q, k).

        Args:
            ef: candidates kept while walking (at least k): recall against time.
            filter: ids that may be returned; where they are few, the answer is exact.
            threads: across queries (None: all processors).
        """
        rows = check_vectors(queries, self.dim, self.metric, "queries")
        k, ef = check_size("k", k, 0, 1 << 31), check_size("ef", ef, 1, 1 << 31)
        return self._graph.search(rows, k, ef, check_filter(filter), threads or cpu_count())

    def vectors(self, ids: npt.ArrayLike) -> Floats:
        """The vectors of `ids` (n, dim) (normalised under "cosine").

        Raises:
            DataError: one of them is not there.
        """
        with self._changing:
            arrays, _, _ = self._graph.state()
            live = np.flatnonzero((arrays["flags"].reshape(-1) & _REMOVED) == 0)
            places = live[places_of(check_ids(ids), arrays["labels"].reshape(-1)[live])]
            return arrays["vectors"].reshape(-1, _padded(self.dim))[places, : self.dim]

    def memory_bytes(self) -> int:
        return self._graph.memory_bytes()

    @staticmethod
    def predict_memory_bytes(count: int, dim: int, m: int = 16) -> int:
        """Memory of `count` vectors before building: vectors, ids, links, and the table from ids to slots.

        A vector reaches 1 / (m - 1) layers above the lowest on average.
        """
        table = 16
        while table * 6 < count * 10:
            table *= 2
        return count * (4 * _padded(dim) + 8 * m + 18) + round(count * 4 * m / (m - 1)) + 4 * table

    def save(self, path: str | Path) -> None:
        with self._changing:  # searches go on
            arrays, entry, drawn = self._graph.state()
            settings = {
                "dim": self.dim,
                "metric": self.metric,
                "m": self.m,
                "ef_construction": self.ef_construction,
                "seed": self.seed,
                "entry": entry,
                "drawn": drawn,
                "highest": self._highest,
            }
            write_sections(Path(path), self.kind, settings, {name: arrays[name] for name in _ARRAYS})

    @classmethod
    def from_stored(cls, stored: Stored) -> Self:
        sizes = {name: stored.setting(name, int) for name in ("dim", "m", "ef_construction", "seed")}
        index = cls(metric=stored.setting("metric", str), **sizes)
        arrays = {name: stored.array(name, dtype) for name, dtype in _ARRAYS.items()}
        try:
            index._graph.restore(**arrays, entry=stored.setting("entry", int), drawn=stored.setting("drawn", int))
        except (ValueError, TypeError) as error:
            raise FormatError(f"the graph is damaged ({error})", where=stored.path) from None
        index._highest = stored.setting("highest", int)
        return index


def _padded(dim: int) -> int:
    return (dim + 15) // 16 * 16
