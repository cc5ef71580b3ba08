"""Times of several ways to do the same, so that what else the machine does falls on all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from statistics import median
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


def interleaved(jobs: Mapping[Key, Callable[[], object]], repeats: int) -> dict[Key, float]:
    """Median seconds of each job: all are run once unmeasured, then in turn, `repeats` times."""
    seconds: dict[Key, list[float]] = {key: [] for key in jobs}
    for run in range(repeats + 1):
        for key, job in jobs.items():
            started = time.perf_counter()
            job()
            if run:
                seconds[key].append(time.perf_counter() - started)
    return {key: median(times) for key, times in seconds.items()}
