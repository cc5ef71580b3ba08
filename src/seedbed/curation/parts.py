"""Finished units on disk, one file each, named by number and content: what is there and whole is never done again.

A part is written under another name and renamed, so that two workers may finish the same unit and a killed one leaves
nothing that looks like a part.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.artifacts import sha256_file

if TYPE_CHECKING:
    import pyarrow as pa

_DIGITS = 16  # of the content's sha256 in a name


def write_part(folder: Path, number: int, tables: Iterable[pa.Table], schema: pa.Schema) -> str:
    """Write the tables of a unit; returns the part's name."""
    import pyarrow.parquet as pq

    partial = folder / f".{number:08d}.{os.getpid()}.partial"
    try:
        with pq.ParquetWriter(partial, schema, compression="lz4") as writer:
            for table in tables:
                writer.write_table(table)
        name = f"{number:08d}-{sha256_file(partial)[:_DIGITS]}.parquet"
        partial.replace(folder / name)
    finally:
        partial.unlink(missing_ok=True)
    return name


def finished_parts(folder: Path) -> dict[int, str]:
    """The names of the whole parts in a folder, by unit; what is damaged or half written is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[int, str] = {}
    for path in sorted(folder.iterdir()):
        number, _, digest = path.stem.partition("-")
        if path.suffix == ".parquet" and number.isdigit() and sha256_file(path)[:_DIGITS] == digest:
            found[int(number)] = path.name
        else:
            path.unlink()
    return found
