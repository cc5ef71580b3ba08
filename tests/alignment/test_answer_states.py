"""Answers that share a row with their prompt have the states that they have in rows of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seedbed.alignment import answer_states as shared
from seedbed.alignment.answer_states import answer_states
from seedbed.core.randomness import numpy_generator, torch_generator
from seedbed.models import Decoder, ModelConfig

_SHAPE: dict[str, Any] = {"vocab_size": 50, "hidden_size": 32, "layers": 2, "heads": 2, "context_length": 64}


def _rows(groups: int, size: int) -> tuple[Tensor, Tensor]:
    """Right-padded ids, and where answer tokens are predicted; the second row has no answer that counts."""
    random = numpy_generator(3, "rows")
    ids, mask = torch.ones(groups * size, 40, dtype=torch.int64), torch.zeros(groups * size, 39, dtype=torch.bool)
    for group in range(groups):
        prompt = random.integers(2, 50, 3 + 4 * group)
        for row in range(group * size, (group + 1) * size):
            answer = random.integers(2, 50, random.integers(1, 20))
            ids[row, : len(prompt) + len(answer)] = torch.from_numpy(np.concatenate([prompt, answer]))
            mask[row, len(prompt) - 1 : len(prompt) + len(answer) - 1] = row != 1
    return ids, mask


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("changes", [{}, {"positions": "learned"}, {"window": 6}, {"positions": "alibi"}])
def test_states_and_gradients_are_those_of_rows_apart(
    size: int, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "_ANSWER_TOKENS", 30)  # so that a group takes several rows
    monkeypatch.setattr(shared, "_TOKENS_AT_A_TIME", 100)
    model = Decoder(ModelConfig(**_SHAPE, **changes), torch_generator(0, "states"))
    ids, mask = _rows(3, size)
    shuffled = torch.randperm(len(ids), generator=torch_generator(0, "order"))
    ids, mask = ids[shuffled], mask[shuffled]
    weights = torch.randn(int(mask.sum()), 32, generator=torch_generator(1, "states"))
    gradients = []
    for states in (answer_states(model, ids, mask), model.hidden(ids[:, :-1])[mask]):
        model.zero_grad()
        (states * weights).sum().backward()
        gradients.append([one.grad.clone() for one in model.parameters() if one.grad is not None])
    torch.testing.assert_close(answer_states(model, ids, mask), model.hidden(ids[:, :-1])[mask], atol=1e-5, rtol=1e-5)
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-4)


def test_a_prompt_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, read = Decoder(ModelConfig(**_SHAPE), torch_generator(0, "states")), []
    monkeypatch.setattr(
        model, "hidden", lambda ids, *rest: read.append(ids.numel()) or Decoder.hidden(model, ids, *rest)
    )
    ids, mask = _rows(1, 4)
    answer_states(model, ids, mask)
    tokens = 3 + int(mask.sum()) - len(mask[mask.any(dim=1)])  # the prompt, and of each answer all but the last
    assert read == [tokens]
    assert answer_states(model, ids, torch.zeros_like(mask)).shape == (0, 32)
