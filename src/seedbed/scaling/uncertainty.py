"""How sure a forecast from a few runs can be: the posterior of Chinchilla's law, and of the next run's loss.

A ladder has eight to twenty noisy runs for five parameters. Resampling so few runs, or an asymptotic formula, promises
too much; the posterior does not, as it averages over every pair of exponents that the runs allow.

Model: loss = (E + A / N^alpha + B / D^beta) * exp(noise), noise ~ Normal(0, s^2), one s for all runs. Given the
exponents the law is linear in (E, A, B) and the noise is small, so that everything but the exponents integrates in
closed form (normal-inverse-gamma); the exponents are summed over a grid that is narrowed to where the mass lies.

Priors, weak on purpose: log-normal exponents whose central 90% runs from 0.15 to 0.8, which holds the exponents that
have been published for transformers; terms that are not negative; a spread between runs of about one per cent, with
the weight of one run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..core.randomness import numpy_generator

_EXPONENT_MEDIAN, _EXPONENT_LOG_SPREAD = 0.35, 0.5
_EXPONENT_RANGE = (0.02, 2.5)
_NOISE_PRIOR, _NOISE_PRIOR_RUNS = 0.01, 1.0
_TERM_PRECISION = 1e-5  # prior precision of a term, in units of the noise's: a spread of several times the loss
_GRID = 40
_DRAWS = 20_000


class Interval(NamedTuple):
    low: float
    high: float


@dataclass(frozen=True)
class Forecast:
    """The loss to expect of a run, with the interval that holds it with probability `level`."""

    loss: float  # median
    low: float
    high: float
    level: float


class Posterior:
    """Draws of (E, A, B, alpha, beta, s) given runs; n runs, G grid cells, S draws."""

    def __init__(self, params: np.ndarray, tokens: np.ndarray, loss: np.ndarray, *, seed: int = 0) -> None:
        self._size_center, self._data_center = float(np.log(params).mean()), float(np.log(tokens).mean())
        self._size, self._data = np.log(params) - self._size_center, np.log(tokens) - self._data_center
        self._loss, self._seed = loss, seed
        axes = [np.geomspace(*_EXPONENT_RANGE, _GRID)] * 2
        for _ in range(3):
            cells = self._cells(*axes)
            axes = [_narrowed(axis, cells.weights.sum(other)) for axis, other in zip(axes, (1, 0), strict=True)]
        self._draw(self._cells(*axes))

    def forecast_distribution(self, params: float, tokens: float) -> np.ndarray:
        """(S,) draws of a new run's loss at (N, D)."""
        size, data = np.log(params) - self._size_center, np.log(tokens) - self._data_center
        terms = np.stack([np.ones(len(self._alpha)), np.exp(-self._alpha * size), np.exp(-self._beta * data)], axis=1)
        mean = (terms * self._coefficients).sum(1)
        noise = numpy_generator(self._seed, "forecast").standard_normal(len(mean))
        return mean * np.exp(self._noise * noise)

    def forecast(self, params: float, tokens: float, level: float = 0.9) -> Interval:
        low, high = np.quantile(self.forecast_distribution(params, tokens), [(1 - level) / 2, (1 + level) / 2])
        return Interval(float(low), float(high))

    def median(self, params: float, tokens: float) -> float:
        return float(np.median(self.forecast_distribution(params, tokens)))

    def _cells(self, alphas: np.ndarray, betas: np.ndarray) -> _Cells:
        alpha, beta = (axis.ravel() for axis in np.meshgrid(alphas, betas, indexing="ij"))
        # Relative to the loss every run's target is one: (G, n, 3) features, terms in units of the mean loss.
        terms = np.stack(
            [np.zeros((len(alpha), len(self._size))), -np.outer(alpha, self._size), -np.outer(beta, self._data)], -1
        )
        features = np.exp(terms) / (self._loss / self._loss.mean())[None, :, None]
        precision = features.swapaxes(1, 2) @ features + _TERM_PRECISION * np.eye(3)
        target = features.sum(1)
        mean = np.linalg.solve(precision, target[..., None])[..., 0]
        left = len(self._size) - (mean * target).sum(1)
        scale = 0.5 * (_NOISE_PRIOR_RUNS * _NOISE_PRIOR**2 + np.maximum(left, 0))
        shape = 0.5 * (_NOISE_PRIOR_RUNS + len(self._size))
        log_weight = -0.5 * np.linalg.slogdet(precision)[1] - shape * np.log(scale)
        for axis, steps in ((alpha, alphas), (beta, betas)):
            log_weight += -0.5 * ((np.log(axis) - np.log(_EXPONENT_MEDIAN)) / _EXPONENT_LOG_SPREAD) ** 2 - np.log(axis)
            log_weight += np.log(np.interp(axis, steps, np.gradient(steps)))  # the width that a cell stands for
        weights = np.exp(log_weight - log_weight.max()).reshape(len(alphas), len(betas))
        return _Cells(alpha, beta, mean, precision, scale, shape, weights / weights.sum())

    def _draw(self, cells: _Cells) -> None:
        """Draw from the posterior, and reject laws with a negative term: the prior rules them out."""
        random = numpy_generator(self._seed, "posterior")
        chosen = random.choice(len(cells.alpha), _DRAWS, p=cells.weights.ravel())
        noise = np.sqrt(cells.scale[chosen] / random.gamma(cells.shape, size=_DRAWS))
        roots = np.linalg.cholesky(np.linalg.inv(cells.precision))[chosen]
        steps = (roots @ random.standard_normal((_DRAWS, 3, 1)))[..., 0]
        coefficients = cells.mean[chosen] + noise[:, None] * steps
        kept = (coefficients >= 0).all(1)
        if kept.sum() < 200:  # the data pushes a term to zero: take the nearest laws that are allowed
            coefficients, kept = np.maximum(coefficients, 0), np.ones(_DRAWS, bool)
        self._alpha, self._beta = cells.alpha[chosen][kept], cells.beta[chosen][kept]
        self._coefficients, self._noise = coefficients[kept] * self._loss.mean(), noise[kept]


@dataclass(frozen=True)
class _Cells:
    alpha: np.ndarray  # (G,)
    beta: np.ndarray  # (G,)
    mean: np.ndarray  # (G, 3)
    precision: np.ndarray  # (G, 3, 3), in units of the noise's
    scale: np.ndarray  # (G,) of the inverse gamma of s^2
    shape: float
    weights: np.ndarray  # (alphas, betas), sum 1


def _narrowed(axis: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """A finer axis over the part of `axis` that holds the mass."""
    inside = np.flatnonzero(mass > 1e-5 * mass.max())
    first, last = max(inside[0] - 1, 0), min(inside[-1] + 1, len(axis) - 1)
    return np.geomspace(axis[first], axis[last], _GRID)
