"""Generalised advantage estimation (Schulman et al. 2016) and whitening, over unmasked positions alone.

Legend: B sequences, T positions.
"""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor


@torch.no_grad()
def gae(
    rewards_BT: ArrayLike | Tensor,
    values_BT: ArrayLike | Tensor,
    mask_BT: ArrayLike | Tensor,
    gamma: float = 1.0,
    lam: float = 0.95,
) -> tuple[Tensor, Tensor]:
    """Advantages and returns, both (B, T); zero where the mask is False.

    `values_BT[:, t]` is the value of the state in which action t is taken; after a row's last unmasked position the
    episode is over (value 0). Masked positions are passed over as if they were not there. Returns are advantages plus
    values, to be taken before any whitening.
    """
    rewards, values, mask = torch.as_tensor(rewards_BT), torch.as_tensor(values_BT), torch.as_tensor(mask_BT).bool()
    if not rewards.shape == values.shape == mask.shape or rewards.dim() != 2:
        shapes = ", ".join(str(tuple(x.shape)) for x in (rewards, values, mask))
        raise ValueError(f"rewards, values and mask must share one shape (B, T); they are {shapes}")
    rewards, values = torch.where(mask, rewards, 0.0), torch.where(mask, values, 0.0)
    advantages = torch.zeros_like(values)
    following_advantage = following_value = values.new_zeros(len(values))
    for t in reversed(range(values.shape[1])):
        error = rewards[:, t] + gamma * following_value - values[:, t]
        advantage = error + gamma * lam * following_advantage
        advantages[:, t] = torch.where(mask[:, t], advantage, 0.0)
        following_advantage = torch.where(mask[:, t], advantage, following_advantage)
        following_value = torch.where(mask[:, t], values[:, t], following_value)
    return advantages, advantages + values


@torch.no_grad()
def whiten(values: Tensor, mask: Tensor, *, centre: bool = True, epsilon: float = 1e-8) -> Tensor:
    """Unmasked values with variance 1 and, if `centre`, mean 0 (otherwise their mean stays); 0 where masked."""
    mask = mask.bool()
    kept = values[mask]
    if not len(kept):
        return torch.zeros_like(values)
    mean = kept.mean()
    variance = (kept - mean).square().sum() / max(len(kept) - 1, 1)
    whitened = (values - mean) * torch.rsqrt(variance + epsilon) + (0.0 if centre else mean)
    return torch.where(mask, whitened, 0.0)


def explained_variance(predictions: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """1 - Var(targets - predictions) / Var(targets) over unmasked positions: 1 perfect, 0 no better than a constant."""
    mask = mask.bool()
    variance = targets[mask].var(correction=0)
    return 1 - (targets - predictions)[mask].var(correction=0) / variance.clamp(min=1e-12)
