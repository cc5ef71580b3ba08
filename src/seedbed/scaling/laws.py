"""Scaling laws as formulas. N parameters, D training tokens, U unique tokens among them, C training FLOPs.

What N counts is for the caller to keep to: all parameters, or those without embeddings (`ModelConfig.parameter_count`
gives both). The choice alone moves an optimum's exponent from about 0.5 to 0.7 (Pearce and Song 2024; Porian et al.
2024), so a law holds only for the convention of the runs that it was fitted to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.optimize import minimize_scalar

from ..core.errors import DataError

FLOPS_PER_PARAMETER_AND_TOKEN = 6.0  # forward 2, backward 4 (Kaplan et al. 2020, section 2.1)
_SIZES = (1e2, 1e15)  # where a best size is looked for


@dataclass(frozen=True)
class Allocation:
    """A way to spend a budget, and what it reaches."""

    params: float
    tokens: float
    loss: float


class Law(Protocol):
    """What every law can tell: the loss of a size and an amount of data, of which `unique_tokens` are distinct."""

    def predict(self, params: Any, tokens: Any, unique_tokens: Any = None) -> Any: ...


@dataclass(frozen=True)
class ChinchillaLaw:
    """L(N, D) = E + A / N^alpha + B / D^beta, in nats per token (Hoffmann et al. 2022, equation 2)."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def predict(self, params: Any, tokens: Any, unique_tokens: Any = None) -> Any:
        """Loss at N and D: numbers or arrays. Every token counts as fresh: the law knows no repetition."""
        return self.E + self.A * np.power(params, -self.alpha) + self.B * np.power(tokens, -self.beta)

    def optimal(self, flops: float) -> Allocation:
        """The N and D of least loss with 6 N D = `flops` (Hoffmann et al. 2022, equation 4)."""
        if min(self.A * self.alpha, self.B * self.beta) <= 1e-6 * self.E:
            raise DataError(
                "these runs show no gain from " + ("parameters" if self.A < self.B else "tokens"),
                hint="Add runs of more sizes and data amounts before planning with this law.",
            )
        budget = flops / FLOPS_PER_PARAMETER_AND_TOKEN
        ratio = (self.alpha * self.A) / (self.beta * self.B)
        params = math.exp((math.log(ratio) + self.beta * math.log(budget)) / (self.alpha + self.beta))
        return Allocation(params, budget / params, float(self.predict(params, budget / params)))

    def matching_params(self, tokens: Any) -> Any:
        """The N for which D = `tokens` is optimal: where the marginal gains of both are equal."""
        log_ratio = np.log(self.alpha * self.A) - np.log(self.beta * self.B)
        return np.exp((log_ratio + self.beta * np.log(tokens)) / self.alpha)


@dataclass(frozen=True)
class DataConstrainedLaw(ChinchillaLaw):
    """Chinchilla's law of *effective* parameters and tokens (Muennighoff et al. 2023, arXiv 2305.16264, section 3.1).

    A token read again is worth less, and so is a parameter beyond what the unique text can feed. R_D and R_N say how
    many repeats in the worth has fallen to 1/e. Such a law saturates: it cannot say that repetition harms.
    """

    R_D: float
    R_N: float

    def predict(self, params: Any, tokens: Any, unique_tokens: Any = None) -> Any:
        """Loss at N and D of U unique tokens (None: all are)."""
        unique = np.minimum(tokens if unique_tokens is None else unique_tokens, tokens)
        fed = np.minimum(self.matching_params(unique), params) if np.isfinite(self.R_N) else params
        worth = effective_tokens(params, fed, self.R_N), effective_tokens(tokens, unique, self.R_D)
        return super().predict(*worth)

    def optimal(self, flops: float, unique_tokens: float | None = None) -> Allocation:
        """The N and D of least loss with 6 N D = `flops` and U unique tokens."""
        return least_loss(self, flops, unique_tokens)


