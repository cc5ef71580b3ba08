"""Exact duplicates: documents with equal normalised text. The first in order is kept."""

from __future__ import annotations

import hashlib
import tempfile
from array import array

from .. import _native


def text_digest(text: str) -> bytes:
    """sha256 of the text's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).digest()


class ExactDuplicates:
    """Remembers half of the digest of each text that it has seen (two texts share it with probability 2^-128) and, in a
    file, their ids: about fifty bytes of memory a text."""

    def __init__(self) -> None:
        self._table = _native.DigestTable()
        self._ids = tempfile.TemporaryFile()  # noqa: SIM115
        self._starts = array("Q")
        self._end = 0

    def first_with(self, digest: bytes, id: str) -> str | None:
        """The id of the earlier document with this digest, or None when this is the first."""
        number = len(self._starts)
        first = self._table.add(digest, number)
        if first != number:
            return self._id(first)
        self._starts.append(self._end)
        self._end += self._ids.write(id.encode())
        return None

    def memory_bytes(self) -> int:
        return self._table.memory_bytes() + self._starts.itemsize * len(self._starts)

    def _id(self, number: int) -> str:
        end = self._starts[number + 1] if number + 1 < len(self._starts) else self._end
        self._ids.seek(self._starts[number])
        id = self._ids.read(end - self._starts[number]).decode()
        self._ids.seek(self._end)
        return id
