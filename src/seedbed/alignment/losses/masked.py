"""Sums and means over the positions that count, whatever the others hold."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum of `values` where `mask` is True; gradients flow through those alone."""
    return torch.where(mask.bool(), values, values.new_zeros(())).sum()


def masked_mean(values: Tensor, mask: Tensor, denominator: Tensor | float | None = None) -> Tensor:
    """`masked_sum` over `denominator` (None: the number of True positions; 0 if there are none)."""
    count = mask.sum().clamp(min=1) if denominator is None else denominator
    return masked_sum(values, mask) / count


def mean_over(losses: Tensor, denominator: float | None) -> Tensor:
    """The sum of `losses` over `denominator` (None: how many there are)."""
    return losses.sum() / (losses.numel() if denominator is None else denominator)
