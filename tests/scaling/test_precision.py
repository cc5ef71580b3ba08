"""The law of precision finds the constants that runs were made with, and says when it cannot."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from seedbed.core.errors import DataError
from seedbed.scaling import ChinchillaLaw, PrecisionLaw, RoundingLaw, fit_precision, fit_rounding

_LAW = PrecisionLaw(ChinchillaLaw(1.9, 420.0, 900.0, 0.34, 0.31), 2.7, float("nan"), 0.0)


def _runs(noise: float) -> tuple[np.ndarray, ...]:
    grid = itertools.product((3e7, 6e7, 1.2e8, 2.2e8), (1.5e9, 6e9, 2.6e10), (3, 4, 6, 8, 12, 16))
    params, tokens, bits = (np.array(one, float) for one in zip(*grid, strict=True))
    loss = _LAW.predict(params, tokens, bits)
    return params, tokens, bits, loss * np.exp(noise * np.random.default_rng(0).standard_normal(len(loss)))


@pytest.mark.parametrize(("noise", "tolerance"), [(0.0, 1e-3), (0.003, 0.05)])
def test_finds_what_a_bit_is_worth(noise: float, tolerance: float) -> None:
    params, tokens, bits, loss = _runs(noise)
    found = fit_precision(params, tokens, bits, loss)
    assert found.gamma == pytest.approx(2.7, rel=tolerance)
    assert found.predict(1e9, 1e11, 4) == pytest.approx(_LAW.predict(1e9, 1e11, 4), rel=tolerance / 3)
    assert found.effective_params(1.0, 2.7) == pytest.approx(1 - np.exp(-1), rel=tolerance)


def test_what_runs_cannot_tell_is_refused() -> None:
    params, tokens, bits, loss = _runs(0.0)
    high = bits >= 12
    with pytest.raises(DataError, match="2 precisions cannot tell"):
        fit_precision(params[high], tokens[high], bits[high], loss[high])
    with pytest.raises(DataError, match="'bits' is missing or not positive in 72 runs"):
        fit_precision(params, tokens, 0 * bits, loss)


def test_rounding_after_training() -> None:
    law = RoundingLaw(0.05, 0.51, 0.54, 0.6)
    params, tokens, bits, _ = _runs(0.0)
    found = fit_rounding(params, tokens, bits, law.predict(params, tokens, bits))
    for name in ("factor", "token_power", "param_power", "gamma"):
        assert getattr(found, name) == pytest.approx(getattr(law, name), rel=1e-6)
    with pytest.raises(DataError, match="do not identify"):
        fit_rounding(params, 20 * params, bits, law.predict(params, 20 * params, bits))
