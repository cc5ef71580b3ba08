"""Whether a model can say a token: prompts that leave no other answer, and the probability that it gives.

Source: Land & Bartolo 2024, "Fishing for Magikarp", section 2.3: three prompts, the highest probability of the token
among the first greedy tokens. Theirs are for models that follow instructions; small base models do not, so prompts here
are made of ids and show what is asked by examples. What they make of well-trained ids says how much a failure means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.errors import DataError
from ..models import Decoder
from ..tokenizers import Tokenizer

_STEPS = 3  # greedy tokens that the token may hide behind
_REPEATS = 20
_BATCH = 64


def token_prober(
    model: Decoder, tokenizer: Tokenizer, examples: Sequence[int]
) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
    """The `verify` of `glitch_tokens`: for ids (n,) the highest probability of each where prompts ask for it, (n,).

    Args:
        examples: frequent ids that the prompts show being copied.

    Raises:
        DataError: fewer than two examples.
    """
    if len(examples) < 2:
        raise DataError(f"{len(examples)} example ids are too few to show what is asked for")

    def verify(ids: NDArray[np.int64]) -> NDArray[np.float64]:
        highest = np.zeros(len(ids))
        for prompts in _prompts(tokenizer, ids.tolist(), list(map(int, examples)), model.config.context_length):
            for start in range(0, len(ids), _BATCH):
                part = slice(start, start + _BATCH)
                highest[part] = np.maximum(highest[part], _highest_probability(model, prompts[part], ids[part]))
        return highest

    return verify


def _prompts(tokenizer: Tokenizer, ids: list[int], examples: list[int], context: int) -> list[list[list[int]]]:
    """Of each of the three kinds, one prompt for each id. All prompts of a kind are equally long."""
    room = context - _STEPS

    def written(text: str) -> list[int]:
        return [int(one) for one in tokenizer.encode(text, parse_special=False)]

    line, arrow, means, same = written("\n"), written(" = "), written(" means the same as "), written(", ")

    def shown(between: list[int]) -> list[list[int]]:
        """Lines that say each thing twice, and one that the model is to finish."""
        size = len(between) + len(line) + 2
        count = max(min((room - len(between) - 1) // size, len(examples)), 1)
        lines = [token for one in examples[:count] for token in (one, *between, one, *line)]
        return [[*lines, number, *between][-room:] for number in ids]

    repeated = [([number, *same] * _REPEATS)[: max(room // (1 + len(same)), 1) * (1 + len(same))] for number in ids]
    return [shown(arrow), shown(means), repeated]


@torch.inference_mode()
def _highest_probability(model: Decoder, prompts: list[list[int]], ids: NDArray[np.int64]) -> NDArray[np.float64]:
    device = next(model.parameters()).device
    tokens_BT = torch.tensor(prompts, device=device)
    wanted_B = torch.from_numpy(np.asarray(ids, dtype=np.int64)).to(device)
    highest_B = torch.zeros(len(prompts), device=device)
    for _ in range(_STEPS):
        logits_BV = model.head(model.hidden(tokens_BT)[:, -1]).float()
        probability_B = logits_BV.softmax(-1).gather(1, wanted_B[:, None])[:, 0]
        highest_B = torch.maximum(highest_B, probability_B)
        tokens_BT = torch.cat([tokens_BT, logits_BV.argmax(-1, keepdim=True)], dim=1)
    return highest_B.double().cpu().numpy()
