"""How often words stand near each other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..core.ragged import Ragged

_AT_ONCE = 1 << 24  # pairs that are gathered before equal ones are added up


def cooccurrences(
    texts: Ragged, words: int, window: int
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32], npt.NDArray[np.float32]]:
    """Pairs of word and context that stand within `window` of each other in a text, each way round, and the sums of
    1 / distance over their meetings (Pennington et al. 2014, section 4.2). Sorted; equal pairs come once.

    Args:
        texts: ids below `words`.
    """
    values = texts.values.astype(np.int64)
    owner = np.repeat(np.arange(len(texts)), texts.lengths)
    keys, sums = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float64)
    for distance in range(1, window + 1):
        for start in range(0, max(0, len(values) - distance), _AT_ONCE):
            left = slice(start, min(start + _AT_ONCE, len(values) - distance))
            right = slice(left.start + distance, left.stop + distance)
            together = owner[left] == owner[right]
            first, second = values[left][together], values[right][together]
            met, times = np.unique(np.concatenate((first * words + second, second * words + first)), return_counts=True)
            keys, sums = _merged(keys, sums, met, times / distance)
    return (keys // words).astype(np.uint32), (keys % words).astype(np.uint32), sums.astype(np.float32)


def _merged(
    keys: npt.NDArray[np.int64],
    sums: npt.NDArray[np.float64],
    more: npt.NDArray[np.int64],
    added: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    if not len(keys):
        return more, added
    both, places = np.unique(np.concatenate((keys, more)), return_inverse=True)
    return both, np.bincount(places, np.concatenate((sums, added)), len(both)).astype(np.float64)
