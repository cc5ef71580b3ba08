"""How vectors fill their space, and what straightens them. n vectors, d dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.errors import DataError
from ..core.randomness import numpy_generator

Vectors = npt.NDArray[np.floating[Any]]
Numbers = npt.NDArray[np.float64]

_PAIRED = 2000  # vectors whose pairs are all looked at


def mean_cosine(vectors: Vectors) -> float:
    """Mean cosine of two different vectors: 0 where directions are spread evenly, 1 in a cone without width.

    (|sum of unit vectors|^2 - n) / (n (n - 1)) (Ethayarajh 2019 calls it anisotropy).
    """
    rows = _units(vectors)
    total = rows.sum(axis=0)
    return float((total @ total - len(rows)) / (len(rows) * (len(rows) - 1)))


def partition_isotropy(vectors: Vectors) -> float:
    """Least over largest of Z(a) = sum of exp(a . x), a over the eigenvectors of X^T X: 1 where no direction stands out
    (Arora et al. 2016; Mu and Viswanath 2018, equation 7)."""
    rows = _checked(vectors)
    _, directions = np.linalg.eigh(rows.T @ rows)
    logs = rows @ directions
    highest = logs.max(axis=0)
    partition = highest + np.log(np.exp(logs - highest).sum(axis=0))
    return float(np.exp(partition.min() - partition.max()))


def participation_ratio(vectors: Vectors) -> float:
    """(sum of the covariance's eigenvalues)^2 / sum of their squares: so many dimensions are used, 1 to d."""
    rows = _checked(vectors)
    centred = rows - rows.mean(axis=0)
    covariance = centred.T @ centred
    return float(np.trace(covariance) ** 2 / max(float((covariance**2).sum()), np.finfo(np.float64).tiny))


def isoscore(vectors: Vectors) -> float:
    """Share of the dimensions that are used evenly, 0 to 1 (Rudman et al. 2022).

    Their five steps come to (PR - 1) / (d - 1) with the participation ratio PR.
    """
    return (participation_ratio(vectors) - 1) / max(1, np.asarray(vectors).shape[1] - 1)


def alignment(first: Vectors, second: Vectors) -> float:
    """Mean squared distance of the unit vectors of pairs that belong together (Wang and Isola 2020): 0 is best."""
    return float(((_units(first) - _units(second)) ** 2).sum(axis=1).mean())


def uniformity(vectors: Vectors, *, seed: int = 0) -> float:
    """log of the mean of exp(-2 |x - y|^2) over pairs of unit vectors (Wang and Isola 2020): less is more even; evenly
    spread ones in many dimensions come near -4."""
    rows = _units(vectors)
    if len(rows) > _PAIRED:
        rows = rows[numpy_generator(seed, "uniformity").choice(len(rows), _PAIRED, replace=False)]
    first, second = np.triu_indices(len(rows), 1)
    return float(np.log(np.exp(4 * (rows @ rows.T)[first, second] - 4).mean()))


@dataclass(frozen=True)
class Straightened:
    """(x - mean) @ matrix, learnt from some vectors and good for others of the same encoder."""

    mean: Numbers
    matrix: Numbers

    def __call__(self, vectors: Vectors) -> npt.NDArray[np.float32]:
        return ((np.asarray(vectors, dtype=np.float64) - self.mean) @ self.matrix).astype(np.float32)


def centring(vectors: Vectors) -> Straightened:
    rows = _checked(vectors)
    return Straightened(rows.mean(axis=0), np.eye(rows.shape[1]))


def whitening(vectors: Vectors) -> Straightened:
    """Every direction gets a variance of 1 (Su et al. 2021); those without any in `vectors` go."""
    mean, values, directions = _components(vectors)
    kept = values > values[-1] * 1e-6
    return Straightened(mean, directions[:, kept] / np.sqrt(values[kept]))


def all_but_the_top(vectors: Vectors, components: int | None = None) -> Straightened:
    """Without the mean and the `components` strongest directions, d / 100 if left out (Mu and Viswanath 2018)."""
    mean, _, directions = _components(vectors)
    width = len(mean)
    count = max(1, width // 100) if components is None else components
    top = directions[:, width - count :]
    return Straightened(mean, np.eye(width) - top @ top.T)


def _components(vectors: Vectors) -> tuple[Numbers, Numbers, Numbers]:
    """Mean, and the covariance's eigenvalues, rising, with their directions as columns."""
    rows = _checked(vectors)
    mean = rows.mean(axis=0)
    values, directions = np.linalg.eigh(np.cov(rows, rowvar=False, bias=True).reshape(len(mean), len(mean)))
    return mean, values, directions


def _checked(vectors: Vectors) -> Numbers:
    rows = np.asarray(vectors, dtype=np.float64)
    if rows.ndim != 2 or len(rows) < 2 or not np.isfinite(rows).all():
        raise DataError(f"at least two finite vectors are needed, not an array of shape {rows.shape}")
    return rows


def _units(vectors: Vectors) -> Numbers:
    rows = _checked(vectors)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if (norms == 0).any():
        raise DataError("a vector of zeros has no direction")
    return rows / norms
