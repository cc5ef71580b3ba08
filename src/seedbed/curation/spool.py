"""Documents that stay so far, in order, in a folder."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .dedup import Names
from .storage import REJECTED_COLUMNS, PartWriter, part_files, read_rows, read_tables, schema_of

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
