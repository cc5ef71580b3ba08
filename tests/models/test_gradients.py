"""Hand-written gradients against autograd's."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from seedbed.core.randomness import torch_generator
from seedbed.models.attention import attend, attend_reference
from seedbed.models.blocked import attend_blocks
from seedbed.models.config import ModelConfig
from seedbed.models.feedforward import feedforward
from seedbed.models.normalization import RMSNorm
from seedbed.models.positions import Rotary, rotate


@pytest.mark.parametrize("shape", [(3, 5, 32), (2, 4, 3, 8), (1, 1)])
def test_rms_norm(shape: tuple[int, ...]) -> None:
    generator = torch_generator(1, *shape)
    x = torch.randn(shape, generator=generator).requires_grad_()
    norm = RMSNorm(shape[-1], 1e-6)
    torch.nn.init.normal_(norm.weight, generator=generator)
    # A transposed gradient, as attention sends it back.
    gradient = torch.randn(shape[::-1], generator=generator).permute(*range(len(shape))[::-1])
    ours = torch.autograd.grad(norm(x), (x, norm.weight), gradient)
    wide_x, wide_weight = (tensor.detach().double().requires_grad_() for tensor in (x, norm.weight))
    expected = F.rms_norm(wide_x, shape[-1:], wide_weight, 1e-6)
    torch.testing.assert_close(norm(x), expected.float(), atol=1e-5, rtol=1e-5)
    for actual, exact in zip(
        ours, torch.autograd.grad(expected, (wide_x, wide_weight), gradient.double()), strict=True
    ):
        torch.testing.assert_close(actual, exact.float(), atol=1e-5, rtol=1e-5)


def test_gated_feedforward() -> None:
    module = feedforward(ModelConfig(vocab_size=1, hidden_size=6, layers=1, heads=1)).double()
    for one in module.parameters():
        torch.nn.init.normal_(one, generator=torch_generator(1, *one.shape))
    x = torch.randn(2, 3, 6, dtype=torch.float64, generator=torch_generator(1, "x")).requires_grad_()
    assert torch.autograd.gradcheck(module, (x,))
    with torch.no_grad():
        expected = module(x)
    torch.testing.assert_close(module(x), expected)
    inputs, gradient = (x, *module.parameters()), torch.randn(x.shape, generator=torch_generator(2, "g")).double()
    found = torch.autograd.grad(module(x), inputs, gradient)
    plain = module.down_proj(F.silu(module.gate_proj(x)) * module.up_proj(x))
    exact = torch.autograd.grad(plain, inputs, gradient)
    torch.testing.assert_close(found, exact)
    hook = module.down_proj.register_forward_hook(lambda *_: None)  # a layer that is more than its product
    torch.testing.assert_close(torch.autograd.grad(module(x), inputs, gradient), exact)
    hook.remove()
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        rounded = torch.autograd.grad(module.float()(x.float()), module.down_proj.weight, gradient.bfloat16())[0]
    assert rounded.dtype == torch.float32
    assert float((rounded - exact[-1]).norm()) < 0.03 * float(exact[-1].norm())
    module.down_proj.weight.requires_grad_(False)
    module.float()(x.float()).sum().backward()
    assert module.down_proj.weight.grad is None
    assert module.up_proj.weight.grad is not None


def test_rotation() -> None:
    x = torch.randn(2, 6, 3, 8, generator=torch_generator(1, "x"), dtype=torch.float64).requires_grad_()
    rotary = Rotary(8, 100.0)
    cos, sin = rotary.sequence(6, x)
    first, second = x.chunk(2, -1)
    expected = x * cos + torch.cat((-second, first), -1) * sin
    torch.testing.assert_close(rotate(x, (cos, sin)), expected)
    with torch.no_grad():
        torch.testing.assert_close(rotate(x, (cos, sin)), expected)
    assert torch.autograd.gradcheck(lambda tensor: rotate(tensor, (cos, sin)), (x,))
    half = rotate(x.bfloat16(), (cos.float(), sin.float()))  # under autocast: else no product in bfloat16 would take it
    torch.testing.assert_close(half, expected.bfloat16(), atol=0.05, rtol=0.01)
    # Scores depend on the distance of two positions alone (the paper's equation 11).
    q, k = (torch.randn(8, generator=torch_generator(2, name), dtype=torch.float64).expand(1, 6, 1, 8) for name in "qk")
    scores = torch.einsum("bthd,bshd->ts", rotate(q, (cos, sin)), rotate(k, (cos, sin)))
    torch.testing.assert_close(scores[1:, 1:], scores[:-1, :-1])


@pytest.mark.parametrize("length", [5, 128, 300])
def test_attention_in_blocks(length: int) -> None:
    generator = torch_generator(1, length)
    q, k, v, gradient = (
        torch.randn(2, length, 3, 8, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(4)
    )
    ours, expected = attend_blocks(q, k, v, 0.5), attend_reference(q, k, v, causal=True, scale=0.5)
    torch.testing.assert_close(ours, expected)
    for actual, exact in zip(
        torch.autograd.grad(ours, (q, k, v), gradient), torch.autograd.grad(expected, (q, k, v), gradient), strict=True
    ):
        torch.testing.assert_close(actual, exact)


def test_attention_in_bfloat16_is_near_and_causal() -> None:
    q, k, v = (torch.randn(1, 130, 2, 16, generator=torch_generator(1, name)) for name in "qkv")
    halves = [x.bfloat16().requires_grad_() for x in (q, k, v)]
    found = attend(*halves, causal=True)
    torch.testing.assert_close(found.float(), attend_reference(q, k, v, causal=True), atol=0.03, rtol=0.03)
    for gradient in torch.autograd.grad(found[:, :50].sum(), halves):
        assert not bool(gradient[:, 50:].any())
        assert bool(gradient[:, :50].any())
