"""What all indexes over native sets of vectors share: ids given out, changes one at a time, what is counted."""

from __future__ import annotations

import threading
from typing import Any

import numpy.typing as npt

from ..core.devices import cpu_count
from .base import Floats, Ids, as_data_error, check_ids, check_metric, check_size, check_vectors, next_ids


class VectorIndex:
    """Adding, removing and counting over `_core`, the native set; subclasses search and save it."""

    kind = ""

    def __init__(self, dim: int, metric: str, threads: int | None, largest_dim: int = 1 << 20) -> None:
        self.dim = check_size("dim", dim, 1, largest_dim)
        self.metric = check_metric(metric)
        self.threads = check_size("threads", threads, 1, 256) if threads is not None else None
        self._core: Any = None
        self._highest = -1
        self._changing = threading.Lock()

    def __len__(self) -> int:
        return len(self._core)

    @property
    def ids(self) -> Ids:
        return self._core.ids().reshape(-1)

    def add(self, items: npt.ArrayLike, ids: npt.ArrayLike | None = None) -> None:
        """Add `items` (n, dim) under `ids`, or under the next free numbers.

        Raises:
            ConfigError: the index needs training first.
            DataError: the vectors or the ids cannot be used; nothing is added then.
        """
        rows = check_vectors(items, self.dim, self.metric)
        self._check_ready()
        with self._changing:
            listed = next_ids(self._highest, len(rows)) if ids is None else check_ids(ids, len(rows))
            as_data_error(self._insert, rows, listed)
            self._highest = max(self._highest, int(listed.max(initial=-1)))

    def remove(self, ids: npt.ArrayLike) -> None:
        """Remove `ids`. Graphs are mended around them, so that recall does not fade with deletions.

        Raises:
            DataError: one of them is not there; nothing is removed then.
        """
        with self._changing:
            as_data_error(self._core.remove, check_ids(ids))

    def memory_bytes(self) -> int:
        return self._core.memory_bytes()

    def _insert(self, rows: Floats, ids: Ids) -> None:
        self._core.add(rows, ids, self.threads or cpu_count())

    def _check_ready(self) -> None:
        """Raise a ConfigError if nothing can be added or searched yet."""


def padded(dim: int) -> int:
    """Numbers that a vector takes in native code."""
    return (dim + 15) // 16 * 16


def id_table_bytes(count: int) -> int:
    """Bytes of the native table from `count` ids to places (LabelMap of native/index/storage.hpp)."""
    slots = 16
    while slots * 6 < count * 10:
        slots *= 2
    return 4 * slots
