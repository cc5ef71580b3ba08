"""From the ids of texts to the rows that a model reads: truncation, templates and padding.

All of it is array arithmetic over a whole batch; nothing loops over texts.
Legend: B rows, T tokens of the longest row, N tokens of a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core.errors import ConfigError, DataError
from ..core.ragged import Ragged
from .post_processor import Template

Side = Literal["left", "right"]
Strategy = Literal["longest_first", "only_first", "only_second"]
Lengths = NDArray[np.int64]


@dataclass(frozen=True)
class Truncation:
    """What a tokenizer.json says of truncation."""

    max_length: int  # what the template adds counts too
    side: Side = "right"
    strategy: Strategy = "longest_first"
    stride: int = 0  # by how much the pieces of a text that `tokenizers` cuts up overlap; kept, not used


@dataclass(frozen=True)
class Padding:
    """What a tokenizer.json says of padding."""

    length: int | None = None  # None: of the longest row
    side: Side = "right"
    multiple_of: int | None = None
    token: str = "[PAD]"
    token_id: int = 0
    type_id: int = 0


def check_side(side: str, name: str) -> None:
    if side not in ("left", "right"):
        raise ConfigError(f"{name} {side!r} is neither 'left' nor 'right'")


def room(max_length: int, added: int) -> int:
    """What a template that adds `added` ids leaves of `max_length`.

    Raises:
        ConfigError: nothing, not even for the template.
    """
    if max_length < added:
        raise ConfigError(f"max_length {max_length} has no room for the {added} ids that the template adds")
    return max_length - added


def truncate(batch: Ragged, keep: Lengths | int, side: Side) -> Ragged:
    """The rows cut to `keep` tokens (of each row, or of all); `side` is where tokens go."""
    lengths = batch.lengths
    kept: Lengths = np.minimum(lengths, keep)
    if np.array_equal(kept, lengths):
        return batch
    # The place of each token in its row, from the side that stays.
    place = np.arange(batch.offsets[-1]) - np.repeat(batch.offsets[:-1], lengths)
    if side == "left":
        place = np.repeat(lengths, lengths) - 1 - place
    return Ragged(batch.values[place < np.repeat(kept, lengths)], _offsets(kept))


def shares(first: Lengths, second: Lengths, most: int, strategy: Strategy) -> tuple[Lengths, Lengths]:
    """How many tokens of each text of a pair stay where both together may have `most`, as `tokenizers` decides it.

    Args:
        first, second: tokens of each text, int64 (B,).

    Raises:
        ConfigError: the strategy is unknown.
        DataError: the text that alone may be cut is too short for that; says which row.
    """
    excess = np.maximum(first + second - most, 0)
    if strategy == "longest_first":
        # The shorter text stays whole where it takes less than half of the room, and both get half otherwise.
        shorter = np.minimum(first, second)
        halves = (excess > 0) & (shorter > most // 2)
        longer = most - np.where(halves, most // 2, shorter)
        shorter = np.where(halves, most // 2, shorter)
        swapped = first > second
        cut_first, cut_second = np.where(swapped, longer, shorter), np.where(swapped, shorter, longer)
        return np.where(excess > 0, cut_first, first), np.where(excess > 0, cut_second, second)
    if strategy not in ("only_first", "only_second"):
        raise ConfigError(f"truncation strategy {strategy!r}", hint="Known: longest_first, only_first, only_second.")
    if not most:
        return np.zeros_like(first), np.zeros_like(second)
    target = first if strategy == "only_first" else second
    short = (excess > 0) & (target <= excess)
    if short.any():
        row = int(np.argmax(short))
        which = strategy.removeprefix("only_")
        raise DataError(
            f"the {which} text has {target[row]} tokens, and {excess[row]} too many are there",
            where=f"row {row}",
            hint="Cut with strategy='longest_first'.",
        )
    return (first - excess, second) if strategy == "only_first" else (first, second - excess)


def assemble(texts: Sequence[Ragged], template: Template, add_special_tokens: bool) -> tuple[Ragged, Ragged]:
    """The ids and the type ids (segments) of rows put together by a template; all texts have B rows."""
    pieces = [piece for piece in template if piece.text is not None or (add_special_tokens and piece.ids)]
    lengths = [
        np.full(len(texts[0]), len(piece.ids), dtype=np.int64) if piece.text is None else texts[piece.text].lengths
        for piece in pieces
    ]
    offsets = _offsets(np.sum(lengths, axis=0, dtype=np.int64))
    ids = np.empty(offsets[-1], dtype=np.uint32)
    types = np.empty(offsets[-1], dtype=np.uint32)
    starts = offsets[:-1].copy()  # where the next piece of each row goes
    for piece, length in zip(pieces, lengths, strict=True):
        if piece.text is None:
            places = starts[:, None] + np.arange(len(piece.ids))
            ids[places] = piece.ids
        else:
            text = texts[piece.text]
            places = np.repeat(starts - text.offsets[:-1], length) + np.arange(len(text.values))
            ids[places] = text.values
        types[places] = piece.type_id
        starts += length
    return Ragged(ids, offsets), Ragged(types, offsets)


def pad(
    batch: Ragged | Iterable[ArrayLike],
    value: int,
    length: int | None = None,
    side: Side = "right",
    multiple_of: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Rows of one length: int64 (B, T), and which of it is no padding: bool (B, T).

    Raises:
        ConfigError: an option that cannot be used.
        DataError: a row is longer than `length`; says which.
    """
    check_side(side, "side")
    if (length is not None and length < 0) or (multiple_of is not None and multiple_of < 1):
        raise ConfigError(f"length {length} and multiple_of {multiple_of} cannot be padded to")
    rows = batch if isinstance(batch, Ragged) else Ragged.from_rows(batch, dtype=np.int64)  # type: ignore[arg-type]
    lengths = rows.lengths
    width = int(lengths.max(initial=0)) if length is None else length
    if multiple_of:
        width = -(-width // multiple_of) * multiple_of
    if (lengths > width).any():
        row = int(np.argmax(lengths > width))
        raise DataError(
            f"{lengths[row]} tokens are more than the length {width}",
            where=f"row {row}",
            hint="Encode with max_length.",
        )
    place = np.arange(width)
    mask = place < lengths[:, None] if side == "right" else place >= width - lengths[:, None]
    padded = np.full(mask.shape, value, dtype=np.int64)
    padded[mask] = rows.values
    return padded, mask


def _offsets(lengths: Lengths) -> Lengths:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
