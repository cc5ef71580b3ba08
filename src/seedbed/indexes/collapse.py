"""How product quantisation collapses as bits per dimension fall, beside what any code must lose.

Of Gaussian vectors, no code with R bits a dimension keeps the mean squared error below 2^(-2R) of the variance
(Shannon's rate distortion). Real vectors have a spectrum of variances, and a code may spend its bits where they
count: the bound is then that of reverse water-filling (Cover & Thomas, "Elements of Information Theory", 10.3.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .base import check_metric, check_size, check_vectors
from .flat import FlatIndex
from .pq import PQIndex

_HELD_OUT = 10  # each so many-th vector trains nothing


@dataclass(frozen=True)
class Collapse:
    """One row of the table.

    Attributes:
        subspaces: of the product code.
        bits_per_dimension: R.
        lost: share of the variance that the code loses, of vectors that trained nothing: of those that did it would
            lose less than the bounds allow, where they are few.
        gaussian: 2^(-2R), the least that any code loses of Gaussian vectors alike in all directions.
        spectral: the least that any code loses of Gaussian vectors with the variances of these.
        recall: of the k nearest, found by codes alone.
    """

    subspaces: int
    bits_per_dimension: float
    lost: float
    gaussian: float
    spectral: float
    recall: float


def pq_collapse(
    vectors: npt.ArrayLike,
    queries: npt.ArrayLike,
    *,
    k: int = 10,
    metric: str = "cosine",
    bits: int = 8,
    subspaces: Sequence[int] | None = None,
    rotate: bool = False,
    seed: int = 0,
    threads: int | None = None,
) -> list[Collapse]:
    """Product codes of falling size, trained on `vectors` (n, dim) and searched for `queries` (q, dim).

    Args:
        subspaces: to try; by halves from one for every two dimensions, if left out.

    Raises:
        ConfigError: fewer vectors than a codebook has entries.
        DataError: vectors that cannot be used.
    """
    metric = check_metric(metric)
    raw = np.atleast_2d(np.asarray(vectors))
    dim = raw.shape[-1]
    rows = check_vectors(raw, dim, metric)
    k = check_size("k", k, 1, len(rows))
    if subspaces is None:
        subspaces = [dim >> shift for shift in range(1, 8) if dim >> shift]
    flat = FlatIndex(dim, metric)
    flat.add(rows)
    exact = flat.search(queries, k, threads=threads)[1]
    variances = np.asarray(np.linalg.eigvalsh(np.cov(rows.T).reshape(dim, dim)), dtype=np.float64)
    held = np.arange(len(rows)) % _HELD_OUT == _HELD_OUT - 1
    table = []
    for parts in subspaces:
        index = PQIndex(dim, parts, bits, rotate, metric, seed=seed, threads=threads).train(rows[~held])
        index.add(rows)
        found = index.search(queries, k, threads=threads)[1]
        rate = index.subspaces * index.bits / dim
        table.append(
            Collapse(
                subspaces=index.subspaces,
                bits_per_dimension=rate,
                lost=index.quantizer.distortion(rows[held] - rows[~held].mean(0)),
                gaussian=2.0 ** (-2 * rate),
                spectral=spectral_bound(variances, rate),
                recall=_recall(found, exact),
            )
        )
    return table


def spectral_bound(variances: npt.NDArray[np.float64], rate: float) -> float:
    """Least share of the sum of `variances` (d,) that is lost at `rate` bits a dimension: reverse water-filling.

    Directions above the water level keep that much error, those below it are given up.
    """
    rising = np.sort(np.maximum(variances, 0))
    positive = rising[rising > rising[-1] * 1e-12] if rising.size and rising[-1] > 0 else rising[:0]
    if not positive.size:
        return 0.0
    budget = rate * len(variances)
    logs = np.log2(positive)
    for given_up in range(len(positive)):
        kept = logs[given_up:]
        level = 2.0 ** (kept.mean() - 2 * budget / len(kept))
        if level <= positive[given_up]:
            break
    return float(np.minimum(level, positive).sum() / positive.sum())


def _recall(found: npt.NDArray[np.int64], exact: npt.NDArray[np.int64]) -> float:
    hits = sum(len(np.intersect1d(one, other)) for one, other in zip(found, exact, strict=True))
    return hits / exact.size if exact.size else 1.0
