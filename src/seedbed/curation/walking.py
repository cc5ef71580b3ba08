"""Files below source roots, in the order of names, plain, gzipped and in archives, never extracted to disk.

What cannot be opened safely (paths that leave their archive, links that loop, archives that expand beyond their limits)
becomes a Rejection, and the walk goes on.
"""

from __future__ import annotations

import glob
import gzip
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..core.errors import DataError
from .archives import TAR_SUFFIXES, tar_members, zip_members
from .blobs import (
    FREE_BYTES,
    ArchiveLimits,
    Blob,
    Span,
    clean_name,
    format_of,
    limited,
    unique_name,
    unreadable,
    unsupported,
    without_gz,
)
from .documents import Rejection
from .remote import fetch, is_remote


@dataclass(frozen=True)
class Root:
    """A source path and the name that its files begin with in the corpus ("" for one folder alone)."""

    path: Path
    prefix: str


def find_roots(sources: Sequence[str]) -> list[Root]:
    """Existing files and folders for `sources`, which may be patterns such as `crawl/*.txt`, or URLs.

    Raises:
        DataError: a path that is not there, a pattern that matches nothing.
    """
    paths: list[Path] = []
    for source in sources:
        if is_remote(source):
            paths.append(fetch(source))
        elif os.path.lexists(source):
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
        prefix = "" if len(paths) == 1 and path.is_dir() else unique_name(clean_name(path.resolve().name), used)
        roots.append(Root(path, prefix))
    return roots


def walk(roots: Sequence[Root], limits: ArchiveLimits) -> Iterator[Blob | Rejection]:
    """Every readable file below the roots, also in zip archives, in order; hidden ones are left alone."""
    explicit = {root.prefix for root in roots if not root.path.is_dir()}
    for name, path in root_files(roots):
        if isinstance(path, Rejection):
            yield path
        else:
            yield from open_file(name, path, limits, explicit=name in explicit)


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
            yield prefix, unreadable(prefix or ".", f"folder cannot be read ({error.strerror})")
            continue
        for entry in names:
            if entry.startswith("."):
                continue
            path = folder / entry
            name = f"{prefix}/{clean_name(entry)}" if prefix else clean_name(entry)
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


def open_file(
    name: str, path: Path, limits: ArchiveLimits, *, explicit: bool, span: Span | None = None
) -> Iterator[Blob | Rejection]:
    """The blobs of one file: itself, or its members."""
    try:
        status = path.stat()
    except OSError as error:
        yield unreadable(name, f"cannot be read ({error.strerror})")
        return
    if not stat.S_ISREG(status.st_mode):
        yield unreadable(name, "not a regular file")
    elif name.lower().endswith(".zip"):
        yield from zip_members(name, path, limits)
    elif name.lower().endswith(TAR_SUFFIXES):
        yield from tar_members(name, path, limits)
    else:
        yield _file_blob(name, path, status.st_size, limits, explicit=explicit, span=span)


def _file_blob(
    name: str, path: Path, size: int, limits: ArchiveLimits, *, explicit: bool, span: Span | None
) -> Blob | Rejection:
    inner, gzipped = without_gz(name)
    format = format_of(inner)
    if format is None:
        if not explicit:
            return unsupported(name)
        format = "text"  # a person named this very file

    def open_plain() -> BinaryIO:
        return open(path, "rb")

    def open_gzip() -> BinaryIO:
        return limited(gzip.open(path, "rb"), max(FREE_BYTES, size * limits.max_ratio))

    return Blob(name, format, open_gzip if gzipped else open_plain, "gzip" if gzipped else "", span)
