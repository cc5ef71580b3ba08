"""Text that occurs before in the corpus goes from documents that stay: long stretches, and lines.

Stretches are found by a suffix array (Lee et al. 2022), within windows of bounded size; lines by their digests,
wherever they are: menus, notices and all that a site puts on each of its pages (as CCNet, Wenzek et al. 2020, does).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .. import _native
from .config import CurationConfig
from .dedup import first_occurrences, text_digest
from .normalize import normalize
from .splits import draw
from .spool import Spool, rejected_rows
from .storage import CORPUS_COLUMNS, PartWriter

if TYPE_CHECKING:
    import pyarrow as pa

Drop = Callable[["pa.Table"], None]
_DIGEST_BYTES = 16


def without_repeated_substrings(spool: Spool, config: CurationConfig, folder: Path, drop: Drop) -> Spool:
    """The spool without stretches that occur before; documents of which nothing is left go."""
    import pyarrow as pa

    assert config.repeated_substring_bytes is not None
    after = Spool(folder)
    with PartWriter(folder, CORPUS_COLUMNS, "lz4") as kept:
        for window in _windows(spool.tables(), config.substring_window_bytes):
            rows = pa.concat_tables(window).combine_chunks()
            texts = rows["text"].to_pylist()
            shorter = list(map(normalize, _native.without_repeated_substrings(texts, config.repeated_substring_bytes)))
            _put(after, kept, rows, shorter, "repeated_substrings", config.split.seed, drop)
    return after


def without_repeated_lines(spool: Spool, config: CurationConfig, folder: Path, drop: Drop) -> tuple[Spool, int]:
    """The spool without lines that occur before, and their number; documents of which nothing is left go."""
    assert config.repeated_line_characters is not None
    least = config.repeated_line_characters
    folder.mkdir(parents=True)
    repeated = _repeated_lines(spool, least, folder / "digests")
    (folder / "digests").unlink()
    lines = iter(repeated.tolist())
    after = Spool(folder / "texts")
    with PartWriter(after.folder, CORPUS_COLUMNS, "lz4") as kept:
        for rows in spool.tables():
            shorter = [
                normalize("\n".join(line for line in text.split("\n") if len(line) < least or not next(lines)))
                for text in rows["text"].to_pylist()
            ]
            _put(after, kept, rows, shorter, "repeated_lines", config.split.seed, drop)
    return after, int(repeated.sum())


def _repeated_lines(spool: Spool, least: int, path: Path) -> NDArray[np.bool_]:
    """Whether each line of at least so many characters occurs before it."""
    with open(path, "wb") as file:
        for table in spool.tables(["text"]):
            for text in table["text"].to_pylist():
                lines = (line for line in text.split("\n") if len(line) >= least)
                digests = (hashlib.sha256(line.strip().encode()).digest()[:_DIGEST_BYTES] for line in lines)
                file.write(b"".join(digests))
    count = path.stat().st_size // _DIGEST_BYTES
    if not count:
        return np.zeros(0, bool)
    return first_occurrences(np.memmap(path, np.uint64, "r", shape=(count, 2))) != np.arange(count, dtype=np.uint32)


def _put(after: Spool, kept: PartWriter, rows: pa.Table, shorter: list[str], rule: str, seed: int, drop: Drop) -> None:
    """Put rows with their shorter texts into a spool; those of which nothing is left are dropped with all they had."""
    import pyarrow as pa

    left = np.array(list(map(bool, shorter)), bool)
    gone = rows.filter(~left)
    if gone.num_rows:
        nothing = [None] * gone.num_rows
        drop(rejected_rows(gone, rule, ["all of it occurs before"] * gone.num_rows, nothing, nothing))
    rows = rows.set_column(rows.schema.get_field_index("text"), "text", pa.array(shorter, pa.string()))
    draws = [draw(text_digest(text), seed) for text in shorter if text]
    after.add(kept, rows.filter(left), np.array(draws, np.uint64))


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
