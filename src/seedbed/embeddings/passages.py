"""The passages of a search index under their numbers: a Parquet file of which only what is asked for is read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ..core.errors import DataError, FormatError
from ..indexes.base import Ids
from .chunking import Passage

FIELDS = tuple(Passage.__dataclass_fields__)
_NUMBER = "number"
NEEDED = ("id", "document", "title", "source", "text")  # the others came later and may be missing
_GROUP_ROWS = 1000
_KEPT_BYTES = 256 << 20  # of row groups, as they lie in memory


class Passages:
    """Passages by number. Iterating goes through them in the order of their numbers.

    Args:
        rows: passages.
        numbers: of each, rising; None for 0, 1, 2, ...
    """

    def __init__(self, rows: Sequence[Passage], numbers: Ids | None = None) -> None:
        self._rows = rows
        self.numbers: Ids = np.arange(len(rows), dtype=np.int64) if numbers is None else numbers
        if len(self.numbers) != len(rows) or (np.diff(self.numbers) <= 0).any():
            raise DataError("passages need distinct numbers that rise")

    @classmethod
    def open(cls, path: Path) -> Self:
        """The passages in a file of `write_passages`.

        Raises:
            FormatError: it cannot be read.
        """
        rows = _StoredRows(path)
        try:
            return cls(rows, rows.numbers())
        except DataError as error:
            raise FormatError(error.message, where=path) from None

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Passage]:
        return iter(self._rows)

    def __getitem__(self, number: int) -> Passage:
        row = int(np.searchsorted(self.numbers, number))
        if row == len(self.numbers) or self.numbers[row] != number:
            raise KeyError(number)
        return self._rows[row]

    def column(self, name: str) -> tuple[npt.NDArray[np.int64], list[str]]:
        """One of FIELDS: its distinct values, and for each passage which of them it has."""
        if isinstance(self._rows, _StoredRows):
            return self._rows.column(name)
        known: dict[str, int] = {}
        codes = [known.setdefault(getattr(passage, name), len(known)) for passage in self._rows]
        return np.array(codes, dtype=np.int64), list(known)


class _StoredRows(Sequence[Passage]):
    """Rows of a Parquet file, read a row group at a time."""

    def __init__(self, path: Path) -> None:
        import pyarrow as arrow
        import pyarrow.parquet as parquet

        self._path = path
        try:
            self._file = parquet.ParquetFile(path, memory_map=True)
        except (arrow.ArrowException, OSError) as error:
            raise FormatError(f"cannot be read ({error})", where=path) from None
        about = self._file.metadata
        self._names = [name for name in self._file.schema_arrow.names if name in FIELDS]
        if missing := [name for name in NEEDED if name not in self._names]:
            raise FormatError(f"these are no passages ({', '.join(missing)} is missing)", where=path)
        self._starts = np.cumsum([0, *(about.row_group(group).num_rows for group in range(about.num_row_groups))])
        self._groups: OrderedDict[int, Any] = OrderedDict()  # tables, the one asked for last at the end
        self._bytes = 0
        self._reading = threading.Lock()

    def numbers(self) -> Ids | None:
        if _NUMBER not in self._file.schema_arrow.names:
            return None
        return np.asarray(self._read([_NUMBER]).column(0).to_numpy(), dtype=np.int64)

    def column(self, name: str) -> tuple[npt.NDArray[np.int64], list[str]]:
        if name not in self._names:
            return np.zeros(len(self), dtype=np.int64), [""]
        encoded = self._read([name]).column(0).combine_chunks().dictionary_encode()
        values = ["" if value is None else str(value) for value in encoded.dictionary.to_pylist()]
        return np.asarray(encoded.indices.fill_null(0).to_numpy(), dtype=np.int64), values or [""]

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[place] for place in range(*row.indices(len(self)))]
        if not 0 <= row < len(self):
            raise IndexError(row)
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        return _passages(self._group(group).slice(row - int(self._starts[group]), 1))[0]

    def __iter__(self) -> Iterator[Passage]:
        for group in range(len(self._starts) - 1):
            yield from _passages(self._group(group))

    def _group(self, group: int) -> Any:
        """A row group's table, kept for as long as there is room."""
        with self._reading:
            if (found := self._groups.get(group)) is not None:
                self._groups.move_to_end(group)
                return found
        found = self._read(self._names, group)
        with self._reading:
            if group not in self._groups:
                self._groups[group] = found
                self._bytes += found.nbytes
            while self._bytes > _KEPT_BYTES and len(self._groups) > 1:
                self._bytes -= self._groups.popitem(last=False)[1].nbytes
        return found

    def _read(self, names: Sequence[str], group: int | None = None) -> Any:
        import pyarrow as arrow

        try:
            with self._reading:  # one reader at a time is all that a file promises
                return self._file.read(names) if group is None else self._file.read_row_group(group, names)
        except (arrow.ArrowException, OSError) as error:
            raise FormatError(f"cannot be read ({error})", where=self._path) from None


def _passages(table: Any) -> list[Passage]:
    columns = table.to_pydict()
    return [Passage(**dict(zip(columns, map(_text, row), strict=True))) for row in zip(*columns.values(), strict=True)]


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def write_passages(path: Path, passages: Sequence[Passage], numbers: Ids | None = None) -> None:
    """Write passages, in the order of their numbers (None: 0, 1, 2, ...)."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    columns: dict[str, Any] = {name: [getattr(one, name) for one in passages] for name in FIELDS}
    fields = [(name, arrow.string()) for name in FIELDS]
    if numbers is not None:
        columns[_NUMBER] = numbers
        fields.append((_NUMBER, arrow.int64()))
    table = arrow.table(columns, schema=arrow.schema(fields))
    parquet.write_table(table, path, compression="zstd", row_group_size=_GROUP_ROWS)
