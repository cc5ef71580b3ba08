"""Files below source roots, in the order of names, plain, gzipped and in archives, never extracted to disk.

What cannot be opened safely (paths that leave their archive, links that loop, archives that expand beyond their limits)
becomes a Rejection, and the walk goes on.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..core.errors import DataError
from .archives import TAR_SUFFIXES, tar_members, zip_members
from .blobs import (
    FREE_BYTES,
    ArchiveLimits,
    Blob,
    Span,
    clean_name,
    format_of,
    unique_name,
    unpacked,
    unreadable,
    unsupported,
    without_packing,
)
from .documents import Rejection
from .remote import fetch, is_remote, name_of
from .sitemaps import is_sitemap, listed_pages


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
    names: dict[Path, str] = {}  # of what was fetched, whose folders have names of their own
    for source in sources:
        if is_remote(source):
            paths.append(fetch(source))
            names[paths[-1]] = name_of(source)
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
        prefix = (
            ""
            if len(paths) == 1 and path.is_dir()
            else unique_name(clean_name(names.get(path) or path.resolve().name), used)
        )
        roots.append(Root(path, prefix))
    return roots


def walk(roots: Sequence[Root], limits: ArchiveLimits) -> Iterator[Blob | Rejection]:
    """Every readable file below the roots, also in zip archives, in order; hidden ones are left alone."""
    for found in root_files(roots):
        if isinstance(found.path, Rejection):
            yield found.path
        else:
            yield from open_file(found.name, found.path, limits, otherwise=found.otherwise, address=found.address)


class Found(NamedTuple):
    """A file, or why there is none.

    Attributes:
        name: in the corpus.
        otherwise: the format to read it as where its name promises none; "" to leave it.
        address: of the page that it holds, "" where that is not known.
    """

    name: str
    path: Path | Rejection
    otherwise: str = ""
    address: str = ""


def root_files(roots: Sequence[Root]) -> Iterator[Found]:
    """Every file below the roots that is not hidden, in order, and the pages of sitemaps that are roots."""
    for root in roots:
        if root.path.is_dir():
            yield from (Found(name, path) for name, path in _files(root.path, root.prefix))
        elif is_sitemap(root.path):
            for name, path, address in listed_pages(root.prefix, root.path):
                yield Found(name, path, "html", address)
        else:
            yield Found(root.prefix, root.path, "text")  # a person named this very file


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
    name: str, path: Path, limits: ArchiveLimits, *, otherwise: str = "", address: str = "", span: Span | None = None
) -> Iterator[Blob | Rejection]:
    """The blobs of one file: itself, or its members. For the arguments see Found."""
    try:
        status = path.stat()
    except OSError as error:
        yield unreadable(name, f"cannot be read ({error.strerror})")
        return
    if not stat.S_ISREG(status.st_mode):
        yield unreadable(name, "not a regular file")
    elif path.name.lower().endswith(".zip"):
        yield from zip_members(name, path, limits)
    elif path.name.lower().endswith(TAR_SUFFIXES):
        yield from tar_members(name, path, limits)
    else:
        blob = _file_blob(name, path, status.st_size, limits, otherwise)
        yield replace(blob, address=address, span=span) if isinstance(blob, Blob) else blob


def _file_blob(name: str, path: Path, size: int, limits: ArchiveLimits, otherwise: str) -> Blob | Rejection:
    inner, packing = without_packing(path.name)  # two files of one name have numbers behind theirs in the corpus
    format = format_of(inner) or otherwise
    if not format:
        return unsupported(name)

    def open_plain() -> BinaryIO:
        return open(path, "rb")

    def open_packed() -> BinaryIO:
        return unpacked(open(path, "rb"), packing, max(FREE_BYTES, size * limits.max_ratio))

    return Blob(name, format, open_packed if packing else open_plain, packing)
