"""Opening an index file, whatever kind of index it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, Self

from ..core.errors import ConfigError, DataError, FormatError
from .base import Index
from .bm25 import BM25Index
from .flat import FlatIndex
from .graph import GraphIndex
from .hnsw import HNSWIndex
from .ivf import IVFIndex
from .lsh import LSHIndex
from .multivector import MultiVectorIndex
from .pq import PQIndex
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
