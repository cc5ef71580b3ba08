"""Counting words: all that the training of a tokenizer needs to know of a corpus.

Counts are a function of the data alone: neither the order of texts, nor threads, nor memory, nor how the data is shared
out over files or machines and merged again changes them. The mechanism is native/tokenizer/word_counter.cpp.

A counts file is: 8 bytes of magic, the version and the header's length (uint32, little-endian), the header (JSON), the
words, sorted and packed as native/tokenizer/word_counts.hpp says, and the sha256 of all this.
"""

from __future__ import annotations

import hashlib
import json
import struct
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from .. import _native
from ..core.devices import cpu_count
from ..core.errors import ConfigError, DataError, FormatError, disk_errors
from ..core.files import write_atomically
from .pretokenizers import PreTokenizer
from .tokenizer import surrogate_error

DEFAULT_MEMORY = 1 << 30
_BATCH_CHARACTERS = 1 << 21
_MAGIC = b"SEEDWORD"
_VERSION = 1
_START = struct.Struct("<8sII")
_LARGEST_HEADER = 1 << 20
_CHUNK = 1 << 20
_CHECKSUM_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Cut:
    """How texts fall into words."""

    source: _native.WordSource
    description: dict[str, Any]  # JSON: equal for equal cuts


def pattern_cut(pattern: str) -> Cut:
    """The pieces of a pre-tokeniser.

    Raises:
        ConfigError: the pattern cannot be used.
    """
    pre_tokenizer = PreTokenizer.of_pattern(pattern)
    return Cut(pre_tokenizer.words(), {"pattern": pre_tokenizer.pattern or pattern})


@dataclass(frozen=True)
class WordCounts:
    """How often each word occurs, sorted by the words' bytes; in memory or in a file that stays open."""

    words: _native.WordCounts
    cut: dict[str, Any]  # Cut.description
    min_count: int = 1  # rarer words were left out
    skipped: int = 0  # stretches of over a million bytes, which are no words and are left out

    def __len__(self) -> int:
        return len(self.words)

    @property
    def total(self) -> int:
        """Occurrences of all words."""
        return self.words.total


def count_words(
    texts: Iterable[str],
    cut: Cut,
    threads: int | None = None,
    *,
    memory_bytes: int = DEFAULT_MEMORY,
    min_count: int = 1,
    directory: str | Path | None = None,
) -> WordCounts:
    """Count the words of texts, which are read once, in batches, and not kept.

    Args:
        threads: None: all processors.
        memory_bytes: what counting may take. Words that no longer fit go to files without a name in `directory`
            (None: the system's for temporary files).
        min_count: leave out words that are rarer than this.

    Raises:
        DataError: no word at all, or text with a lone surrogate.
        ResourceError: no space is left in `directory`.
    """
    directory = _temporary(directory)
    counter = _native.WordCounter(cut.source, threads or cpu_count(), memory_bytes, str(directory))
    seen = 0
    with disk_errors(directory):
        for batch in _batches(texts):
            try:
                counter.add(batch)
            except UnicodeEncodeError as error:
                index = seen + next(i for i, text in enumerate(batch) if text is error.object)
                raise surrogate_error(error, index) from None
            seen += len(batch)
        words = counter.take()
    if not len(words):
        raise DataError(_no_words(counter.skipped), hint="Give texts with words in them.")
    counts = WordCounts(words, cut.description, skipped=counter.skipped)
    return counts if min_count <= 1 else merge([counts], min_count, memory_bytes=memory_bytes, directory=directory)


def _temporary(directory: str | Path | None) -> Path:
    directory = Path(directory or tempfile.gettempdir())
    if not directory.is_dir():
        raise ConfigError("there is no such folder", where=directory, hint="Name one for temporary files.")
    return directory


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text) + 64
        if characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    yield batch


def _no_words(skipped: int) -> str:
    if skipped:
        return f"the corpus holds nothing but {skipped} unbroken stretches of over a million bytes: nothing to train on"
    return "the corpus is empty: nothing to train on"


