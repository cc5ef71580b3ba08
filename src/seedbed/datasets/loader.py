"""Endless, exactly resumable batches. B batch, T tokens.

What comes next is a function of the seed and of a few integers, so the state is these integers: no queue or generator
has to be saved, and a resumed iterator goes on bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import torch

from ..core.errors import DataError, FormatError
from ..core.ragged import Ragged
from ..core.randomness import numpy_generator
from .shards import TokenShards


@dataclass(frozen=True)
class Batch:
    """Inputs, the next token at each position, and the weight of each position in the loss (0: padding, prompt)."""

    ids_BT: torch.Tensor  # int64
    targets_BT: torch.Tensor  # int64
    weights_BT: torch.Tensor  # float32

    def split(self, parts: int) -> list[Batch]:
        """Cut along B into at most `parts` micro-batches."""
        pieces = (tensor.chunk(parts) for tensor in (self.ids_BT, self.targets_BT, self.weights_BT))
        return [Batch(*one) for one in zip(*pieces, strict=True)]

    def to(self, device: torch.device | str) -> Batch:
        return Batch(self.ids_BT.to(device), self.targets_BT.to(device), self.weights_BT.to(device))


T_co = TypeVar("T_co", covariant=True)


class Batches(Protocol[T_co]):
    """A source of batches that the trainer can save and resume."""

    def __iter__(self) -> Iterator[T_co]: ...
    def __next__(self) -> T_co: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class PackedBatches:
    """Batches of full windows over a shard's stream of documents, without padding.

    The stream is cut into fixed windows of `context_length` tokens and their targets; each epoch visits every window
    once, in an order drawn from (seed, epoch). A batch may reach over the end of an epoch.

    Args:
        limit_tokens: use only so many tokens: whole windows, drawn by the seed. The windows of a smaller limit are
            among those of a larger one, so runs on less data see a part of the same data.

    Raises:
        DataError: there are fewer windows than `batch_size`.
    """

    def __init__(
        self,
        shards: TokenShards,
        batch_size: int,
        context_length: int,
        seed: int = 0,
        *,
        limit_tokens: int | None = None,
    ) -> None:
        self._shards, self._batch_size, self._length, self._seed = shards, batch_size, context_length, seed
        windows = max(len(shards) - 1, 0) // context_length
        chosen = windows if limit_tokens is None else min(limit_tokens // context_length, windows)
        if chosen < batch_size:
            limit = "" if chosen == windows else f" (limited to {limit_tokens:,})"
            raise DataError(
                f"{len(shards):,} tokens{limit} make {chosen} windows of {context_length}, too few for one batch of "
                f"{batch_size}",
                where=shards.path,
                hint="Use more text, or lower the batch size or the context length.",
            )
        self._windows = np.arange(windows)
        if chosen < windows:
            self._windows = numpy_generator(seed, "packed", "limit").permutation(windows)[:chosen]
        self._drawn = 0
        self._order: tuple[int, np.ndarray] = (-1, self._windows)

    @property
    def tokens_per_epoch(self) -> int:
        return len(self._windows) * self._length

    @property
    def epoch(self) -> float:
        """Epochs drawn so far."""
        return self._drawn / len(self._windows)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        rows = np.stack([self._window(self._drawn + row) for row in range(self._batch_size)]).astype(np.int64)
        if int(rows.max()) >= self._shards.vocab_size:
            raise FormatError(
                f"token {rows.max()} in a vocabulary of {self._shards.vocab_size}", where=self._shards.path
            )
        self._drawn += self._batch_size
        window = torch.from_numpy(rows)
        return Batch(
            window[:, :-1].contiguous(), window[:, 1:].contiguous(), torch.ones(self._batch_size, self._length)
        )

    def _window(self, index: int) -> np.ndarray:
        epoch, place = divmod(index, len(self._windows))
        if self._order[0] != epoch:
            self._order = (epoch, numpy_generator(self._seed, "packed", epoch).permutation(self._windows))
        start = int(self._order[1][place]) * self._length
        return self._shards.tokens[start : start + self._length + 1]

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self._drawn}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._drawn = int(state["drawn"])


class PaddedBatches:
    """Right-padded batches of examples of unequal length; each epoch visits every example once.

    Examples of like length go together so that little is padding: an epoch's shuffled examples are cut into groups of
    `group` batches, each sorted by length, and the batches are shuffled again. An epoch's last batch may be smaller.

    Args:
        ids: one row of tokens per example, at least two and at most `context_length + 1` of them.
        weights: for each token of `ids`, its weight in the loss when it is the one to be predicted.

    Raises:
        DataError: there are no examples, or one that is too short or too long.
    """

    def __init__(
        self,
        ids: Ragged,
        weights: Ragged,
        batch_size: int,
        context_length: int,
        pad_id: int,
        seed: int = 0,
        *,
        group: int = 16,
        multiple: int = 8,
    ) -> None:
        lengths = ids.lengths
        if len(ids) == 0:
            raise DataError("there are no examples to train on", hint="Use more text.")
        if not np.array_equal(ids.offsets, weights.offsets):
            raise ValueError("ids and weights differ in shape")
        if lengths.min() < 2 or lengths.max() > context_length + 1:
            row = int(np.argmin(lengths)) if lengths.min() < 2 else int(np.argmax(lengths))
            raise DataError(f"example {row} has {lengths[row]} tokens; allowed are 2 to {context_length + 1}")
        self._ids, self._weights, self._lengths = ids, weights, lengths
        self._batch_size, self._pad_id, self._seed, self._group = batch_size, pad_id, seed, group
        self._multiple, self._length = multiple, context_length
        self._drawn = 0
        self._plan: tuple[int, list[np.ndarray]] = (-1, [])

    @property
    def batches_per_epoch(self) -> int:
        return -(-len(self._ids) // self._batch_size)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        epoch, place = divmod(self._drawn, self.batches_per_epoch)
        if self._plan[0] != epoch:
            self._plan = (epoch, self._plan_epoch(numpy_generator(self._seed, "padded", epoch)))
        self._drawn += 1
        return self._collate(self._plan[1][place])

    def once(self) -> Iterator[Batch]:
        """Every example once, by length: for evaluation. The state is not touched."""
        order = np.argsort(self._lengths, kind="stable")
        return (self._collate(rows) for rows in _cut(order, self._batch_size))

    def _plan_epoch(self, random: np.random.Generator) -> list[np.ndarray]:
        batches: list[np.ndarray] = []
        for rows in _cut(random.permutation(len(self._ids)), self._batch_size * self._group):
            batches += _cut(rows[np.argsort(self._lengths[rows], kind="stable")], self._batch_size)
        return [batches[index] for index in random.permutation(len(batches))]

    def _collate(self, rows: np.ndarray) -> Batch:
        longest = int(self._lengths[rows].max()) - 1
        width = min(-(-longest // self._multiple) * self._multiple, self._length)
        ids = np.full((len(rows), width), self._pad_id, np.int64)
        targets, weights = ids.copy(), np.zeros((len(rows), width), np.float32)
        for place, row in enumerate(rows):
            tokens = self._ids[int(row)]
            size = len(tokens) - 1
            ids[place, :size], targets[place, :size] = tokens[:-1], tokens[1:]
            weights[place, :size] = self._weights[int(row)][1:]
        return Batch(torch.from_numpy(ids), torch.from_numpy(targets), torch.from_numpy(weights))

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self._drawn}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._drawn = int(state["drawn"])


def _cut(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
