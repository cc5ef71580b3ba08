"""What low precision costs: weights trained in few bits count as fewer, and weights rounded after training cost loss.

Kumar et al. 2024, "Scaling Laws for Precision" (arXiv 2411.04330), sections 3 and 4. Their constants are of their
models; these are fitted to one's own runs. n runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar

from ..core.errors import DataError
from .fit import fit_chinchilla
from .laws import ChinchillaLaw
from .runs import RunTable, require_positive

_BITS = (0.2, 20.0)  # where gamma is looked for
_GRID = 25
_FEWEST_PRECISIONS = 3


@dataclass(frozen=True)
class PrecisionLaw:
    """L(N, D, P) = law(N (1 - e^(-P / gamma)), D): parameters held and trained in P bits (equation 3 there)."""

    law: ChinchillaLaw
    gamma: float  # bits in which a weight's worth grows by 63% of what is left
    gamma_error: float  # standard error, from the bootstrap; nan without
    objective: float

    def effective_params(self, params: Any, bits: Any) -> Any:
        """How many parameters of full precision are worth as much."""
        return np.asarray(params) * worth(bits, self.gamma)

    def predict(self, params: Any, tokens: Any, bits: Any) -> Any:
        return self.law.predict(self.effective_params(params, bits), tokens)


def worth(bits: Any, gamma: float) -> Any:
    """The share of a full parameter that one of so many bits is worth."""
    return -np.expm1(-np.asarray(bits, np.float64) / gamma)


def fit_precision(
    params: ArrayLike, tokens: ArrayLike, bits: ArrayLike, loss: ArrayLike, bootstrap: int = 0, seed: int = 0
) -> PrecisionLaw:
    """Fit Chinchilla's law and gamma to runs in several precisions: for each gamma the law is fitted to the effective
    parameters, and the gamma of least objective is taken.

    Args:
        bits: (n,) of the weights in training; 16 or more count as what they are, not as exact.
        bootstrap: refits on resampled runs, for gamma's standard error.

    Raises:
        DataError: a value is missing or not positive, or the runs cannot identify the law or gamma.
    """
    table, precision = RunTable.checked(params, tokens, loss), require_positive("bits", bits)
    if precision.shape != table.params.shape:
        raise DataError("bits need one value per run")

    def solve(chosen: np.ndarray) -> PrecisionLaw:
        runs, of_runs = table[chosen], precision[chosen]
        runs.require_identified()
        _require_several(of_runs)

        def fitted(gamma: float) -> Any:
            return fit_chinchilla(runs.params * worth(of_runs, gamma), runs.tokens, runs.loss)

        gamma = _least(lambda log_gamma: float(fitted(float(np.exp(log_gamma))).objective))
        found = fitted(gamma)
        law = ChinchillaLaw(found.E, found.A, found.B, found.alpha, found.beta)
        return PrecisionLaw(law, gamma, float("nan"), found.objective)

    whole = solve(np.arange(len(table)))
    random = np.random.default_rng(seed)
    gammas: list[float] = []
    while len(gammas) < bootstrap:
        try:
            gammas.append(solve(random.integers(len(table), size=len(table))).gamma)
        except DataError:  # a draw that misses a size, an amount or a precision
            continue
    error = float(np.std(gammas, ddof=1)) if bootstrap > 1 else float("nan")
    return PrecisionLaw(whole.law, whole.gamma, error, whole.objective)


def _least(objective: Callable[[float], float]) -> float:
    """The gamma of least objective: a grid, then a search around its best."""
    grid = np.linspace(math.log(_BITS[0]), math.log(_BITS[1]), _GRID)
    best = int(np.argmin([objective(one) for one in grid]))
    around = grid[max(best - 1, 0)], grid[min(best + 1, _GRID - 1)]
    return float(np.exp(minimize_scalar(objective, bounds=around, method="bounded", options={"xatol": 1e-4}).x))


def _require_several(bits: np.ndarray) -> None:
    kinds = len(np.unique(bits))
    if kinds < _FEWEST_PRECISIONS:
        raise DataError(
            f"{kinds} precisions cannot tell what a bit is worth", hint=f"Add runs: at least {_FEWEST_PRECISIONS}."
        )


@dataclass(frozen=True)
class RoundingLaw:
    """Loss added by rounding weights to P bits after training: C D^token_power / N^param_power e^(-P / gamma) (section
    3.2 there): the more text a model has read, the more it costs."""

    factor: float
    token_power: float
    param_power: float
    gamma: float

    def predict(self, params: Any, tokens: Any, bits: Any) -> Any:
        size = np.power(np.asarray(tokens, np.float64), self.token_power) / np.power(params, self.param_power)
        return self.factor * size * np.exp(-np.asarray(bits) / self.gamma)


def fit_rounding(params: ArrayLike, tokens: ArrayLike, bits: ArrayLike, added: ArrayLike) -> RoundingLaw:
    """Least squares in the logarithm of the added loss, in which the law is linear.

    Raises:
        DataError: a value is missing or not positive, or the four constants cannot be told apart.
    """
    given = {"params": params, "tokens": tokens, "bits": bits, "added loss": added}
    size, data, precision, loss = (require_positive(name, values) for name, values in given.items())
    if len({one.shape for one in (size, data, precision, loss)}) > 1:
        raise DataError(f"{', '.join(given)} need one value per run")
    design = np.stack([np.ones_like(size), np.log(data), -np.log(size), -precision], axis=1)
    centred = design - design.mean(0) * [0, 1, 1, 1]
    if len(size) < design.shape[1] or np.linalg.matrix_rank(centred, tol=1e-9 * np.abs(centred).max()) < 4:
        raise DataError(
            f"{len(size)} roundings do not identify what they cost", hint="Vary size, tokens and bits each on its own."
        )
    (factor, token_power, param_power, rate), *_ = np.linalg.lstsq(design, np.log(loss), rcond=None)
    if rate <= 0:
        raise DataError("more bits cost more in these runs, so no law of rounding describes them")
    return RoundingLaw(float(np.exp(factor)), float(token_power), float(param_power), float(1 / rate))
