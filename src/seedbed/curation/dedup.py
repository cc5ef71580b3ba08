"""Exact duplicates: documents with equal normalised text. The first in order is kept."""

from __future__ import annotations

import hashlib


def text_digest(text: str) -> bytes:
    """sha256 of the text's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).digest()


class ExactDuplicates:
    """Remembers one digest and the id of each text that it has seen."""

    def __init__(self) -> None:
        self._first: dict[bytes, str] = {}

    def first_with(self, digest: bytes, id: str) -> str | None:
        """The id of the earlier document with this digest, or None when this is the first."""
        first = self._first.setdefault(digest, id)
        return None if first == id else first
