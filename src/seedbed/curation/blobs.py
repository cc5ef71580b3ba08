"""Files below source roots as bounded byte streams: plain, gzipped and in zip archives, never extracted to disk.

Walking is in the order of names. What cannot be opened safely (paths that leave their archive, links that loop,
archives that expand beyond their limits) becomes a Rejection, and the walk goes on.
"""

from __future__ import annotations

import glob
import gzip
import io
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from pydantic import Field

from ..core.config import Config
from ..core.errors import DataError
from .documents import Rejection

SUFFIXES = {
    ".txt": "text", ".text": "text",
    ".md": "markdown", ".markdown": "markdown", ".mdx": "markdown",
    ".rst": "rst",
    ".html": "html", ".htm": "html", ".xhtml": "html",
    ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".csv": "csv", ".tsv": "csv",
    ".parquet": "parquet",
}  # fmt: skip
READABLE = "txt, md, rst, html, jsonl, csv, parquet, also as .gz or in .zip"

# A stream may always grow to this size: the ratio of a small archive says nothing.
_FREE_BYTES = 16 << 20


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
        text_column: of jsonl, csv and parquet; when left out the first of text, content, body, document, passage.
        title_column: when left out the first of title, name, heading; tables without one have no titles.
        max_document_bytes: HTML pages, table rows and unbroken words beyond this are refused; text files beyond it are
            read as several documents.
        fallback_encoding: for text that is not UTF-8, "cp1252" for example; when left out such text is refused.
        archives: how far compressed files may expand.
    """

    text_column: str | None = None
    title_column: str | None = None
    max_document_bytes: int = Field(default=8 << 20, ge=1024)
    fallback_encoding: str | None = None
    archives: ArchiveLimits = ArchiveLimits()


@dataclass(frozen=True)
class Blob:
    """One readable file.

    Attributes:
        source: its name in the corpus.
        format: a value of SUFFIXES.
        open: a fresh stream of its decompressed bytes; raises OSError, EOFError, zlib.error, zipfile.BadZipFile or
            ExpansionError, also while it is being read.
        compressed: "gzip", "zip" or "".
    """

    source: str
    format: str
    open: Callable[[], BinaryIO]
    compressed: str = ""


@dataclass(frozen=True)
class Root:
    """A source path and the name that its files begin with in the corpus ("" for one folder alone)."""

    path: Path
    prefix: str


def find_roots(sources: Sequence[str]) -> list[Root]:
    """Existing files and folders for `sources`, which may be patterns such as `crawl/*.txt`.

    Raises:
        DataError: a path that is not there, a pattern that matches nothing.
    """
    paths: list[Path] = []
    for source in sources:
        if os.path.lexists(source):
            paths.append(Path(source))
        elif glob.has_magic(source):
            matches = sorted(glob.glob(source, recursive=True))
            if not matches:
                raise DataError("this pattern matches no file", where=source)
            paths += map(Path, matches)
        else:
            raise DataError("no such file or folder", where=source, hint="Check the path of the source.")
    used: set[str] = set()
    roots = []
    for path in paths:
        prefix = "" if len(paths) == 1 and path.is_dir() else _unique(_clean(path.resolve().name), used)
        roots.append(Root(path, prefix))
    return roots


def _unique(name: str, used: set[str]) -> str:
    candidate, count = name, 1
    while candidate in used:
        count += 1
        candidate = f"{name}~{count}"
    used.add(candidate)
    return candidate


def walk(roots: Sequence[Root], limits: ArchiveLimits) -> Iterator[Blob | Rejection]:
    """Every readable file below the roots, also in zip archives, in order; hidden ones are left alone."""
    explicit = {root.prefix for root in roots if not root.path.is_dir()}
    for name, path in root_files(roots):
        yield from _blobs(name, path, limits, explicit=name in explicit)


def root_files(roots: Sequence[Root]) -> Iterator[tuple[str, Path | Rejection]]:
    """(name, path) of every file below the roots that is not hidden, in order."""
    for root in roots:
        if root.path.is_dir():
            yield from _files(root.path, root.prefix)
        else:
            yield root.prefix, root.path


def _files(folder: Path, prefix: str) -> Iterator[tuple[str, Path | Rejection]]:
    """(name, path) of the files below a folder; links to folders are followed unless they lead back up."""
    pending: list[tuple[Path, str, tuple[tuple[int, int], ...]]] = [(folder, prefix, (_identity(folder),))]
    while pending:
        folder, prefix, above = pending.pop()
        inner = []
        try:
            names = sorted(os.listdir(folder))
        except OSError as error:
            yield prefix, _unreadable(prefix or ".", f"folder cannot be read ({error.strerror})")
            continue
        for entry in names:
            if entry.startswith("."):
                continue
            path = folder / entry
            name = f"{prefix}/{_clean(entry)}" if prefix else _clean(entry)
            if not path.is_dir():
                yield name, path
            elif (identity := _identity(path)) in above:
                detail = "a link to a folder that holds it"
                yield name, Rejection(name, name, "", "symlink_loop", detail)
            else:
                inner.append((path, name, (*above, identity)))
        pending += reversed(inner)


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _clean(name: str) -> str:
    """A file name as text that UTF-8 can hold."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _blobs(name: str, path: Path | Rejection, limits: ArchiveLimits, *, explicit: bool) -> Iterator[Blob | Rejection]:
    if isinstance(path, Rejection):
        yield path
        return
    try:
        status = path.stat()
    except OSError as error:
        yield _unreadable(name, f"cannot be read ({error.strerror})")
        return
    if not stat.S_ISREG(status.st_mode):
        yield _unreadable(name, "not a regular file")
    elif name.lower().endswith(".zip"):
        yield from _zip_members(name, path, limits)
    else:
        yield _file_blob(name, path, status.st_size, limits, explicit=explicit)


