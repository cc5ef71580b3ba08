"""Documents packed whole into rows, so that next to nothing is padding. B batch, T tokens."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch

from ..core.errors import DataError
from ..core.ragged import Ragged
from ..core.randomness import numpy_generator
from .loader import Batch


def pack(lengths: np.ndarray, room: int) -> list[list[int]]:
    """Which documents share a row of `room` tokens: best fit, the longest first (Johnson 1973: at most 11/9 of the
    fewest rows). Documents that are longer than `room` are left out."""
    rows: list[list[int]] = []
    free: list[tuple[int, int]] = []  # (tokens free, row), ascending
    for document in np.argsort(-lengths, kind="stable"):
        length = int(lengths[document])
        if length > room:
            continue
        place = bisect_left(free, (length, -1))
        left, row = free.pop(place) if place < len(free) else (room, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(int(document))
        insort(free, (left - length, row))
    return rows


class PackedDocuments:
    """Batches of rows in which whole documents lie one behind another and see no other. Each epoch visits every
    document once; an epoch's shuffled documents are packed `group` at a time, and the rows shuffled again. An epoch's
    last batch may be smaller.

    A token's target is the next of its document, so a document's last token has no weight. The room that is left at a
    row's end is padding, a document of its own.

    Args:
        ids: one row of tokens per document, at most `context_length` of them.

    Raises:
        DataError: there are no documents, or one that is empty or too long.
    """

    def __init__(
        self, ids: Ragged, batch_size: int, context_length: int, pad_id: int, seed: int = 0, *, group: int = 4096
    ) -> None:
        lengths = ids.lengths
        if len(ids) == 0:
            raise DataError("there are no documents to train on", hint="Use more text.")
        if lengths.min() < 1 or lengths.max() > context_length:
            row = int(np.argmin(lengths)) if lengths.min() < 1 else int(np.argmax(lengths))
            raise DataError(f"document {row} has {lengths[row]} tokens; allowed are 1 to {context_length}")
        self._ids, self._lengths, self._batch_size, self._length = ids, lengths, batch_size, context_length
        self._pad_id, self._seed, self._group = pad_id, seed, group
        self._epoch, self._place = 0, 0
        self._plan: tuple[int, list[list[int]]] = (-1, [])

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return self._epoch

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        if self._plan[0] != self._epoch:
            self._plan = (self._epoch, self._plan_epoch(numpy_generator(self._seed, "documents", self._epoch)))
        rows = self._plan[1][self._place : self._place + self._batch_size]
        self._place += len(rows)
        if self._place == len(self._plan[1]):
            self._epoch, self._place = self._epoch + 1, 0
        return self._collate(rows)

    def _plan_epoch(self, random: np.random.Generator) -> list[list[int]]:
        rows: list[list[int]] = []
        order = random.permutation(len(self._ids))
        for start in range(0, len(order), self._group):
            some = order[start : start + self._group]
            rows += [[int(some[one]) for one in row] for row in pack(self._lengths[some], self._length)]
        return [rows[index] for index in random.permutation(len(rows))]

    def _collate(self, rows: list[list[int]]) -> Batch:
        shape = len(rows), self._length
        ids, documents = np.full(shape, self._pad_id, np.int64), np.zeros(shape, np.int64)
        targets, weights = ids.copy(), np.zeros(shape, np.float32)
        for place, row in enumerate(rows):
            end = 0
            for number, document in enumerate(row):
                start, end = end, end + int(self._lengths[document])
                ids[place, start:end] = self._ids[document]
                targets[place, start : end - 1] = ids[place, start + 1 : end]
                weights[place, start : end - 1] = 1.0
                documents[place, start:end] = number
            documents[place, end:] = len(row)
        return Batch(*(torch.from_numpy(one) for one in (ids, targets, weights, documents)))

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self._epoch, "place": self._place}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._epoch, self._place = int(state["epoch"]), int(state["place"])
