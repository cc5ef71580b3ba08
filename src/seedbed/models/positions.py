"""Positions: rotary tables and their application.

B batch, T tokens, H heads, D head width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Rotation = tuple[Tensor, Tensor]


class Rotary:
    """Cosines and sines of every position, computed once and kept per device and dtype (Su et al. 2021).

    Dimension d is paired with d + D/2, as in the Hugging Face layouts. The tables are not parameters and not in a
    state dict: they follow from `head_dim` and `theta`.
    """

    def __init__(self, head_dim: int, theta: float) -> None:
        self.head_dim, self.theta = head_dim, theta
        self._tables: dict[tuple[torch.device, torch.dtype], Rotation] = {}

    def table(self, length: int, like: Tensor) -> Rotation:
        """(cos, sin), each (at least `length`, D), on the device and in the dtype of `like`."""
        key = like.device, like.dtype
        table = self._tables.get(key)
        if table is None or table[0].shape[0] < length:
            size = max(256, 1 << (length - 1).bit_length())
            with torch.inference_mode(False):  # the table outlives a call made for inference alone
                exponents = torch.arange(0, self.head_dim, 2, dtype=torch.int64, device=like.device).float()
                frequencies = 1.0 / (self.theta ** (exponents / self.head_dim))
                angles = torch.arange(size, device=like.device).float()[:, None] * frequencies
                angles = torch.cat((angles, angles), dim=-1)
                table = self._tables[key] = angles.cos().to(like.dtype), angles.sin().to(like.dtype)
        return table

    def sequence(self, length: int, like: Tensor) -> Rotation:
        """The rotation of positions 0..length-1, shaped (T, 1, D) for tensors (B, T, H, D)."""
        cos, sin = self.table(length, like)
        return cos[:length, None], sin[:length, None]

    def at(self, positions_BT: Tensor, limit: int, like: Tensor) -> Rotation:
        """The rotation of any positions below `limit`, shaped (B, T, 1, D)."""
        cos, sin = self.table(limit, like)
        return cos[positions_BT].unsqueeze(2), sin[positions_BT].unsqueeze(2)


def rotate(x_BTHD: Tensor, rotation: Rotation) -> Tensor:
    """Turn each pair (x[d], x[d + D/2]) by its position's angle."""
    cos, sin = rotation
    if not torch.is_grad_enabled():
        return _turn(x_BTHD, cos, sin, 1)
    rotated: Tensor = _Rotate.apply(x_BTHD, cos, sin)
    return rotated


class _Rotate(torch.autograd.Function):
    """Written in place on one output, and backwards the same with the opposite angle: a third of autograd's passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(gradient, cos, sin, -1), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor, direction: int) -> Tensor:
    half = x.shape[-1] // 2
    turned = x * cos
    turned[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-direction)
    turned[..., half:].addcmul_(x[..., :half], sin[..., half:], value=direction)
    return turned
