"""A prompt and its two answers as one row, so that the prompt is read once: `prompt, chosen, rejected`.

The answers do not see each other, and both take up positions where the prompt ends: each is what it would be in a row
of its own. B rows, T tokens, N answer tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from .preferences import EncodedPreferences, ShuffledPairs, pad_right

_PROMPT, _PAD = 0, 3  # segments; 1 and 2 are the answers


@dataclass(frozen=True)
class AnswerBatch:
    """Rows of a prompt and two answers, right-padded."""

    ids_BT: Tensor  # int64
    segments_BT: Tensor  # int64: 0 prompt, 1 chosen, 2 rejected, 3 padding
    reference_B2: Tensor  # float32: log-probabilities of both answers under the reference; 0 without one
    desirable_B: Tensor  # bool: of labelled answers whether the first is a good one; True of preferences
    divergence_B: Tensor  # float32: the reference point of the whole batch that a row is of (KTO); 0 without one

    def __len__(self) -> int:
        return len(self.ids_BT)

    @property
    def positions_BT(self) -> Tensor:
        """Where each token stands in its own answer's sequence."""
        columns = torch.arange(self.ids_BT.shape[1], device=self.ids_BT.device)
        chosen_B = (self.segments_BT == 1).sum(dim=1, keepdim=True)
        return torch.where(self.segments_BT == 2, columns - chosen_B, columns).where(self.segments_BT != _PAD, 0)

    @property
    def mask_B1TT(self) -> Tensor:
        """True where a token may attend: to the prompt and to its own answer, backwards."""
        return prompt_mask(self.segments_BT)

    def predictions(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of each answer token: its row, the column that predicts it, its column, and its side (0, 1); int64 (N,)."""
        rows_N, columns_N = ((self.segments_BT == 1) | (self.segments_BT == 2)).nonzero(as_tuple=True)
        sides_N = self.segments_BT[rows_N, columns_N] - 1
        ends_B = (self.segments_BT == _PROMPT).sum(dim=1) - 1
        first_N = self.segments_BT[rows_N, columns_N - 1] != sides_N + 1  # both answers follow the prompt's last token
        return rows_N, torch.where(first_N, ends_B[rows_N], columns_N - 1), columns_N, sides_N

    def select(self, rows: Tensor) -> AnswerBatch:
        """Some rows, without the columns that only longer rows use."""
        width = int((self.segments_BT[rows] != _PAD).sum(dim=1).max())
        chosen = AnswerBatch(*(getattr(self, one.name)[rows] for one in fields(self)))
        return replace(chosen, ids_BT=chosen.ids_BT[:, :width], segments_BT=chosen.segments_BT[:, :width])

    def of_side(self, side: int) -> AnswerBatch:
        """The same rows with one answer alone: 0 the chosen one, 1 the rejected one."""
        kept_BT = (self.segments_BT == _PROMPT) | (self.segments_BT == side + 1)
        order_BT = (~kept_BT).long().argsort(dim=1, stable=True)
        ids_BT, segments_BT = (
            one.gather(1, order_BT) for one in (self.ids_BT, self.segments_BT.masked_fill(~kept_BT, _PAD))
        )
        alone = replace(self, ids_BT=ids_BT, segments_BT=segments_BT)
        return alone.select(torch.arange(len(self)))

    def split(self, parts: int) -> list[AnswerBatch]:
        return [self.select(rows) for rows in torch.arange(len(self)).chunk(parts)]

    def by_length(self, tokens: int) -> list[tuple[Tensor, AnswerBatch]]:
        """The rows cut into pieces of like length, which hold little padding, and which rows a piece holds.

        A piece has at most `tokens` tokens, or is one row.
        """
        lengths = (self.segments_BT != _PAD).sum(dim=1).tolist()
        return [(rows, self.select(rows)) for rows in map(torch.tensor, of_like_length(lengths, tokens))]

    def to(self, device: torch.device | str) -> AnswerBatch:
        return AnswerBatch(*(getattr(self, one.name).to(device) for one in fields(self)))


def prompt_mask(segments_BT: Tensor) -> Tensor:
    """Bool (B, 1, T, T), True where a token may attend: to the prompt (segment 0) and to its own answer, backwards."""
    keys, queries = segments_BT[:, None, :], segments_BT[:, :, None]
    causal = torch.ones(segments_BT.shape[1], segments_BT.shape[1], dtype=torch.bool, device=keys.device).tril()
    return (causal & ((keys == _PROMPT) | (keys == queries)))[:, None]


def of_like_length(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Rows in pieces of like length, which hold little padding: of `tokens` tokens at most, or of one row."""
    pieces: list[list[int]] = [[]]
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        if pieces[-1] and (len(pieces[-1]) + 1) * lengths[row] > tokens:
            pieces.append([])
        pieces[-1].append(row)
    return pieces


class SharedPromptBatches(ShuffledPairs[AnswerBatch]):
    """Batches of rows of a prompt and two answers.

    Args:
        reference: log-probabilities float32 (pairs, 2) of the answers under the reference, where there is one.
    """

    def __init__(
        self, pairs: EncodedPreferences, batch_size: int, pad_id: int, seed: int = 0,
        reference: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        super().__init__(pairs, batch_size, pad_id, seed)
        self._reference = np.zeros((len(pairs), 2), np.float32) if reference is None else reference

    def _collate(self, rows: np.ndarray) -> AnswerBatch:
        pairs = self._pairs
        parts = [(pairs.prompts[int(row)], pairs.chosen[int(row)], pairs.rejected[int(row)]) for row in rows]
        ids_BT = pad_right([np.concatenate(part) for part in parts], self._pad_id)
        segments_BT = pad_right([_segments(part) for part in parts], _PAD)
        desirable = np.ones(len(rows), bool) if pairs.desirable is None else pairs.desirable[rows]
        reference_B2 = torch.from_numpy(self._reference[rows])
        return AnswerBatch(ids_BT, segments_BT, reference_B2, torch.from_numpy(desirable), torch.zeros(len(rows)))


def _segments(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.repeat(np.arange(len(parts)), [len(part) for part in parts])
