"""Where a run in progress will end, from its training curve so far and the whole curves of finished runs.

A curve follows its learning rate: what the decay brings cannot be read off a run that has not decayed. Finished runs of
the same recipe (the ladder's rungs) have shown it, so the run's curve is laid on theirs: over equal shares of the
schedule, loss = a + b * (loss of the finished run), fitted to the later half of what is known and read at the end. How
well the finished runs would have forecast each other from the same share says how far to trust that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from ..core.errors import DataError, FormatError
from .uncertainty import Interval

_POINTS = 400  # of a whole curve, after averaging
_SKIPPED = 0.1  # of the whole run: its warm-up
_EARLIEST = 0.2
_FEWEST_REFERENCES = 4
_TAIL = 0.05  # of the run, whose mean is its end


@dataclass(frozen=True)
class Extrapolation:
    """The training loss (mean of the last twentieth) that a run will end with."""

    loss: float
    interval: Interval
    references: int


def extrapolate(
    losses: Sequence[float], steps: int, references: Sequence[Sequence[float]], *, level: float = 0.9
) -> Extrapolation:
    """Forecast the end of a run.

    Args:
        losses: the run's training losses so far, one a step. steps: of the whole run.
        references: whole curves of finished runs with the same schedule and number of steps.

    Raises:
        DataError: too little of the run is done, or there are fewer than four references.
    """
    share = len(losses) / steps
    if share < _EARLIEST:
        raise DataError(f"{share:.0%} of the run is too little to tell where it will end", hint="Wait.")
    if len(references) < _FEWEST_REFERENCES:
        raise DataError(
            f"{len(references)} finished runs are too few to know how far a forecast from them can be trusted",
            hint=f"Give the curves of at least {_FEWEST_REFERENCES} finished runs of the same recipe: the ladder's.",
        )
    known = int(min(share, 1.0) * _POINTS)
    run = _averaged(losses, known)
    others = sorted((_averaged(one, _POINTS) for one in references), key=lambda one: -_end(one[:known]))
    # Better models gain more from the rest of the schedule than worse ones: each forecast is made from worse runs, and
    # put right by how far such forecasts went wrong between the finished ones.
    worse = [one for one in others if _end(one[:known]) > _end(run)]
    errors = np.array(
        [_forecast(one[:known], others[:place]) / _end(one) - 1 for place, one in enumerate(others) if place]
    )
    bias = float(errors.mean())
    loss = _forecast(run, worse or others) / (1 + bias)
    spread = float(errors.std(ddof=1)) * (1 + 1 / len(errors)) ** 0.5
    reach = float(student.ppf((1 + level) / 2, len(errors) - 1)) * spread
    return Extrapolation(loss, Interval(loss * (1 - reach), loss * (1 + reach)), len(others))


def read_curve(path: Path) -> list[float]:
    """The training losses of a `metrics.jsonl`, one a step; a last line that is being written is left out.

    Raises:
        FormatError: it cannot be read, or a line is no row of metrics (with its number).
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise FormatError(f"cannot be read ({error.strerror})", where=path) from None
    losses: list[float] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if "gradient_norm" in row:  # others are evaluations
                losses.append(float(row["loss"]))
        except (ValueError, KeyError, TypeError):
            raise FormatError("this line is no row of metrics", where=f"{path}:{number}") from None
    if not np.isfinite(losses).all():
        raise DataError("a loss is not a number", where=path)
    return losses


def _averaged(losses: Sequence[float], points: int) -> np.ndarray:
    """(points,) means over equal shares of the steps, or the curve read between its steps where it has fewer."""
    curve = np.asarray(losses, np.float64)
    sums = np.concatenate([[0.0], np.cumsum(curve)])
    edges = np.linspace(0, len(curve), points + 1)
    means: np.ndarray = np.diff(np.interp(edges, np.arange(len(sums)), sums)) / np.diff(edges)
    return means


def _forecast(run: np.ndarray, references: Sequence[np.ndarray]) -> float:
    return float(np.median([_laid_on(run, one) for one in references]))


def _laid_on(run: np.ndarray, reference: np.ndarray) -> float:
    """The end of `run` if it goes on as `reference` did."""
    first = max(int(_SKIPPED * _POINTS), len(run) // 2)
    there = reference[first : len(run)]
    slope, level = np.polyfit(there, run[first:], 1)
    return float(level + slope * _end(reference))


def _end(curve: np.ndarray) -> float:
    return float(curve[-round(_TAIL * len(curve)) :].mean())
