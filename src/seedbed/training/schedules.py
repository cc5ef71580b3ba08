"""Learning-rate schedules as pure functions of the step, so that there is no state to save."""

from __future__ import annotations

import math
from typing import Literal

ScheduleName = Literal["wsd", "cosine", "constant"]


def learning_rate_factor(
    step: int, steps: int, schedule: ScheduleName, *, warmup_steps: int, decay_fraction: float, final_factor: float
) -> float:
    """Factor of the peak learning rate at `step` (0 ... steps - 1).

    Each begins with a linear warm-up. `wsd` (warm-up, stable, decay; Hu et al. 2024, arXiv 2404.06395) then stays and
    falls linearly to `final_factor` over the last `decay_fraction` of the steps; `cosine` falls by half a cosine from
    the warm-up on (Loshchilov and Hutter 2017); `constant` stays.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        done = (step - warmup_steps) / max(steps - warmup_steps, 1)
        return final_factor + (1 - final_factor) * 0.5 * (1 + math.cos(math.pi * done))
    decay_steps = max(round(steps * decay_fraction), 1)
    left = min((steps - step) / (decay_steps + 1), 1.0)
    return final_factor + (1 - final_factor) * left
