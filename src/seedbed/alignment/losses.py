"""The losses of reward models and PPO, pure: tensors and a mask in, one number out.

Legend: B sequences, T positions, V vocabulary. Positions whose mask is False never count, whatever they hold.
Each loss is a masked sum over a denominator: the number of unmasked positions unless `denominator` says otherwise, so
that a batch cut into pieces gives the same gradient when every piece is given the whole batch's count.

Sources: Christiano et al. 2017 and Ouyang et al. 2022 (Bradley-Terry), Schulman et al. 2017 (PPO),
Schulman 2020, "Approximating KL divergence" (k1, k2, k3).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Estimator = Literal["k1", "k2", "k3"]


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum of `values` where `mask` is True; gradients flow through those alone."""
    return torch.where(mask.bool(), values, values.new_zeros(())).sum()


def masked_mean(values: Tensor, mask: Tensor, denominator: Tensor | float | None = None) -> Tensor:
    """`masked_sum` over `denominator` (None: the number of True positions; 0 if there are none)."""
    count = mask.sum().clamp(min=1) if denominator is None else denominator
    return masked_sum(values, mask) / count


def bradley_terry(
    chosen_B: Tensor,
    rejected_B: Tensor,
    margin: Tensor | float = 0.0,
    centring: float = 0.0,
    denominator: float | None = None,
) -> Tensor:
    """-log sigmoid(chosen - rejected - margin), averaged over pairs.

    `centring` weighs (chosen + rejected)^2, which holds the scores' free constant near zero (Eisenstein et al. 2023).
    """
    losses = -F.logsigmoid(chosen_B - rejected_B - margin)
    if centring:
        losses = losses + centring * (chosen_B + rejected_B).square()
    return losses.sum() / (losses.numel() if denominator is None else denominator)


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
    surrogate = torch.minimum(ratio * advantages_BT, ratio.clamp(1 - clip, 1 + clip) * advantages_BT)
    return -masked_mean(surrogate, mask_BT, denominator)


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


def kl(logprobs: Tensor, reference_logprobs: Tensor, estimator: Estimator = "k1") -> Tensor:
    """Estimates of KL(policy || reference) per position from the log-probabilities of sampled tokens.

    With r = p_reference / p_policy of the sample: k1 = -log r (unbiased, may be negative), k2 = (log r)^2 / 2 (biased,
    small variance), k3 = r - 1 - log r (unbiased, never negative).
    """
    log_ratio = reference_logprobs - logprobs
    if estimator == "k1":
        return -log_ratio
    if estimator == "k2":
        return 0.5 * log_ratio.square()
    if estimator == "k3":
        return log_ratio.expm1() - log_ratio
    raise ValueError(f"estimator is k1, k2 or k3, not {estimator!r}")


def kl_exact(logits: Tensor, reference_logits: Tensor) -> Tensor:
    """KL(policy || reference) over the whole vocabulary: (..., V) and (..., V) to (...)."""
    logprobs, reference = logits.log_softmax(-1), reference_logits.log_softmax(-1)
    return (logprobs.exp() * (logprobs - reference)).sum(-1)


def entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of the distributions: (..., V) to (...)."""
    logprobs = logits.log_softmax(-1)
    return -(logprobs.exp() * logprobs).sum(-1)


@torch.no_grad()
def ppo_statistics(
    logprobs_BT: Tensor, old_logprobs_BT: Tensor, mask_BT: Tensor, clip: float = 0.2
) -> dict[str, Tensor]:
    """What an update did, as sums over unmasked positions: divide by their number.

    `ratio`, `clipped` (ratio outside 1 +- clip) and `approximate_kl` (k3 of old against new, Schulman 2020).
    """
    log_ratio = _log_ratio(logprobs_BT, old_logprobs_BT, mask_BT)
    ratio = log_ratio.exp()
    return {
        "ratio": masked_sum(ratio, mask_BT),
        "clipped": masked_sum(((ratio - 1).abs() > clip).to(ratio.dtype), mask_BT),
        "approximate_kl": masked_sum(ratio - 1 - log_ratio, mask_BT),
    }


def _log_ratio(logprobs_BT: Tensor, old_logprobs_BT: Tensor, mask_BT: Tensor) -> Tensor:
    # Zeroed before exp: an infinity at a pad would come back as a NaN gradient through torch.where.
    return torch.where(mask_BT.bool(), logprobs_BT - old_logprobs_BT, logprobs_BT.new_zeros(()))
