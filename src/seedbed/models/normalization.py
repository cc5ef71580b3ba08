"""Normalisations over the last axis."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + epsilon) * weight (Zhang and Sennrich 2019).

    PyTorch's own backward on a CPU is a chain of a dozen kernels, so there the gradient is ours.
    """

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():  # the compiler joins plain steps, forwards and backwards, with what is around
            wide = x.float()
            scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.epsilon)
            return (wide * scale * self.weight).to(_product_dtype(x))
        if x.device.type == "cpu" and self.weight.dtype == torch.float32 and torch.is_grad_enabled():
            normalised: Tensor = _RMSNorm.apply(x.float(), self.weight, self.epsilon)
            return normalised.to(_product_dtype(x))
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.epsilon)


def _product_dtype(x: Tensor) -> torch.dtype:
    """What autocast will multiply in: rounded once here, `x` need not be rounded for each product that reads it."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


class _RMSNorm(torch.autograd.Function):
    """The gradient by LayerNorm's fused kernel: given a mean of zero and RMSNorm's scale it is RMSNorm's gradient less
    scale * mean(weight * gradient), which is added back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        normalised, scale = torch.ops.aten._fused_rms_norm(x, [x.shape[-1]], weight, epsilon)
        ctx.save_for_backward(x, scale, weight)
        return normalised

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, scale, weight = ctx.saved_tensors
        gradient, width = gradient.contiguous(), x.shape[-1]
        x_gradient, weight_gradient, _ = torch.ops.aten.native_layer_norm_backward(
            gradient, x, [width], torch.zeros_like(scale), scale, weight, None, [True, True, False]
        )
        removed = torch.mv(gradient.view(-1, width), weight).view(scale.shape).mul_(scale).div_(width)
        return x_gradient.add_(removed), weight_gradient, None


class LayerNorm(nn.LayerNorm):
    """(x - mean) / sqrt(variance + epsilon) * weight + bias (Ba et al. 2016)."""

    def __init__(self, width: int, epsilon: float, bias: bool = True) -> None:
        super().__init__(width, eps=epsilon, bias=bias)
