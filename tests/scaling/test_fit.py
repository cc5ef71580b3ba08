"""The fit finds published laws from their runs, and intervals hold what they promise."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import nnls

from seedbed.core.errors import DataError
from seedbed.scaling import (
    ChinchillaLaw,
    DataConstrainedLaw,
    KaplanLaw,
    OverfitLaw,
    effective_tokens,
    fit_chinchilla,
    fit_data_constrained,
    fit_kaplan,
)
from seedbed.scaling.robust import nonnegative_least_squares
from seedbed.scaling.uncertainty import Posterior


def test_chinchillas_runs(shared_data: Callable[[str], Path]) -> None:
    with open(shared_data("scaling/epoch_chinchilla_points.csv")) as handle:
        rows = list(csv.DictReader(handle))
    params, flops, loss = (
        np.array([float(row[name]) for row in rows]) for name in ("Model Size", "Training FLOP", "loss")
    )
    kept = np.argsort(loss)[:-5]
    params, flops, loss = params[kept], flops[kept], loss[kept]
    fit = fit_chinchilla(params, flops / 6 / params, loss, bootstrap=120)
    assert fit.objective <= 0.0010183
    assert pytest.approx(1.817, rel=0.01) == fit.E
    assert fit.alpha == pytest.approx(0.3478, rel=0.01)
    assert fit.beta == pytest.approx(0.3659, rel=0.01)
    # Besiroglu et al. 2024, table 1; 120 replicates know a standard error to about 7%.
    published = {"E": 0.026, "A": 124.5, "B": 1293, "alpha": 0.0154, "beta": 0.0206}
    assert fit.standard_errors == pytest.approx(published, rel=0.2)
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


@pytest.mark.parametrize(("drift", "least"), [(0.0, 0.85), (0.03, 0.8)])
def test_intervals_cover_what_they_promise(drift: float, least: float) -> None:
    """Twelve runs each of laws drawn at random, whose exponents drift with scale by `drift` per e-fold; the forecast is
    for 3 times the size and 4 times the tokens."""
    random, noise = np.random.default_rng(1), 0.005
    inside = {0.5: 0, 0.9: 0}
    trials = 20
    for _ in range(trials):
        drawn = {name: random.uniform(0.5, 2.5) for name in ("E", "A", "B")}
        alpha, beta = random.uniform(0.2, 0.6, 2)
        alpha_drift, beta_drift, joint = drift * random.standard_normal(3)

        def law(params: np.ndarray, tokens: np.ndarray) -> np.ndarray:
            n, d = np.log(params), np.log(tokens)
            size = drawn["A"] * np.exp(-(alpha + alpha_drift * n) * n)  # noqa: B023
            return drawn["E"] + size + drawn["B"] * np.exp(-(beta + beta_drift * d) * d + joint * n * d)  # noqa: B023

        params, tokens = (axis.ravel() for axis in np.meshgrid([0.3, 0.6, 1.2, 2.4], [0.3, 0.8, 2.0]))
        loss = law(params, tokens) * np.exp(noise * random.standard_normal(12))
        actual = float(law(np.array(7.2), np.array(8.0)) * np.exp(noise * random.standard_normal()))
        draws = Posterior(params, tokens, loss).forecast_distribution(7.2, 8.0)
        for level in inside:
            low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
            inside[level] += low <= actual <= high
    assert least <= inside[0.9] / trials
    assert 0.3 <= inside[0.5] / trials <= 0.75


def test_an_outlier_moves_the_forecast_little() -> None:
    params, tokens = _grid()
    loss = _LAW.predict(params, tokens) * np.exp(0.003 * np.random.default_rng(2).standard_normal(12))
    clean = Posterior(params, tokens, loss).median(1e7, 6e7)
    loss[4] *= 1.15
    assert Posterior(params, tokens, loss).median(1e7, 6e7) == pytest.approx(clean, rel=0.02)


def test_refuses_an_interval_that_would_say_nothing() -> None:
    params, tokens = _grid()
    fit = fit_chinchilla(params, tokens, _LAW.predict(params, tokens))
    assert fit.interval(6e6, 3e7).low < _LAW.predict(6e6, 3e7) < fit.interval(6e6, 3e7).high
    with pytest.raises(DataError, match=r"12 runs do not support an interval at 1e\+14 parameters"):
        fit.interval(1e14, 1e16)


def test_repetition_is_learnt_from_runs_that_repeat() -> None:
    """Runs whose repeats are worth little (R_D = 2) or harm, and none that repeats as long as the forecast."""
    size, data = (axis.ravel() for axis in np.meshgrid([1e5, 3e5, 1e6], [1e6, 4e6, 1.6e7]))
    params, tokens = np.append(size, [3e5] * 3), np.append(data, [1.6e7] * 3)
    unique = np.append(data, [8e6, 4e6, 2e6])
    random = np.random.default_rng(3)
    for law in (
        DataConstrainedLaw(1.2, 60, 300, 0.31, 0.43, 2.0, np.inf),
        OverfitLaw(1.2, 60, 300, 0.31, 0.43, 1, 1, 1),
    ):
        loss = law.predict(params, tokens, unique) * np.exp(0.002 * random.standard_normal(12))
        posterior = Posterior(params, tokens, loss, unique)
        low, high = posterior.forecast(1e6, 3e7, unique_tokens=5e6)
        assert low < law.predict(1e6, 3e7, 5e6) < high
        assert high < 1.35 * low
        assert posterior.median(1e6, 3e7) < posterior.median(1e6, 3e7, 5e6)


def test_laws_are_found_again() -> None:
    params, tokens = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e6, 1e9, 5), np.geomspace(1e8, 1e10, 4)))
    kaplan = KaplanLaw(N_c=8.8e13, D_c=5.4e13, alpha_N=0.076, alpha_D=0.095)
    found = fit_kaplan(params, tokens, kaplan.predict(params, tokens))
    assert found.parameters() == pytest.approx({"N_c": 8.8e13, "D_c": 5.4e13, "alpha_N": 0.076, "alpha_D": 0.095})
    best = found.optimal(1e18)
    sizes = best.params * np.array([0.8, 1.25])
    assert bool((found.predict(sizes, 1e18 / 6 / sizes) > best.loss).all())


# Muennighoff et al. 2023, appendix A, as their published code holds them.
_PUBLISHED = DataConstrainedLaw(*np.exp([0.6254804, 6.255414, 7.3049974]), 0.3526596, 0.3526596, 15.387756, 5.309743)


def test_muennighoffs_constants() -> None:
    assert _PUBLISHED.predict(6.34e9, 242e9, 25e9) == pytest.approx(2.22564409, abs=5e-9)
    assert _PUBLISHED.predict(8.67e9, 178e9, 25e9) == pytest.approx(2.22696341, abs=5e-9)
    best = _PUBLISHED.optimal(1e22, 25e9)
    assert (best.tokens, best.tokens / 25e9, best.params) == pytest.approx((237.2e9, 9.49, 7.026e9), rel=1e-3)


def test_fits_of_runs_with_repetition() -> None:
    random = np.random.default_rng(0)
    params = random.choice(np.geomspace(7e6, 9e9, 8), 150)
    tokens = params * random.choice([5, 20, 60, 200], 150)
    unique = tokens / random.choice([1, 1, 1, 2, 4, 10, 30, 100], 150)
    noise = np.exp(0.002 * random.standard_normal(150))
    found = fit_data_constrained(params, tokens, unique, _PUBLISHED.predict(params, tokens, unique))
    assert found.parameters() == pytest.approx(vars(_PUBLISHED), rel=1e-5)
    harmful = OverfitLaw(1.8, 480, 2000, 0.35, 0.36, P=0.01, delta=1.2, kappa=0.6)
    loss = harmful.predict(params, tokens, unique) * noise
    overfit = fit_data_constrained(params, tokens, unique, loss, form="overfit")
    for name, value in vars(harmful).items():
        assert abs(getattr(overfit, name) - value) < 5 * overfit.standard_errors[name], name
    assert overfit.objective < 0.1 * fit_data_constrained(params, tokens, unique, loss).objective
    with pytest.raises(DataError, match="0 of 150 runs read text more than once"):
        fit_data_constrained(params, tokens, tokens, loss)


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
    assert effective_tokens(100.0, 200.0, 15.4) == pytest.approx(100.0)
    assert effective_tokens(400.0, 100.0, 15.4) / 400 == pytest.approx(0.93, abs=0.01)
    assert effective_tokens(4000.0, 100.0, 15.4) / 4000 == pytest.approx(0.38, abs=0.01)
