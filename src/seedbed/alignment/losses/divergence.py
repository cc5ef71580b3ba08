"""How far a policy is from its reference, and how undecided it is. V vocabulary.

Source: Schulman 2020, "Approximating KL divergence" (k1, k2, k3).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Estimator = Literal["k1", "k2", "k3"]


def kl(logprobs: Tensor, reference_logprobs: Tensor, estimator: Estimator = "k1") -> Tensor:
    """Estimates of KL(policy || reference) per position from the log-probabilities of sampled tokens.

    With r = p_reference / p_policy of the sample: k1 = -log r (unbiased, may be negative), k2 = (log r)^2 / 2 (biased,
    small variance), k3 = r - 1 - log r (unbiased, never negative).

    As a loss on the policy's own samples their gradients are another matter: k1's is zero in expectation, k2's is that
    of KL(policy || reference), k3's that of KL(reference || policy).
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
