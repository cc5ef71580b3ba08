"""Members of archives as blobs: of zip in the order of names, of tar in their own.

A member of a tar archive is read once, as it passes, and held in memory up to a bound, then in a temporary file.
"""

from __future__ import annotations

import gzip
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO, cast

from .blobs import (
    FREE_BYTES,
    READ_ERRORS,
    ArchiveLimits,
    Blob,
    ExpansionError,
    clean_name,
    format_of,
    is_hidden,
    leaves_archive,
    limited,
    unique_name,
    unpacked,
    unreadable,
    unsupported,
    without_packing,
)
from .documents import Rejection

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_IN_MEMORY = 16 << 20
_TAR_FAULTS: tuple[type[Exception], ...] = (tarfile.TarError, ValueError, *READ_ERRORS)


def zip_members(name: str, path: Path, limits: ArchiveLimits) -> Iterator[Blob | Rejection]:
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
                member = unique_name(f"{name}!{clean_name(info.filename)}", used)
                found = _zip_member(member, archive, info, limits)
                if found is None:
                    continue
                total += info.file_size
                if isinstance(found, Blob) and total > limits.max_archive_bytes:
                    detail = "the archive's members together are larger than max_archive_bytes"
                    found = Rejection(member, member, "", "zip_bomb", detail, total, limits.max_archive_bytes)
                yield found
    except OSError as error:
        yield unreadable(name, f"cannot be read ({error.strerror})")
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
        yield Rejection(name, name, "", "broken_zip", f"not a readable zip archive ({error})")


def _zip_member(
    name: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo, limits: ArchiveLimits
) -> Blob | Rejection | None:
    if leaves_archive(info.filename):
        return Rejection(name, name, "", "unsafe_path", "its path leaves the archive")
    if is_hidden(info.filename):
        return None
    if stat.S_ISLNK(info.external_attr >> 16):
        return Rejection(name, name, "", "symlink", "a link inside an archive")
    if info.flag_bits & 1:
        return unreadable(name, "encrypted")
    inner, packing = without_packing(info.filename)
    format = format_of(inner)
    if format is None:
        return unsupported(name)
    allowed = max(FREE_BYTES, info.compress_size * limits.max_ratio)
    if info.file_size > allowed:
        ratio = info.file_size / max(1, info.compress_size)
        return Rejection(name, name, "", "zip_bomb", "expands further than max_ratio", ratio, limits.max_ratio)

    def open_member() -> BinaryIO:
        stream = limited(archive.open(info), allowed)
        return unpacked(stream, packing, max(FREE_BYTES, info.file_size * limits.max_ratio)) if packing else stream

    return Blob(name, format, open_member, packing or "zip")


def tar_members(name: str, path: Path, limits: ArchiveLimits) -> Iterator[Blob | Rejection]:
    """Each member as a blob that can be opened until the next is asked for, or why it is none."""
    most = max(FREE_BYTES, min(path.stat().st_size * limits.max_ratio, limits.max_archive_bytes))
    used: set[str] = set()
    try:
        with open(path, "rb") as file:
            packed = path.name.lower().endswith("gz")
            stream = limited(gzip.GzipFile(fileobj=file), most) if packed else cast(BinaryIO, file)
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for number, info in enumerate(archive, start=1):
                    if number > limits.max_members:
                        detail = "more members than max_members"
                        yield Rejection(name, name, "", "zip_bomb", detail, number, limits.max_members)
                        return
                    if not info.isdir() and not is_hidden(info.name):
                        yield from _member(unique_name(f"{name}!{clean_name(info.name)}", used), archive, info, limits)
            if not packed and not _ends_as_tar(path):
                yield Rejection(name, name, "", "broken_tar", "it ends before its end mark")
    except ExpansionError as error:
        yield Rejection(name, name, "", "zip_bomb", f"cannot be read to its end ({error})")
    except _TAR_FAULTS as error:
        yield Rejection(name, name, "", "broken_tar", f"cannot be read to its end ({error})")


def _ends_as_tar(path: Path) -> bool:
    """Whether the two empty blocks are there that end an archive: without them a cut one reads as a shorter one."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 2 * tarfile.BLOCKSIZE))
        return file.read() == bytes(2 * tarfile.BLOCKSIZE)


def _member(
    name: str, archive: tarfile.TarFile, info: tarfile.TarInfo, limits: ArchiveLimits
) -> Iterator[Blob | Rejection]:
    if leaves_archive(info.name):
        yield Rejection(name, name, "", "unsafe_path", "its path leaves the archive")
        return
    if not info.isreg():
        kind = "symlink" if info.issym() or info.islnk() else "unreadable"
        yield Rejection(name, name, "", kind, "a link inside an archive" if kind == "symlink" else "not a regular file")
        return
    inner, packing = without_packing(info.name)
    format = format_of(inner)
    source = archive.extractfile(info)
    if format is None or source is None:
        yield unsupported(name)
        return
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as held:
        shutil.copyfileobj(source, held, 1 << 20)

        def open_member() -> BinaryIO:
            held.seek(0)
            # `limited` closes what it reads, and the next `open` needs the file.
            stream = limited(_Borrowed(held), info.size)
            return unpacked(stream, packing, max(FREE_BYTES, info.size * limits.max_ratio)) if packing else stream

        yield Blob(name, format, open_member, packing or "tar")


class _Borrowed:
    """A file that closing leaves open."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def close(self) -> None:
        pass