def _file_blob(name: str, path: Path, size: int, limits: ArchiveLimits, *, explicit: bool) -> Blob | Rejection:
    inner, gzipped = _without_gz(name)
    format = SUFFIXES.get(PurePosixPath(inner.lower()).suffix)
    if format is None:
        if not explicit:
            return Rejection(name, name, "", "unsupported", f"not a kind of file that is read ({READABLE})")
        format = "text"  # a person named this very file

    def open_plain() -> BinaryIO:
        return open(path, "rb")

    def open_gzip() -> BinaryIO:
        return _limited(gzip.open(path, "rb"), max(_FREE_BYTES, size * limits.max_ratio))

    return Blob(name, format, open_gzip if gzipped else open_plain, "gzip" if gzipped else "")


def _without_gz(name: str) -> tuple[str, bool]:
    return (name[:-3], True) if name.lower().endswith(".gz") else (name, False)


def _zip_members(name: str, path: Path, limits: ArchiveLimits) -> Iterator[Blob | Rejection]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted((info for info in archive.infolist() if not info.is_dir()), key=lambda info: info.filename)
            if len(members) > limits.max_members:
                detail = f"{len(members)} members, more than max_members"
                yield Rejection(name, name, "", "zip_bomb", detail, len(members), limits.max_members)
                return
            total = 0
            used: set[str] = set()
            for info in members:
                member = _unique(f"{name}!{_clean(info.filename)}", used)
                found = _zip_member(member, archive, info, limits)
                if found is None:
                    continue
                total += info.file_size
                if isinstance(found, Blob) and total > limits.max_archive_bytes:
                    detail = "the archive's members together are larger than max_archive_bytes"
                    found = Rejection(member, member, "", "zip_bomb", detail, total, limits.max_archive_bytes)
                yield found
    except OSError as error:
        yield _unreadable(name, f"cannot be read ({error.strerror})")
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
        yield Rejection(name, name, "", "broken_zip", f"not a readable zip archive ({error})")


def _zip_member(
    name: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo, limits: ArchiveLimits
) -> Blob | Rejection | None:
    parts = PurePosixPath(info.filename.replace("\\", "/")).parts
    if not parts or parts[0].startswith("/") or ".." in parts or parts[0][1:2] == ":":
        return Rejection(name, name, "", "unsafe_path", "its path leaves the archive")
    if any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return None
    if stat.S_ISLNK(info.external_attr >> 16):
        return Rejection(name, name, "", "symlink", "a link inside an archive")
    if info.flag_bits & 1:
        return _unreadable(name, "encrypted")
    inner, gzipped = _without_gz(info.filename)
    format = SUFFIXES.get(PurePosixPath(inner.lower()).suffix)
    if format is None:
        return Rejection(name, name, "", "unsupported", f"not a kind of file that is read ({READABLE})")
    allowed = max(_FREE_BYTES, info.compress_size * limits.max_ratio)
    if info.file_size > allowed:
        ratio = info.file_size / max(1, info.compress_size)
        return Rejection(name, name, "", "zip_bomb", "expands further than max_ratio", ratio, limits.max_ratio)

    def open_member() -> BinaryIO:
        stream = archive.open(info)
        if not gzipped:
            return _limited(stream, allowed)
        return _limited(gzip.open(stream, "rb"), max(_FREE_BYTES, info.file_size * limits.max_ratio))

    return Blob(name, format, open_member, "gzip" if gzipped else "zip")


def _unreadable(name: str, detail: str) -> Rejection:
    return Rejection(name, name, "", "unreadable", detail)


class _Limited(io.RawIOBase):
    """A stream that raises ExpansionError beyond `limit` bytes."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, limit: int) -> None:
        self._stream, self._limit, self._read = stream, limit, 0

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
        super().close()


def _limited(stream: IO[bytes] | gzip.GzipFile, limit: int) -> BinaryIO:
    return io.BufferedReader(_Limited(stream, limit), 1 << 16)


_DAMAGED: tuple[type[Exception], ...] = (EOFError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile, *_LZMA_ERRORS)
READ_ERRORS: tuple[type[Exception], ...] = (OSError, ExpansionError, NotImplementedError, *_DAMAGED)


def read_fault(blob: Blob, error: Exception) -> Rejection:
    """The rejection for an error of READ_ERRORS that ended the reading of `blob`."""
    rule = "unreadable"
    if isinstance(error, ExpansionError):
        rule = "zip_bomb"
    elif isinstance(error, _DAMAGED):
        rule = "broken_gzip" if blob.compressed == "gzip" else "broken_zip"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
    return Rejection(blob.source, blob.source, "", rule, f"cannot be read to its end ({reason})")
