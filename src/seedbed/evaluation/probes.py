"""Probes: what frozen vectors tell a linear classifier, and whether their clusters are the classes.

N texts, C width, K classes.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import log_softmax

from ..core.errors import DataError
from ..indexes.kmeans import kmeans

Vectors = npt.NDArray[np.floating[Any]]


def classification_accuracy(
    train_NC: Vectors,
    train_labels: Sequence[Hashable],
    test_NC: Vectors,
    test_labels: Sequence[Hashable],
    *,
    penalty: float = 1.0,
) -> float:
    """Share of test texts whose class a logistic regression on the training vectors names, as in MTEB (Muennighoff et
    al. 2023).

    Args:
        penalty: of the squared weights, against losses that are summed (1 / C of others).
    """
    names, labels = np.unique(np.array([str(label) for label in train_labels]), return_inverse=True)
    if len(train_NC) != len(train_labels) or len(test_NC) != len(test_labels):
        raise DataError("there are not as many labels as vectors")
    if len(names) < 2:
        raise DataError(f"{len(names)} classes cannot be told apart")
    inputs, classes = np.asarray(train_NC, dtype=np.float64), len(names)
    right = np.eye(classes)[labels]
    shape = (inputs.shape[1], classes)

    def objective(values: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        weights, bias = values[classes:].reshape(shape), values[:classes]
        logs = log_softmax(inputs @ weights + bias, axis=1)
        wrong = np.exp(logs) - right
        loss = -float((logs * right).sum()) + 0.5 * penalty * float((weights**2).sum())
        return loss, np.concatenate((wrong.sum(axis=0), (inputs.T @ wrong + penalty * weights).ravel()))

    start = np.zeros(classes + shape[0] * classes)
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 500, "gtol": 1e-4})
    scores = np.asarray(test_NC, dtype=np.float64) @ found.x[classes:].reshape(shape) + found.x[:classes]
    named = names[scores.argmax(axis=1)]
    return float(np.mean(named == np.array([str(label) for label in test_labels])))


def clustering_v_measure(vectors_NC: Vectors, labels: Sequence[Hashable], *, seed: int = 0) -> float:
    """V-measure of k-means with as many clusters as there are classes."""
    if len(vectors_NC) != len(labels):
        raise DataError("there are not as many labels as vectors")
    classes = len(set(labels))
    found = kmeans(np.ascontiguousarray(vectors_NC, dtype=np.float32), classes, seed=seed)
    return v_measure(labels, found.assignments.tolist())


def v_measure(labels: Sequence[Hashable], clusters: Sequence[Hashable]) -> float:
    """Harmonic mean of homogeneity and completeness (Rosenberg and Hirschberg 2007): 1 where clusters are classes."""
    of_class, of_cluster = (_numbered(names) for names in (labels, clusters))
    table = np.zeros((of_class.max(initial=0) + 1, of_cluster.max(initial=0) + 1))
    np.add.at(table, (of_class, of_cluster), 1.0)
    table /= max(1.0, table.sum())
    together = _entropy(table)
    class_entropy, cluster_entropy = _entropy(table.sum(axis=1)), _entropy(table.sum(axis=0))
    homogeneity = 1 - (together - cluster_entropy) / class_entropy if class_entropy else 1.0
    completeness = 1 - (together - class_entropy) / cluster_entropy if cluster_entropy else 1.0
    both = homogeneity + completeness
    return 2 * homogeneity * completeness / both if both > 0 else 0.0


def _entropy(shares: npt.NDArray[np.float64]) -> float:
    positive = shares[shares > 0]
    return -float((positive * np.log(positive)).sum())


def _numbered(names: Sequence[Hashable]) -> npt.NDArray[np.int64]:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)
