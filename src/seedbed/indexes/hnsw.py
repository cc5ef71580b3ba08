"""HNSW: approximate nearest neighbours in a hierarchical navigable small-world graph (native/index/hnsw.hpp).

Malkov & Yashunin, arXiv:1603.09320, with their neighbour-selection heuristic (Algorithm 4).
"""

from __future__ import annotations

from dataclasses import dataclass
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
    check_filter,
    check_ids,
    check_size,
    check_vectors,
    places_of,
)
from .storage import Stored, write_sections
from .vector_index import VectorIndex, id_table_bytes, padded

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


@dataclass(frozen=True)
class Trace:
    """The vectors that a search looked at, in order; one comes once for each level of the graph.

    ids: int64 (n,). origins: int64 (n,), the vector whose links led there, -1 for the entry point.
    levels: int64 (n,), from the top down to 0. distances: float32 (n,), as `search` gives them.
    """

    ids: Ids
    origins: Ids
    levels: Ids
    distances: Floats


class HNSWIndex(VectorIndex):
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
        super().__init__(dim, metric, threads)
        self.m = check_size("m", m, 2, 512)
        self.ef_construction = check_size("ef_construction", ef_construction, 1, 1 << 20)
        self.seed = check_size("seed", seed, 0, (1 << 63) - 1)
        self._core = _native.Hnsw(self.dim, self.metric == "l2", self.m, self.ef_construction, self.seed)

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
        return self._core.search(rows, k, ef, check_filter(filter), threads or cpu_count())

    def trace(self, query: npt.ArrayLike, *, ef: int = 64) -> Trace:
        """What `search` looks at for one query (dim,), step by step."""
        row = check_vectors(np.asarray(query)[None], self.dim, self.metric, "query")[0]
        places, distances = self._core.trace(row, check_size("ef", ef, 1, 1 << 31))
        return Trace(places[:, 0], places[:, 1], places[:, 2], distances.reshape(-1))

    def vectors(self, ids: npt.ArrayLike) -> Floats:
        """The vectors of `ids` (n, dim) (normalised under "cosine").

        Raises:
            DataError: one of them is not there.
        """
        with self._changing:
            arrays, _, _ = self._core.state()
            live = np.flatnonzero((arrays["flags"].reshape(-1) & _REMOVED) == 0)
            places = live[places_of(check_ids(ids), arrays["labels"].reshape(-1)[live])]
            return arrays["vectors"].reshape(-1, padded(self.dim))[places, : self.dim]

    @staticmethod
    def predict_memory_bytes(count: int, dim: int, m: int = 16) -> int:
        """Memory of `count` vectors before building: vectors, ids, links, and the table from ids to slots.

        A vector reaches 1 / (m - 1) layers above the lowest on average.
        """
        return count * (4 * padded(dim) + 8 * m + 18) + round(count * 4 * m / (m - 1)) + id_table_bytes(count)

    def save(self, path: str | Path) -> None:
        with self._changing:  # searches go on
            arrays, entry, drawn = self._core.state()
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
            index._core.restore(**arrays, entry=stored.setting("entry", int), drawn=stored.setting("drawn", int))
        except (ValueError, TypeError) as error:
            raise FormatError(f"the graph is damaged ({error})", where=stored.path) from None
        index._highest = stored.setting("highest", int)
        return index
