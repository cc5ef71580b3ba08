"""However a step is executed, it computes the same."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from seedbed.core.errors import ConfigError
from seedbed.core.randomness import torch_generator
from seedbed.datasets.loader import Batch
from seedbed.models import Decoder, ModelConfig
from seedbed.training import NextToken
from seedbed.training.execution import Precision, autocast, execute_blocks, release_blocks

_SHAPE = ModelConfig(vocab_size=97, hidden_size=32, layers=2, heads=2, context_length=24)


def _gradients(precision: Precision = "float32", **how: bool) -> tuple[float, dict[str, torch.Tensor]]:
    model = Decoder(_SHAPE)
    names = list(model.state_dict())
    execute_blocks(model, **how)
    assert list(model.state_dict()) == names
    ids = torch.randint(97, (3, 25), generator=torch_generator(0, "ids"))
    batch = Batch(ids[:, :-1], ids[:, 1:], torch.ones(3, 24))
    with autocast(precision, torch.device("cpu")):
        total, count, _ = NextToken(z_loss=1e-4).loss(model, batch)
    total.backward()
    return float(total.detach() / count), {name: one.grad for name, one in model.named_parameters()}  # type: ignore[misc]


@pytest.mark.parametrize("how", ["recompute", "compiled"])
def test_equal_in_float32(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    # The tracer without the code generator: what is traced is ours, and the generator takes minutes.
    monkeypatch.setattr(nn.Module, "compile", functools.partialmethod(nn.Module.compile, backend="aot_eager"))
    expected, plain = _gradients()
    found, gradients = _gradients(**{how: True})
    assert found == pytest.approx(expected, rel=1e-6)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, plain[name], atol=1e-5, rtol=1e-4)


def test_blocks_are_released() -> None:
    model = Decoder(_SHAPE)
    execute_blocks(model, compiled=True, recompute=True)
    release_blocks(model)
    assert all("forward" not in vars(block) and block._compiled_call_impl is None for block in model.blocks)


def test_near_in_bfloat16() -> None:
    expected, plain = _gradients()
    found, gradients = _gradients("bfloat16")
    assert found == pytest.approx(expected, rel=1e-2)
    for name, gradient in gradients.items():
        assert gradient.dtype == torch.float32
        similar = torch.cosine_similarity(gradient.flatten(), plain[name].flatten(), dim=0)
        assert similar > 0.99, name


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match="no blocks"):
        execute_blocks(nn.Linear(2, 2), recompute=True)
