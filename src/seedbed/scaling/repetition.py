"""Fit laws for text that is read more than once: effective data, and overfitting as a term of its own."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from ..core.errors import DataError
from .fit import ChinchillaProblem, Fitted, fit_law
from .laws import DataConstrainedLaw, OverfitLaw
from .robust import huber, log_coefficients, numeric_jacobian, projected_starts
from .runs import RunTable

RepetitionForm = Literal["effective-data", "overfit"]

_HALF_LIVES = (1.0, 4.0, 16.0, 64.0)  # starts; the polish moves freely between the bounds
_HALF_LIFE_BOUNDS = (1e-2, 1e4)
_POWERS = (0.5, 1.0, 1.5)
_STEEPEST = 5.0
_POLISHED = 3
_REPEATED = 0.01  # repeats of the average token from which a run counts as one with repetition
_FEWEST_REPEATED = 3


@dataclass(frozen=True)
class DataConstrainedFit(Fitted, DataConstrainedLaw):
    """A fitted `DataConstrainedLaw`."""

    law = "data-constrained"


@dataclass(frozen=True)
class OverfitFit(Fitted, OverfitLaw):
    """A fitted `OverfitLaw`."""

    law = "overfit"


def fit_data_constrained(
    params: ArrayLike,
    tokens: ArrayLike,
    unique_tokens: ArrayLike,
    loss: ArrayLike,
    *,
    form: RepetitionForm = "effective-data",
    bootstrap: int = 0,
    seed: int = 0,
) -> DataConstrainedFit | OverfitFit:
    """Fit a law of size, data and its repetition to runs, some of which read their text once and some more often.

    Args:
        unique_tokens: (n,) distinct tokens that a run saw; its `tokens` are drawn from them.
        form: Muennighoff et al.'s effective data, which saturates, or Lovelace et al.'s overfitting term, which can say
            that repetition harms. The one with the smaller `objective` describes the runs better.

    Raises:
        DataError: a value is missing or not positive, or the runs cannot identify the law.
    """
    table = RunTable.checked(params, tokens, loss, unique_tokens)
    repeated = int((table.repeats > _REPEATED).sum())
    if repeated < _FEWEST_REPEATED or len(table) - repeated < _FEWEST_REPEATED:
        raise DataError(
            f"{repeated} of {len(table)} runs read text more than once: too few to tell what repetition is worth",
            hint=f"It takes at least {_FEWEST_REPEATED} runs with repetition and {_FEWEST_REPEATED} without.",
        )
    if form == "overfit":
        return fit_law(OverfitFit, _Overfit, table, bootstrap, seed)
    return fit_law(DataConstrainedFit, lambda runs: _EffectiveData(runs, table), table, bootstrap, seed)


class _EffectiveData:
    """Variables: those of Chinchilla's problem, and the logs of R_D and R_N."""

    def __init__(self, runs: RunTable, like: RunTable) -> None:
        self._runs, self._log_loss = runs, np.log(runs.loss)
        once, fresh = runs[runs.repeats <= _REPEATED], like[like.repeats <= _REPEATED]
        self._chinchilla = ChinchillaProblem(once if len(once) else runs, fresh)

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        low, high = self._chinchilla.bounds
        low[3:] = 0.01  # U_N, the size that a text can feed, needs both exponents
        ends = np.log(_HALF_LIFE_BOUNDS)
        return np.array([*low, ends[0], ends[0]]), np.array([*high, ends[1], ends[1]])

    def natural(self, variables: np.ndarray) -> np.ndarray:
        return np.array([*self._chinchilla.natural(variables[:5]), *np.exp(variables[5:])])

    def residuals(self, variables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._values(variables), numeric_jacobian(self._values, variables)

    def _values(self, variables: np.ndarray) -> np.ndarray:
        law = DataConstrainedLaw(*self.natural(variables))
        predicted = law.predict(self._runs.params, self._runs.tokens, self._runs.unique_tokens)
        values: np.ndarray = np.log(predicted) - self._log_loss
        return values

    def starts(self) -> Sequence[np.ndarray]:
        """The law of the runs without repetition, with each pair of half-lives; the best of these."""
        low, high = self.bounds
        candidates = [
            np.clip(np.array([*start, *np.log(pair)]), low, high)
            for start in self._chinchilla.starts()
            for pair in itertools.product(_HALF_LIVES, _HALF_LIVES)
        ]
        candidates.sort(key=lambda one: float(huber(self._values(one)).sum()))
        return candidates[:_POLISHED]


class _Overfit:
    """Variables: the logs of E, A, B and P at the runs' centre, alpha, beta, delta, kappa."""

    def __init__(self, runs: RunTable) -> None:
        self._loss, self._log_loss = runs.loss, np.log(runs.loss)
        self._center = np.array([np.log(runs.params).mean(), np.log(runs.tokens).mean(), 0.0])
        self._n, self._d = np.log(runs.params) - self._center[0], np.log(runs.tokens) - self._center[1]
        with np.errstate(divide="ignore"):
            self._repeats = np.log(np.where(runs.repeats > _REPEATED, runs.repeats, 0.0))
        self._crowding = np.log(runs.params / runs.unique_tokens)
        self._crowding_center = float(self._crowding[np.isfinite(self._repeats)].mean())
        self._crowding -= self._crowding_center

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array([-np.inf] * 4 + [0.0, 0.0, 0.05, 0.0]), np.array([np.inf] * 4 + [_STEEPEST] * 4)

    def natural(self, variables: np.ndarray) -> np.ndarray:
        e, a, b, p, alpha, beta, delta, kappa = variables
        factors = np.exp(
            [e, a + alpha * self._center[0], b + beta * self._center[1], p - kappa * self._crowding_center]
        )
        return np.array([*factors[:3], alpha, beta, factors[3], delta, kappa])

    def residuals(self, variables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._values(variables), numeric_jacobian(self._values, variables)

    def _values(self, variables: np.ndarray) -> np.ndarray:
        e, a, b, p, alpha, beta, delta, kappa = variables
        terms = np.stack([np.full_like(self._n, e), a - alpha * self._n, b - beta * self._d,
                          p + delta * self._repeats + kappa * self._crowding])  # fmt: skip
        values: np.ndarray = np.logaddexp.reduce(terms, axis=0) - self._log_loss
        return values

    def starts(self) -> Sequence[np.ndarray]:
        exponents = np.geomspace(0.08, 1.2, 10)
        grid = np.array(list(itertools.product(exponents, exponents, _POWERS, _POWERS)))
        alpha, beta, delta, kappa = (column[:, None] for column in grid.T)
        terms = np.stack([np.ones((len(grid), len(self._n))), np.exp(-alpha * self._n), np.exp(-beta * self._d),
                          np.exp(delta * self._repeats + kappa * self._crowding)], axis=-1)  # fmt: skip
        found = projected_starts(terms / self._loss[:, None], _POLISHED)
        return [np.array([*log_coefficients(one, self._loss), *grid[cell]]) for cell, one in found]
