"""The exact index, and so the truth of all others (native/index/flat.hpp).

8-bit codes tell which vectors cannot be among the closest, and the others are compared in float32.
"""

from __future__ import annotations

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


class FlatIndex(VectorIndex):
    """Exact nearest neighbours.

    >>> index = FlatIndex(dim=384, metric="cosine")
    >>> index.add(vectors)
    >>> cosines, ids = index.search(queries, k=10)
    """

    kind = "flat"

    def __init__(self, dim: int, metric: str = "cosine") -> None:
        super().__init__(dim, metric, threads=None)
        self._core = _native.Flat(self.dim, self.metric == "l2")

    def _insert(self, rows: Floats, ids: Ids) -> None:
        self._core.add(rows, ids)

    def search(
        self, queries: npt.ArrayLike, k: int = 10, *, filter: npt.ArrayLike | None = None, threads: int | None = 1
    ) -> Found:
        """The k closest of each of `queries` (q, dim): distances (q, k) and ids (q, k). Ties go to what came first.

        Args:
            filter: ids that may be returned.
            threads: across queries, and across the vectors where queries are few (None: all processors).
        """
        rows = check_vectors(queries, self.dim, self.metric, "queries")
        k = check_size("k", k, 0, 1 << 31)
        return self._core.search(rows, k, check_filter(filter), threads or cpu_count())

    def vectors(self, ids: npt.ArrayLike) -> Floats:
        """The vectors of `ids` (n, dim) (normalised under "cosine").

        Raises:
            DataError: one of them is not there.
        """
        with self._changing:
            rows, labels = self._core.state()
            places = places_of(check_ids(ids), labels.reshape(-1))
            return rows.reshape(-1, padded(self.dim))[places, : self.dim]

    @staticmethod
    def predict_memory_bytes(count: int, dim: int, metric: str = "cosine") -> int:
        """Memory of `count` vectors before building: vectors, ids, codes with their bounds, the table of ids."""
        coded = (count + 15) // 16 * 16
        codes = coded * (padded(dim) + (16 if metric == "l2" else 12))
        return count * (4 * padded(dim) + 8) + codes + id_table_bytes(count)

    def save(self, path: str | Path) -> None:
        with self._changing:  # searches go on
            vectors, ids = self._core.state()
            settings = {"dim": self.dim, "metric": self.metric, "highest": self._highest}
            unpadded = vectors.reshape(len(ids), padded(self.dim))[:, : self.dim]
            write_sections(Path(path), self.kind, settings, {"vectors": unpadded, "ids": ids})

    @classmethod
    def from_stored(cls, stored: Stored) -> Self:
        index = cls(stored.setting("dim", int), stored.setting("metric", str))
        vectors, ids = stored.array("vectors", np.float32), stored.array("ids", np.int64)
        try:
            index._core.restore(vectors, ids)
        except ValueError as error:
            raise FormatError(f"the file is damaged ({error})", where=stored.path) from None
        index._highest = stored.setting("highest", int)
        return index
