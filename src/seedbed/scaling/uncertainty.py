"""How sure a forecast from a few runs can be: the posterior of a scaling law, of its errors, and of the next run.

Resampling a dozen runs, or an asymptotic formula, promises too much, and so does any interval that trusts the law: its
exponents drift with scale, and where they do, a longer run misses by more than runs scatter. So the model has three
parts, and every forecast averages over all that the runs leave open of each:

    loss = (E + A / N^alpha + B / D_eff^beta + P R (N / U)) * (1 + drift + noise)

law    Chinchilla's, with Muennighoff's effective data and an overfitting term where runs repeat their text (`laws`).
       Given the exponents it is linear in (E, A, B, P), which integrate in closed form.
drift  What the law cannot say. Along log N, log D and log epochs the slope of the log loss wanders as a random walk (an
       integrated Wiener process: Wahba 1978), and size and data interact: larger models gain more from more data,
       for which a sum of a term in size and one in data has no room. It grows with the distance from the runs, which
       the law's own uncertainty does too slowly. Its size tau is learnt.
noise  Of seeds and evaluation, with spread s. Half of its variance is common to all runs of one size: they share a
       width, its fit to the learning rate and the order of the data, so lengths of one size are no independent proofs.
       Upwards it is Student's t, so that a run that went wrong moves little. Downwards it is normal: no accident makes
       a model much better than its like, so a run below the law has learnt what larger ones will learn too.

Exponents, R_D, s and tau are summed over a grid that is narrowed to where the mass lies. Priors, weak on purpose:
log-normal exponents whose central 90% runs from 0.15 to 0.8, which holds those published for transformers; terms that
are not negative; R_D about 8 within a factor of 5; a noise of half a per cent and a tau of one, each within a factor of
about 3.

n runs, G grid cells, H pairs (s, tau), K terms, S draws.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..core.errors import DataError
from ..core.randomness import numpy_generator
from .laws import effective_tokens

_EXPONENT_PRIOR = (0.35, 0.5)  # median, spread of the log
_REPETITION_PRIOR = (8.0, 1.0)
_NOISE_PRIOR = (0.005, 0.7)
_DRIFT_PRIOR = (0.01, 0.7)
_EXPONENT_RANGE = (0.02, 2.5)
_REPETITIONS = np.geomspace(0.5, 128, 7)
_NOISES = np.geomspace(0.0005, 0.04, 9)
_DRIFTS = np.geomspace(0.001, 0.06, 8)
_INTERACTION = 3.0  # of size and data, in units of tau
_SHARED = 0.5  # of the noise's variance, by runs of one size
_FREEDOM = 4.0  # degrees of freedom of the noise
_TERM_SPREAD = 10.0  # prior spread of a term, in units of the mean loss
_GRID = 24
_DRAWS = 8_000
_WIDEST = 1.6  # high / low of an interval that still says something


class Interval(NamedTuple):
    low: float
    high: float


class Posterior:
    """Draws of the law, its drift and its noise, given runs.

    Args:
        params, tokens, loss: (n,) of runs. unique_tokens: (n,) distinct tokens among `tokens`; None: all are.
    """

    def __init__(
        self,
        params: np.ndarray,
        tokens: np.ndarray,
        loss: np.ndarray,
        unique_tokens: np.ndarray | None = None,
        *,
        seed: int = 0,
    ) -> None:
        unique = tokens if unique_tokens is None else np.minimum(unique_tokens, tokens)
        self._seed, self._mean_loss = seed, float(loss.mean())
        self._params, self._tokens, self._unique = params, tokens, unique
        self._center = np.array([np.log(params).mean(), np.log(tokens).mean(), 0.0])
        self._places = self._coordinates(params, tokens, unique)
        self._repeats = bool((tokens > 1.01 * unique).any())
        self._harm_scale = float(_harm(params, tokens, unique).max()) if self._repeats else 1.0
        self._relative = self._mean_loss / loss
        pairs = np.array(list(itertools.product(_NOISES, _DRIFTS)))
        self._noise, self._tau = pairs[:, 0], pairs[:, 1]
        repetitions = _REPETITIONS if self._repeats else _REPETITIONS[:1]
        alphas = betas = np.geomspace(*_EXPONENT_RANGE, _GRID)
        self._rotate(np.ones(len(loss)))
        for _ in range(3):
            cells = self._cells(alphas, betas, repetitions)
            weights = cells.weights.sum((2, 3))
            alphas, betas = _narrowed(alphas, weights.sum(1)), _narrowed(betas, weights.sum(0))
            self._rotate(self._scatter * self._outlying(cells))
        self._draw(self._cells(alphas, betas, repetitions))

    def _rotate(self, scatter: np.ndarray) -> None:
        """Choose the basis in which noise and drift are both diagonal: all (s, tau) then cost one matrix product.

        Args:
            scatter: (n,) how much wider than others a run's noise is.
        """
        self._scatter = scatter
        shared = (1 - _SHARED) * np.eye(len(scatter)) + _SHARED * (self._params[:, None] == self._params)
        root = np.linalg.inv(np.linalg.cholesky(shared * np.sqrt(scatter[:, None] * scatter)))
        spectrum, basis = np.linalg.eigh(root @ _drift(self._places, self._places) @ root.T)
        self._rotation = basis.T @ root
        self._variances = self._noise[:, None] ** 2 + self._tau[:, None] ** 2 * np.maximum(spectrum, 0)  # (H, n)

    def _outlying(self, cells: _Cells) -> np.ndarray:
        """(n,) factors of the noise variances of runs above the law, by what all the other runs say of each one."""
        cell, pair = np.divmod(int(cells.weights.argmax()), cells.weights.shape[-1])
        features = self._features(*(axis[cell : cell + 1] for axis in (cells.alpha, cells.beta, cells.half_life)))[0]
        weight = 1 / self._variances[pair]
        pull = self._rotation.T @ (weight * (self._rotation @ (1 - features @ cells.mean[cell, pair])))
        deviation = np.maximum(pull, 0) ** 2 / np.einsum("ij,i,ij->j", self._rotation, weight, self._rotation)
        return np.maximum((_FREEDOM + deviation) / (_FREEDOM + 1), 1.0)

    def forecast_distribution(self, params: float, tokens: float, unique_tokens: float | None = None) -> np.ndarray:
        """(S,) draws of the loss of a new run at (N, D), which sees `unique_tokens` distinct tokens."""
        unique = np.minimum(tokens if unique_tokens is None else unique_tokens, tokens)
        law, place = self._law(params, tokens, unique), self._coordinates(params, tokens, unique)
        # What the runs' deviations from the law say of this run's: kriging, for every draw with its own (s, tau).
        shared = _SHARED * (self._params == params) * np.sqrt(self._scatter)
        across = self._rotation @ np.stack([_drift(self._places, place)[:, 0], shared], 1)
        covariance = self._tau[:, None] ** 2 * across[:, 0] + self._noise[:, None] ** 2 * across[:, 1]  # (H, n)
        gain = covariance / self._variances
        spread = self._tau**2 * _drift(place, place)[0, 0] + self._noise**2 - (gain * covariance).sum(1)
        mean = (gain[self._pair] * self._residuals).sum(1)
        random = numpy_generator(self._seed, "forecast").standard_normal(len(mean))
        return law * np.exp(mean + np.sqrt(np.maximum(spread, 0))[self._pair] * random)

    def forecast(
        self, params: float, tokens: float, level: float = 0.9, unique_tokens: float | None = None
    ) -> Interval:
        """The interval that holds a new run's loss with probability `level`.

        Raises:
            DataError: the runs leave the loss there so open that an interval would say nothing.
        """
        draws = self.forecast_distribution(params, tokens, unique_tokens)
        low, high = (float(one) for one in np.quantile(draws, [(1 - level) / 2, (1 + level) / 2]))
        if high > _WIDEST * low:
            raise DataError(
                f"these {len(self._params)} runs do not support an interval at {params:.3g} parameters and "
                f"{tokens:.3g} tokens: it would reach from {low:.3g} to {high:.3g}",
                hint="Add runs nearer to it, of more sizes and data amounts.",
            )
        return Interval(low, high)

    def median(self, params: float, tokens: float, unique_tokens: float | None = None) -> float:
        return float(np.median(self.forecast_distribution(params, tokens, unique_tokens)))

    def effective_tokens(self, tokens: float, unique_tokens: float) -> float:
        """How many fresh tokens `tokens` drawn from `unique_tokens` are worth: the posterior's median."""
        return float(np.median(effective_tokens(tokens, unique_tokens, self._half_life)))

    def _law(self, params: float, tokens: float, unique: float) -> np.ndarray:
        """(S,) the drawn laws' loss."""
        size, _, _ = self._coordinates(params, tokens, unique)[0]
        data = np.log(effective_tokens(tokens, unique, self._half_life)) - self._center[1]
        terms = [np.ones_like(self._alpha), np.exp(-self._alpha * size), np.exp(-self._beta * data)]
        if self._repeats:
            terms.append(np.full_like(self._alpha, _harm(params, tokens, unique) / self._harm_scale))
        return self._mean_loss * (np.stack(terms, 1) * self._coefficients).sum(1)

    def _coordinates(self, params: ArrayLike, tokens: ArrayLike, unique: ArrayLike) -> np.ndarray:
        """(n, 3) log size and log data from their means, and log epochs."""
        size, data = np.log(np.atleast_1d(params)), np.log(np.atleast_1d(tokens))
        return np.stack([size, data, data - np.log(np.atleast_1d(unique))], 1) - self._center

    def _features(self, alpha: np.ndarray, beta: np.ndarray, half_life: np.ndarray) -> np.ndarray:
        """(G, n, K) the law's terms at coefficient one, relative to the runs' losses."""
        data = np.log(effective_tokens(self._tokens, self._unique, half_life[:, None])) - self._center[1]
        terms = [np.ones_like(data), np.exp(-np.outer(alpha, self._places[:, 0])), np.exp(-beta[:, None] * data)]
        if self._repeats:
            harm = _harm(self._params, self._tokens, self._unique) / self._harm_scale
            terms.append(np.broadcast_to(harm, data.shape))
        return np.stack(terms, -1) * self._relative[:, None]

    def _cells(self, alphas: np.ndarray, betas: np.ndarray, repetitions: np.ndarray) -> _Cells:
        alpha, beta, half_life = (axis.ravel() for axis in np.meshgrid(alphas, betas, repetitions, indexing="ij"))
        features = self._rotation @ self._features(alpha, beta, half_life)
        target, weight = self._rotation.sum(1), 1 / self._variances
        count, terms = len(alpha), features.shape[-1]
        products = (features[..., :, None] * features[..., None, :]).reshape(count, len(target), -1)
        gram = np.einsum("gnk,hn->ghk", products, weight, optimize=True).reshape(count, len(weight), terms, terms)
        precision = gram + np.eye(terms) / _TERM_SPREAD**2
        moment = np.einsum("gnk,hn->ghk", features * target[:, None], weight, optimize=True)
        mean = np.linalg.solve(precision, moment[..., None])[..., 0]
        misfit = weight @ target**2 - (mean * moment).sum(-1)
        log_weight = -0.5 * (misfit + np.linalg.slogdet(precision)[1] + np.log(self._variances).sum(1))
        log_weight += _log_prior(self._noise, *_NOISE_PRIOR) + _log_prior(self._tau, *_DRIFT_PRIOR)
        own = _log_prior(alpha, *_EXPONENT_PRIOR) + _log_prior(beta, *_EXPONENT_PRIOR)
        own += _log_prior(half_life, *_REPETITION_PRIOR)
        log_weight += own[:, None]
        weights = np.exp(log_weight - log_weight.max())
        shape = (len(alphas), len(betas), len(repetitions), len(weight))
        return _Cells(alpha, beta, half_life, mean, precision, (weights / weights.sum()).reshape(shape))

    def _draw(self, cells: _Cells) -> None:
        """Draw from the posterior, and reject laws with a negative term: the prior rules them out."""
        random = numpy_generator(self._seed, "posterior")
        chosen = random.choice(cells.weights.size, _DRAWS, p=cells.weights.ravel())
        cell, pair = np.divmod(chosen, cells.weights.shape[-1])
        roots = np.linalg.cholesky(np.linalg.inv(cells.precision[cell, pair]))
        mean = cells.mean[cell, pair]
        coefficients = mean + (roots @ random.standard_normal((*mean.shape, 1)))[..., 0]
        kept = (coefficients >= 0).all(1)
        if kept.sum() < _DRAWS // 40:  # the data pushes a term to zero: take the nearest laws that are allowed
            coefficients, kept = np.maximum(coefficients, 0), np.ones(_DRAWS, bool)
        cell, self._pair, self._coefficients = cell[kept], pair[kept], coefficients[kept]
        self._alpha, self._beta = cells.alpha[cell], cells.beta[cell]
        features = self._features(self._alpha, self._beta, cells.half_life[cell])
        predicted = (features * self._coefficients[:, None]).sum(-1)
        self._residuals = (1 - predicted) @ self._rotation.T  # (S, n)
        self._half_life = cells.half_life[cell]
        if not self._repeats:  # the runs say nothing of it
            prior = np.exp(_log_prior(_REPETITIONS, *_REPETITION_PRIOR))
            self._half_life = random.choice(_REPETITIONS, len(cell), p=prior / prior.sum())


