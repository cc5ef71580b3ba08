"""What BM25Index and SparseIndex share: documents in postings (native/index/bm25.hpp), their ids and their file."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _native
from ..core.errors import FormatError
from .base import Ids, as_data_error, check_ids
from .storage import Stored

_ARRAYS = {"labels": np.int64, "term_offsets": np.uint64, "documents": np.uint32, "counts": np.uint32}


class Postings:
    """Counting and removing over `_postings`, the native lists; subclasses add, search and save."""

    kind = ""

    def __init__(self, variant: str, k1: float = 0.0, b: float = 0.0, delta: float = 0.0) -> None:
        self._postings = _native.Bm25(variant, k1, b, delta)
        self._highest = -1
        self._changing = threading.Lock()

    def __len__(self) -> int:
        return len(self._postings)

    @property
    def ids(self) -> Ids:
        with self._changing:
            return self._postings.state()["labels"].reshape(-1).copy()

    def remove(self, ids: npt.ArrayLike) -> None:
        """Remove `ids`; every later score is that of an index that never held them.

        Raises:
            DataError: one of them is not there; nothing is removed then.
        """
        with self._changing:
            as_data_error(self._postings.remove, check_ids(ids))

    def memory_bytes(self) -> int:
        return self._postings.memory_bytes()

    def _sections(self) -> dict[str, npt.NDArray[Any]]:
        arrays = self._postings.state()
        return {name: arrays[name] for name in _ARRAYS}

    def _restore(self, stored: Stored) -> None:
        try:
            self._postings.restore(**{name: stored.array(name, dtype) for name, dtype in _ARRAYS.items()})
        except (ValueError, TypeError) as error:
            raise FormatError(f"the postings are damaged ({error})", where=stored.path) from None
        self._highest = stored.setting("highest", int)