@dataclass(frozen=True)
class OverfitLaw(ChinchillaLaw):
    """Chinchilla's law with a penalty P R^delta (N/U)^kappa, where R = D/U - 1 (Lovelace et al. 2026).

    arXiv 2605.01640. Unlike effective data it can say that further repetition harms, and larger models sooner.
    """

    P: float
    delta: float
    kappa: float

    def predict(self, params: Any, tokens: Any, unique_tokens: Any = None) -> Any:
        """Loss at N and D of U unique tokens (None: all are)."""
        unique = np.minimum(tokens if unique_tokens is None else unique_tokens, tokens)
        repeats = np.asarray(tokens) / unique - 1
        harm = np.power(repeats, self.delta) * np.power(np.asarray(params) / unique, self.kappa)
        return super().predict(params, tokens) + self.P * harm

    def optimal(self, flops: float, unique_tokens: float | None = None) -> Allocation:
        """The N and D of least loss with 6 N D = `flops` and U unique tokens."""
        return least_loss(self, flops, unique_tokens)


@dataclass(frozen=True)
class KaplanLaw:
    """L(N, D) = ((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D (Kaplan et al. 2020, equation 1.5).

    It has no irreducible loss. Kaplan et al. count parameters without embeddings.
    """

    N_c: float
    D_c: float
    alpha_N: float
    alpha_D: float

    def predict(self, params: Any, tokens: Any, unique_tokens: Any = None) -> Any:
        """Loss at N and D: numbers or arrays. Every token counts as fresh."""
        size = np.exp((math.log(self.N_c) - np.log(params)) * self.alpha_N / self.alpha_D)
        return np.power(size + self.D_c / np.asarray(tokens), self.alpha_D)

    def optimal(self, flops: float) -> Allocation:
        """The N and D of least loss with 6 N D = `flops`."""
        return least_loss(self, flops)


def least_loss(law: Law, flops: float, unique_tokens: float | None = None, inference_tokens: float = 0.0) -> Allocation:
    """The N and D of least loss under a budget: 6 N D for training and 2 N for each of `inference_tokens`.

    Serving favours smaller models trained longer (Sardana et al. 2023, arXiv 2401.00448: there the cost is least for a
    loss, here the loss for a cost, which is the same curve).

    Raises:
        DataError: the law has no best size: it shows no gain from parameters, or none from tokens.
    """

    def tokens(params: float) -> float:
        return (flops / params - 2 * inference_tokens) / FLOPS_PER_PARAMETER_AND_TOKEN

    def loss(log_params: float) -> float:
        data = tokens(math.exp(log_params))
        return float(law.predict(math.exp(log_params), data, unique_tokens)) if data >= 1 else math.inf

    low, high = (math.log(size) for size in _SIZES)
    high = min(high, math.log(flops / (FLOPS_PER_PARAMETER_AND_TOKEN + 2 * inference_tokens)))
    if high <= low:
        raise DataError(f"{flops:.3g} FLOPs are too few to plan with", hint="Give a larger budget.")
    grid = np.linspace(low, high, 200)
    best = int(np.argmin([loss(one) for one in grid]))
    if best in (0, len(grid) - 1):
        raise DataError(
            "these runs show no gain from " + ("parameters" if best == 0 else "tokens"),
            hint="Add runs of more sizes and data amounts before planning with this law.",
        )
    found = minimize_scalar(loss, bounds=(grid[best - 1], grid[best + 1]), method="bounded", options={"xatol": 1e-10})
    params = math.exp(found.x)
    return Allocation(params, tokens(params), float(found.fun))


def effective_tokens(tokens: Any, unique_tokens: Any, half_life: Any) -> Any:
    """Fresh tokens that would be worth as much as `tokens` drawn from `unique_tokens` (Muennighoff et al. 2023, eq. 5).

    The first repeats are worth nearly as much as fresh tokens; `half_life` (R_D*) repeats in, 1/e of that is left.
    The same holds of parameters beyond those that the text can feed (equation 6).
    """
    unique = np.minimum(tokens, unique_tokens)
    repeats = np.asarray(tokens) / unique - 1
    if np.all(np.isinf(half_life)):
        return unique * (1 + repeats)
    return unique * (1 + half_life * -np.expm1(-repeats / half_life))
