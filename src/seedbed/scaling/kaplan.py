"""Fit Kaplan et al.'s law, which has no irreducible loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .fit import Fitted, fit_law
from .laws import KaplanLaw
from .robust import log_coefficients, nonnegative_least_squares, numeric_jacobian
from .runs import RunTable

_EXPONENTS = np.geomspace(0.02, 1.0, 24)
_BOUNDS = (1e-3, 5.0)
_POLISHED = 3


@dataclass(frozen=True)
class KaplanFit(Fitted, KaplanLaw):
    """A fitted `KaplanLaw`. Its intervals are those of the posterior, which allows an irreducible loss."""

    law = "kaplan"


def fit_kaplan(params: ArrayLike, tokens: ArrayLike, loss: ArrayLike, bootstrap: int = 0, seed: int = 0) -> KaplanFit:
    """Fit Kaplan's law to runs; arguments and errors as `fit_chinchilla`.

    To compare with the paper's exponents give parameters without embeddings (`ModelConfig.parameter_count`).
    """
    table = RunTable.checked(params, tokens, loss)
    return fit_law(KaplanFit, lambda runs: _Kaplan(runs, table), table, bootstrap, seed)


class _Kaplan:
    """Variables: the logs of both terms of L^(1 / alpha_D) at the runs' centre, alpha_N, alpha_D."""

    def __init__(self, runs: RunTable, like: RunTable) -> None:
        self._log_loss = np.log(runs.loss)
        self._center = np.array([np.log(like.params).mean(), np.log(like.tokens).mean()])
        self._n, self._d = np.log(runs.params) - self._center[0], np.log(runs.tokens) - self._center[1]

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        low, high = _BOUNDS
        return np.array([-np.inf, -np.inf, low, low]), np.array([np.inf, np.inf, high, high])

    def natural(self, variables: np.ndarray) -> np.ndarray:
        a, b, alpha_n, alpha_d = variables
        return np.array(
            [np.exp(a * alpha_d / alpha_n + self._center[0]), np.exp(b + self._center[1]), alpha_n, alpha_d]
        )

    def residuals(self, variables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._values(variables), numeric_jacobian(self._values, variables)

    def _values(self, variables: np.ndarray) -> np.ndarray:
        a, b, alpha_n, alpha_d = variables
        values: np.ndarray = alpha_d * np.logaddexp(a - alpha_n / alpha_d * self._n, b - self._d) - self._log_loss
        return values

    def starts(self) -> Sequence[np.ndarray]:
        """L^(1 / alpha_D) is linear in its two factors; an error there is alpha_D times as large in log L."""
        alpha_n, alpha_d = (axis.ravel() for axis in np.meshgrid(_EXPONENTS, _EXPONENTS, indexing="ij"))
        logs = np.stack(
            [-np.outer(alpha_n / alpha_d, self._n), np.broadcast_to(-self._d, (len(alpha_d), len(self._d)))], -1
        )
        features = np.exp(logs - (self._log_loss / alpha_d[:, None])[..., None])
        usable = np.isfinite(features).all((1, 2)) & (features.max((1, 2)) < 1e100)
        alpha_n, alpha_d, features = alpha_n[usable], alpha_d[usable], features[usable]
        found = nonnegative_least_squares(features, np.ones(features.shape[:2]))
        errors = alpha_d[:, None] * np.log(np.maximum((features * found[:, None]).sum(-1), 1e-12))
        best = np.argsort(np.abs(errors).sum(1), kind="stable")[:_POLISHED]
        ones = np.ones_like(self._n)
        return [np.array([*log_coefficients(found[cell], ones), alpha_n[cell], alpha_d[cell]]) for cell in best]
