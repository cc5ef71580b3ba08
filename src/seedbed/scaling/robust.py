"""What all fits share: the robust objective, its minimum, standard errors and the bootstrap.

Hoffmann et al. 2022, section 3.3: the Huber loss (delta 1e-3) of log loss, *summed* over runs: an average makes L-BFGS
stop early (Besiroglu et al. 2024, arXiv 2404.10102). Instead of L-BFGS from thousands of starts: for fixed exponents
a law is linear in its coefficients, so a grid over the exponents with a non-negative least-squares solution in each
cell (variable projection: Golub and Pereyra 1973) finds the basin, and Gauss-Newton and L-BFGS polish the best cells.

n runs, G grid cells, K terms, p parameters.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from scipy.optimize import least_squares, minimize

from ..core.errors import DataError
from ..core.randomness import numpy_generator

HUBER_DELTA = 1e-3
_FLOOR = 1e-9  # a term that the data does not want, as a share of the loss

Residuals = Callable[[np.ndarray], np.ndarray]


class Problem(Protocol):
    """A law to be fitted to runs, in variables that suit the search."""

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """(p,) lowest and highest values of the variables."""

    def residuals(self, variables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n,) log prediction minus log loss, and its Jacobian (n, p)."""

    def starts(self) -> Sequence[np.ndarray]:
        """Where to begin, the best first."""

    def natural(self, variables: np.ndarray) -> np.ndarray:
        """The law's own parameters."""


def huber(residuals: np.ndarray) -> np.ndarray:
    """Huber loss of each residual, elementwise."""
    size = np.abs(residuals)
    loss: np.ndarray = np.where(size <= HUBER_DELTA, 0.5 * size**2, HUBER_DELTA * (size - 0.5 * HUBER_DELTA))
    return loss


def solve(problem: Problem, start: np.ndarray | None = None) -> tuple[np.ndarray, float]:
    """The variables of least summed Huber loss, and that loss; from `start`, or else from the problem's own starts."""
    best, objective = None, np.inf
    for one in problem.starts() if start is None else [start]:
        found = _polish(problem, one)
        value = float(huber(problem.residuals(found)[0]).sum())
        if best is None or value < objective:
            best, objective = found, value
    assert best is not None
    return best, objective


def _polish(problem: Problem, start: np.ndarray) -> np.ndarray:
    """Gauss-Newton gets to the minimum in tens of steps; L-BFGS, which alone takes thousands, checks it."""
    low, high = problem.bounds

    def values(variables: np.ndarray) -> np.ndarray:
        return problem.residuals(variables)[0]

    def jacobian(variables: np.ndarray) -> np.ndarray:
        return problem.residuals(variables)[1]

    near = least_squares(
        values, np.clip(start, low, high), jac=jacobian, bounds=(low, high), loss="huber", f_scale=HUBER_DELTA,
        x_scale="jac", ftol=1e-15, xtol=1e-15, gtol=1e-15, max_nfev=200,
    ).x  # fmt: skip
    scale = 1 / HUBER_DELTA  # L-BFGS measures its tolerances against values near one

    def scaled(variables: np.ndarray) -> tuple[float, np.ndarray]:
        residuals, slopes = problem.residuals(variables)
        slope = np.clip(residuals, -HUBER_DELTA, HUBER_DELTA) @ slopes
        return float(huber(residuals).sum()) * scale, slope * scale

    found = minimize(
        scaled, near, jac=True, method="L-BFGS-B", bounds=list(zip(low, high, strict=True)),
        options={"maxiter": 500, "ftol": 1e-14, "gtol": 1e-9, "maxcor": 20},
    ).x  # fmt: skip
    return found if scaled(found)[0] <= scaled(near)[0] else near


