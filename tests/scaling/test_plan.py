"""Plans spend a budget best, and say what more would buy."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from seedbed.core.errors import ConfigError, DataError, FormatError
from seedbed.scaling import ChinchillaLaw, DataConstrainedLaw, OverfitLaw, fit_chinchilla, plan
from seedbed.scaling.frontier import Curve, fit_envelope, fit_isoflop
from seedbed.scaling.hyperparameters import fit_hyperparameters, fit_power_law, sweep_optimum
from seedbed.scaling.plan import cheapest
from seedbed.scaling.storage import read_fit, write_fit

_LAW = ChinchillaLaw(E=1.817, A=482.0, B=2085.0, alpha=0.3478, beta=0.3659)
_A = _LAW.beta / (_LAW.alpha + _LAW.beta)  # N_opt ~ C^a (Hoffmann et al. 2022, equation 4)


def test_a_budget_is_spent_best() -> None:
    found = plan(_LAW, flops=1e21)
    best = _LAW.optimal(1e21)
    assert (found.params, found.tokens, found.loss) == pytest.approx((best.params, best.tokens, best.loss), rel=1e-4)
    low, high = found.params_range
    assert low < found.params < high
    for size in (low, high):
        assert _LAW.predict(size, 1e21 / 6 / size) == pytest.approx(1.005 * found.loss, rel=5e-4)
    assert found.marginal_gain == pytest.approx(best.loss - _LAW.optimal(2e21).loss, rel=1e-4)
    assert plan(_LAW, seconds=10, flops_per_second=1e20).params == found.params
    for budget in ({}, {"flops": 1e20, "seconds": 5.0}, {"seconds": 5.0}, {"flops": -1.0}):
        with pytest.raises(ConfigError):
            plan(_LAW, **budget)


def test_text_runs_out() -> None:
    plenty, little = plan(_LAW, flops=1e20, unique_tokens=1e12), plan(_LAW, flops=1e22, unique_tokens=25e9)
    assert (plenty.exhausted, plenty.epochs, plenty.token_worth) == (False, 1.0, 1.0)
    assert little.exhausted
    assert little.assumed_repetition
    assert little.loss > plan(_LAW, flops=1e22).loss
    assert little.fresh_gain > little.marginal_gain
    assert little.exhausted_at is not None
    assert plan(_LAW, flops=little.exhausted_at).tokens == pytest.approx(25e9, rel=1e-3)
    data = DataConstrainedLaw(1.817, 482.0, 2085.0, 0.3478, 0.3659, R_D=10.0, R_N=math.inf)
    repeated = plan(data, flops=1e22, unique_tokens=25e9)
    assert not repeated.assumed_repetition
    assert repeated.token_worth == pytest.approx(math.exp(-(repeated.epochs - 1) / 10), rel=1e-3)
    harmful = OverfitLaw(1.817, 482.0, 2085.0, 0.3478, 0.3659, P=0.01, delta=1.2, kappa=0.6)
    assert plan(harmful, flops=1e22, unique_tokens=25e9, tokens_per_parameter=2000).token_worth < 0.3


def test_serving_favours_smaller_models() -> None:
    alone, served = cheapest(_LAW, 2.1), cheapest(_LAW, 2.1, inference_tokens=1e12)
    assert (alone.loss, served.loss) == pytest.approx((2.1, 2.1))
    assert served.params < alone.params
    assert served.tokens > alone.tokens

    def cost(params: float, tokens: float) -> float:
        return 6 * params * tokens + 2 * params * 1e12

    sizes = served.params * np.array([0.8, 0.95, 1.05, 1.25])
    tokens = ((2.1 - _LAW.E - _LAW.A * sizes**-_LAW.alpha) / _LAW.B) ** (-1 / _LAW.beta)  # that reach the same loss
    assert all(cost(*one) > cost(served.params, served.tokens) for one in zip(sizes, tokens, strict=True))
    over = plan(_LAW, flops=1e21, tokens_per_parameter=200)
    assert over.tokens / over.params == pytest.approx(200)
    assert over.loss > plan(_LAW, flops=1e21).loss
    with pytest.raises(DataError, match="no budget reaches"):
        cheapest(_LAW, 1.8)


def test_two_approaches_without_a_law_find_the_exponent() -> None:
    budgets = np.geomspace(1e18, 1e21, 5)
    size = np.concatenate([_LAW.optimal(one).params * np.geomspace(0.25, 4, 7) for one in budgets])
    tokens = np.repeat(budgets, 7) / 6 / size
    frontier, parabolas = fit_isoflop(size, tokens, _LAW.predict(size, tokens))
    assert frontier.params.exponents[0] == pytest.approx(_A, abs=1e-4)
    assert frontier.tokens.exponents[0] == pytest.approx(1 - _A, abs=1e-4)
    assert [one.optimum.flops for one in parabolas] == pytest.approx(list(budgets))
    along = np.geomspace(1e8, 1e11, 40)
    curves = [Curve(one, along, _LAW.predict(one, along)) for one in np.geomspace(1e7, 1e10, 20)]
    assert fit_envelope(curves).params.exponents[0] == pytest.approx(_A, abs=0.01)
    with pytest.raises(DataError, match="1 budgets have a best size"):
        fit_isoflop(size[:5], tokens[:5], _LAW.predict(size[:5], tokens[:5]))
    with pytest.raises(DataError, match="one size is the best"):
        fit_envelope(curves[:1])


def test_learning_rates_and_batches() -> None:
    random = np.random.default_rng(0)
    params, tokens, optima = np.array([1e7, 1e8, 1e9, 1e7]), np.array([1e9, 1e9, 1e10, 1e10]), []
    for size, data in zip(params, tokens, strict=True):
        best = np.log([1.5 * size**-0.7 * data**0.3, 0.6 * data**0.57])
        settings = best + random.uniform(-1.2, 1.2, (16, 2))
        distance = settings - best
        loss = 3 + 0.1 * distance[:, 0] ** 2 + 0.05 * distance[:, 1] ** 2 + 0.04 * distance[:, 0] * distance[:, 1]
        optima.append(sweep_optimum(*np.exp(settings).T, loss))
    law = fit_hyperparameters(params, tokens, optima)
    assert law.rate.exponents == pytest.approx((-0.7, 0.3))
    assert law.batch.exponents == pytest.approx((0.57,))
    assert law.learning_rate(1e8, 1e10) == pytest.approx(1.5 * 1e8**-0.7 * 1e10**0.3)
    rates, batches = (axis.ravel() for axis in np.meshgrid([1.0, 2.0, 4.0], [1.0, 2.0, 4.0]))
    with pytest.raises(DataError, match="beyond the sweep"):
        sweep_optimum(rates, batches, np.log(rates / 9) ** 2 + np.log(batches / 2) ** 2)
    with pytest.raises(DataError, match="form no bowl"):
        sweep_optimum(rates, batches, -(np.log(rates) ** 2))
    with pytest.raises(DataError, match="do not identify"):
        fit_power_law([1, 2, 3], [5, 5, 5])


def test_fits_come_back_from_their_file(tmp_path: Path) -> None:
    params, tokens = (axis.ravel() for axis in np.meshgrid([1e5, 3e5, 1e6, 3e6], [1e6, 4e6, 1.6e7]))
    fit = fit_chinchilla(params, tokens, _LAW.predict(params, tokens))
    write_fit(tmp_path / "fit.json", fit)
    again = read_fit(tmp_path / "fit.json")
    assert again.parameters() == fit.parameters()
    assert again.interval(6e6, 3e7) == fit.interval(6e6, 3e7)
    found = plan(again, flops=1e15)
    assert found.interval is not None
    assert found.interval.low < found.loss < found.interval.high
    refused = plan(again, flops=1e27)
    assert refused.interval is None
    assert "do not support an interval" in refused.interval_refused
    values = fit.to_json()
    for damage in ({"law": "magic"}, {"E": "x"}, {"A": math.nan}, {"runs": {}}, {"standard_errors": {}}, {"B": -1}):
        (tmp_path / "bad.json").write_text(json.dumps({**values, **damage}))
        with pytest.raises(FormatError, match="no fitted law"):
            read_fit(tmp_path / "bad.json")
