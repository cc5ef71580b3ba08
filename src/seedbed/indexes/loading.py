"""Opening an index file, whatever kind of index it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, Self

import numpy as np

from ..core.errors import ConfigError, DataError, FormatError
from .base import Floats, Index
from .bm25 import BM25Index
from .flat import FlatIndex
from .graph import GraphIndex
from .hnsw import HNSWIndex
from .ivf import IVFIndex
from .lsh import LSHIndex
from .multivector import MultiVectorIndex
from .pq import PQIndex
from .sparse import SparseIndex
from .storage import Stored, read_sections


class _Loadable(Index, Protocol):
    kind: str

    @classmethod
    def from_stored(cls, stored: Stored) -> Self: ...


INDEXES: tuple[type[_Loadable], ...] = (
    FlatIndex,
    HNSWIndex,
    GraphIndex,
    IVFIndex,
    PQIndex,
    LSHIndex,
    BM25Index,
    SparseIndex,
    MultiVectorIndex,
)


def load_index(path: str | Path, *, mmap: bool = True) -> Index:
    """Open the index in a file, of whatever kind it is.

    Args:
        mmap: leave the arrays in the file and let the system read them as they are needed.

    Raises:
        FormatError: it is damaged, of another format or from a newer version.
    """
    stored = read_sections(Path(path), mmap=mmap)
    for index in INDEXES:
        if stored.kind == index.kind:
            try:
                return index.from_stored(stored)
            except (ConfigError, DataError) as error:
                raise FormatError(f"its settings cannot be used ({error.message})", where=path) from None
    raise FormatError(f"this holds a '{stored.kind}', which is no index that this version knows", where=path)


def load_vectors(path: str | Path) -> tuple[Floats, str]:
    """The vectors (n, dim) of the index in a file, in no particular order, and its metric. Removed ones are left out;
    under "l2" all may be moved by the same vector.

    Raises:
        FormatError: it is damaged, or keeps no vectors.
    """
    stored = read_sections(Path(path), mmap=True)
    index = load_index(path)
    if isinstance(index, GraphIndex):
        return index.vectors(index.ids), index.metric
    if "vectors" not in stored.arrays or not stored.arrays["vectors"].size:
        raise FormatError(f"this index ({stored.kind}) keeps no vectors", where=path)
    count = stored.arrays["labels" if "labels" in stored.arrays else "ids"].size
    rows = stored.array("vectors", np.float32).reshape(count, -1)[:, : stored.setting("dim", int)]  # may be padded
    if "flags" in stored.arrays:
        rows = rows[stored.array("flags", np.uint8) & 1 == 0]  # the others were removed
    return np.ascontiguousarray(rows), stored.setting("metric", str)