def asymptotic_errors(problem: Problem, variables: np.ndarray) -> np.ndarray:
    """Standard errors of the natural parameters by the sandwich formula (Huber 1967): runs may differ in spread."""
    residuals, jacobian = problem.residuals(variables)
    count, free = jacobian.shape
    # psi' is one only within delta of zero, where few runs lie: count them in a wider window (Powell 1991).
    spread = max(1.4826 * float(np.median(np.abs(residuals))), 1e-12)
    window = max(HUBER_DELTA, 1.5 * spread * count**-0.2)
    inside = (np.abs(residuals) <= window) * (HUBER_DELTA / window)
    clipped = np.clip(residuals, -HUBER_DELTA, HUBER_DELTA)
    bread = np.linalg.pinv((jacobian * inside[:, None]).T @ jacobian)
    meat = (jacobian * clipped[:, None] ** 2).T @ jacobian * (count / max(count - free, 1))
    outer = numeric_jacobian(problem.natural, variables)
    errors: np.ndarray = np.sqrt(np.maximum(np.diag(outer @ bread @ meat @ bread @ outer.T), 0))
    return errors


def bootstrap(make: Callable[[np.ndarray], Problem], count: int, runs: int, start: np.ndarray, seed: int) -> np.ndarray:
    """(count, p) natural parameters of refits on resampled runs: rows, as each is one finished run.

    Args:
        make: the problem of the runs with these indices; raises DataError where they identify no law, and others are
            drawn.
    """
    random = numpy_generator(seed, "bootstrap")
    replicates: list[np.ndarray] = []
    while len(replicates) < count:
        try:
            again = make(random.integers(0, runs, runs))
        except DataError:
            continue
        replicates.append(again.natural(solve(again, start)[0]))
    return np.array(replicates).reshape(count, len(start))


def numeric_jacobian(function: Residuals, at: np.ndarray) -> np.ndarray:
    """(m, p) derivatives by central differences, whose error of about 1e-10 the polish does not notice."""
    columns = []
    for place, value in enumerate(at):
        step = np.zeros_like(at)
        step[place] = 6e-6 * max(abs(value), 1.0)
        columns.append((function(at + step) - function(at - step)) / (2 * step[place]))
    return np.stack(columns, axis=1)


def projected_starts(features: np.ndarray, cells: int) -> list[tuple[int, np.ndarray]]:
    """The best cells of a grid: (cell, (K,) coefficients), robustly.

    Args:
        features: (G, n, K) the law's terms at coefficient one, divided by the runs' losses.
    """
    weights = np.ones(features.shape[:2])
    for _ in range(3):  # reweighting approaches the Huber loss, so that outliers do not choose the cell
        coefficients = nonnegative_least_squares(features, weights)
        residuals = np.log(np.maximum((features * coefficients[:, None, :]).sum(-1), 1e-12))
        weights = 1 / np.maximum(np.abs(residuals), HUBER_DELTA)
    order = np.argsort(huber(residuals).sum(1), kind="stable")[:cells]
    return [(int(cell), coefficients[cell]) for cell in order]


def log_coefficients(coefficients: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Logarithms of coefficients, those of zero at a floor far below the loss."""
    logs: np.ndarray = np.log(np.maximum(coefficients, _FLOOR * np.exp(np.log(losses).mean())))
    return logs


def nonnegative_least_squares(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(G, K) coefficients >= 0 that bring features (G, n, K) nearest to one, weighted by (G, n).

    With three or four coefficients the active set can be enumerated, for all the cells at once.
    """
    terms = features.shape[-1]
    weighted = features * weights[..., None]
    gram, target = features.swapaxes(1, 2) @ weighted, weighted.sum(1)
    best = np.zeros_like(target)
    gain = np.zeros(len(target))  # how far the sum of squares falls
    subsets = (itertools.combinations(range(terms), size) for size in range(1, terms + 1))
    for chosen in (list(one) for one in itertools.chain.from_iterable(subsets)):
        block = gram[:, chosen][:, :, chosen]
        block = block + 1e-12 * np.trace(block, axis1=1, axis2=2)[:, None, None] * np.eye(len(chosen))
        solution = np.linalg.solve(block, target[:, chosen, None])[..., 0]
        found = (solution * target[:, chosen]).sum(1)
        better = (solution >= 0).all(1) & (found > gain)
        gain = np.where(better, found, gain)
        full = np.zeros_like(best)
        full[:, chosen] = solution
        best = np.where(better[:, None], full, best)
    return best
