"""Documents that stay so far, in order, in a folder."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import _native
from .config import CurationConfig
from .dedup import Names, text_digest
from .normalize import normalize
from .splits import draw
from .storage import CORPUS_COLUMNS, REJECTED_COLUMNS, PartWriter, part_files, read_rows, read_tables, schema_of

if TYPE_CHECKING:
    import pyarrow as pa


class Spool:
    """Documents as rows of CORPUS_COLUMNS in a folder; their draws for the splits and their lengths in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._draws, self._lengths = array("Q"), array("I")

    def __len__(self) -> int:
        return len(self._draws)

    @property
    def draws(self) -> NDArray[np.uint64]:
        return np.frombuffer(self._draws, np.uint64)

    @property
    def lengths(self) -> NDArray[np.uint32]:
        """In characters."""
        return np.frombuffer(self._lengths, np.uint32)

    def add(self, writer: PartWriter, rows: pa.Table, draws: NDArray[np.uint64]) -> None:
        import pyarrow.compute as pc

        writer.add_table(rows)
        self._draws.frombytes(draws.astype(np.uint64).tobytes())
        self._lengths.frombytes(pc.utf8_length(rows["text"]).to_numpy().astype(np.uint32).tobytes())

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        return read_tables(part_files(self.folder), columns)

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        return read_rows(self.folder, columns)

    def names(self) -> Names:
        """The documents' ids by number."""
        names = Names(self.folder / "names")
        for table in self.tables(["id"]):
            names.extend(table["id"].to_pylist())
        return names


def rejected_rows(
    rows: pa.Table,
    rule: str,
    details: Sequence[str],
    values: Sequence[float | None],
    thresholds: Sequence[float | None],
) -> pa.Table:
    """Rows of REJECTED_COLUMNS for documents of a spool that a rule refuses."""
    import pyarrow as pa

    new = {"rule": [rule] * rows.num_rows, "detail": details, "value": values, "threshold": thresholds}
    schema = schema_of(REJECTED_COLUMNS)
    columns = [pa.array(new[field.name], field.type) if field.name in new else rows[field.name] for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def without_repeats(spool: Spool, config: CurationConfig, folder: Path, drop: Callable[[pa.Table], None]) -> Spool:
    """The spool without stretches that occur before; documents of which nothing is left go."""
    import pyarrow as pa

    assert config.repeated_substring_bytes is not None
    after = Spool(folder)
    with PartWriter(folder, CORPUS_COLUMNS, "lz4") as kept:
        for window in _windows(spool.tables(), config.substring_window_bytes):
            rows = pa.concat_tables(window).combine_chunks()
            texts = rows["text"].to_pylist()
            shorter = list(map(normalize, _native.without_repeated_substrings(texts, config.repeated_substring_bytes)))
            rows = rows.set_column(rows.schema.get_field_index("text"), "text", pa.array(shorter, pa.string()))
            left = np.array(list(map(bool, shorter)))
            gone = rows.filter(~left)
            gone = gone.set_column(
                gone.schema.get_field_index("text"),
                "text",
                pa.array([text for text, stays in zip(texts, left, strict=True) if not stays], pa.string()),
            )
            if gone.num_rows:
                nothing = [None] * gone.num_rows
                details = ["all of it occurs before"] * gone.num_rows
                drop(rejected_rows(gone, "repeated_substrings", details, nothing, nothing))
            draws = [draw(text_digest(text), config.split.seed) for text in shorter if text]
            after.add(kept, rows.filter(left), np.array(draws, np.uint64))
    return after


def _windows(tables: Iterable[pa.Table], most_bytes: int) -> Iterator[list[pa.Table]]:
    """Rows that hold at most so many bytes of text together, or one row that holds more."""
    import pyarrow.compute as pc

    window: list[pa.Table] = []
    size = 0
    for table in tables:
        start = 0
        for row, length in enumerate(pc.binary_length(table["text"]).to_pylist()):
            if size and size + length > most_bytes:
                window.append(table.slice(start, row - start))
                yield window
                window, size, start = [], 0, row
            size += length + 1
        window.append(table.slice(start))
    if size:
        yield window
