"""Losses that learn from pairs: of reward models (Bradley-Terry), and of policies without one (DPO and its kin).

Legend: B pairs (KTO: answers). A log-probability of an answer is the sum over its tokens, or where the loss says so
their mean; prompts do not count. Each loss is a sum over `denominator` (None: the number of pairs).

Sources: Ouyang et al. 2022 (Bradley-Terry), Rafailov et al. 2023 (DPO), Mitchell 2023 (cDPO), Azar et al. 2023 (IPO),
Ethayarajh et al. 2024 (KTO), Hong et al. 2024 (ORPO), Meng et al. 2024 (SimPO).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .masked import mean_over


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
    return mean_over(losses, denominator)


def dpo(
    chosen_B: Tensor,
    rejected_B: Tensor,
    reference_chosen_B: Tensor,
    reference_rejected_B: Tensor,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    denominator: float | None = None,
) -> Tensor:
    """-(1 - e) log sigmoid(beta d) - e log sigmoid(-beta d), d the log-ratio of the chosen over that of the rejected.

    With `label_smoothing` e > 0 this is cDPO: labels are wrong with probability e.
    """
    logits = beta * ((chosen_B - reference_chosen_B) - (rejected_B - reference_rejected_B))
    losses = -F.logsigmoid(logits) * (1 - label_smoothing)
    if label_smoothing:
        losses = losses - F.logsigmoid(-logits) * label_smoothing
    return mean_over(losses, denominator)


def ipo(
    chosen_B: Tensor,
    rejected_B: Tensor,
    reference_chosen_B: Tensor,
    reference_rejected_B: Tensor,
    beta: float = 0.1,
    denominator: float | None = None,
) -> Tensor:
    """(d - 1 / (2 beta))^2, d as in `dpo` but of log-probabilities averaged over each answer's tokens."""
    difference = (chosen_B - reference_chosen_B) - (rejected_B - reference_rejected_B)
    return mean_over((difference - 1 / (2 * beta)).square(), denominator)


def kto(
    logprobs_B: Tensor,
    reference_logprobs_B: Tensor,
    desirable_B: Tensor,
    divergence: Tensor | float,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    denominator: float | None = None,
) -> Tensor:
    """w (1 - sigmoid(±beta (log-ratio - divergence))), + for a desirable answer and - for one that is not.

    Args:
        desirable_B: bool; the answers need not come in pairs.
        divergence: the reference point, an estimate of KL(policy || reference) in nats per answer, at least 0 and
            without gradient. Mismatched prompts and answers of the same batch estimate it.
    """
    advantage = beta * (logprobs_B - reference_logprobs_B - divergence)
    desirable = desirable_B.bool()
    losses = 1 - torch.sigmoid(torch.where(desirable, advantage, -advantage))
    return mean_over(losses * torch.where(desirable, desirable_weight, undesirable_weight), denominator)


def orpo(chosen_B: Tensor, rejected_B: Tensor, beta: float = 0.1, denominator: float | None = None) -> Tensor:
    """-beta log sigmoid(log odds of the chosen - log odds of the rejected), of mean log-probabilities per token.

    The cross-entropy of the chosen answer, which ORPO adds, is not in it.
    """
    return mean_over(-beta * F.logsigmoid(_log_odds(chosen_B) - _log_odds(rejected_B)), denominator)


def simpo(
    chosen_B: Tensor, rejected_B: Tensor, beta: float = 2.0, margin: float = 0.5, denominator: float | None = None
) -> Tensor:
    """-log sigmoid(beta (chosen - rejected) - margin), of mean log-probabilities per token; there is no reference."""
    return mean_over(-F.logsigmoid(beta * (chosen_B - rejected_B) - margin), denominator)


def _log_odds(logprobs: Tensor) -> Tensor:
    # A probability of one has infinite odds: held away from it by less than rounding sees.
    logprobs = logprobs.clamp(max=-torch.finfo(logprobs.dtype).eps)
    return logprobs - torch.log(-torch.expm1(logprobs))
