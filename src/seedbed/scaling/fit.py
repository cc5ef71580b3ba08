"""Fit L = E + A / N^alpha + B / D^beta to runs (Hoffmann et al. 2022, approach 3), and what every fit carries.

n runs, G grid cells.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from .laws import ChinchillaLaw
from .robust import Problem, asymptotic_errors, bootstrap, log_coefficients, projected_starts, solve
from .runs import RunTable
from .uncertainty import Interval, Posterior

EXPONENTS = np.linspace(0.04, 1.4, 24)
_STEEPEST = 5.0
_POLISHED = 3


@dataclass(frozen=True)
class Fitted:
    """What a fit knows besides its law. A and B are nearly unidentified by most data; predictions are not."""

    law: ClassVar[str]

    objective: float  # summed Huber loss of the log loss
    standard_errors: dict[str, float]  # from the bootstrap, else asymptotic
    replicates: np.ndarray  # (bootstrap, parameters): the law's, in the order of its fields
    runs: RunTable
    seed: int

    @functools.cached_property
    def posterior(self) -> Posterior:
        table = self.runs
        return Posterior(table.params, table.tokens, table.loss, table.unique_tokens, seed=self.seed)

    def interval(
        self, params: float, tokens: float, level: float = 0.9, unique_tokens: float | None = None
    ) -> Interval:
        """Interval that holds the loss of a *new run* at (N, D) with probability `level`, the noise of runs included.

        From the posterior of `uncertainty`, which stays honest where few runs leave the exponents open, and where the
        law itself drifts.

        Raises:
            DataError: the runs do not support an interval there.
        """
        return self.posterior.forecast(params, tokens, level, unique_tokens)

    def parameters(self) -> dict[str, float]:
        """The law's own numbers by name."""
        return {name: float(getattr(self, name)) for name in law_parameters(type(self))}

    def to_json(self) -> dict[str, Any]:
        """What `fit.json` holds: with the runs, from which intervals are made again."""
        table = {name: [float(one) for one in getattr(self.runs, name)] for name in _COLUMNS}
        return {
            "law": self.law, **self.parameters(), "objective": self.objective,
            "standard_errors": self.standard_errors, "runs": table,
        }  # fmt: skip


_COLUMNS = tuple(field.name for field in fields(RunTable))
_OWN = {field.name for field in fields(Fitted)}
FitT = TypeVar("FitT", bound=Fitted)


def law_parameters(kind: type[Fitted]) -> list[str]:
    return [field.name for field in fields(kind) if field.name not in _OWN]


@dataclass(frozen=True)
class ChinchillaFit(Fitted, ChinchillaLaw):
    """A fitted `ChinchillaLaw`."""

    law = "chinchilla"


def fit_chinchilla(
    params: ArrayLike, tokens: ArrayLike, loss: ArrayLike, bootstrap: int = 0, seed: int = 0
) -> ChinchillaFit:
    """Fit Chinchilla's law to runs.

    Args:
        params: (n,) parameters, by one convention for all runs.
        tokens: (n,) training tokens, each seen once. loss: (n,) final loss in nats per token.
        bootstrap: refits on resampled runs, for the standard errors (a thousand is usual).

    Raises:
        DataError: a value is missing or not positive, or the runs cannot identify the law.
    """
    table = RunTable.checked(params, tokens, loss)
    return fit_law(ChinchillaFit, lambda runs: ChinchillaProblem(runs, table), table, bootstrap, seed)


def fit_law(kind: type[FitT], make: Callable[[RunTable], Problem], table: RunTable, replicates: int, seed: int) -> FitT:
    """Solve the problem, and find how far its parameters can be trusted."""
    problem = make(table)
    variables, objective = solve(problem)

    def resampled(chosen: np.ndarray) -> Problem:
        table[chosen].require_identified()
        return make(table[chosen])

    drawn = bootstrap(resampled, replicates, len(table), variables, seed)
    errors = drawn.std(0, ddof=1) if replicates > 1 else asymptotic_errors(problem, variables)
    names = law_parameters(kind)
    law = dict(zip(names, map(float, problem.natural(variables)), strict=True))
    standard_errors = dict(zip(names, map(float, errors), strict=True))
    return kind(**law, objective=objective, standard_errors=standard_errors, replicates=drawn, runs=table, seed=seed)


class ChinchillaProblem:
    """The objective in well-scaled variables (e, a, b, alpha, beta).

    e, a and b are the logs of the three terms at the geometric mean size and data amount of `like`: that takes most of
    the correlation between factors and exponents away.
    """

    def __init__(self, runs: RunTable, like: RunTable) -> None:
        self._loss = runs.loss
        self._log_loss = np.log(runs.loss)
        self._center = np.array([np.log(like.params).mean(), np.log(like.tokens).mean()])
        self._n, self._d = np.log(runs.params) - self._center[0], np.log(runs.tokens) - self._center[1]

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array([-np.inf] * 3 + [0.0] * 2), np.array([np.inf] * 3 + [_STEEPEST] * 2)

    def natural(self, variables: np.ndarray) -> np.ndarray:
        e, a, b, alpha, beta = variables
        return np.array(
            [np.exp(e), np.exp(a + alpha * self._center[0]), np.exp(b + beta * self._center[1]), alpha, beta]
        )

    def residuals(self, variables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        e, a, b, alpha, beta = variables
        terms = np.stack([np.full_like(self._n, e), a - alpha * self._n, b - beta * self._d])
        top = terms.max(0)
        shares = np.exp(terms - top)
        total = shares.sum(0)
        shares /= total
        jacobian = np.stack([*shares, -shares[1] * self._n, -shares[2] * self._d], axis=1)
        return np.log(total) + top - self._log_loss, jacobian

    def starts(self) -> Sequence[np.ndarray]:
        alpha, beta = (axis.ravel() for axis in np.meshgrid(EXPONENTS, EXPONENTS, indexing="ij"))
        terms = np.stack([np.ones((len(alpha), len(self._n))), np.exp(-np.outer(alpha, self._n)),
                          np.exp(-np.outer(beta, self._d))], axis=-1)  # fmt: skip
        found = projected_starts(terms / self._loss[:, None], _POLISHED)
        return [
            np.array([*log_coefficients(coefficients, self._loss), alpha[cell], beta[cell]])
            for cell, coefficients in found
        ]
