"""Probes: what frozen vectors tell a linear classifier, and whether their clusters are the classes.

N texts, C width, K classes.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import log_softmax

from ..core.errors import DataError
from ..core.randomness import numpy_generator
from ..datasets.jsonl import read_rows, usable_rows
from ..indexes.kmeans import kmeans

_HELD_OUT = 1 / 3

Vectors = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class ClassProbe:
    """What vectors tell of classes: `accuracy` on the texts held out, `v_measure` of clusters of all texts."""

    accuracy: float
    v_measure: float
    held_out: int
    classes: int


def read_classes(path: str | Path) -> tuple[list[str], list[str]]:
    """Texts and their labels from JSONL of {"text", "label"}; bad rows are counted aloud.

    Raises:
        DataError: no row can be used.
    """

    def parse(row: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(row.get("text"), str) or not isinstance(row.get("label"), str | int):
            raise ValueError("no 'text' with a 'label'")
        return row

    rows = usable_rows(read_rows(path, parse))
    return [row["text"] for row in rows], [str(row["label"]) for row in rows]


def probe_classes(encoder: Any, texts: Sequence[str], labels: Sequence[str], *, seed: int = 0) -> ClassProbe:
    """Both probes of an encoder's vectors; a third of the texts, drawn by the seed, is held out of the classifier.

    Raises:
        DataError: the texts are too few, or of one class.
    """
    order = numpy_generator(seed, "classes").permutation(len(texts))
    count = round(_HELD_OUT * len(texts))
    if count < 1:
        raise DataError(f"{len(texts)} texts are too few to hold some out")
    vectors = encoder.encode(list(texts), normalize=True)
    held, kept = order[:count], order[count:]
    names = np.array(labels)
    accuracy = classification_accuracy(vectors[kept], names[kept].tolist(), vectors[held], names[held].tolist())
    return ClassProbe(accuracy, clustering_v_measure(vectors, list(labels), seed=seed), count, len(set(labels)))


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
