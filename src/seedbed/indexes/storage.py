"""One file for an index: a checked header and 64-byte aligned arrays, each with its checksum.

    bytes 0-7     magic
    8-11          version, uint32 little-endian
    12-15         length of the header in bytes, uint32
    16-19         CRC-32 of the header, uint32
    20-           header, JSON: kind, settings, sections [name, dtype, shape, offset, crc32], size of the whole file
    ...           the arrays, little-endian, each at a multiple of 64

Whatever a file holds, reading it ends in the right arrays or in a FormatError: sizes and offsets are checked against
the file before anything is read through them, and each array against its checksum.
"""

from __future__ import annotations

import json
import math
import os
import struct
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from ..core.errors import FormatError, disk_errors

MAGIC = b"SEEDBED\x1a"
VERSION = 1
_HEAD = struct.Struct("<8sIII")
_ALIGNMENT = 64
_DTYPES = {"float32", "float64", "uint8", "uint16", "uint32", "uint64", "int32", "int64"}
_CHUNK = 1 << 24


@dataclass(frozen=True)
class Stored:
    """What a file holds: the kind of index, its settings and its arrays (read-only)."""

    path: Path
    kind: str
    settings: dict[str, Any]
    arrays: dict[str, npt.NDArray[Any]]

    def array(self, name: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Section `name` as a flat array of `dtype`."""
        if name not in self.arrays or self.arrays[name].dtype != dtype:
            raise FormatError(f"the section '{name}' is missing or of another type", where=self.path)
        return self.arrays[name].reshape(-1)

    def setting(self, name: str, kind: type) -> Any:
        value = self.settings.get(name)
        if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
            raise FormatError(f"the setting '{name}' is missing or of another type", where=self.path)
        return value


def write_sections(path: Path, kind: str, settings: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write an index file, complete or not at all. The same content gives the same bytes."""
    listed = {name: np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")) for name, array in arrays.items()}
    checksums = {name: _checksum(array) for name, array in listed.items()}
    length = 0
    while True:  # the header's own length moves the offsets that it holds
        offset = _aligned(_HEAD.size + length)
        sections: list[dict[str, Any]] = []
        for name, array in listed.items():
            sections.append(
                {
                    "name": name,
                    "dtype": array.dtype.name,
                    "shape": list(array.shape),
                    "offset": offset,
                    "crc32": checksums[name],
                }
            )
            offset = _aligned(offset + array.nbytes)
        content = {"kind": kind, "settings": dict(settings), "sections": sections, "size": offset}
        header = json.dumps(content, sort_keys=True, ensure_ascii=True, allow_nan=False).encode()
        if len(header) <= length:
            header = header.ljust(length)
            break
        length = len(header) + 16

    # Writers of one path do not meet: the last to finish is the one whose file stays.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.writing")
    with disk_errors(path):
        try:
            with open(temporary, "wb") as handle:
                handle.write(_HEAD.pack(MAGIC, VERSION, len(header), zlib.crc32(header)) + header)
                for section, array in zip(sections, listed.values(), strict=True):
                    handle.write(b"\0" * (section["offset"] - handle.tell()))
                    handle.write(_bytes(array))
                handle.write(b"\0" * (offset - handle.tell()))
                handle.flush()
                os.fsync(handle.fileno())
            temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)


def read_sections(path: Path, *, mmap: bool = True) -> Stored:
    """Read an index file.

    Raises:
        FormatError: it cannot be read, is damaged, of another format or from a newer version.
    """
    try:
        size = path.stat().st_size
        if size < _HEAD.size:
            raise FormatError("this is no index file (too short)", where=path)
        data = np.memmap(path, dtype=np.uint8, mode="r") if mmap else np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise FormatError(f"cannot read this index ({error.strerror or error})", where=path) from None
    magic, version, length, checksum = _HEAD.unpack(data[: _HEAD.size].tobytes())
    if magic != MAGIC:
        raise FormatError("this is no index file", where=path)
    if version > VERSION:
        raise FormatError(
            f"written by a newer version (format {version}, this one reads up to {VERSION})",
            where=path,
            hint="Update seedbed.",
        )
    header = data[_HEAD.size : _HEAD.size + length].tobytes()
    if version < 1 or len(header) != length or zlib.crc32(header) != checksum:
        raise FormatError("the header is damaged", where=path, hint="Build the index again.")
    content = _header(path, header)
    if content.size != len(data):
        raise FormatError(
            f"the file has {len(data):,} bytes of {content.size:,}", where=path, hint="Build the index again."
        )
    arrays = {section.name: _array(path, data, section) for section in content.sections}
    return Stored(path, content.kind, content.settings, arrays)


class _Section(BaseModel):
    model_config = ConfigDict(strict=True)

    name: str
    dtype: str
    shape: list[NonNegativeInt]
    offset: NonNegativeInt
    crc32: int


class _Header(BaseModel):
    model_config = ConfigDict(strict=True)

    kind: str
    settings: dict[str, Any]
    sections: list[_Section]
    size: int


def _header(path: Path, text: bytes) -> _Header:
    try:
        return _Header.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise FormatError(
            f"the header is described wrongly ({'.'.join(map(str, first['loc']))}: {first['msg']})", where=path
        ) from None


def _array(path: Path, data: npt.NDArray[np.uint8], section: _Section) -> npt.NDArray[Any]:
    if section.dtype not in _DTYPES or section.offset % _ALIGNMENT:
        raise FormatError(f"the section '{section.name}' is described wrongly", where=path)
    dtype = np.dtype(section.dtype).newbyteorder("<")
    end = section.offset + math.prod(section.shape) * dtype.itemsize
    if end > len(data) or any(side > len(data) for side in section.shape):
        raise FormatError(f"the section '{section.name}' lies outside the file", where=path)
    array = np.asarray(data[section.offset : end]).view(dtype).reshape(section.shape)
    if _checksum(array) != section.crc32:
        raise FormatError(
            f"the section '{section.name}' is damaged (checksum)", where=path, hint="Build the index again."
        )
    array.flags.writeable = False
    return array.view(np.dtype(section.dtype))


def _checksum(array: npt.NDArray[Any]) -> int:
    raw = _bytes(array)
    value = 0
    for start in range(0, len(raw), _CHUNK):
        value = zlib.crc32(raw[start : start + _CHUNK], value)
    return value


def _bytes(array: npt.NDArray[Any]) -> memoryview:
    flat: Any = array.reshape(-1).view(np.uint8)
    return memoryview(flat)


def _aligned(offset: int) -> int:
    return (offset + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT
