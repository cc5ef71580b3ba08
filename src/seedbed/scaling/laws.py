"""Scaling laws as formulas. N parameters, D training tokens, U unique tokens, C training FLOPs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

FLOPS_PER_PARAMETER_AND_TOKEN = 6.0  # forward 2, backward 4 (Kaplan et al. 2020, section 2.1)
REPETITION_HALF_LIFE = 15.387756  # R_D*: Muennighoff et al. 2023 (arXiv 2305.16264), fitted on up to 9B parameters


@dataclass(frozen=True)
class Allocation:
    """A way to spend a budget, and what it reaches."""

    params: float
    tokens: float
    loss: float


@dataclass(frozen=True)
class ChinchillaLaw:
    """L(N, D) = E + A / N^alpha + B / D^beta, in nats per token (Hoffmann et al. 2022, equation 2)."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def predict(self, params: Any, tokens: Any) -> Any:
        """Loss at N and D: numbers or arrays."""
        return self.E + self.A * np.power(params, -self.alpha) + self.B * np.power(tokens, -self.beta)

    def optimal(self, flops: float) -> Allocation:
        """The N and D of least loss with 6 N D = `flops` (Hoffmann et al. 2022, equation 4)."""
        budget = flops / FLOPS_PER_PARAMETER_AND_TOKEN
        ratio = (self.alpha * self.A) / (self.beta * self.B)
        params = math.exp((math.log(ratio) + self.beta * math.log(budget)) / (self.alpha + self.beta))
        return Allocation(params, budget / params, float(self.predict(params, budget / params)))


def effective_tokens(tokens: Any, unique_tokens: Any) -> Any:
    """Fresh tokens that would be worth as much as `tokens` drawn from `unique_tokens` (Muennighoff et al. 2023, eq. 5).

    Up to about four epochs a repeated token is worth nearly a fresh one; the worth of further ones decays.
    """
    unique = np.minimum(tokens, unique_tokens)
    repeats = np.asarray(tokens) / unique - 1
    return unique * (1 + REPETITION_HALF_LIFE * -np.expm1(-repeats / REPETITION_HALF_LIFE))
