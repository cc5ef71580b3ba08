"""Plan a budget with a fitted law: what to train, on how much, what it will reach, and what more would buy."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from scipy.optimize import brentq

from ..core.errors import ConfigError, DataError
from .fit import Fitted
from .hyperparameters import STEP_LAW
from .laws import FLOPS_PER_PARAMETER_AND_TOKEN, Allocation, ChinchillaLaw, DataConstrainedLaw, Law, least_loss
from .uncertainty import Interval

# What repetition is worth where the runs have not told: Muennighoff et al. 2023, fitted on C4 up to 9B parameters.
_ASSUMED_REPETITION = {"R_D": 15.39, "R_N": 5.31}
_NEAR = 0.005  # sizes whose loss is this close to the best are as good: no ladder tells them apart
_STEPS = 400


@dataclass(frozen=True)
class Plan:
    """How to spend a budget. Losses in nats per token."""

    flops: float
    params: float
    tokens: float
    epochs: float
    loss: float
    interval: Interval | None  # of a new run, 90% unless asked otherwise; None: the runs support none
    interval_refused: str  # why there is none
    params_range: tuple[float, float]  # sizes that reach within half a per cent of the loss, for the same budget
    marginal_gain: float  # how far the loss falls if the budget is doubled
    fresh_gain: float  # the same if the text never ran out
    exhausted: bool  # the plan reads its text more than once
    exhausted_at: float | None  # FLOPs from which the best plan does so
    token_worth: float  # what one more token read is worth, as a share of a fresh one
    assumed_repetition: bool  # the worth of repetition is a published one: the runs have not told
    learning_rate: float
    batch_tokens: float
    inference_tokens: float
    law: Law = field(repr=False, compare=False)  # that it was planned with, repetition included

    def to_json(self) -> dict[str, Any]:
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "law"}
        return values | {"interval": None if self.interval is None else self.interval._asdict()}


def plan(
    fit: Law,
    flops: float | None = None,
    seconds: float | None = None,
    flops_per_second: float | None = None,
    unique_tokens: float | None = None,
    *,
    inference_tokens: float = 0.0,
    tokens_per_parameter: float | None = None,
    level: float = 0.9,
) -> Plan:
    """The size and data of least loss for a budget.

    Args:
        fit: a law; a fit gives an interval, too.
        flops: the budget; or `seconds` on a machine of `flops_per_second`.
        unique_tokens: how much text there is; what a plan needs beyond it is read again. None: enough.
        inference_tokens: tokens to be served with the model, which the budget pays for, too (Sardana et al. 2023).
        tokens_per_parameter: train a model of this ratio instead (over-training: Gadre et al. 2024).

    Raises:
        ConfigError: no budget, or two.
        DataError: the law has no best size.
    """
    budget = _budget(flops, seconds, flops_per_second)
    law, assumed = _with_repetition(fit, unique_tokens)
    best = _allocate(law, budget, unique_tokens, inference_tokens, tokens_per_parameter)
    refused = "" if isinstance(fit, Fitted) else "a law without its runs has no interval"
    interval = None
    if isinstance(fit, Fitted):
        try:
            interval = fit.interval(best.params, best.tokens, level, unique_tokens)
        except DataError as error:
            refused = error.sentence()

    def gain(unique: float | None) -> float:
        now, doubled = (
            _allocate(law, one, unique, inference_tokens, tokens_per_parameter).loss for one in (budget, 2 * budget)
        )
        return now - doubled

    unique = math.inf if unique_tokens is None else unique_tokens
    return Plan(
        flops=budget, params=best.params, tokens=best.tokens, epochs=max(best.tokens / unique, 1.0), loss=best.loss,
        interval=interval, interval_refused=refused,
        params_range=_near(law, budget, best, unique_tokens, inference_tokens),
        marginal_gain=gain(unique_tokens), fresh_gain=gain(None), exhausted=best.tokens > unique,
        exhausted_at=_exhaustion(law, unique_tokens, inference_tokens, tokens_per_parameter),
        token_worth=_token_worth(law, best, unique_tokens), assumed_repetition=assumed,
        learning_rate=STEP_LAW.learning_rate(best.params, best.tokens),
        batch_tokens=STEP_LAW.batch_tokens(best.tokens), inference_tokens=inference_tokens, law=law,
    )  # fmt: skip


def cheapest(law: Law, loss: float, inference_tokens: float = 0.0, unique_tokens: float | None = None) -> Allocation:
    """The N and D that reach `loss` for the fewest FLOPs of training and inference together (Sardana et al. 2023).

    Raises:
        DataError: no budget reaches that loss.
    """

    def excess(log_flops: float) -> float:
        return least_loss(law, math.exp(log_flops), unique_tokens, inference_tokens).loss - loss

    low, high = math.log(1e9 * (1 + inference_tokens)), math.log(1e30)
    if excess(high) > 0:
        raise DataError(f"no budget reaches a loss of {loss:.4g} by this law", hint="Ask for a higher loss.")
    if excess(low) < 0:
        raise DataError(f"any budget reaches a loss of {loss:.4g} by this law", hint="Ask for a lower loss.")
    return least_loss(law, math.exp(brentq(excess, low, high, xtol=1e-9)), unique_tokens, inference_tokens)


def _budget(flops: float | None, seconds: float | None, flops_per_second: float | None) -> float:
    if (flops is None) == (seconds is None) or (seconds is not None and flops_per_second is None):
        raise ConfigError("a plan needs one budget", hint="Give flops, or seconds and flops_per_second.")
    budget = flops if flops is not None else (seconds or 0.0) * (flops_per_second or 0.0)
    if not (math.isfinite(budget) and budget > 0):
        raise ConfigError(f"a budget of {budget:g} FLOPs is none", hint="Give a positive number.")
    return budget


def _with_repetition(law: Law, unique_tokens: float | None) -> tuple[Law, bool]:
    """The law with a worth of repetition, and whether that is assumed."""
    if unique_tokens is None or type(law).predict is not ChinchillaLaw.predict:
        return law, False
    assert isinstance(law, ChinchillaLaw)
    return DataConstrainedLaw(law.E, law.A, law.B, law.alpha, law.beta, **_ASSUMED_REPETITION), True


def _allocate(
    law: Law, budget: float, unique: float | None, inference_tokens: float, ratio: float | None
) -> Allocation:
    if ratio is None:
        return least_loss(law, budget, unique, inference_tokens)
    # 6 N (r N) + 2 N I = C
    linear = 2 * inference_tokens
    params = (-linear + math.sqrt(linear**2 + 4 * FLOPS_PER_PARAMETER_AND_TOKEN * ratio * budget)) / (
        2 * FLOPS_PER_PARAMETER_AND_TOKEN * ratio
    )
    return Allocation(params, ratio * params, float(law.predict(params, ratio * params, unique)))


def _near(
    law: Law, budget: float, best: Allocation, unique: float | None, inference_tokens: float
) -> tuple[float, float]:
    sizes = best.params * np.geomspace(0.01, 100, 2 * _STEPS + 1)
    tokens = (budget / sizes - 2 * inference_tokens) / FLOPS_PER_PARAMETER_AND_TOKEN
    usable = tokens >= 1
    near = np.zeros(len(sizes), bool)
    near[usable] = np.asarray(law.predict(sizes[usable], tokens[usable], unique)) <= best.loss * (1 + _NEAR)
    around = np.flatnonzero(near)
    return (float(sizes[around[0]]), float(sizes[around[-1]])) if len(around) else (best.params, best.params)


def _exhaustion(law: Law, unique: float | None, inference_tokens: float, ratio: float | None) -> float | None:
    """The budget whose best plan reads exactly `unique` tokens."""
    if unique is None:
        return None

    def excess(log_flops: float) -> float:
        return math.log(_allocate(law, math.exp(log_flops), None, inference_tokens, ratio).tokens / unique)

    low, high = (math.log(unique * scale + 2 * inference_tokens) for scale in (1e4, 1e20))
    try:
        return math.exp(brentq(excess, low, high, xtol=1e-6))
    except (ValueError, DataError):  # beyond what anybody trains
        return None


def _token_worth(law: Law, at: Allocation, unique: float | None) -> float:
    """How far one more token lowers the loss, against one more where all are fresh and the loss is the same: below zero
    where repetition harms, zero where no fresh data is so bad."""
    if unique is None or at.tokens <= unique:
        return 1.0

    def excess(log_tokens: float) -> float:
        return float(law.predict(at.params, math.exp(log_tokens), None)) - at.loss

    ends = math.log(at.tokens) - 20.0, math.log(at.tokens) + 1.0
    if excess(ends[0]) * excess(ends[1]) >= 0:
        return 0.0
    worth = math.exp(brentq(excess, *ends, xtol=1e-12))
    step = 1e-4
    read = at.loss - float(law.predict(at.params, at.tokens + step * worth, unique))
    fresh = at.loss - float(law.predict(at.params, worth * (1 + step), None))
    return read / fresh
