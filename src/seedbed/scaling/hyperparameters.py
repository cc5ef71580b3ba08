"""Learning rate and batch size as power laws of size and data, fitted to sweeps or taken from a published fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..core.errors import DataError

_FEWEST_SETTINGS = 6  # of a quadratic in two variables


@dataclass(frozen=True)
class PowerLaw:
    """y = factor * prod(x_i ^ exponent_i)."""

    factor: float
    exponents: tuple[float, ...]
    standard_errors: tuple[float, ...] = ()  # of log factor, then of the exponents

    def __call__(self, *values: float) -> float:
        return float(self.factor * np.prod([value**one for value, one in zip(values, self.exponents, strict=True)]))


@dataclass(frozen=True)
class HyperparameterLaw:
    """Best peak learning rate by size and tokens, best batch by tokens."""

    rate: PowerLaw  # of N and D
    batch: PowerLaw  # of D, in tokens

    def learning_rate(self, params: float, tokens: float) -> float:
        return self.rate(params, tokens)

    def batch_tokens(self, tokens: float) -> float:
        return self.batch(tokens)


# Li et al. 2025, "Step Law" (arXiv 2503.04715): AdamW, parameters without embeddings, 60M to 1B of them. Far from
# there, or for another optimizer, it is no more than a start: fit one's own sweep.
STEP_LAW = HyperparameterLaw(PowerLaw(1.79, (-0.713, 0.307)), PowerLaw(0.58, (0.571,)))


def fit_power_law(target: ArrayLike, *inputs: ArrayLike) -> PowerLaw:
    """Least squares in logarithms.

    Raises:
        DataError: a value is not positive, or the inputs do not tell the exponents apart.
    """
    columns = [np.asarray(one, np.float64) for one in (target, *inputs)]
    if any(not bool((np.isfinite(one) & (one > 0)).all()) for one in columns):
        raise DataError("a power law is of positive numbers alone")
    y, *x = (np.log(one) for one in columns)
    design = np.stack([np.ones_like(y), *x], axis=1)
    if (
        len(y) < design.shape[1]
        or np.linalg.matrix_rank(design - design.mean(0) * [0, *[1] * len(x)]) < design.shape[1]
    ):
        raise DataError(
            f"{len(y)} points do not identify a power law of {len(x)} inputs", hint="Vary each of them on its own."
        )
    solution, *_ = np.linalg.lstsq(design, y, rcond=None)
    freedom = len(y) - design.shape[1]
    variance = float(((y - design @ solution) ** 2).sum()) / freedom if freedom else np.nan
    errors = np.sqrt(np.diag(np.linalg.inv(design.T @ design)) * variance)
    factor, *exponents = (float(one) for one in solution)
    return PowerLaw(float(np.exp(factor)), tuple(exponents), tuple(float(one) for one in errors))


@dataclass(frozen=True)
class Optimum:
    """The best setting of one sweep, from a quadratic in the logarithms through its lower half."""

    learning_rate: float
    batch_tokens: float
    loss: float


def sweep_optimum(learning_rate: ArrayLike, batch_tokens: ArrayLike, loss: ArrayLike) -> Optimum:
    """The bottom of the bowl loss(log rate, log batch) of one size and data amount.

    Raises:
        DataError: too few settings, or the lowest lies at the sweep's edge, so that the bowl has no bottom.
    """
    x, y, z = np.log(np.asarray(learning_rate)), np.log(np.asarray(batch_tokens)), np.asarray(loss, np.float64)
    kept = np.argsort(z)[: max(_FEWEST_SETTINGS + 2, len(z) // 2)]
    if len(kept) < _FEWEST_SETTINGS:
        raise DataError(f"{len(z)} settings are too few for a sweep", hint=f"Take at least {_FEWEST_SETTINGS}.")
    x, y, z = x[kept], y[kept], z[kept]
    x0, y0 = x.mean(), y.mean()
    u, v = x - x0, y - y0
    design = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=1)
    (c, a, b, p, q, r), *_ = np.linalg.lstsq(design, z, rcond=None)
    curvature = np.array([[2 * p, q], [q, 2 * r]])
    if np.linalg.eigvalsh(curvature).min() <= 0:
        raise DataError("the losses of this sweep form no bowl", hint="Add learning rates and batches on both sides.")
    du, dv = np.linalg.solve(curvature, [-a, -b])
    if not (u.min() <= du <= u.max() and v.min() <= dv <= v.max()):
        raise DataError("the best setting lies beyond the sweep", hint="Add learning rates and batches on that side.")
    bottom = c + 0.5 * (a * du + b * dv)
    return Optimum(float(np.exp(x0 + du)), float(np.exp(y0 + dv)), float(bottom))


def fit_hyperparameters(params: ArrayLike, tokens: ArrayLike, optima: Sequence[Optimum]) -> HyperparameterLaw:
    """The laws of the optima of several sweeps, each of one size and data amount."""
    return HyperparameterLaw(
        fit_power_law([one.learning_rate for one in optima], params, tokens),
        fit_power_law([one.batch_tokens for one in optima], tokens),
    )
