"""Documents on disk: Parquet with zstd in parts, written as a stream and with the same bytes for the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .filters import SCORE_NAMES

if TYPE_CHECKING:
    import pyarrow as pa

SCORE_COLUMNS = ("id", *SCORE_NAMES)
CORPUS_COLUMNS = ("id", "text", "title", "source", "language", "metadata")
REJECTED_COLUMNS = ("id", "source", "text", "rule", "detail", "value", "threshold", "title", "metadata")
CLUSTER_COLUMNS = ("id", "keeper", "similarity", "characters")
_NUMBERS = {"value", "threshold", "similarity", "characters", *SCORE_NAMES}
_GROUP_ROWS = 2_000
_GROUP_CHARACTERS = 8 << 20
_PART_CHARACTERS = 256 << 20


def schema_of(columns: Sequence[str]) -> pa.Schema:
    import pyarrow as pa

    return pa.schema([(name, pa.float64() if name in _NUMBERS else pa.string()) for name in columns])


class PartWriter:
    """Writes rows to `folder/part-00000.parquet` and so on. An empty table is one part without rows."""

    def __init__(self, folder: Path, columns: Sequence[str]) -> None:
        self._folder, self._columns = folder, tuple(columns)
        self._rows: list[Mapping[str, Any]] = []
        self._group_characters = self._part_characters = self._parts = 0
        self._writer: Any = None
        folder.mkdir(parents=True)

    def add(self, row: Mapping[str, Any]) -> None:
        self._rows.append(row)
        self._group_characters += len(row.get("text", ""))
        if len(self._rows) >= _GROUP_ROWS or self._group_characters >= _GROUP_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = schema_of(self._columns)
        if self._writer is None:
            path = self._folder / f"part-{self._parts:05d}.parquet"
            self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        if self._rows:
            columns = [[row[name] for row in self._rows] for name in self._columns]
            arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
        self._part_characters += self._group_characters
        self._rows, self._group_characters = [], 0
        if self._part_characters >= _PART_CHARACTERS:
            self._close_part()

    def _close_part(self) -> None:
        self._writer.close()
        self._writer, self._part_characters = None, 0
        self._parts += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and (self._rows or (self._writer is None and self._parts == 0)):
            self._flush()
        if self._writer is not None:
            self._close_part()


def part_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def read_rows(folder: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Rows in the order in which they were written, one row group in memory at a time."""
    import pyarrow.parquet as pq

    for path in part_files(folder):
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                yield from file.read_row_group(group, columns=columns, use_threads=False).to_pylist()
