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

from ..core.errors import ConfigError, DataError, FormatError
from ..core.ragged import Ragged
from ..core.randomness import numpy_generator
from .shards import TokenShards


@dataclass(frozen=True)
class Batch:
    """Inputs, the next token at each position, and the weight of each position in the loss (0: padding, prompt)."""

    ids_BT: torch.Tensor  # int64
    targets_BT: torch.Tensor  # int64
    weights_BT: torch.Tensor  # float32
    documents_BT: torch.Tensor | None = None  # int64: which of a row's documents a token is of; None: all see all
    prefix_B: torch.Tensor | None = None  # int64: so many first tokens see one another

    def split(self, parts: int) -> list[Batch]:
        """Cut along B into at most `parts` micro-batches."""
        return split_tensors(self, parts)

    def to(self, device: torch.device | str) -> Batch:
        tensors = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return Batch(**{name: one.to(device) for name, one in tensors.items() if one is not None})


D = TypeVar("D")


def split_tensors(batch: D, parts: int) -> list[D]:
    """A dataclass of tensors (and None) cut along their first axis into at most `parts`."""
    tensors = {name: one for name, one in vars(batch).items() if one is not None}
    pieces = zip(*(one.chunk(parts) for one in tensors.values()), strict=True)
    return [type(batch)(**dict(zip(tensors, piece, strict=True))) for piece in pieces]


def join_batches(batches: list[Batch]) -> Batch:
    """Rows of equal length one below another."""
    names = [name for name, one in vars(batches[0]).items() if one is not None]
    return Batch(**{name: torch.cat([getattr(one, name) for one in batches]) for name in names})


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
        document_masks: say which document each token is of, so that none sees another's; the first token of a document
            is then foretold by none.
        vocab_size: of the model.

    Raises:
        DataError: there are fewer windows than `batch_size`.
        ConfigError: the shard's vocabulary is larger than the model's.
    """

    def __init__(
        self,
        shards: TokenShards,
        batch_size: int,
        context_length: int,
        seed: int = 0,
        *,
        limit_tokens: int | None = None,
        document_masks: bool = False,
        vocab_size: int | None = None,
    ) -> None:
        if vocab_size is not None and shards.vocab_size > vocab_size:
            raise ConfigError(
                f"the tokens are of a vocabulary of {shards.vocab_size:,}, the model knows {vocab_size:,}",
                where=shards.path,
                hint="Take the tokenizer that the model was made for, or a model with a larger vocabulary.",
            )
        self._document_masks = document_masks
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
        ids, targets = (torch.from_numpy(np.ascontiguousarray(part)) for part in (rows[:, :-1], rows[:, 1:]))
        weights = torch.ones(self._batch_size, self._length)
        if not self._document_masks:
            return Batch(ids, targets, weights)
        # A document's last token is the end of text.
        ends = ids == self._shards.end_of_text_id
        return Batch(ids, targets, weights.masked_fill_(ends, 0.0), ends.cumsum(dim=1) - ends.long())

    def documents(self) -> str:
        """The documents of the last batch, by their number in the split (from 0)."""
        found: set[int] = set()
        for row in range(max(self._drawn - self._batch_size, 0), self._drawn):
            start = self._start(row)
            first, last = np.searchsorted(self._shards.document_offsets, (start, start + self._length), "right") - 1
            found |= {*range(int(first), int(last) + 1)}
        return f"documents {', '.join(map(str, sorted(found)))} of {self._shards.path}"

    def _window(self, index: int) -> np.ndarray:
        start = self._start(index)
        return self._shards.tokens[start : start + self._length + 1]

    def _start(self, index: int) -> int:
        epoch, place = divmod(index, len(self._windows))
        if self._order[0] != epoch:
            self._order = (epoch, numpy_generator(self._seed, "packed", epoch).permutation(self._windows))
        return int(self._order[1][place]) * self._length

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

    def largest(self) -> Batch:
        """The batch of the longest examples, as large as any."""
        return self._collate(np.argsort(self._lengths, kind="stable")[-self._batch_size :])

    def documents(self) -> str:
        """The examples of the last batch, by their number (from 0)."""
        epoch, place = divmod(max(self._drawn - 1, 0), self.batches_per_epoch)
        rows = self._plan_epoch(numpy_generator(self._seed, "padded", epoch))[place]
        return f"examples {', '.join(map(str, sorted(rows.tolist())))}"

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
