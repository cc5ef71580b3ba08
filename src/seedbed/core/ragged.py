"""Rows of unequal length in two flat arrays: no Python object per row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ragged(Sequence[np.ndarray]):
    """`values` (N, ...) cut into rows by `offsets` (rows + 1,) int64; row i is `values[offsets[i]:offsets[i+1]]`.

    Iterating or indexing gives views. Unpacks as `values, offsets = ragged.pair()`.
    """

    values: np.ndarray
    offsets: np.ndarray

    @property
    def ids(self) -> np.ndarray:
        """The flat values, under the name that token batches use."""
        return self.values

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    def pair(self) -> tuple[np.ndarray, np.ndarray]:
        return self.values, self.offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row):  # type: ignore[no-untyped-def]
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        if row < 0:
            row += len(self)
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))

    @classmethod
    def from_rows(cls, rows: Iterable[np.ndarray], dtype: np.typing.DTypeLike = np.uint32) -> Ragged:
        listed = [np.asarray(row, dtype=dtype) for row in rows]
        offsets = np.zeros(len(listed) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in listed], out=offsets[1:])
        return cls(np.concatenate(listed) if listed else np.zeros(0, dtype=dtype), offsets)
