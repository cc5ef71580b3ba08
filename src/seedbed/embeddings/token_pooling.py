"""Token pooling (Clavié et al. 2024): fewer vectors a document, by merging those that say nearly the same."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform


def pool_tokens(vectors_TD: npt.NDArray[np.float32], factor: int) -> npt.NDArray[np.float32]:
    """Cluster the tokens of one document by Ward's method on their cosine distances, into T / factor clusters at most,
    and keep each cluster's mean, of length 1. The first vector, the whole text's, is kept as it is.

    Returns: (at most 1 + (T - 1) / factor, D), in the order of the clusters' first tokens.
    """
    rest = vectors_TD[1:]
    count = max(1, len(rest) // factor)
    if factor < 2 or len(rest) <= count:
        return vectors_TD
    distances = 1.0 - np.clip(rest @ rest.T, -1.0, 1.0)
    np.fill_diagonal(distances, 0.0)
    labels = fcluster(linkage(squareform(distances, checks=False), method="ward"), t=count, criterion="maxclust")
    firsts = sorted(np.unique(labels, return_index=True)[1])
    means = np.stack([rest[labels == labels[first]].mean(axis=0) for first in firsts])
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    return np.concatenate((vectors_TD[:1], means.astype(np.float32)))
