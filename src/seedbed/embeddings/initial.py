"""Token vectors to start from: what stands near a token in the corpus, factorised.

A from-scratch encoder with seconds to train cannot learn from pairs alone what thousands of tokens mean. Positive
pointwise mutual information of co-occurrences, factorised by a truncated SVD, gives that in a few seconds (Levy,
Goldberg & Dagan 2015: smoothed contexts, symmetric weighting of the singular values).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..core.ragged import Ragged
from ..core.randomness import numpy_generator
from .cooccurrence import cooccurrences

_SMOOTHING = 0.75
_CONTEXTS = 2048  # the most frequent tokens describe the others; a full matrix of them is faster than a sparse one
_OVERSAMPLING, _POWER_STEPS = 16, 2


def cooccurrence_vectors(
    documents: Ragged, vocab_size: int, dim: int, *, window: int = 10, seed: int = 0
) -> npt.NDArray[np.float32]:
    """Vectors (vocab_size, dim) with root mean square 1; tokens that the documents do not hold get small noise."""
    random = numpy_generator(seed, "cooccurrence")
    vectors = random.normal(0.0, 0.1, (vocab_size, dim)).astype(np.float32)
    counts = _count(documents, vocab_size, window)
    total = counts.sum(dtype=np.float64)
    if total == 0:
        return vectors
    row, column = counts.sum(1, keepdims=True), counts.sum(0) ** _SMOOTHING
    column /= column.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.log(counts / (row * column))
    information[~(information > 0)] = 0.0

    rank = min(dim, *counts.shape)
    basis = random.normal(size=(counts.shape[1], min(rank + _OVERSAMPLING, *counts.shape))).astype(np.float32)
    basis = np.linalg.qr(information @ basis)[0]
    for _ in range(_POWER_STEPS):  # Halko, Martinsson & Tropp 2011, algorithm 4.4
        basis = np.linalg.qr(information @ (information.T @ basis))[0]
    left, singular, _ = np.linalg.svd((information.T @ basis).T, full_matrices=False)
    found = (basis @ left)[:, :rank] * np.sqrt(singular[:rank])
    seen = row[:, 0] > 0
    vectors[seen, :rank] = found[seen] / np.sqrt(np.mean(found[seen] ** 2))
    return vectors


def _count(documents: Ragged, vocab_size: int, window: int) -> npt.NDArray[np.float32]:
    """How often tokens (rows) stand within `window` of frequent tokens (columns) in a document, by 1 / distance."""
    frequent = np.argsort(-np.bincount(documents.values, minlength=vocab_size), kind="stable")[:_CONTEXTS]
    column = np.full(vocab_size, -1)
    column[frequent] = np.arange(len(frequent))
    tokens, contexts, sums = cooccurrences(documents, vocab_size, window)
    known = column[contexts] >= 0
    counts = np.zeros((vocab_size, len(frequent)), dtype=np.float32)
    counts[tokens[known], column[contexts[known]]] = sums[known]
    return counts
