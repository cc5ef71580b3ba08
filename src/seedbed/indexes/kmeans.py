"""k-means: the partition of IVF and late-interaction indexes, and the codebooks of product quantisation.

n vectors, k clusters. Lloyd's rounds (Lloyd 1982) after a seeding by squared distances in the manner of k-means++ and
k-means|| (native/index/kmeans.cpp).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .. import _native
from ..core.devices import cpu_count
from ..core.errors import ConfigError
from .base import Floats, check_size, check_vectors


@dataclass(frozen=True)
class Clusters:
    """What k-means found."""

    centroids: Floats  # (k, dim)
    assignments: npt.NDArray[np.uint32]  # (n,) the nearest centroid of each vector
    inertia: float  # sum of the squared distances between vectors and their centroids
    rounds: int


def kmeans(
    vectors: npt.ArrayLike,
    clusters: int,
    *,
    rounds: int = 20,
    seed: int = 0,
    spherical: bool = False,
    balanced: bool = False,
    threads: int | None = None,
) -> Clusters:
    """Cluster `vectors` (n, dim). The same vectors and seed give the same clusters whatever the number of threads.

    Args:
        rounds: of Lloyd's algorithm, at most; it ends earlier once a round gains less than 1 in 10,000.
        spherical: vectors are normalised, and so are centroids (for cosines).
        balanced: even out the sizes of clusters, at hardly any cost in inertia; goes through all rounds.
        threads: None for all processors.

    Raises:
        ConfigError: more clusters than vectors, or a number out of range.
        DataError: vectors that cannot be used.
    """
    rows = np.atleast_2d(np.asarray(vectors))
    rows = check_vectors(rows, rows.shape[-1], "cosine" if spherical else "l2")
    clusters = check_size("clusters", clusters, 1, 1 << 31)
    if clusters > len(rows):
        raise ConfigError(f"{clusters:,} clusters need at least as many vectors, not {len(rows):,}")
    rounds, seed = check_size("rounds", rounds, 1, 1 << 20), check_size("seed", seed, 0, (1 << 63) - 1)
    centroids, assignments, inertia, done = _native.kmeans(
        rows, clusters, rounds, seed, spherical, balanced, threads or cpu_count()
    )
    return Clusters(centroids.reshape(clusters, -1), assignments, inertia, done)


def nearest(vectors: Floats, centroids: Floats, *, threads: int | None = None) -> npt.NDArray[np.uint32]:
    """(n,) the index of the centroid (k, dim) nearest to each vector (n, dim); the first of equally near ones."""
    return _native.nearest(vectors, centroids, threads or cpu_count()).reshape(-1)
