"""One readable file as a bounded stream of bytes, wherever it lies: how far it may expand, and what its faults are."""

from __future__ import annotations

import gzip
import io
import os
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, Protocol

from pydantic import Field

from ..core.config import Config
from .documents import Rejection

SUFFIXES = {
    ".txt": "text", ".text": "text",
    ".md": "markdown", ".markdown": "markdown", ".mdx": "markdown",
    ".rst": "rst",
    ".html": "html", ".htm": "html", ".xhtml": "html",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json",
    ".csv": "csv", ".tsv": "csv",
    ".parquet": "parquet", ".arrow": "arrow",
    ".warc": "warc",
    ".pdf": "pdf",
}  # fmt: skip
PACKINGS = {".gz": "gzip", ".zst": "zstd"}
READABLE = "txt, md, rst, html, json, jsonl, csv, parquet, arrow, warc, pdf, also as .gz or .zst, or in .zip and .tar"

# A stream may always grow to this size: the ratio of a small archive says nothing.
FREE_BYTES = 16 << 20


try:
    import lzma

    _LZMA_ERRORS: tuple[type[Exception], ...] = (lzma.LZMAError,)
except ImportError:  # a Python built without it opens no such archives either
    _LZMA_ERRORS = ()


class ExpansionError(Exception):
    """A compressed stream grew beyond its limit."""


class ArchiveLimits(Config):
    """How far compressed files may expand, against archives made to fill the memory or the disk."""

    max_ratio: int = 200  # bytes out / bytes in; text compresses 3 to 20 times
    max_archive_bytes: int = 64 << 30  # of all members of one zip together
    max_members: int = 1_000_000


class ReadingConfig(Config):
    """How sources are read.

    Attributes:
        text_column: of json, jsonl, csv, parquet and arrow; when left out the first of text, content, body, document,
            passage.
        title_column: when left out the first of title, name, heading; tables without one have no titles.
        max_document_bytes: HTML pages, table rows and unbroken words beyond this are refused; text files beyond it are
            read as several documents.
        max_page_seconds: processor time that the main text of one HTML page may take.
        fallback_encoding: for text that is not UTF-8, "cp1252" for example; when left out such text is refused.
        repair_encoding: whether lines that were once decoded by a wrong encoding are put right; such documents have
            `"encoding": "repaired"` in their metadata.
        archives: how far compressed files may expand.
    """

    text_column: str | None = None
    title_column: str | None = None
    max_document_bytes: int = Field(default=8 << 20, ge=1024)
    max_page_seconds: int = Field(default=20, ge=1)
    fallback_encoding: str | None = None
    repair_encoding: bool = True
    archives: ArchiveLimits = ArchiveLimits()


@dataclass(frozen=True)
class Span:
    """The part of a table that is read: bytes of JSON Lines or row groups of Parquet, and how many rows come before."""

    start: int
    stop: int
    before: int


@dataclass(frozen=True)
class Blob:
    """One readable file.

    Attributes:
        source: its name in the corpus.
        format: a value of SUFFIXES.
        open: a fresh stream of its decompressed bytes; raises OSError, EOFError, zlib.error, zipfile.BadZipFile or
            ExpansionError, also while it is being read.
        compressed: "gzip", "zstd", "zip", "tar" or "".
        span: what is read of it; None for all.
        address: of the page that it holds, "" where that is not known.
    """

    source: str
    format: str
    open: Callable[[], BinaryIO]
    compressed: str = ""
    span: Span | None = None
    address: str = ""

    @property
    def fault_id(self) -> str:
        """The id of a fault that ends the reading."""
        return f"{self.source}#from-{self.span.before + 1}" if self.span and self.span.before else self.source


def unique_name(name: str, used: set[str]) -> str:
    candidate, count = name, 1
    while candidate in used:
        count += 1
        candidate = f"{name}~{count}"
    used.add(candidate)
    return candidate


def clean_name(name: str) -> str:
    """A file name as text that UTF-8 can hold."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def without_packing(name: str) -> tuple[str, str]:
    """A file's name without the suffix of what it is packed by, and that: "gzip", "zstd", or "" for nothing."""
    for suffix, packing in PACKINGS.items():
        if name.lower().endswith(suffix):
            return name[: -len(suffix)], packing
    return name, ""


def unpacked(stream: BinaryIO, packing: str, limit: int) -> BinaryIO:
    """What a packed stream holds, up to `limit` bytes."""
    if packing == "gzip":
        return limited(gzip.GzipFile(fileobj=stream), limit, stream)
    import pyarrow as pa

    return limited(pa.CompressedInputStream(stream, packing), limit, stream)


def _parts(name: str) -> tuple[str, ...]:
    return PurePosixPath(name.replace("\\", "/")).parts


def leaves_archive(name: str) -> bool:
    """Whether a member's path would lead out of the folder that its archive is unpacked in."""
    parts = _parts(name)
    return not parts or parts[0].startswith("/") or ".." in parts or parts[0][1:2] == ":"


def is_hidden(name: str) -> bool:
    """Whether a member's path goes through a name that begins with a dot, or what macOS adds."""
    return any((part.startswith(".") and part not in (".", "..")) or part == "__MACOSX" for part in _parts(name))


def format_of(name: str) -> str | None:
    """The format that a name without its packing's suffix promises."""
    return SUFFIXES.get(PurePosixPath(name.lower()).suffix)


def unsupported(name: str) -> Rejection:
    return Rejection(name, name, "", "unsupported", f"not a kind of file that is read ({READABLE})")


def unreadable(name: str, detail: str) -> Rejection:
    return Rejection(name, name, "", "unreadable", detail)


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...
    def close(self) -> None: ...


class _Limited(io.RawIOBase):
    """A stream that raises ExpansionError beyond `limit` bytes."""

    def __init__(self, stream: Readable, limit: int, below: BinaryIO | None) -> None:
        self._stream, self._limit, self._below, self._read = stream, limit, below, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        data = self._stream.read(len(view))
        view[: len(data)] = data
        self._read += len(data)
        if self._read > self._limit:
            raise ExpansionError(f"expands to more than {self._limit} bytes")
        return len(data)

    def close(self) -> None:
        self._stream.close()
        if self._below is not None:
            self._below.close()
        super().close()


def limited(stream: Readable, limit: int, below: BinaryIO | None = None) -> BinaryIO:
    """A buffered stream that raises ExpansionError beyond `limit` bytes; `below` is closed with it."""
    return io.BufferedReader(_Limited(stream, limit, below), 1 << 16)


_DAMAGED: tuple[type[Exception], ...] = (EOFError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile, *_LZMA_ERRORS)
READ_ERRORS: tuple[type[Exception], ...] = (OSError, ExpansionError, NotImplementedError, *_DAMAGED)


def read_fault(blob: Blob, error: Exception) -> Rejection:
    """The rejection for an error of READ_ERRORS that ended the reading of `blob`."""
    rule = "unreadable"
    if isinstance(error, ExpansionError):
        rule = "zip_bomb"
    elif blob.compressed == "zstd" and isinstance(error, OSError) and error.errno is None:
        rule = "broken_zstd"
    elif isinstance(error, _DAMAGED):
        rule = "broken_gzip" if blob.compressed == "gzip" else "broken_zip"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
    return Rejection(blob.fault_id, blob.source, "", rule, f"cannot be read to its end ({reason})")
