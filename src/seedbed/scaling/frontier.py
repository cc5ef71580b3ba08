"""Chinchilla's first two approaches: the best size for a budget read off the runs, without a law of the loss.

Approach 1: over all training curves, the lowest loss at each number of FLOPs (Hoffmann et al. 2022, section 3.1).
Approach 2: runs of equal FLOPs, and the bottom of a parabola of loss over log size through them (section 3.2). The loss
is no parabola, so the bottom is biased where the sizes do not lie evenly around it, even without noise (arXiv
2603.22339): its own runs' standard errors do not know that, and approach 3 (`fit`) is to be preferred.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..core.errors import DataError
from .hyperparameters import PowerLaw, fit_power_law
from .laws import FLOPS_PER_PARAMETER_AND_TOKEN

_SAME_BUDGET = 0.15  # spread of log FLOPs within which runs count as one budget
_FEWEST_SIZES = 4


@dataclass(frozen=True)
class Optimum:
    """The best of one budget."""

    flops: float
    params: float
    tokens: float
    loss: float


@dataclass(frozen=True)
class Parabola:
    """loss = the optimum's + curvature * (log params - log of its params)^2, through sizes from `low` to `high`."""

    optimum: Optimum
    curvature: float
    low: float
    high: float

    def loss(self, params: ArrayLike) -> np.ndarray:
        distance = np.log(np.asarray(params, np.float64) / self.optimum.params)
        return np.asarray(self.optimum.loss + self.curvature * distance**2)


@dataclass(frozen=True)
class Frontier:
    """N_opt = params(C) and D_opt = tokens(C), from the optima; the exponents are the paper's a and b."""

    optima: tuple[Optimum, ...]
    params: PowerLaw
    tokens: PowerLaw


@dataclass(frozen=True)
class Curve:
    """A run's training curve: losses after so many tokens."""

    params: float
    tokens: np.ndarray
    loss: np.ndarray


def fit_envelope(curves: Sequence[Curve], budgets: int = 60) -> Frontier:
    """Approach 1: the size that is lowest at each of `budgets` log-spaced FLOPs, with losses interpolated in log FLOPs.

    Curves of schedules that end elsewhere are higher than they need be: give each size several lengths.

    Raises:
        DataError: one size is the best everywhere: there is no frontier.
    """
    reached: list[tuple[float, np.ndarray, np.ndarray]] = []
    for curve in curves:
        order = np.argsort(curve.tokens)
        flops = FLOPS_PER_PARAMETER_AND_TOKEN * curve.params * np.asarray(curve.tokens, np.float64)[order]
        reached.append((curve.params, np.log(flops), np.asarray(curve.loss, np.float64)[order]))
    low = np.sort([flops[0] for _, flops, _ in reached])[min(1, len(reached) - 1)]
    high = max(flops[-1] for _, flops, _ in reached)
    optima = []
    for budget in map(float, np.linspace(low, high, budgets)):
        losses = [np.interp(budget, flops, loss, left=np.inf, right=np.inf) for _, flops, loss in reached]
        best = int(np.argmin(losses))
        if np.isfinite(losses[best]):
            cost, params = math.exp(budget), reached[best][0]
            tokens = cost / FLOPS_PER_PARAMETER_AND_TOKEN / params
            optima.append(Optimum(cost, params, tokens, float(losses[best])))
    return _frontier(optima)


def fit_isoflop(
    params: ArrayLike, tokens: ArrayLike, loss: ArrayLike, flops: ArrayLike | None = None
) -> tuple[Frontier, tuple[Parabola, ...]]:
    """Approach 2. Runs whose FLOPs differ by less than a tenth or so are of one budget.

    Args:
        flops: (n,) of training; None: 6 N D.

    Raises:
        DataError: fewer than two budgets with four sizes around the best one.
    """
    size, data, losses = (np.asarray(one, np.float64) for one in (params, tokens, loss))
    cost = FLOPS_PER_PARAMETER_AND_TOKEN * size * data if flops is None else np.asarray(flops, np.float64)
    parabolas = [one for one in (_parabola(size[rows], data[rows], losses[rows], cost[rows])
                                 for rows in _budgets(cost)) if one is not None]  # fmt: skip
    if len(parabolas) < 2:
        raise DataError(
            f"{len(parabolas)} budgets have a best size among their runs, where at least 2 are needed",
            hint=f"Train at least {_FEWEST_SIZES} sizes for each of several budgets, around the best size.",
        )
    return _frontier([one.optimum for one in parabolas]), tuple(parabolas)


def _budgets(cost: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(cost)
    breaks = np.flatnonzero(np.diff(np.log(cost[order])) > _SAME_BUDGET) + 1
    return np.split(order, breaks)


def _parabola(size: np.ndarray, data: np.ndarray, loss: np.ndarray, cost: np.ndarray) -> Parabola | None:
    if len(np.unique(size)) < _FEWEST_SIZES:
        return None
    x = np.log(size)
    curvature, slope, level = np.polyfit(x - x.mean(), loss, 2)
    if curvature <= 0:
        return None
    bottom = -slope / (2 * curvature)
    if not x.min() <= bottom + x.mean() <= x.max():
        return None
    flops, params = float(np.exp(np.log(cost).mean())), float(np.exp(bottom + x.mean()))
    # Tokens follow from the runs' own cost of a parameter and token, which heads and attention raise above 6.
    tokens = flops / params / float(np.exp(np.log(cost / size / data).mean()))
    best = Optimum(flops, params, tokens, float(level - slope**2 / (4 * curvature)))
    return Parabola(best, float(curvature), float(size.min()), float(size.max()))


def _frontier(optima: Sequence[Optimum]) -> Frontier:
    if len({one.params for one in optima}) < 2:
        raise DataError("one size is the best for every budget: there is no frontier", hint="Add other sizes.")
    flops = [one.flops for one in optima]
    return Frontier(
        tuple(optima),
        fit_power_law([one.params for one in optima], flops),
        fit_power_law([one.tokens for one in optima], flops),
    )
