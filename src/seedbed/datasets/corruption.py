"""What models learn from by mending it: masked tokens, masked spans, and texts of which a prefix is given.

`Corrupted` puts one of these on a source of batches. What it draws for a batch is a function of the seed and the
batch's number, so it resumes exactly. B batch, T tokens, S source tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, Self, TypeVar

import numpy as np
import torch

from ..core.errors import ConfigError
from ..core.randomness import numpy_generator
from .loader import Batch, Batches, split_tensors

B = TypeVar("B")
Corruption = Callable[[Batch, np.random.Generator], B]


class Corrupted(Generic[B]):
    """The batches of `batches`, each changed by `corruption`.

    Args:
        batches: of whole texts (`PackedBatches`, or a mixture of them).
        corruption: `MaskTokens`, `CorruptSpans` or `GivePrefix`.
    """

    def __init__(self, batches: Batches[Batch], corruption: Corruption[B], seed: int = 0) -> None:
        self._batches, self._corruption, self._seed, self._drawn = batches, corruption, seed, 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> B:
        random = numpy_generator(self._seed, "corruption", self._drawn)
        self._drawn += 1
        return self._corruption(next(self._batches), random)

    def documents(self) -> str:
        """The documents of the last batch, as far as its source can tell."""
        return str(getattr(self._batches, "documents", str)())

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self._drawn, "batches": self._batches.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._drawn = int(state["drawn"])
        self._batches.load_state_dict(state["batches"])


class MaskTokens:
    """BERT's masked tokens (Devlin et al. 2019, section 3.1): a share of the tokens is to be foretold; of these 80%
    show the mask, 10% a random token, and 10% themselves.

    Args:
        mask_id: the token that hides. Random ones are drawn from the `vocab_size` tokens but those of `special_ids`,
            which are never chosen either.
        share: of the tokens of each row.
        word_starts: (V,) bool, True where a token begins a word: then whole words are chosen. See `word_starts`.
    """

    def __init__(
        self,
        mask_id: int,
        vocab_size: int,
        special_ids: tuple[int, ...] = (),
        share: float = 0.15,
        word_starts: np.ndarray | None = None,
    ) -> None:
        if not 0 < share < 1:
            raise ConfigError(f"the share of masked tokens must lie between 0 and 1, not at {share}")
        special = (*special_ids, mask_id)
        self._mask_id, self._share, self._word_starts = mask_id, share, word_starts
        self._ordinary = np.setdiff1d(np.arange(vocab_size), special)
        self._special = np.array(special)

    def __call__(self, batch: Batch, random: np.random.Generator) -> Batch:
        ids = batch.ids_BT.numpy()
        free = ~np.isin(ids, self._special)
        chosen = np.stack([self._choose(*row, random) for row in zip(ids, free, strict=True)])
        fate = random.random(ids.shape)
        others = random.choice(self._ordinary, ids.shape)
        seen = np.where(chosen & (fate < 0.8), self._mask_id, np.where(chosen & (fate >= 0.9), others, ids))
        weights = torch.from_numpy(chosen.astype(np.float32))
        return replace(batch, ids_BT=torch.from_numpy(seen), targets_BT=batch.ids_BT, weights_BT=weights)

    def _choose(self, ids: np.ndarray, free: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Whole units (tokens or words) in a random order, until the row's share is reached."""
        starts = np.ones(len(ids), bool) if self._word_starts is None else self._word_starts[ids] | ~free
        starts[1:] |= ~free[:-1]
        unit = np.cumsum(starts)
        order = random.permutation(np.unique(unit[free]))
        sizes = np.bincount(unit, weights=free)[order]
        before = np.cumsum(sizes) - sizes
        return free & np.isin(unit, order[before < round(self._share * int(free.sum()))])


def word_starts(tokens: list[str]) -> np.ndarray:
    """Which tokens of a vocabulary begin a word: in WordPiece those without `##`; in byte-level and SentencePiece
    vocabularies those that begin with a space or with what is neither letter nor digit."""
    if any(token.startswith("##") for token in tokens):
        return np.array([not token.startswith("##") for token in tokens])
    return np.array([not token or token[0] in "ĠĊĉ▁" or not token[0].isalnum() for token in tokens])


