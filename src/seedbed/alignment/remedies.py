"""Remedies against over-optimisation, each measured beside the policy that did without: a stop where the fitted curve
peaks, a price of divergence that follows a target, an entropy bonus, and an ensemble that distrusts what its members
disagree about.

P prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .limits import Curve, LimitsConfig
from .online import OnlineT
from .ppo import PPOConfig

_ANSWERS_TO_ADAPT = 2  # iterations' answers over which a price adapts: it has to get there within the run


def stopped_at_the_peak(config: OnlineT, curve: Curve) -> OnlineT | None:
    """The run that gave the curve, to end where the curve has its peak: until there it takes the same steps.

    None where the curve does not bend, or has its peak beyond its points.
    """
    peak = curve.fitted.peak if curve.fitted is not None and curve.fitted.bends else None
    beyond = [point["iteration"] for point in curve.points if peak is not None and point["d"] >= peak]
    # A point is measured before its iteration's updates.
    iterations = max(int(min(beyond)) - 1, 1) if beyond else config.iterations
    if iterations >= config.iterations:
        return None
    whole, part = config.iterations * config.updates, iterations * config.updates
    return config.replace(iterations=iterations, final_factor=1 - (part + 1) / (whole + 1))


def remedied(config: LimitsConfig, ppo: PPOConfig) -> dict[str, PPOConfig]:
    """PPO with one of the remedies that need no other reward, by name; `ppo` has no price of divergence."""
    start = min((one for one in config.coefficients if one > 0), default=0.03)
    target = ppo.replace(kl_coefficient=start, kl_target=config.target, kl_horizon=_ANSWERS_TO_ADAPT * ppo.rollouts)
    bonus = ppo.replace(entropy_weight=config.entropy_weight)
    return {
        f"PPO, price for {config.target:g} nats": target,
        f"PPO, entropy bonus {config.entropy_weight:g}": bonus,
    }


def remedy_rows(
    golds: Mapping[str, np.ndarray], rows: Sequence[Mapping[str, Any]], against: Mapping[str, str], start: str
) -> list[dict[str, Any]]:
    """What each remedy did: `gold`, its gain over the policy without it and over the start with standard errors over
    prompts, and what `rows` know of its `divergence` and `entropy`.

    Args:
        golds: mean gold reward of the answers to each prompt (P,), by policy.
        rows: as `diversity_row` gives them.
        against: of each remedy's policy the one without.
        start: the policy that all began as.
    """
    known = {row["policy"]: row for row in rows}
    found = []
    for name in dict.fromkeys([*against.values(), *against]):
        gain, error = _gain(golds[name], golds[start])
        row = {
            "policy": name, "against": against.get(name), "gold": float(golds[name].mean()), "gain": gain,
            "gain_error": error, **{key: known[name][key] for key in ("proxy", "divergence", "entropy", "pass_k")},
        }  # fmt: skip
        if name in against:
            row["over"], row["over_error"] = _gain(golds[name], golds[against[name]])
        found.append(row)
    return found


def _gain(after: np.ndarray, before: np.ndarray) -> tuple[float, float]:
    gain = after - before
    return float(gain.mean()), float(gain.std(ddof=1) / len(gain) ** 0.5)
