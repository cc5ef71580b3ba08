"""Whether a difference between two systems is more than luck: paired resampling of what both were asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..core.errors import ConfigError, DataError
from ..core.randomness import numpy_generator

_BLOCK = 1 << 22  # drawn numbers held at once


@dataclass(frozen=True)
class Difference:
    """Mean of `b - a`, its interval, and the two-sided p-value of no difference.

    >>> print(paired_bootstrap([0, 0, 1, 0] * 50, [1, 0, 1, 0] * 50))
    +0.250 [+0.190, +0.310]
    """

    mean: float
    low: float
    high: float
    p_value: float
    queries: int

    @property
    def certain(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def paired_bootstrap(
    a: Sequence[float] | npt.NDArray[np.float64],
    b: Sequence[float] | npt.NDArray[np.float64],
    *,
    level: float = 0.95,
    samples: int = 10_000,
    seed: int = 0,
) -> Difference:
    """How `b` differs from `a`, query by query, resampling queries with replacement (Efron and Tibshirani 1993).

    The interval is the percentile interval; the p-value is that of the differences shifted to a mean of zero (chapter
    16.4; Smucker et al. 2007 compare such tests for retrieval).

    Args:
        a, b: one value a query, of the same queries in the same order (`retrieval.per_query`).

    Raises:
        DataError: not as many values, none, or one that is not finite.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise DataError(f"{first.shape} and {second.shape} values cannot be paired", hint="One value a query in each.")
    if not 0 < level < 1 or samples < 1:
        raise ConfigError(f"no interval has the level {level} of {samples} samples", where="level")
    apart = second - first
    if not np.isfinite(apart).all():
        raise DataError(f"the value of query {int(np.argmin(np.isfinite(apart)))} is not finite")
    generator = numpy_generator(seed, "bootstrap")
    step = max(1, _BLOCK // len(apart))
    means = np.concatenate([
        apart[generator.integers(0, len(apart), size=(min(step, samples - done), len(apart)))].mean(axis=1)
        for done in range(0, samples, step)
    ])  # fmt: skip
    mean = float(apart.mean())
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    as_far = int((np.abs(means - mean) >= abs(mean) - 1e-12).sum())
    return Difference(mean, float(low), float(high), (as_far + 1) / (samples + 1), len(apart))
