"""Rows in the order of random keys, in bounded memory: dealt to buckets on disk by their keys, and each bucket sorted.

A key depends on a document's text and the seed alone, so the order is the same whatever order the documents came in
(of equal texts the first stays first).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from .storage import PartWriter, part_files, read_tables

if TYPE_CHECKING:
    import pyarrow as pa

_BUCKET_CHARACTERS = 64 << 20
_MOST_BUCKETS = 256
_HELD_CHARACTERS = 1 << 20  # of each bucket, before they are written
_ROWS = 1_000


def shuffle_keys(draws: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Keys that have nothing to do with how the splits were drawn (the finaliser of SplitMix64)."""
    keys = draws + np.uint64(0x9E3779B97F4A7C15)
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


class ShuffledWriter:
    """Takes rows in any order and gives them to `target` by rising keys when it is left.

    Args:
        scratch: a folder for the buckets, which is made.
        characters: how much text there will be.
    """

    def __init__(self, target: PartWriter, scratch: Path, columns: Sequence[str], characters: int) -> None:
        self._target, self._scratch, self._columns = target, scratch, tuple(columns)
        self._bits = min(max(characters // _BUCKET_CHARACTERS, 1), _MOST_BUCKETS - 1).bit_length()
        self._writers = [
            PartWriter(scratch / str(number), ("key", *columns), "lz4", _HELD_CHARACTERS)
            for number in range(1 << self._bits)
        ]

    def add_table(self, table: pa.Table, draws: NDArray[np.uint64]) -> None:
        import pyarrow as pa

        keys = shuffle_keys(draws)
        table = table.append_column("key", pa.array([f"{key:016x}" for key in keys.tolist()], pa.string()))
        buckets = keys >> np.uint64(64 - self._bits)
        for bucket in np.unique(buckets).tolist():
            self._writers[bucket].add_table(table.filter(buckets == bucket))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        for writer in self._writers:
            writer.__exit__(kind, error, trace)
        if kind is not None:
            return
        for number in range(len(self._writers)):
            tables = list(read_tables(part_files(self._scratch / str(number))))
            if not tables:
                continue
            bucket = pa.concat_tables(tables)
            order = pc.sort_indices(bucket["key"])  # stable
            for start in range(0, len(order), _ROWS):
                self._target.add_table(bucket.take(order.slice(start, _ROWS)).select(self._columns))
