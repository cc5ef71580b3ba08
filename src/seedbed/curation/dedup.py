"""Exact duplicates: documents with equal normalised text. The first in order is kept.

Digests and ids lie in files, so that what grows with the corpus is the disk's and one number a document.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_DIGESTS_AT_ONCE = 4 << 20  # about 150 MB while they are sorted


def text_digest(text: str) -> bytes:
    """sha256 of the text's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).digest()


class Names:
    """Ids of documents by number, in a file."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "w+b", buffering=1 << 20)  # noqa: SIM115
        self._ends = array("Q", [0])

    def extend(self, ids: Iterable[str]) -> None:
        for id in ids:
            self._ends.append(self._ends[-1] + self._file.write(id.encode()))

    def __getitem__(self, number: int) -> str:
        start, end = self._ends[number], self._ends[number + 1]
        self._file.seek(start)
        return self._file.read(end - start).decode()

    def close(self) -> None:
        self._file.close()


def first_occurrences(digests: NDArray[np.uint64], at_once: int = _DIGESTS_AT_ONCE) -> NDArray[np.uint32]:
    """For each digest the number of the first that is equal to it, uint32 (n,).

    Args:
        digests: (n, 2), which may be mapped from a file: it is read again for every `at_once` of them.
    """
    count = len(digests)
    first = np.arange(count, dtype=np.uint32)
    shares = -(-count // at_once) or 1
    for share in range(shares):
        rows = np.flatnonzero(digests[:, 0] % np.uint64(shares) == share) if shares > 1 else np.arange(count)
        mine = digests[rows]
        order = np.lexsort((mine[:, 1], mine[:, 0]))  # stable: the first of equals stays first
        ordered = mine[order]
        new = np.ones(len(rows), bool)
        new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        starts = np.flatnonzero(new)
        first[rows[order]] = np.repeat(rows[order[starts]], np.diff(starts, append=len(rows)))
    return first
