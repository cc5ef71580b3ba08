"""Every step is the model's own forward pass."""

from __future__ import annotations

import pytest
import torch

from seedbed.core.errors import ConfigError
from seedbed.generation.steps import TorchStep, choose_step
from seedbed.models import Decoder, KeyValueCache, ModelConfig
from tests.models.shaking import shaken


@torch.no_grad()
def test_a_step_is_the_forward_pass_and_last_takes_one_column_per_row() -> None:
    model = shaken(Decoder(ModelConfig(vocab_size=50, hidden_size=32, layers=2, heads=4, kv_heads=2)))
    ids_BT = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 0, 0]])
    step = TorchStep(model)
    cache = KeyValueCache(model.config, 2, 16, dtype=step.cache_dtype)
    logits_BV = step.last(ids_BT, torch.tensor([4, 2]), cache)
    torch.testing.assert_close(logits_BV[0], model(ids_BT[:1])[0, 4])
    torch.testing.assert_close(logits_BV[1], model(ids_BT[1:, :3])[0, 2])
    cache.set_lengths(torch.tensor([5, 3]))
    next_BTV = step(torch.tensor([[7, 8], [7, 8]]), cache)
    whole = model(torch.tensor([[9, 2, 6, 7, 8]]))
    torch.testing.assert_close(next_BTV[1], whole[0, 3:], rtol=1e-4, atol=1e-5)


def test_a_precision_that_nobody_knows_is_refused() -> None:
    model = Decoder(ModelConfig(vocab_size=50, hidden_size=32, layers=1, heads=4))
    with pytest.raises(ConfigError, match="int3"):
        choose_step(model, "int3")
