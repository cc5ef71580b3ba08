"""Fit L = E + A / N^alpha + B / D^beta to runs, robustly.

Hoffmann et al. 2022, section 3.3: the Huber loss (delta 1e-3) of log loss, *summed* over runs: an average makes L-BFGS
stop early (Besiroglu et al. 2024, arXiv 2404.10102). Instead of L-BFGS from thousands of starts: for fixed exponents
the law is linear, so a grid over the two exponents with a non-negative least-squares solution in each cell (variable
projection) finds the basin, and Gauss-Newton and L-BFGS polish the best cells. n runs, G grid cells.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares, minimize

from ..core.errors import DataError
from ..core.randomness import numpy_generator
from .laws import Allocation, ChinchillaLaw
from .uncertainty import Interval, Posterior

HUBER_DELTA = 1e-3
_NAMES = ("E", "A", "B", "alpha", "beta")
_EXPONENTS = np.linspace(0.04, 1.4, 24)
_POLISHED = 3
_SMALLEST = 1e-9  # a term that the data does not want, as a share of the loss


@dataclass(frozen=True)
class ChinchillaFit(ChinchillaLaw):
    """A fitted law. E is in the loss's unit; A and B are nearly unidentified by most data, predictions are not."""

    objective: float  # summed Huber loss of the log loss
    standard_errors: dict[str, float]  # of E, A, B, alpha, beta: from the bootstrap, else asymptotic
    replicates: np.ndarray  # (bootstrap, 5): E, A, B, alpha, beta
    posterior: Posterior

    def interval(self, params: float, tokens: float, level: float = 0.9) -> Interval:
        """Interval that holds the loss of a *new run* at (N, D) with probability `level`, the noise of runs included.

        From the posterior of `uncertainty`, which stays honest where few runs leave the exponents open.
        """
        return self.posterior.forecast(params, tokens, level)

    def optimal(self, flops: float) -> Allocation:
        if min(self.A, self.B) <= 1e-6 * self.E:
            raise DataError(
                "these runs show no gain from " + ("parameters" if self.A < self.B else "tokens"),
                hint="Add runs of more sizes and data amounts before planning with this law.",
            )
        return super().optimal(flops)

    def to_json(self) -> dict[str, object]:
        """What `fit.json` holds."""
        values = {name: float(getattr(self, name)) for name in (*_NAMES, "objective")}
        return {"law": "chinchilla", **values, "standard_errors": self.standard_errors}


def fit_chinchilla(
    params: np.typing.ArrayLike,
    tokens: np.typing.ArrayLike,
    loss: np.typing.ArrayLike,
    bootstrap: int = 0,
    seed: int = 0,
) -> ChinchillaFit:
    """Fit Chinchilla's law to runs.

    Args:
        params: (n,) parameters, by one convention for all runs.
        tokens: (n,) training tokens. loss: (n,) final loss in nats per token.
        bootstrap: refits on resampled runs, for the standard errors (a thousand is usual).

    Raises:
        DataError: a value is missing or not positive, or the runs cannot identify the law.
    """
    size, data, losses = check_runs(params, tokens, loss)
    problem = _Problem(size, data, losses)
    parameters, objective = problem.solve(_POLISHED)
    random = numpy_generator(seed, "bootstrap")
    replicates = np.empty((bootstrap, len(_NAMES)))
    for row in range(bootstrap):
        chosen = _resample(random, size, data)
        again = _Problem(size[chosen], data[chosen], losses[chosen], like=problem)
        replicates[row] = again.natural(again.solve(0, start=parameters)[0])
    values = problem.natural(parameters)
    errors = replicates.std(0, ddof=1) if bootstrap > 1 else problem.asymptotic_errors(parameters)
    standard_errors = dict(zip(_NAMES, map(float, errors), strict=True))
    law = dict(zip(_NAMES, map(float, values), strict=True))
    return ChinchillaFit(
        **law, objective=objective, standard_errors=standard_errors, replicates=replicates,
        posterior=Posterior(size, data, losses, seed=seed),
    )  # fmt: skip


