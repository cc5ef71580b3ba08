"""Documents on disk: Parquet with zstd in parts, written as a stream and with the same bytes for the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .filters import SCORE_NAMES

if TYPE_CHECKING:
    import pyarrow as pa

SCORE_COLUMNS = ("id", "language", *SCORE_NAMES)
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
    """Writes rows to `folder/part-00000.parquet` and so on. An empty table is one part without rows.

    Args:
        compression: "zstd", or "lz4" for what is soon read again and removed.
        held_characters: text that is held in memory before it is written; None is the usual.
    """

    def __init__(
        self, folder: Path, columns: Sequence[str], compression: str = "zstd", held_characters: int | None = None
    ) -> None:
        self._folder, self._columns, self._compression = folder, tuple(columns), compression
        self._held_characters = held_characters or _GROUP_CHARACTERS
        self._rows: list[Mapping[str, Any]] = []
        self._tables: list[pa.Table] = []
        self._group_rows = self._group_characters = self._part_characters = self._parts = 0
        self._writer: Any = None
        folder.mkdir(parents=True)

    def add(self, row: Mapping[str, Any]) -> None:
        self._rows.append(row)
        self._count(1, len(row.get("text", "")))

    def add_table(self, table: pa.Table) -> None:
        """Add the rows of a table that has the columns, among others; it is not cut."""
        import pyarrow.compute as pc

        if table.num_rows:
            self._gather_rows()
            self._tables.append(table.select(self._columns))
            has_text = "text" in self._columns
            self._count(table.num_rows, (pc.sum(pc.utf8_length(table["text"])).as_py() or 0) if has_text else 0)

    def _count(self, rows: int, characters: int) -> None:
        self._group_rows += rows
        self._group_characters += characters
        if self._group_rows >= _GROUP_ROWS or self._group_characters >= self._held_characters:
            self._flush()

    def _gather_rows(self) -> None:
        import pyarrow as pa

        if self._rows:
            schema = schema_of(self._columns)
            columns = [[row[name] for row in self._rows] for name in self._columns]
            arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
            self._tables.append(pa.Table.from_arrays(arrays, schema=schema))
            self._rows = []

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._gather_rows()
        schema = schema_of(self._columns)
        if self._writer is None:
            path = self._folder / f"part-{self._parts:05d}.parquet"
            self._writer = pq.ParquetWriter(path, schema, compression=self._compression)
        if self._tables:
            self._writer.write_table(pa.concat_tables(self._tables).combine_chunks())
        self._part_characters += self._group_characters
        self._tables, self._group_rows, self._group_characters = [], 0, 0
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
        if kind is None and (self._group_rows or (self._writer is None and self._parts == 0)):
            self._flush()
        if self._writer is not None:
            self._close_part()


def part_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def read_rows(folder: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Rows in the order in which they were written, one row group in memory at a time."""
    for table in read_tables(part_files(folder), columns):
        yield from table.to_pylist()


def read_tables(files: Sequence[Path], columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The row groups of Parquet files, in order."""
    import pyarrow.parquet as pq

    for path in files:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, columns=columns, use_threads=False)
