"""Optimizers against formulas written out, and against bitsandbytes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from seedbed.training.averaging import MovingAverage, ScheduleFreeAdamW, averaged_weights, borrowed_weights
from seedbed.training.quantized_states import AdamW8bit, dequantize, dynamic_code, quantize


@pytest.mark.parametrize("signed", [True, False])
def test_codes_are_bitsandbytes(signed: bool) -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    torch.testing.assert_close(dynamic_code(signed), functional.create_dynamic_map(signed=signed))
    if signed:
        numbers = torch.randn(8, 256) * torch.logspace(-6, 2, 8)[:, None]
        places, scales = quantize(numbers, dynamic_code(True))
        theirs, state = functional.quantize_blockwise(numbers, blocksize=256)
        different = (places != theirs.view_as(places)).float().mean()
        assert float(different) < 0.01  # numbers near the middle between two values
        torch.testing.assert_close(scales[:, 0], state.absmax)


def test_every_value_of_the_code_is_kept_and_others_go_to_the_nearest() -> None:
    for signed in (True, False):
        code = dynamic_code(signed)
        assert len(code) == 256
        block = torch.cat([code, code]).view(2, 256) * torch.tensor([[3.0], [1e-9]])
        places, scales = quantize(block, code)
        torch.testing.assert_close(dequantize(places, scales, code), block, rtol=1e-6, atol=0.0)
        numbers = torch.rand(4, 256)
        found = dequantize(*quantize(numbers, code), code)
        scaled = numbers / numbers.amax(1, keepdim=True)
        nearest = code[(scaled[..., None] - code).abs().argmin(-1)]
        torch.testing.assert_close(found / numbers.amax(1, keepdim=True), nearest)


def _slopes(steps: int, *shape: int) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(shape) * (0.1 + torch.rand(shape[0], 1)) + 0.3 for _ in range(steps)]


@pytest.mark.parametrize("shape", [(70, 100), (3, 5)])
def test_eight_bits_follow_adamw(shape: tuple[int, int]) -> None:
    start = torch.randn(shape)
    ours, exact = (nn.Parameter(start.clone()) for _ in range(2))
    options = {"lr": 0.01, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
    one, other = AdamW8bit([ours], **options), torch.optim.AdamW([exact], **options)  # type: ignore[arg-type]
    for gradient in _slopes(20, *shape):
        ours.grad, exact.grad = gradient, gradient.clone()
        one.step()
        other.step()
    moved = float((exact.detach() - start).norm())
    assert float((ours - exact).detach().norm()) < (0.05 if ours.numel() > 4096 else 1e-5) * moved
    states = [x for x in one.state[ours].values() if isinstance(x, torch.Tensor)]
    if ours.numel() > 4096:
        assert sum(x.nbytes for x in states) < 2.1 * ours.numel()
        assert {x.dtype for x in states} == {torch.uint8, torch.float32}


def test_schedule_free_follows_the_paper() -> None:
    """Algorithm 1 with AdamW's step, in x, y and z."""
    start = torch.randn(4, 3, dtype=torch.float64)
    beta1, beta2, decay, eps = 0.9, 0.95, 0.1, 1e-10
    parameter = nn.Parameter(start.clone())
    optimizer = ScheduleFreeAdamW([parameter], betas=(beta1, beta2), eps=eps, weight_decay=decay)
    x, z, second, weights = start.numpy().copy(), start.numpy().copy(), np.zeros((4, 3)), 0.0
    for step, gradient in enumerate(_slopes(12, 4, 3), start=1):
        rate = 0.05 * min(step / 4, 1.0)
        y = (1 - beta1) * z + beta1 * x
        np.testing.assert_allclose(parameter.detach().numpy(), y, atol=1e-12)
        slope = gradient.double().numpy()
        second = beta2 * second + (1 - beta2) * slope**2
        z = z - rate * (slope / (np.sqrt(second / (1 - beta2**step)) + eps) + decay * y)
        weights += rate**2
        x = (1 - rate**2 / weights) * x + rate**2 / weights * z
        optimizer.param_groups[0]["lr"] = rate
        parameter.grad = gradient.double()
        optimizer.step()
    model = nn.Module()
    model.one = parameter
    found = averaged_weights(model, None, [optimizer])["one"]
    np.testing.assert_allclose(found.numpy(), x, atol=1e-8)  # eps is added before the correction here


def test_moving_average_and_borrowing() -> None:
    model = nn.Linear(2, 2)
    average, expected = MovingAverage(model, 0.5), model.weight.detach().clone()
    for step in range(1, 8):
        with torch.no_grad():
            model.weight.add_(step)
        average.update(model)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach()
    own = model.weight.detach().clone()
    with borrowed_weights(model, averaged_weights(model, average, [])):
        torch.testing.assert_close(model.weight.detach(), expected)
    assert torch.equal(model.weight.detach(), own)


@pytest.mark.parametrize(
    "changes", [{"optimizer": "schedulefree", "schedule": "constant"}, {"optimizer": "adamw8bit", "ema_decay": 0.9}]
)
def test_resumes_bit_for_bit(tiny: SimpleNamespace, tmp_path, changes: dict) -> None:  # type: ignore[no-untyped-def, type-arg]
    class Stop(Exception):
        pass

    def stopping(model: nn.Module) -> dict[str, float]:
        if not (tmp_path / "stopped").exists():
            (tmp_path / "stopped").touch()
            raise Stop
        return {"validation_loss": float(sum(one.detach().abs().sum() for one in model.parameters()))}

    settings = tiny.config(steps=20, **changes)
    expected, whole = tiny.run(tmp_path / "whole", settings)
    with pytest.raises(Stop):
        tiny.run(tmp_path / "run", settings, evaluate=stopping)
    found, result = tiny.run(tmp_path / "run", settings, evaluate=stopping)
    assert tiny.weights(found) == tiny.weights(expected)
    assert result.metrics == whole.metrics
    final = sum(float(one.detach().abs().sum()) for one in found.parameters())
    assert result.metrics["validation_loss"] == pytest.approx(final)
    assert result.metrics["loss"] < 2.7