@dataclass(frozen=True)
class _Cells:
    alpha: np.ndarray  # (G,)
    beta: np.ndarray  # (G,)
    half_life: np.ndarray  # (G,)
    mean: np.ndarray  # (G, H, K)
    precision: np.ndarray  # (G, H, K, K)
    weights: np.ndarray  # (alphas, betas, repetitions, H), sum 1


def _log_prior(values: np.ndarray, median: float, spread: float) -> np.ndarray:
    """Log-normal, for cells of equal width in the logarithm."""
    return -0.5 * (np.log(values / median) / spread) ** 2


def _harm(params: ArrayLike, tokens: ArrayLike, unique: ArrayLike) -> np.ndarray:
    """R N / U: how far text is repeated, times parameters per distinct token (Lovelace et al. 2026, linear form)."""
    repeats = np.asarray(tokens) / np.asarray(unique) - 1
    return np.asarray(repeats * np.asarray(params) / np.asarray(unique))


def _drift(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Prior covariance of the drift between places (n, 3) and (m, 3), for tau = 1."""
    total = np.zeros((len(one), len(other)))
    for axis in range(one.shape[1]):
        x, y = one[:, axis, None], other[None, :, axis]
        near, far = np.minimum(np.abs(x), np.abs(y)), np.maximum(np.abs(x), np.abs(y))
        total += np.where(x * y > 0, near**2 * (3 * far - near) / 6, 0.0)
    return total + _INTERACTION**2 * np.outer(one[:, 0] * one[:, 1], other[:, 0] * other[:, 1])


def _narrowed(axis: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """A finer axis over the part of `axis` that holds the mass."""
    inside = np.flatnonzero(mass > 1e-5 * mass.max())
    first, last = max(inside[0] - 1, 0), min(inside[-1] + 1, len(axis) - 1)
    return np.geomspace(axis[first], axis[last], _GRID)
