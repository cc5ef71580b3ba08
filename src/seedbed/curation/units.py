"""Units of work: what one worker reads at a time. They depend on the sources alone, never on who reads them or when.

Small files go together, a large table of lines (JSON Lines) or of row groups (Parquet) is cut. All else is one unit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .blobs import ArchiveLimits, Blob, ReadingConfig, Span, format_of
from .decoding import Undecodable, check_binary, mark_of
from .documents import Pieces, Rejection
from .python_docs import PYTHON_DOCS, read_python_docs
from .readers import read_blob
from .sources import check_sources, paths_of
from .walking import find_roots, open_file, root_files

UNIT_BYTES = 32 << 20
_UNIT_FILES = 2_000
_CHUNK = 4 << 20


@dataclass(frozen=True)
class Entry:
    """A file to read, or what is to be said of one that cannot be.

    Attributes:
        name: in the corpus.
        path: where it lies; "" where there is nothing to open.
        otherwise, address: see walking.Found.
        rule, detail: of the rejection that stands for it.
        span: (start, stop, rows before) where only a part is read.
    """

    name: str
    path: str = ""
    otherwise: str = ""
    address: str = ""
    rule: str = ""
    detail: str = ""
    span: tuple[int, int, int] | None = None

    def pieces(self, config: ReadingConfig) -> Pieces:
        if self.name == PYTHON_DOCS:
            yield from read_python_docs()
        elif self.rule:
            yield Rejection(self.name, self.name, "", self.rule, self.detail)  # as root_files makes them
        else:
            span = Span(*self.span) if self.span else None
            known = {"otherwise": self.otherwise, "address": self.address}
            for blob in open_file(self.name, Path(self.path), config.archives, **known, span=span):
                if isinstance(blob, Blob):
                    yield from read_blob(blob, config)
                else:
                    yield blob


@dataclass(frozen=True)
class Unit:
    """Entries that are read together, in order. Units are numbered in the order of the corpus."""

    number: int
    entries: tuple[Entry, ...]
    size: int  # bytes on disk

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Unit:
        values = json.loads(text)
        entries = tuple(
            Entry(**{**entry, "span": tuple(entry["span"]) if entry["span"] else None}) for entry in values["entries"]
        )
        return cls(values["number"], entries, values["size"])

    def pieces(self, config: ReadingConfig) -> Pieces:
        for entry in self.entries:
            yield from entry.pieces(config)


def plan_units(sources: Sequence[str], limits: ArchiveLimits) -> Iterator[Unit]:
    """The units of `sources`, in order: Python's documentation first, then the paths as given.

    Raises:
        DataError: a source that is not there.
    """
    check_sources(sources)
    number, size = 0, 0
    pending: list[Entry] = []
    for entry, bytes_read in _entries(sources):
        if pending and (size + bytes_read > UNIT_BYTES or len(pending) >= _UNIT_FILES):
            yield Unit(number, tuple(pending), size)
            number, size, pending = number + 1, 0, []
        pending.append(entry)
        size += bytes_read
    if pending:
        yield Unit(number, tuple(pending), size)


def _entries(sources: Sequence[str]) -> Iterator[tuple[Entry, int]]:
    """Each entry with its bytes on disk."""
    if PYTHON_DOCS in sources:
        yield Entry(PYTHON_DOCS), UNIT_BYTES
    roots = find_roots(paths_of(sources))
    for name, path, otherwise, address in root_files(roots):
        if isinstance(path, Rejection):
            yield Entry(name, rule=path.rule, detail=path.detail), 0
            continue
        size = _size(path)
        for span in _spans(path, size):
            share = size if span is None else UNIT_BYTES
            yield Entry(name, str(path.absolute()), otherwise, address, span=span), share


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # reading it will say why
        return 0


def _spans(path: Path, size: int) -> list[tuple[int, int, int]] | list[None]:
    """Where a large file is cut; [None] where it is read whole."""
    cut = {"jsonl": _lines, "parquet": _row_groups}.get(format_of(path.name) or "")
    if cut is None or size <= 2 * UNIT_BYTES or not path.is_file():
        return [None]
    return cut(path) or [None]


def _lines(path: Path) -> list[tuple[int, int, int]]:
    """(first byte, last byte + 1, lines before) of stretches of whole lines."""
    spans = []
    start = before = lines = at = 0
    try:
        with open(path, "rb") as file:
            head = file.read(_CHUNK)
            if (mark_of(head) or "utf-8-sig") != "utf-8-sig":
                return []
            check_binary(head)
            file.seek(0)
            while chunk := file.read(_CHUNK):
                end = chunk.rfind(b"\n") + 1
                if end and at + end - start >= UNIT_BYTES:
                    lines += chunk.count(b"\n", 0, end)
                    spans.append((start, at + end, before))
                    start, before = at + end, lines
                    lines += chunk.count(b"\n", end)
                else:
                    lines += chunk.count(b"\n")
                at += len(chunk)
    except (OSError, Undecodable):  # the reader will say so
        return []
    return [*spans, (start, at, before)] if at > start else spans


def _row_groups(path: Path) -> list[tuple[int, int, int]]:
    """(first group, last group + 1, rows before)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(path)
    except (pa.ArrowException, OSError):  # the reader will say so
        return []
    spans = []
    start = before = rows = size = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        rows, size = (
            rows + group.num_rows,
            size + sum(group.column(column).total_compressed_size for column in range(group.num_columns)),
        )
        if size >= UNIT_BYTES or number == metadata.num_row_groups - 1:
            spans.append((start, number + 1, before))
            start, before, size = number + 1, rows, 0
    return spans