def check_runs(
    params: np.typing.ArrayLike, tokens: np.typing.ArrayLike, loss: np.typing.ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The columns as float64 arrays, if a five-parameter law can be fitted to them at all."""
    columns = {}
    for name, values in (("params", params), ("tokens", tokens), ("loss", loss)):
        try:
            column = np.asarray(values, np.float64)
        except (TypeError, ValueError):
            raise DataError(f"the column '{name}' holds something that is not a number") from None
        bad = np.flatnonzero(~(np.isfinite(column) & (column > 0)))
        if len(bad):
            raise DataError(
                f"the column '{name}' is missing or not positive in {len(bad)} runs (the first: run {bad[0] + 1})",
                hint="Remove or mend these runs.",
            )
        columns[name] = column
    size, data, losses = columns["params"], columns["tokens"], columns["loss"]
    if not (size.ndim == 1 and size.shape == data.shape == losses.shape):
        raise DataError("params, tokens and loss need one value per run")
    _require_identified(size, data)
    return size, data, losses


def _require_identified(size: np.ndarray, data: np.ndarray) -> None:
    runs, sizes, amounts = len(size), len(np.unique(size)), len(np.unique(data))
    if runs < 6 or sizes < 3 or amounts < 3:
        raise DataError(
            f"{runs} runs of {sizes} sizes and {amounts} data amounts cannot identify the law's five parameters",
            hint="It takes at least 6 runs with 3 sizes and 3 data amounts.",
        )
    if abs(np.corrcoef(np.log(size), np.log(data))[0, 1]) > 0.9999:
        raise DataError(
            "every run has the same tokens for its size, so the effects of the two cannot be told apart",
            hint="Add runs with more or fewer tokens at the same size.",
        )


def _resample(random: np.random.Generator, size: np.ndarray, data: np.ndarray) -> np.ndarray:
    """Indices of a bootstrap sample that still identifies the law."""
    while True:
        chosen = random.integers(0, len(size), len(size))
        try:
            _require_identified(size[chosen], data[chosen])
        except DataError:
            continue
        return chosen


class _Problem:
    """The objective in well-scaled variables (e, a, b, alpha, beta).

    e, a and b are the logs of the three terms at the runs' geometric mean size and data amount: that takes most of the
    correlation between factors and exponents away.
    """

    def __init__(self, size: np.ndarray, data: np.ndarray, losses: np.ndarray, like: _Problem | None = None) -> None:
        self.log_size, self.log_data, self.log_loss = np.log(size), np.log(data), np.log(losses)
        self.size_center: float = like.size_center if like else float(self.log_size.mean())
        self.data_center: float = like.data_center if like else float(self.log_data.mean())
        self.n, self.d = self.log_size - self.size_center, self.log_data - self.data_center

    def solve(self, cells: int, start: np.ndarray | None = None) -> tuple[np.ndarray, float]:
        """Best (e, a, b, alpha, beta) and its summed Huber loss, from `start` or else the best `cells` of the grid."""
        starts = self._grid_starts(cells) if start is None else [start]
        best, objective = starts[0], np.inf
        for one in starts:
            found = self._polish(one)
            value = self._objective(found)[0]
            if value < objective:
                best, objective = found, value
        return best, float(objective)

    def natural(self, parameters: np.ndarray) -> np.ndarray:
        """E, A, B, alpha, beta."""
        e, a, b, alpha, beta = parameters
        return np.array(
            [np.exp(e), np.exp(a + alpha * self.size_center), np.exp(b + beta * self.data_center), alpha, beta]
        )

    def residuals(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n,) log prediction minus log loss, and its Jacobian (n, 5)."""
        e, a, b, alpha, beta = parameters
        terms = np.stack([np.full_like(self.n, e), a - alpha * self.n, b - beta * self.d])
        top = terms.max(0)
        shares = np.exp(terms - top)
        total = shares.sum(0)
        shares /= total
        jacobian = np.stack([*shares, -shares[1] * self.n, -shares[2] * self.d], axis=1)
        return np.log(total) + top - self.log_loss, jacobian

    def _values(self, parameters: np.ndarray) -> np.ndarray:
        return self.residuals(parameters)[0]

    def _jacobian(self, parameters: np.ndarray) -> np.ndarray:
        return self.residuals(parameters)[1]

    def _objective(self, parameters: np.ndarray) -> tuple[float, np.ndarray]:
        residuals, jacobian = self.residuals(parameters)
        size = np.abs(residuals)
        small = size <= HUBER_DELTA
        value = np.where(small, 0.5 * residuals**2, HUBER_DELTA * (size - 0.5 * HUBER_DELTA)).sum()
        return float(value), np.clip(residuals, -HUBER_DELTA, HUBER_DELTA) @ jacobian

    def _polish(self, start: np.ndarray) -> np.ndarray:
        """Gauss-Newton gets to the minimum in tens of steps; L-BFGS, which alone takes thousands, checks it."""
        low, high = np.array([-np.inf] * 3 + [0.0] * 2), np.array([np.inf] * 3 + [5.0] * 2)
        near = least_squares(
            self._values, np.clip(start, low, high), jac=self._jacobian, bounds=(low, high), loss="huber",
            f_scale=HUBER_DELTA, x_scale="jac", ftol=1e-15, xtol=1e-15, gtol=1e-15, max_nfev=200,
        ).x  # fmt: skip
        scale = 1 / HUBER_DELTA  # L-BFGS measures its tolerances against values near one

        def scaled(parameters: np.ndarray) -> tuple[float, np.ndarray]:
            value, slope = self._objective(parameters)
            return value * scale, slope * scale

        found = minimize(
            scaled, near, jac=True, method="L-BFGS-B", bounds=list(zip(low, high, strict=True)),
            options={"maxiter": 500, "ftol": 1e-14, "gtol": 1e-9, "maxcor": 20},
        ).x  # fmt: skip
        return found if self._objective(found)[0] <= self._objective(near)[0] else near

    def _grid_starts(self, cells: int) -> list[np.ndarray]:
        alphas, betas = (axis.ravel() for axis in np.meshgrid(_EXPONENTS, _EXPONENTS, indexing="ij"))
        # (G, n, 3): the three terms at coefficient one, relative to the loss.
        terms = np.stack(
            [np.broadcast_to(np.zeros_like(self.n), (len(alphas), len(self.n))), -np.outer(alphas, self.n),
             -np.outer(betas, self.d)], axis=-1,
        )  # fmt: skip
        features = np.exp(terms - self.log_loss[None, :, None])
        weights = np.ones(features.shape[:2])
        for _ in range(3):  # reweighting approaches the Huber loss, so that outliers do not choose the cell
            coefficients = nonnegative_least_squares(features, weights)
            residuals = np.abs(np.log(np.maximum((features * coefficients[:, None, :]).sum(-1), 1e-12)))
            weights = 1 / np.maximum(residuals, HUBER_DELTA)
        objective = np.where(residuals <= HUBER_DELTA, 0.5 * residuals**2, HUBER_DELTA * residuals).sum(1)
        floor = _SMALLEST * np.exp(self.log_loss.mean())
        return [
            np.array([*np.log(np.maximum(coefficients[cell], floor)), alphas[cell], betas[cell]])
            for cell in np.argsort(objective, kind="stable")[:cells]
        ]

    def asymptotic_errors(self, parameters: np.ndarray) -> np.ndarray:
        """Standard errors of the M-estimator by the sandwich formula (Huber 1967), which lets runs differ in spread."""
        residuals, jacobian = self.residuals(parameters)
        count = len(residuals)
        # psi' is one only within delta of zero, where few runs lie: count them in a wider window (Powell 1991).
        spread = max(1.4826 * float(np.median(np.abs(residuals))), 1e-12)
        window = max(HUBER_DELTA, 1.5 * spread * count**-0.2)
        inside = (np.abs(residuals) <= window) * (HUBER_DELTA / window)
        clipped = np.clip(residuals, -HUBER_DELTA, HUBER_DELTA)
        bread = np.linalg.pinv((jacobian * inside[:, None]).T @ jacobian)
        meat = (jacobian * clipped[:, None] ** 2).T @ jacobian * (count / max(count - 5, 1))
        covariance = bread @ meat @ bread
        to_natural = np.eye(5)
        to_natural[1, 3], to_natural[2, 4] = self.size_center, self.data_center
        values = self.natural(parameters)
        to_natural[:3] *= values[:3, None]
        return np.sqrt(np.maximum(np.diag(to_natural @ covariance @ to_natural.T), 0))


def nonnegative_least_squares(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(G, 3) coefficients >= 0 that bring features (G, n, 3) nearest to one, weighted by (G, n).

    With three coefficients the active set can be enumerated, for all the cells at once.
    """
    weighted = features * weights[..., None]
    gram, target = features.swapaxes(1, 2) @ weighted, weighted.sum(1)
    best = np.zeros_like(target)
    gain = np.zeros(len(target))  # how far the sum of squares falls
    for chosen in (list(one) for size in (1, 2, 3) for one in itertools.combinations(range(3), size)):
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
