"""Batches of instructions without padding: examples stand one behind another, and none sees another's tokens.

B = 1 row, T tokens of all its examples, C model width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from ..core.errors import DataError
from ..core.ragged import Ragged
from ..core.randomness import numpy_generator
from ..models.masks import Segments
from ..training.objectives import linear_cross_entropy


@dataclass(frozen=True)
class Examples:
    """Examples in one row: inputs, next tokens, the weight of each in the loss, and how long each example is."""

    ids_BT: Tensor  # int64
    targets_BT: Tensor  # int64
    weights_BT: Tensor  # float32
    lengths: tuple[int, ...]

    def split(self, parts: int) -> list[Examples]:
        """Cut between examples into at most `parts` micro-batches."""
        some = [tuple(one.tolist()) for one in np.array_split(self.lengths, min(parts, len(self.lengths)))]
        sizes = [sum(lengths) for lengths in some]
        tensors = (one.split(sizes, dim=1) for one in (self.ids_BT, self.targets_BT, self.weights_BT))
        return [Examples(*one) for one in zip(*tensors, some, strict=True)]

    def to(self, device: torch.device | str) -> Examples:
        return Examples(self.ids_BT.to(device), self.targets_BT.to(device), self.weights_BT.to(device), self.lengths)


class ExampleBatches:
    """Endless batches of examples in an order drawn anew each epoch; the state is one integer.

    Args:
        ids: one row of tokens per example, at least two.
        weights: for each token of `ids`, its weight in the loss when it is the one to be predicted.
        batch_size: examples of a batch.
        max_tokens: a batch ends before it has more tokens, but has one example at least. Batches are cut at the same
            places in every epoch's order, so that what comes next follows from how many were drawn.

    Raises:
        DataError: there are no examples, or one that is too short.
    """

    def __init__(
        self, ids: Ragged, weights: Ragged, batch_size: int, seed: int = 0, *, max_tokens: int = 1 << 14
    ) -> None:
        if len(ids) == 0:
            raise DataError("there are no examples to train on", hint="Use more text.")
        if not np.array_equal(ids.offsets, weights.offsets):
            raise ValueError("ids and weights differ in shape")
        if ids.lengths.min() < 2:
            raise DataError(f"example {int(np.argmin(ids.lengths))} has less than two tokens")
        self._ids, self._weights, self._batch_size, self._seed = ids, weights, batch_size, seed
        self._max_tokens = max_tokens
        self._epoch, self._place = 0, 0
        self._plan: tuple[int, list[np.ndarray]] = (-1, [])

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Examples:
        batches = self._batches(self._epoch)
        chosen = batches[self._place]
        self._place += 1
        if self._place == len(batches):
            self._epoch, self._place = self._epoch + 1, 0
        return self._collate(chosen)

    @property
    def batches_per_epoch(self) -> int:
        """Of the first epoch; others differ where batches are cut by their tokens."""
        return len(self._batches(0))

    def once(self) -> Iterator[Examples]:
        """Every example once, in order: for evaluation. The state is not touched."""
        return (self._collate(rows) for rows in self._cut(np.arange(len(self._ids))))

    def _batches(self, epoch: int) -> list[np.ndarray]:
        if self._plan[0] != epoch:
            order = numpy_generator(self._seed, "examples", epoch).permutation(len(self._ids))
            self._plan = (epoch, self._cut(order))
        return self._plan[1]

    def _cut(self, order: np.ndarray) -> list[np.ndarray]:
        batches: list[np.ndarray] = []
        start, tokens = 0, 0
        for place, length in enumerate(self._ids.lengths[order] - 1):
            full = place - start == self._batch_size or tokens + length > self._max_tokens
            if full and place > start:
                batches.append(order[start:place])
                start, tokens = place, 0
            tokens += int(length)
        return [*batches, order[start:]]

    def _collate(self, rows: np.ndarray) -> Examples:
        ids = [self._ids[int(row)].astype(np.int64) for row in rows]
        weights = [self._weights[int(row)][1:] for row in rows]
        inputs, targets = (np.concatenate([one[part] for one in ids]) for part in (slice(-1), slice(1, None)))
        return Examples(
            torch.from_numpy(inputs)[None],
            torch.from_numpy(targets)[None],
            torch.from_numpy(np.concatenate(weights).astype(np.float32))[None],
            tuple(len(one) - 1 for one in ids),
        )

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self._epoch, "place": self._place}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._epoch, self._place = int(state["epoch"]), int(state["place"])


class AnswerTokens:
    """Cross-entropy of the weighted tokens, in nats, over `Examples`.

    Args:
        noise: NEFTune (Jain et al. 2023): in training, embeddings are moved by uniform noise of this size over the root
            of (tokens of the example times C). 0: none.
    """

    def __init__(self, noise: float = 0.0) -> None:
        self._noise = noise

    def loss(self, model: Any, batch: Examples) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
        hidden_NC = self.hidden(model, batch).flatten(0, 1)
        targets, weights = batch.targets_BT.flatten(), batch.weights_BT.flatten()
        kept = weights.nonzero()[:, 0]  # questions need no logits
        total = linear_cross_entropy(hidden_NC[kept], model.head_weight, targets[kept], weights[kept])
        return total, weights.sum(), {}

    def hidden(self, model: Any, batch: Examples) -> Tensor:
        """What the head reads (1, T, C)."""
        device, segments = batch.ids_BT.device, Segments(batch.lengths)
        if not (self._noise and model.training):
            hidden: Tensor = model.hidden(batch.ids_BT, segments.positions(device), segments)
            return hidden
        lengths = torch.tensor(batch.lengths, device=device)
        sizes = (self._noise / (lengths * model.config.hidden_size) ** 0.5).repeat_interleave(lengths)

        def disturb(layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            return output + (torch.rand_like(output) * 2 - 1) * sizes[None, :, None].to(output)

        hook = model.embedding.register_forward_hook(disturb)
        try:
            hidden = model.hidden(batch.ids_BT, segments.positions(device), segments)
        finally:
            hook.remove()
        return hidden


@torch.no_grad()
def example_nats(model: Any, batches: Iterator[Examples]) -> tuple[np.ndarray, np.ndarray]:
    """Of each example: the sum of its weighted tokens' cross-entropy in nats, and the weight, float64."""
    sums, counts = [], []
    for batch in batches:
        hidden = AnswerTokens().hidden(model, batch).flatten(0, 1)
        nats = torch.cat([
            nn.functional.cross_entropy((rows @ model.head_weight.T).float(), targets, reduction="none")
            for rows, targets in zip(hidden.split(256), batch.targets_BT.flatten().split(256), strict=True)
        ])  # fmt: skip
        weights = batch.weights_BT.flatten()
        for one, weight in zip((nats * weights).split(batch.lengths), weights.split(batch.lengths), strict=True):
            sums.append(float(one.sum()))
            counts.append(float(weight.sum()))
    return np.array(sums), np.array(counts)
