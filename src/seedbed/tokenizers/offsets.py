"""Where tokens stand in a text: from bytes to characters, and without the spaces that tokens begin or end with.

Legend: n tokens of a text, V ids of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .bytelevel import CHARACTER_OF_BYTE

_SPACE = CHARACTER_OF_BYTE[ord(" ")]


def in_characters(text: str, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Offsets in characters, int64 (n, 2), of offsets in bytes of UTF-8; part of a character spans the character."""
    if text.isascii():
        return places
    starts, ends = places.T
    data = np.frombuffer(text.encode("utf-8"), dtype=np.uint8)
    character = np.append(np.cumsum((data & 0xC0) != 0x80) - 1, len(text))  # of each byte, and the end
    first = character[starts]
    return np.stack([first, np.where(ends > starts, character[ends - 1] + 1, first)], axis=1)


def spaces_of(tokens: Sequence[str | None]) -> NDArray[np.int64]:
    """Leading and trailing spaces of each id, int64 (V, 2), in tokens as a byte-level vocabulary writes them."""

    def count(token: str) -> int:
        return next((i for i, c in enumerate(token) if c != _SPACE and not c.isspace()), len(token))

    return np.array([(count(token or ""), count((token or "")[::-1])) for token in tokens], dtype=np.int64)


def without_spaces(offsets: NDArray[np.int64], spaces: NDArray[np.int64], keep_first_space: bool) -> NDArray[np.int64]:
    """Offsets without the `spaces`, int64 (n, 2), of each token, as the ByteLevel post-processor trims them.

    Args:
        keep_first_space: one at the beginning of the text was put there, so it is in no offset.
    """
    starts, ends = offsets.T
    leading, trailing = spaces.T
    if keep_first_space:
        leading = leading - ((leading > 0) & (starts == 0))
    starts = np.minimum(starts + leading, ends)
    ends = np.where(ends >= trailing, np.maximum(ends - trailing, starts), ends)
    return np.stack([starts, ends], axis=1)
