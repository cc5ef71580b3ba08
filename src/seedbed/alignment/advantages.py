"""How much better than expected: by a value model (GAE, Schulman et al. 2016) or by the other answers to the prompt.

Everything is over unmasked positions alone. Legend: B sequences, T positions; answers to one prompt stand side by side.
Sources: Shao et al. 2024 (GRPO), Liu et al. 2025 (no scaling), Ahmadian et al. 2024 (RLOO), Hu 2025 (REINFORCE++).
"""

from __future__ import annotations

from typing import Literal

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


Scale = Literal["group", "batch", "none"]


@torch.no_grad()
def group_relative(rewards_B: Tensor, group: int, scale: Scale = "group", epsilon: float = 1e-4) -> Tensor:
    """Rewards (B,) minus their group's mean, over the deviation of the group, of the batch, or of nothing.

    A group whose rewards are all alike has advantages of 0: it teaches nothing.
    """
    rewards_GN = _groups(rewards_B, group)
    centred_GN = rewards_GN - rewards_GN.mean(dim=1, keepdim=True)
    if scale == "group":
        centred_GN = centred_GN / (rewards_GN.std(dim=1, keepdim=True) + epsilon)
    elif scale == "batch":
        centred_GN = centred_GN / (rewards_B.std() + epsilon)
    return centred_GN.flatten()


@torch.no_grad()
def leave_one_out(rewards_B: Tensor, group: int) -> Tensor:
    """Rewards (B,) minus the mean of the other answers to the same prompt (RLOO)."""
    rewards_GN = _groups(rewards_B, group)
    others_GN = (rewards_GN.sum(dim=1, keepdim=True) - rewards_GN) / (group - 1)
    return (rewards_GN - others_GN).flatten()


def _groups(rewards_B: Tensor, group: int) -> Tensor:
    if group < 2 or rewards_B.dim() != 1 or len(rewards_B) % group:
        raise ValueError(f"rewards of shape {tuple(rewards_B.shape)} are not groups of {group} (at least 2)")
    return rewards_B.view(-1, group)


@torch.no_grad()
def rewards_to_go(rewards_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The sum of a token's reward and of all that follow in its sequence, (B, T); 0 where masked."""
    rewards_BT = torch.where(mask_BT.bool(), rewards_BT, 0.0)
    return torch.where(mask_BT.bool(), rewards_BT.flip(1).cumsum(1).flip(1), 0.0)


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
