"""Hidden states of answer tokens, where rows that answer one prompt read it once.

A row of its own for each prompt holds the prompt and behind it its answers, none of which sees another's tokens; each
takes up positions where the prompt ends. So the group of answers that GRPO samples to a prompt costs one prompt.

B rows of prompt and answer, S tokens of the longest, T = S - 1 predictions; P rows of prompts with their answers, L
tokens of the longest; N answer tokens of all rows in row order; C model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..datasets.preferences import pad_right
from ..datasets.shared_prompts import of_like_length, prompt_mask
from ..models import Decoder

_TOKENS_AT_A_TIME = 4096  # of rows of like length, padding counted
_ANSWER_TOKENS = 256  # of a row of several answers, or twice its prompt: attention over it computes all pairs
_PAD = -1


def can_share(model: Decoder) -> bool:
    """Whether `model` sees by positions alone, so that answers may lie anywhere behind their prompt."""
    return not model.config.window and model.config.positions not in ("alibi", "relative")


def answer_states(model: Decoder, ids_BS: Tensor, mask_BT: Tensor) -> Tensor:
    """What the head reads before each answer token, (N, C): `model.hidden(ids_BS[:, :-1])[mask_BT]`, up to rounding.

    Args:
        mask_BT: True where a prediction is an answer token: behind the prompt without a gap. Rows may have none.
    """
    lanes = _lanes(ids_BS.cpu().numpy(), mask_BT.cpu().numpy(), shared=can_share(model))
    if not lanes:
        return model.hidden(ids_BS[:, :-1])[mask_BT]
    found, places = [], []
    for some in of_like_length([one.length for one in lanes], _TOKENS_AT_A_TIME):
        batch = [lanes[number] for number in some]
        device = ids_BS.device
        ids_PL = pad_right([one.ids for one in batch], 0).to(device)
        if all(one.answers == 1 for one in batch):
            hidden_PLC = model.hidden(ids_PL)
        else:
            segments_PL = pad_right([one.segments for one in batch], _PAD).to(device)
            positions_PL = pad_right([one.positions for one in batch], 0).to(device)
            hidden_PLC = model.hidden(ids_PL, positions_PL, prompt_mask(segments_PL))
        rows = np.repeat(np.arange(len(batch)), [len(one.sources) for one in batch])
        sources = np.concatenate([one.sources for one in batch])
        found.append(hidden_PLC[torch.from_numpy(rows).to(device), torch.from_numpy(sources).to(device)])
        places.append(np.concatenate([one.places for one in batch]))
    order = torch.from_numpy(np.argsort(np.concatenate(places))).to(ids_BS.device)
    return torch.cat(found)[order]


@dataclass(frozen=True)
class _Lane:
    """A prompt and its answers. `sources` are columns that predict an answer token, `places` its place among N."""

    ids: np.ndarray
    segments: np.ndarray  # 0 the prompt, 1.. the answers
    positions: np.ndarray
    answers: int
    sources: np.ndarray
    places: np.ndarray

    @property
    def length(self) -> int:
        return len(self.ids)


def _lanes(ids_BS: np.ndarray, mask_BT: np.ndarray, *, shared: bool) -> list[_Lane]:
    """Rows with an answer, put together where their prompts are the same."""
    first_B, counts_B = mask_BT.argmax(axis=1), mask_BT.sum(axis=1)
    places_B = np.cumsum(counts_B) - counts_B
    groups: dict[tuple[bytes, int], list[int]] = {}
    for row in np.flatnonzero(counts_B).tolist():
        prompt = ids_BS[row, : first_B[row] + 1]
        key = prompt.tobytes(), 0 if shared else row
        groups.setdefault(key, []).append(row)
    lanes = []
    for rows in groups.values():
        prompt = ids_BS[rows[0], : first_B[rows[0]] + 1]
        end, most = len(prompt), max(_ANSWER_TOKENS, 2 * len(prompt))
        # The last answer token is predicted, and not read.
        answers = [(row, ids_BS[row, end : end + counts_B[row] - 1]) for row in rows]
        while answers:
            length, taken = 0, 0
            while taken < len(answers) and (taken == 0 or length + len(answers[taken][1]) <= most):
                length += len(answers[taken][1])
                taken += 1
            lanes.append(_lane(prompt, answers[:taken], places_B))
            answers = answers[taken:]
    return lanes


def _lane(prompt: np.ndarray, answers: Sequence[tuple[int, np.ndarray]], places_B: np.ndarray) -> _Lane:
    end, sizes = len(prompt), [len(ids) for _, ids in answers]
    starts = end + np.cumsum([0, *sizes[:-1]])
    return _Lane(
        np.concatenate([prompt, *(ids for _, ids in answers)]),
        np.repeat(np.arange(len(answers) + 1), [end, *sizes]),
        np.concatenate([np.arange(end), *(end + np.arange(size) for size in sizes)]),
        len(answers),
        np.concatenate([[end - 1, *range(start, start + size)] for start, size in zip(starts, sizes, strict=True)]),
        np.concatenate([places_B[row] + np.arange(len(ids) + 1) for row, ids in answers]),
    )
