"""Opening an index file, whatever kind of index it holds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..core.errors import FormatError
from .base import Index
from .bm25 import BM25Index
from .flat import FlatIndex
from .hnsw import HNSWIndex
from .storage import read_sections


def load_index(path: str | Path, *, mmap: bool = True) -> Index:
    """Open the index in a file, of whatever kind it is.

    Args:
        mmap: leave the arrays in the file and let the system read them as they are needed.

    Raises:
        FormatError: it is damaged, of another format or from a newer version.
    """
    kinds: Iterable[type[FlatIndex] | type[HNSWIndex] | type[BM25Index]] = (FlatIndex, HNSWIndex, BM25Index)
    stored = read_sections(Path(path), mmap=mmap)
    for cls in kinds:
        if stored.kind == cls.kind:
            return cls.from_stored(stored)
    raise FormatError(f"this holds a '{stored.kind}', which is no index that this version knows", where=path)
