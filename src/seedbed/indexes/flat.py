"""The exact index, and so the truth of all others (native/index/flat.hpp).

8-bit codes tell which vectors cannot be among the closest, and the others are compared in float32.
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
        self._rows = _native.Flat(self.dim, self.metric == "l2")
        self._highest = -1
        self._changing = threading.Lock()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def ids(self) -> Ids:
        return self._rows.ids().reshape(-1)

    def add(self, items: npt.ArrayLike, ids: npt.ArrayLike | None = None) -> None:
        """Add `items` (n, dim) under `ids`, or under the next free numbers.

        Raises:
            DataError: the vectors or the ids cannot be used; nothing is added then.
        """
        rows = check_vectors(items, self.dim, self.metric)
        with self._changing:
            listed = next_ids(self._highest, len(rows)) if ids is None else check_ids(ids, len(rows))
            as_data_error(self._rows.add, rows, listed)
            self._highest = max(self._highest, int(listed.max(initial=-1)))

    def remove(self, ids: npt.ArrayLike) -> None:
        """Remove `ids`.

        Raises:
            DataError: one of them is not there; nothing is removed then.
        """
        with self._changing:
            as_data_error(self._rows.remove, check_ids(ids))

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
        return self._rows.search(rows, k, check_filter(filter), threads or cpu_count())

    def vectors(self, ids: npt.ArrayLike) -> Floats:
        """The vectors of `ids` (n, dim) (normalised under "cosine").

        Raises:
            DataError: one of them is not there.
        """
        with self._changing:
            rows, labels = self._rows.state()
            places = places_of(check_ids(ids), labels.reshape(-1))
            return rows.reshape(-1, (self.dim + 15) // 16 * 16)[places, : self.dim]

    def memory_bytes(self) -> int:
        return self._rows.memory_bytes()

    @staticmethod
    def predict_memory_bytes(count: int, dim: int, metric: str = "cosine") -> int:
        """Memory of `count` vectors before building: vectors, ids, codes with their bounds, the table of ids."""
        padded, coded = (dim + 15) // 16 * 16, (count + 15) // 16 * 16
        table = 16
        while table * 6 < count * 10:
            table *= 2
        return count * (4 * padded + 8) + coded * (padded + (16 if metric == "l2" else 12)) + 4 * table

    def save(self, path: str | Path) -> None:
        with self._changing:  # searches go on
            vectors, ids = self._rows.state()
            settings = {"dim": self.dim, "metric": self.metric, "highest": self._highest}
            unpadded = vectors.reshape(len(ids), (self.dim + 15) // 16 * 16)[:, : self.dim]
            write_sections(Path(path), self.kind, settings, {"vectors": unpadded, "ids": ids})

    @classmethod
    def from_stored(cls, stored: Stored) -> Self:
        index = cls(stored.setting("dim", int), stored.setting("metric", str))
        vectors, ids = stored.array("vectors", np.float32), stored.array("ids", np.int64)
        try:
            index._rows.restore(vectors, ids)
        except ValueError as error:
            raise FormatError(f"the file is damaged ({error})", where=stored.path) from None
        index._highest = stored.setting("highest", int)
        return index
