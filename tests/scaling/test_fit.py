"""The fit finds published laws from their runs, and intervals hold what they promise."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import nnls

from seedbed.core.errors import DataError
from seedbed.scaling import ChinchillaLaw, effective_tokens, fit_chinchilla
from seedbed.scaling.fit import nonnegative_least_squares
from seedbed.scaling.uncertainty import Posterior


def test_chinchillas_runs(shared_data: Callable[[str], Path]) -> None:
    with open(shared_data("scaling/epoch_chinchilla_points.csv")) as handle:
        rows = list(csv.DictReader(handle))
    params, flops, loss = (
        np.array([float(row[name]) for row in rows]) for name in ("Model Size", "Training FLOP", "loss")
    )
    kept = np.argsort(loss)[:-5]
    params, flops, loss = params[kept], flops[kept], loss[kept]
    fit = fit_chinchilla(params, flops / 6 / params, loss, bootstrap=10)
    assert fit.objective <= 0.0010183
    assert pytest.approx(1.817, rel=0.01) == fit.E
    assert fit.alpha == pytest.approx(0.3478, rel=0.01)
    assert fit.beta == pytest.approx(0.3659, rel=0.01)
    assert fit.standard_errors["alpha"] == pytest.approx(0.0154, rel=0.6)  # ten replicates are few
    best = fit.optimal(5.76e23)
    assert best.tokens / best.params == pytest.approx(18, abs=0.5)
    assert fit.interval(best.params, best.tokens).low < best.loss < fit.interval(best.params, best.tokens).high


_LAW = ChinchillaLaw(E=1.2, A=60.0, B=300.0, alpha=0.31, beta=0.43)


def _grid() -> tuple[np.ndarray, np.ndarray]:
    params, tokens = np.meshgrid([1e5, 3e5, 1e6, 3e6], [1e6, 4e6, 1.6e7])
    return params.ravel(), tokens.ravel()


def test_recovers_an_exact_law_in_spite_of_an_outlier() -> None:
    params, tokens = _grid()
    loss = _LAW.predict(params, tokens)
    loss[5] *= 1.2
    fit = fit_chinchilla(params, tokens, loss)
    for name, tolerance in (("E", 0.02), ("A", 0.1), ("B", 0.1), ("alpha", 0.02), ("beta", 0.02)):
        assert getattr(fit, name) == pytest.approx(getattr(_LAW, name), rel=tolerance), name
    best = fit.optimal(1e15)
    sizes = best.params * np.array([0.5, 0.9, 1.1, 2.0])
    assert bool((fit.predict(sizes, 1e15 / 6 / sizes) > best.loss).all())
    assert fit.predict(sizes, 1e15).shape == (4,)


def test_three_coefficients_equal_scipys() -> None:
    random = np.random.default_rng(0)
    features = random.random((50, 8, 3)) * random.choice([-1, 1], (50, 1, 3), p=[0.3, 0.7])
    weights = random.random((50, 8))
    found = nonnegative_least_squares(features, weights)
    for cell in range(50):
        root = np.sqrt(weights[cell])
        expected, _ = nnls(features[cell] * root[:, None], root)
        np.testing.assert_allclose(found[cell], expected, atol=1e-6)


def test_intervals_cover_what_they_promise() -> None:
    """Twelve runs each of laws drawn at random; the forecast is for 3 times the size and 4 times the tokens."""
    random, noise = np.random.default_rng(1), 0.006
    inside = {0.5: 0, 0.9: 0}
    trials = 70
    for _ in range(trials):
        law = ChinchillaLaw(
            E=random.uniform(0.5, 2), A=random.uniform(0.5, 2), B=random.uniform(0.5, 2.5),
            alpha=random.uniform(0.2, 0.6), beta=random.uniform(0.2, 0.6),
        )  # fmt: skip
        params, tokens = (axis.ravel() for axis in np.meshgrid([0.3, 0.6, 1.2, 2.4], [0.3, 0.8, 2.0]))
        loss = law.predict(params, tokens) * np.exp(noise * random.standard_normal(12))
        actual = law.predict(7.2, 8.0) * np.exp(noise * random.standard_normal())
        posterior = Posterior(params, tokens, loss)
        for level in inside:
            low, high = posterior.forecast(7.2, 8.0, level)
            inside[level] += low <= actual <= high
    assert 0.82 <= inside[0.9] / trials <= 0.99
    assert 0.36 <= inside[0.5] / trials <= 0.72


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, t, y: (p, t, np.where(y == y[3], np.nan, y)), r"'loss' is missing.*run 4"),
        (lambda p, t, y: (p, -t, y), "'tokens' is missing or not positive in 12 runs"),
        (lambda p, t, y: (p, t, ["x"] * 12), "not a number"),
        (lambda p, t, y: (p[:5], t[:5], y[:5]), "5 runs of"),
        (lambda p, t, y: (p * 0 + 1e6, t, y), "1 sizes"),
        (lambda p, t, y: (p, p * 20, y), "cannot be told apart"),
        (lambda p, t, y: (p, t, y[:-1]), "one value per run"),
    ],
)
def test_what_cannot_be_fitted(change: Callable[..., tuple[object, object, object]], message: str) -> None:
    params, tokens = _grid()
    with pytest.raises(DataError, match=message):
        fit_chinchilla(*change(params, tokens, _LAW.predict(params, tokens)))  # type: ignore[arg-type]


def test_repeated_tokens_are_worth_less() -> None:
    assert effective_tokens(100.0, 200.0) == pytest.approx(100.0)
    assert effective_tokens(400.0, 100.0) / 400 == pytest.approx(0.93, abs=0.01)
    assert effective_tokens(4000.0, 100.0) / 4000 == pytest.approx(0.38, abs=0.01)
