"""Losses of a policy that learns from its own answers: PPO's two, and GRPO's with its reductions.

Legend: B sequences, T positions. Positions whose mask is False never count, whatever they hold. Each loss is a masked
sum over a denominator, so that a batch cut into pieces gives the same gradient when every piece is given the whole
batch's.

Sources: Schulman et al. 2017 (PPO), Ye et al. 2020 (dual clip), Shao et al. 2024 (GRPO), Yu et al. 2025 (DAPO), Liu et
al. 2025 (Dr. GRPO), Zheng et al. 2025 (GSPO).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .divergence import kl
from .masked import masked_mean, masked_sum

Reduction = Literal["grpo", "bnpo", "dapo", "dr_grpo"]
Level = Literal["token", "sequence"]


def ppo_policy(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    advantages_BT: Tensor,
    mask_BT: Tensor,
    clip: float = 0.2,
    denominator: float | None = None,
) -> Tensor:
    """The clipped surrogate, as a loss: -min(r A, clip(r, 1 - clip, 1 + clip) A), r = exp(logprobs - old_logprobs)."""
    ratio = _log_ratio(logprobs_BT, old_logprobs_BT, mask_BT).exp()
    return masked_mean(_surrogate(ratio, advantages_BT, clip, clip, None), mask_BT, denominator)


def ppo_value(
    values_BT: Tensor,
    old_values_BT: Tensor,
    returns_BT: Tensor,
    mask_BT: Tensor,
    clip: float = 0.2,
    denominator: float | None = None,
) -> Tensor:
    """Half the squared error, the larger of the value's and of the value clipped to within `clip` of the old one."""
    clipped = old_values_BT + (values_BT - old_values_BT).clamp(-clip, clip)
    errors = torch.maximum((values_BT - returns_BT).square(), (clipped - returns_BT).square())
    return 0.5 * masked_mean(errors, mask_BT, denominator)


def grpo(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    advantages: Tensor,
    mask_BT: Tensor,
    clip: float = 0.2,
    clip_high: float | None = None,
    *,
    reduction: Reduction = "dapo",
    level: Level = "token",
    beta: float = 0.0,
    reference_logprobs_BT: Tensor | None = None,
    dual_clip: float | None = None,
    max_length: int | None = None,
    denominator: Tensor | float | None = None,
) -> Tensor:
    """The clipped surrogate of `ppo_policy` with one advantage per answer, plus `beta` times k3.

    Args:
        advantages: (B,) or (B, T).
        clip_high: how far above 1 a ratio may go; `clip` unless given (DAPO: 0.28).
        reduction: what a token's share is. "grpo": each answer's mean, then the mean over answers; "bnpo" and "dapo":
            the sum over the number of tokens, of this batch or (with `denominator`) of the whole step; "dr_grpo": the
            sum over answers times `max_length`, so that an answer's length changes nothing.
        level: "sequence": one ratio per answer, the geometric mean of its tokens' (GSPO).
        dual_clip: a ratio above it counts as it where the advantage is negative.
        denominator: what the sum is divided by instead.
    """
    mask = mask_BT.bool()
    log_ratio = _log_ratio(logprobs_BT, old_logprobs_BT, mask)
    if level == "sequence":
        log_ratio = (log_ratio.sum(dim=1) / mask.sum(dim=1).clamp(min=1))[:, None].expand_as(mask)
    advantages_BT = advantages[:, None].expand_as(mask) if advantages.dim() == 1 else advantages
    losses = _surrogate(log_ratio.exp(), advantages_BT, clip, clip if clip_high is None else clip_high, dual_clip)
    if beta:
        if reference_logprobs_BT is None:
            raise ValueError("beta above 0 needs reference_logprobs_BT")
        # Zeroed first, as in `_log_ratio`.
        policy, reference = (torch.where(mask, x, 0.0) for x in (logprobs_BT, reference_logprobs_BT))
        losses = losses + beta * kl(policy, reference, "k3")
    if reduction == "grpo":
        losses = losses / mask.sum(dim=1, keepdim=True).clamp(min=1)
    if denominator is None:
        denominator = grpo_count(mask, reduction, max_length).clamp(min=1)
    return masked_sum(losses, mask) / denominator


def grpo_count(mask_BT: Tensor, reduction: Reduction, max_length: int | None = None) -> Tensor:
    """What a batch's loss is divided by under a reduction: answers, tokens, or answers times `max_length`."""
    if reduction in ("bnpo", "dapo"):
        return mask_BT.sum()
    answers = torch.tensor(float(len(mask_BT)), device=mask_BT.device)
    if reduction == "grpo":
        return answers
    if reduction != "dr_grpo":
        raise ValueError(f"reduction is grpo, bnpo, dapo or dr_grpo, not {reduction!r}")
    if max_length is None:
        raise ValueError("dr_grpo needs max_length")
    return answers * max_length


@torch.no_grad()
def ppo_statistics(
    logprobs_BT: Tensor, old_logprobs_BT: Tensor, mask_BT: Tensor, clip: float = 0.2, clip_high: float | None = None
) -> dict[str, Tensor]:
    """What an update did, as sums over unmasked positions: divide by their number.

    `ratio`, `clipped` (ratio below 1 - clip or above 1 + clip_high) and `approximate_kl` (k3 of old against new,
    Schulman 2020).
    """
    log_ratio = _log_ratio(logprobs_BT, old_logprobs_BT, mask_BT)
    ratio = log_ratio.exp()
    outside = (ratio < 1 - clip) | (ratio > 1 + (clip if clip_high is None else clip_high))
    return {
        "ratio": masked_sum(ratio, mask_BT),
        "clipped": masked_sum(outside.to(ratio.dtype), mask_BT),
        "approximate_kl": masked_sum(ratio - 1 - log_ratio, mask_BT),
    }


def _log_ratio(logprobs_BT: Tensor, old_logprobs_BT: Tensor, mask_BT: Tensor) -> Tensor:
    # Zeroed before exp: an infinity at a pad would come back as a NaN gradient through torch.where.
    return torch.where(mask_BT.bool(), logprobs_BT - old_logprobs_BT, logprobs_BT.new_zeros(()))


def _surrogate(ratio: Tensor, advantages: Tensor, low: float, high: float, dual: float | None) -> Tensor:
    surrogate = torch.minimum(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)
    if dual is not None:
        surrogate = torch.where(advantages < 0, torch.maximum(surrogate, dual * advantages), surrogate)
    return -surrogate
