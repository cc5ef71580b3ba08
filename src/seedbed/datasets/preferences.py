"""Preference rows `{"prompt", "chosen", "rejected"}`: read from a file with checks, or made by ranking candidates.

B pairs, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from ..core.errors import DataError
from ..core.ragged import Ragged
from ..core.randomness import numpy_generator
from .instructions import encode_prompt
from .jsonl import Row, Rows, read_rows

if TYPE_CHECKING:
    from ..tokenizers import Tokenizer


@dataclass(frozen=True)
class Candidate:
    """One answer to a prompt and what it is worth."""

    text: str
    ended: bool  # by itself, not cut off at a length
    score: float


def read_preferences(path: str | Path) -> Rows:
    """Rows of a user's JSONL; unusable ones (empty chosen, chosen equal to rejected) are in `.rejected`.

    `chosen_ended` and `rejected_ended` (true if left out) say whether an answer ended by itself or was cut off.

    Raises:
        DataError: the file cannot be read or has no usable row.
    """
    return read_rows(path, parse_preference)


def parse_preference(row: Row) -> Row:
    """A checked preference row.

    Raises:
        ValueError: what is wrong with it.
    """
    for key in ("prompt", "chosen", "rejected"):
        if not isinstance(row.get(key), str):
            raise ValueError(f"'{key}' is missing or not text")
    if not row["prompt"].strip():
        raise ValueError("empty prompt")
    if not row["chosen"].strip():
        raise ValueError("empty chosen")
    ended = {f"{side}_ended": row.get(f"{side}_ended", True) for side in ("chosen", "rejected")}
    if not all(isinstance(value, bool) for value in ended.values()):
        raise ValueError("'chosen_ended' and 'rejected_ended' are true or false")
    if row["chosen"] == row["rejected"] and ended["chosen_ended"] == ended["rejected_ended"]:
        raise ValueError("chosen equals rejected")
    return {"prompt": row["prompt"], "chosen": row["chosen"], "rejected": row["rejected"], **ended}


def rank_candidates(
    prompt: str,
    candidates: Sequence[Candidate],
    generator: np.random.Generator,
    *,
    pairs: int = 2,
    minimum_gap: float = 0.05,
) -> list[Row]:
    """Up to `pairs` preference rows for one prompt, drawn from all pairs whose scores differ by `minimum_gap`.

    No two rows of a prompt hold the same two texts; a candidate that is empty is never chosen.
    """
    unique = list({(one.text, one.ended): one for one in candidates}.values())
    possible = [
        (better, worse)
        for better in unique
        for worse in unique
        if better.text.strip() and better.score - worse.score >= max(minimum_gap, 1e-9)
    ]
    picked = generator.permutation(len(possible))[:pairs]
    return [
        {
            "prompt": prompt, "chosen": better.text, "rejected": worse.text,
            "chosen_ended": better.ended, "rejected_ended": worse.ended,
            "chosen_score": better.score, "rejected_score": worse.score,
        }
        for better, worse in (possible[int(index)] for index in sorted(picked))
    ]  # fmt: skip


@dataclass(frozen=True)
class EncodedPreferences:
    """Prompt and answer of both sides as token ids, Ragged over pairs; pairs beyond the context are counted."""

    chosen: Ragged
    rejected: Ragged
    too_long: int

    def __len__(self) -> int:
        return len(self.chosen)


def encode_preferences(
    rows: Sequence[Row], tokenizer: Tokenizer, context_length: int, end_id: int
) -> EncodedPreferences:
    """Encode by the chat template; an answer that ended by itself closes with `end_id`.

    Raises:
        DataError: no pair is left.
    """
    chosen, rejected, too_long = [], [], 0
    for row in rows:
        prompt = encode_prompt(tokenizer, row["prompt"])
        sides = [
            np.concatenate(
                [prompt, tokenizer.encode(row[side], parse_special=False), [end_id] if row[f"{side}_ended"] else []]
            )
            for side in ("chosen", "rejected")
        ]
        if max(map(len, sides)) > context_length:
            too_long += 1
        else:
            chosen.append(sides[0])
            rejected.append(sides[1])
    if not chosen:
        raise DataError(
            f"no preference pair can be trained on: {too_long} are longer than the context of {context_length} tokens"
        )
    return EncodedPreferences(Ragged.from_rows(chosen), Ragged.from_rows(rejected), too_long)


@dataclass(frozen=True)
class PairBatch:
    """Right-padded ids of the chosen and the rejected answers, row by row a pair."""

    chosen_BT: torch.Tensor  # int64
    rejected_BT: torch.Tensor  # int64

    def split(self, parts: int) -> list[PairBatch]:
        pieces = zip(self.chosen_BT.chunk(parts), self.rejected_BT.chunk(parts), strict=True)
        return [PairBatch(chosen, rejected) for chosen, rejected in pieces]

    def to(self, device: torch.device | str) -> PairBatch:
        return PairBatch(self.chosen_BT.to(device), self.rejected_BT.to(device))


class PreferenceBatches:
    """Endless batches of pairs, each epoch in an order drawn from (seed, epoch); resumed by one integer."""

    def __init__(self, pairs: EncodedPreferences, batch_size: int, pad_id: int, seed: int = 0) -> None:
        self._pairs, self._batch_size, self._pad_id, self._seed = pairs, batch_size, pad_id, seed
        self._drawn = 0
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0))

    @property
    def batches_per_epoch(self) -> int:
        return -(-len(self._pairs) // self._batch_size)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> PairBatch:
        epoch, place = divmod(self._drawn, self.batches_per_epoch)
        if self._order[0] != epoch:
            self._order = (epoch, numpy_generator(self._seed, "preferences", epoch).permutation(len(self._pairs)))
        self._drawn += 1
        return self._collate(self._order[1][place * self._batch_size : (place + 1) * self._batch_size])

    def once(self) -> Iterator[PairBatch]:
        """Every pair once, in order. The state is not touched."""
        rows = np.arange(len(self._pairs))
        return (
            self._collate(rows[start : start + self._batch_size]) for start in range(0, len(rows), self._batch_size)
        )

    def _collate(self, rows: np.ndarray) -> PairBatch:
        sides = [[side[int(row)] for row in rows] for side in (self._pairs.chosen, self._pairs.rejected)]
        width = max(len(ids) for side in sides for ids in side)
        return PairBatch(*(pad_right(side, self._pad_id, width) for side in sides))

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self._drawn}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._drawn = int(state["drawn"])


def pad_right(rows: Sequence[np.ndarray], pad_id: int, width: int | None = None) -> torch.Tensor:
    """Rows of ids as one int64 tensor (rows, width), filled up with `pad_id`; the longest row's width by default."""
    padded = np.full((len(rows), width or max(map(len, rows))), pad_id, np.int64)
    for place, ids in enumerate(rows):
        padded[place, : len(ids)] = ids
    return torch.from_numpy(padded)