def merge(
    parts: Sequence[WordCounts],
    min_count: int = 1,
    *,
    memory_bytes: int = DEFAULT_MEMORY,
    directory: str | Path | None = None,
) -> WordCounts:
    """The sum of counts: what counting all their texts together gives.

    Words of which less than `min_count` come together are left out. If a part had left out rare words itself, the sum
    lacks those; `min_count` of the result is the largest of all.

    Raises:
        ConfigError: no counts, or texts that were cut differently.
        DataError: the sums pass 2^62.
        ResourceError: no space is left in `directory`.
    """
    if not parts:
        raise ConfigError("there are no counts to merge")
    for part in parts:
        if part.cut != parts[0].cut:
            raise ConfigError(
                f"these counts were made by different cuts: {_written(parts[0].cut)} and {_written(part.cut)}",
                hint="Count all texts alike.",
            )
    directory = _temporary(directory)
    with disk_errors(directory):
        try:
            words = _native.merge_counts([part.words for part in parts], min_count, memory_bytes // 2, str(directory))
        except OverflowError as error:
            raise DataError(str(error)) from None
    least = max(min_count, *(part.min_count for part in parts))
    return WordCounts(words, parts[0].cut, least, sum(part.skipped for part in parts))


def _written(cut: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value!r}" for key, value in cut.items())


def write(path: str | Path, counts: WordCounts) -> None:
    """Write a counts file: complete or not there, the same bytes for the same counts."""
    path = Path(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _checked(_file_parts(counts)))


def _file_parts(counts: WordCounts) -> Iterator[bytes]:
    header = {
        "cut": counts.cut,
        "words": len(counts),
        "total": counts.total,
        "min_count": counts.min_count,
        "skipped": counts.skipped,
    }
    encoded = json.dumps(header, sort_keys=True, ensure_ascii=False).encode("utf-8")
    yield _START.pack(_MAGIC, _VERSION, len(encoded)) + encoded
    for offset in range(0, counts.words.packed_bytes, _CHUNK):
        yield counts.words.packed(offset, _CHUNK)


def _checked(parts: Iterable[bytes]) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
        yield part
    yield digest.digest()


def is_counts_file(path: str | Path) -> bool:
    path = Path(path)
    if not path.is_file():
        return False
    with open(path, "rb") as handle:
        return handle.read(len(_MAGIC)) == _MAGIC


def read(path: str | Path) -> WordCounts:
    """Open a counts file. It is read through and checked now; the words are read again when they are used.

    Raises:
        FormatError: it is not there, no counts file, of a newer version or damaged; says where.
    """
    path = Path(path)
    try:
        with open(path, "rb") as handle:
            size = path.stat().st_size
            offset, header = _read_header(handle, size, path)
            packed_bytes = size - offset - _CHECKSUM_BYTES
            if header["words"] * 4 > packed_bytes:  # the least that a word takes
                raise FormatError(f"claims {header['words']:,} words in {packed_bytes:,} bytes", where=path)
            handle.seek(0)
            _check(handle, size - _CHECKSUM_BYTES, path)
        words = _native.WordCounts.in_file(str(path), offset, packed_bytes, header["words"])
    except ValueError as error:
        raise FormatError(str(error), where=path) from None
    except (OSError, RuntimeError) as error:
        raise FormatError(f"cannot be read ({getattr(error, 'strerror', None) or error})", where=path) from None
    if words.total != header["total"]:
        raise FormatError(f"'total' is {header['total']:,}, and its words have {words.total:,}", where=path)
    return WordCounts(words, header["cut"], header["min_count"], header["skipped"])


def _read_header(handle: BinaryIO, size: int, path: Path) -> tuple[int, dict[str, Any]]:
    """Where the words start, and the header."""
    start = handle.read(_START.size)
    if len(start) < _START.size or not start.startswith(_MAGIC):
        raise FormatError("is no counts file", where=path, hint="`seedbed tokenizer count` makes them.")
    _, version, length = _START.unpack(start)
    if version != _VERSION:
        raise FormatError(f"is of version {version}, and only version {_VERSION} can be read", where=path)
    offset = _START.size + length
    if length > _LARGEST_HEADER or offset + _CHECKSUM_BYTES > size:
        raise FormatError(f"has a header of {length:,} bytes, which does not fit", where=path)
    header = json.loads(handle.read(length))
    if not isinstance(header, dict) or not isinstance(header.get("cut"), dict):
        raise FormatError("'cut' is missing from its header", where=path)
    for key, least in (("words", 0), ("total", 0), ("min_count", 1), ("skipped", 0)):
        if type(header.get(key)) is not int or not least <= header[key] < 1 << 63:
            raise FormatError(f"'{key}' in its header is {header.get(key)!r}", where=path)
    return offset, header


def _check(handle: BinaryIO, size: int, path: Path) -> None:
    digest = hashlib.sha256()
    while size:
        chunk = handle.read(min(size, _CHUNK))
        if not chunk:
            raise FormatError("was cut off while it was read", where=path)
        digest.update(chunk)
        size -= len(chunk)
    if digest.digest() != handle.read(_CHECKSUM_BYTES):
        raise FormatError("its checksum is wrong", where=path, hint="The file is damaged or cut off.")
