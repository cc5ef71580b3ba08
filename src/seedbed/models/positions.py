"""Positions: sinusoids, and rotary tables with their extensions.

B batch, T tokens, H heads, D head width.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .config import RopeScaling

Rotation = tuple[Tensor, Tensor]


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """(..., width): sines in even places, cosines in odd ones, of wavelengths from 2 pi to 20,000 pi (Vaswani et al.
    2017, section 3.5)."""
    frequencies = 10_000.0 ** (-torch.arange(0, width, 2, device=positions.device).float() / width)
    angles = positions[..., None].float() * frequencies
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)[..., :width]


def rotary_frequencies(head_dim: int, theta: float, scaling: RopeScaling | None = None) -> tuple[Tensor, float]:
    """Radians per position of each pair of dimensions (D/2,), and the factor that queries and keys grow by."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
    if scaling is not None and scaling.kind == "ntk":
        theta = ntk_theta(head_dim, theta, scaling.factor)
    frequencies = 1.0 / (theta**exponents)
    if scaling is None or scaling.kind == "ntk":
        return frequencies, 1.0
    slow = frequencies / scaling.factor
    if scaling.kind == "linear":
        return slow, 1.0
    if scaling.kind == "yarn":
        return _yarn(frequencies, slow, head_dim, theta, scaling)
    # Llama 3: keep what turns often within the original context, divide what turns seldom, and mix in between.
    turns = scaling.original_context * frequencies / (2 * math.pi)
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    share = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 - share) * slow + share * frequencies, 1.0


def ntk_theta(head_dim: int, theta: float, factor: float) -> float:
    """The base of "NTK-aware" positions: with it the last pair, theta^-((D - 2) / D), turns `factor` times slower. A
    single pair turns once a position whatever the base."""
    return theta * factor ** (head_dim / (head_dim - 2)) if head_dim > 2 else theta


def _yarn(frequencies: Tensor, slow: Tensor, head_dim: int, theta: float, scaling: RopeScaling) -> tuple[Tensor, float]:
    """YaRN (Peng et al. 2023): "NTK-by-parts" (section 3.2) and the attention's temperature (section 3.4)."""

    def dimension(turns: float) -> float:  # where a pair turns so many times within the original context
        return head_dim * math.log(scaling.original_context / (turns * 2 * math.pi)) / (2 * math.log(theta))

    first = max(math.floor(dimension(scaling.beta_fast)), 0)
    last = min(math.ceil(dimension(scaling.beta_slow)), head_dim - 1)
    ramp = ((torch.arange(head_dim // 2).float() - first) / max(last - first, 0.001)).clamp(0, 1)
    factor = scaling.attention_factor or 0.1 * math.log(scaling.factor) + 1.0
    return slow * ramp + frequencies * (1 - ramp), factor


class Rotary:
    """Cosines and sines of every position, computed once and kept per device and dtype (Su et al. 2021).

    Dimension d is paired with d + D/2, as in the Hugging Face layouts. The tables are not parameters and not in a
    state dict: they follow from the arguments.
    """

    def __init__(self, head_dim: int, theta: float, scaling: RopeScaling | None = None) -> None:
        self.head_dim, self.theta, self.scaling = head_dim, theta, scaling
        self._tables: dict[tuple[torch.device, torch.dtype], Rotation] = {}

    def table(self, length: int, like: Tensor) -> Rotation:
        """(cos, sin), each (at least `length`, D), on the device and in the dtype of `like`."""
        key = like.device, like.dtype
        table = self._tables.get(key)
        if table is None or table[0].shape[0] < length:
            size = max(256, 1 << (length - 1).bit_length())
            with torch.inference_mode(False), torch.device(like.device):  # it outlives a call made for inference alone
                frequencies, factor = rotary_frequencies(self.head_dim, self.theta, self.scaling)
                angles = torch.arange(size).float()[:, None] * frequencies
                angles = torch.cat((angles, angles), dim=-1)
                table = (angles.cos() * factor).to(like.dtype), (angles.sin() * factor).to(like.dtype)
            self._tables[key] = table
        return table

    def sequence(self, length: int, like: Tensor) -> Rotation:
        """The rotation of positions 0..length-1, shaped (T, 1, D) for tensors (B, T, H, D)."""
        cos, sin = self.table(length, like)
        return cos[:length, None], sin[:length, None]

    def at(self, positions_BT: Tensor, limit: int, like: Tensor) -> Rotation:
        """The rotation of any positions below `limit`, shaped (B, T, 1, D)."""
        cos, sin = self.table(limit, like)
        return cos[positions_BT].unsqueeze(2), sin[positions_BT].unsqueeze(2)

    def beyond(self, positions_BT: Tensor, like: Tensor) -> Rotation:
        """The same computed for these positions alone, in double precision: a text that never ends needs no table that
        grows with it."""
        frequencies, factor = rotary_frequencies(self.head_dim, self.theta, self.scaling)
        angles = positions_BT[..., None].double() * frequencies.double().to(positions_BT.device)
        angles = torch.cat((angles, angles), dim=-1).unsqueeze(2)
        return (angles.cos() * factor).to(like.dtype), (angles.sin() * factor).to(like.dtype)

    def turn(self, shifts_BT: Tensor, like: Tensor) -> Rotation:
        """What turns keys on by so many positions, shaped (B, T, 1, D)."""
        cos, sin = self.beyond(shifts_BT, like)
        factor = rotary_frequencies(self.head_dim, self.theta, self.scaling)[1]
        return cos / factor, sin / factor


def rotate(x_BTHD: Tensor, rotation: Rotation) -> Tensor:
    """Turn each pair (x[d], x[d + D/2]) by its position's angle."""
    cos, sin = rotation
    if torch.compiler.is_compiling():
        one, other = x_BTHD.chunk(2, dim=-1)
        return (x_BTHD * cos + torch.cat((-other, one), dim=-1) * sin).to(x_BTHD.dtype)
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
    return turned.to(x.dtype)  # tables are wider than what autocast multiplies in
