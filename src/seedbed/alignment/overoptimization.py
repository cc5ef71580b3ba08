"""The price of optimising a proxy: how the gold reward rises and falls with d, the root of the divergence in nats.

Gao, Schulman and Hilton 2022, "Scaling laws for reward model over-optimization": best of n follows R(d) = d (a - b d),
reinforcement learning R(d) = d (a - b log d), R being the gain over where the policy began.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from ..core.errors import DataError

Form = Literal["best-of-n", "rl"]


@dataclass(frozen=True)
class OverOptimization:
    """A fitted curve.

    Attributes:
        start: the gold reward at d = 0, given or fitted.
        alpha, beta: how fast the gold reward rises at first, and what bends it down.
        errors: standard errors of both.
        aic, line_aic: Akaike's criterion of the form, and of a line through the origin: smaller is better.
    """

    form: Form
    start: float
    alpha: float
    beta: float
    errors: tuple[float, float]
    aic: float
    line_aic: float

    def gain(self, d: ArrayLike) -> np.ndarray:
        """The gold reward's gain at d (same shape)."""
        d = np.asarray(d, float)
        bend = d if self.form == "best-of-n" else np.log(np.maximum(d, 1e-12))
        return d * (self.alpha - self.beta * bend)

    @property
    def peak(self) -> float | None:
        """d of the highest gold reward: a / 2b, or exp(a / b - 1); None where the curve does not bend down."""
        if self.beta <= 0 or (self.form == "best-of-n" and self.alpha <= 0):
            return None
        return self.alpha / (2 * self.beta) if self.form == "best-of-n" else math.exp(self.alpha / self.beta - 1)

    @property
    def bends(self) -> bool:
        """Whether the form describes the points better than a line does, counting what each costs in parameters."""
        return self.aic < self.line_aic


def fit(d: ArrayLike, gold: ArrayLike, form: Form, *, start: float | None = None) -> OverOptimization:
    """Fit the form to points by least squares; it is linear in both parameters.

    Args:
        d: root of the divergence from the start in nats per answer, (n,).
        gold: gold reward at these, (n,).
        start: the gold reward at d = 0; without it a parameter more, since one noisy point would tilt the curve.

    Raises:
        DataError: fewer than four points with d above 0, or values that are not finite.
    """
    d, gold = np.asarray(d, float), np.asarray(gold, float)
    if d.shape != gold.shape or d.ndim != 1 or not (np.isfinite(d).all() and np.isfinite(gold).all()):
        raise DataError(f"over-optimisation is fitted to finite points, not to shapes {d.shape} and {gold.shape}")
    kept = d > 0 if start is not None else np.ones(len(d), bool)
    d, gold = d[kept], gold[kept]
    if (d > 0).sum() < 4 or len(np.unique(d)) < 3:
        raise DataError(f"{len(d)} points cannot tell a curve from a line", hint="Measure at four divergences or more.")
    bend = -d * d if form == "best-of-n" else -d * np.log(np.where(d > 0, d, 1.0))
    free = [np.ones_like(d)] if start is None else []
    design, gain = np.stack([d, bend, *free], axis=1), gold - (0.0 if start is None else start)
    found, left = _least_squares(design, gain)
    variance = left / max(len(d) - design.shape[1], 1)
    errors = np.sqrt(np.diag(np.linalg.inv(design.T @ design)) * variance)
    _, line_left = _least_squares(np.delete(design, 1, axis=1), gain)
    return OverOptimization(
        form, float(found[2]) if start is None else start, float(found[0]), float(found[1]),
        (float(errors[0]), float(errors[1])), _aic(left, len(d), design.shape[1]),
        _aic(line_left, len(d), design.shape[1] - 1),
    )  # fmt: skip


def _least_squares(design: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, float]:
    found, *_ = np.linalg.lstsq(design, values, rcond=None)
    return found, float(((values - design @ found) ** 2).sum())


def _aic(squares: float, points: int, parameters: int) -> float:
    return points * math.log(max(squares, 1e-300) / points) + 2 * (parameters + 1)