@dataclass(frozen=True)
class SpanBatch:
    """Texts with holes, and what fills them."""

    source_BS: torch.Tensor  # int64
    ids_BT: torch.Tensor  # int64: the decoder's inputs, the start token first
    targets_BT: torch.Tensor  # int64
    weights_BT: torch.Tensor  # float32

    def split(self, parts: int) -> list[SpanBatch]:
        return split_tensors(self, parts)

    def to(self, device: torch.device | str) -> SpanBatch:
        return SpanBatch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


class CorruptSpans:
    """T5's span corruption (Raffel et al. 2020, section 3.1.4): each span of dropped tokens leaves one sentinel in the
    source; the target is every sentinel with what it stands for, and the end.

    How many tokens and spans are dropped follows from the row's length, so that all rows of a batch come out equally
    long: nothing is padding.

    Args:
        sentinel_id: the first sentinel; the others go down from it (T5 numbers them from the vocabulary's end).
        start_id: the decoder's first input. end_id: the end of source and target.
        density: share of the tokens that is dropped. span: mean tokens of a span.
    """

    def __init__(
        self,
        sentinel_id: int,
        start_id: int,
        end_id: int,
        density: float = 0.15,
        span: float = 3.0,
        sentinels: int = 100,
    ) -> None:
        if not 0 < density < 1 or span < 1:
            raise ConfigError(f"spans need a density between 0 and 1 and a mean of 1 or more, not {density} and {span}")
        if not 0 < sentinels <= sentinel_id + 1:
            raise ConfigError(f"{sentinels} sentinels do not fit below token {sentinel_id}", where="sentinels")
        self._sentinel_id, self._sentinels = sentinel_id, sentinels
        self._start_id, self._end_id, self._density, self._span = start_id, end_id, density, span

    def __call__(self, batch: Batch, random: np.random.Generator) -> SpanBatch:
        rows = [self.row(ids, random) for ids in batch.ids_BT.numpy()]
        source, target = (torch.from_numpy(np.stack(side)) for side in zip(*rows, strict=True))
        start = torch.full((len(target), 1), self._start_id)
        inputs = torch.cat((start, target[:, :-1]), dim=1)
        return SpanBatch(source, inputs, target, torch.ones(target.shape))

    def row(self, ids: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(source, target) of one row of ids."""
        length = len(ids)
        dropped = min(max(round(length * self._density), 1), length - 1)
        spans = min(max(round(dropped / self._span), 1), length - dropped)
        if spans > self._sentinels:
            raise ConfigError(f"{length} tokens need {spans} sentinels; there are {self._sentinels}", where="sentinels")
        # Kept and dropped stretches take turns, a kept one first.
        stretches = np.stack((_cut(length - dropped, spans, random), _cut(dropped, spans, random)), axis=1)
        ends = np.cumsum(stretches.ravel())
        pieces = np.split(ids, ends[:-1])
        source, target = [], []
        for number in range(spans):
            sentinel = np.array([self._sentinel_id - number])
            source += [pieces[2 * number], sentinel]
            target += [sentinel, pieces[2 * number + 1]]
        end = np.array([self._end_id])
        return np.concatenate([*source, end]), np.concatenate([*target, end])


def _cut(total: int, parts: int, random: np.random.Generator) -> np.ndarray:
    """`total` as a sum of `parts` positive numbers, all such sums equally likely."""
    places = np.sort(random.choice(total - 1, parts - 1, replace=False)) + 1 if parts > 1 else np.zeros(0, int)
    return np.diff(np.concatenate(([0], places, [total])))


class GivePrefix:
    """A prefix LM's batches (Raffel et al. 2020, section 3.2.1): of each row a prefix of random length is given, all of
    whose tokens see one another; the rest is to be foretold."""

    def __call__(self, batch: Batch, random: np.random.Generator) -> Batch:
        if batch.documents_BT is not None:
            raise ConfigError("a prefix reaches over documents packed together", hint="Leave `document_masks` off.")
        rows, length = batch.ids_BT.shape
        prefixes = torch.from_numpy(random.integers(1, length, rows)) if length > 1 else torch.ones(rows).long()
        # The prefix's last token foretells the first of the rest.
        told = torch.arange(length) >= prefixes[:, None] - 1
        return replace(batch, weights_BT=batch.weights_BT * told, prefix_B=prefixes)
