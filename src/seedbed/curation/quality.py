"""A quality classifier of one's own: logistic regression on hashed runs of one and two words, calibrated.

What is good is told by examples. The features are those of fastText's classifier (Joulin et al. 2017), as GPT-3 and
DCLM use it on pages, without its hidden layer: whether each run occurs, scaled to unit length. A fifth of the examples
is held out: Platt's sigmoid (1999) is fitted to their scores, so that 0.8 means that four in five such documents are
good, and the figures that come with a model are of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..core.artifacts import write_atomically
from ..core.errors import DataError, FormatError
from .words import run_hashes, word_hashes

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_BITS = 18
_RUNS = (1, 2)
_PENALTY = 1e-4  # of the squared weights, for each example
_HELD_OUT = 5  # one in so many
_FEWEST = 20
_BATCH = 1024
_FORMAT, _VERSION = "seedbed-quality", 1


@dataclass(frozen=True)
class QualityModel:
    """
    Attributes:
        weights: float32 (2^18,), of the runs by their hashes.
        bias: added to the sum of weights.
        slope, offset: of the sigmoid that makes a probability of a score.
        figures: of the held-out examples: `examples`, `accuracy`, `auc` and `calibration_error` (expected, ten bins).
    """

    weights: NDArray[np.float32]
    bias: float
    slope: float
    offset: float
    figures: dict[str, float]

    @classmethod
    def train(cls, good: Sequence[str], bad: Sequence[str]) -> QualityModel:
        """Learn to tell good texts from bad ones.

        Raises:
            DataError: fewer than 20 examples of either.
        """
        if min(len(good), len(bad)) < _FEWEST:
            raise DataError(
                f"{len(good)} good and {len(bad)} bad examples", hint=f"Give at least {_FEWEST} of each kind."
            )
        features = _features([*good, *bad])
        labels = np.repeat([1.0, 0.0], [len(good), len(bad)])
        held = np.zeros(len(labels), bool)
        for start, count in ((0, len(good)), (len(good), len(bad))):
            held[start : start + count : _HELD_OUT] = True
        occurring = np.unique(features[~held].indices)  # all other weights stay 0
        parameters = _fit(features[~held][:, occurring], labels[~held], np.zeros(len(occurring) + 1), _PENALTY)
        weights, bias = np.zeros(features.shape[1], np.float32), float(parameters[-1])
        weights[occurring] = parameters[:-1]
        scores = features[held] @ weights + bias
        from scipy.sparse import csr_matrix

        slope, offset = _fit(csr_matrix(scores[:, None]), labels[held], np.array([1.0, 0.0]), 0.0)
        found = _sigmoid(slope * scores + offset)
        return cls(weights, bias, float(slope), float(offset), _figures(found, labels[held]))

    def score(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """How probably each text is good (n,)."""
        scores = _features(texts) @ self.weights + self.bias
        return _sigmoid(self.slope * scores + self.offset)

    def save(self, path: str | Path) -> None:
        head = {
            "format": _FORMAT, "version": _VERSION, "bias": self.bias, "slope": self.slope, "offset": self.offset,
            "figures": self.figures,
        }  # fmt: skip
        write_atomically(Path(path), json.dumps(head).encode() + b"\n" + self.weights.astype("<f4").tobytes())

    @classmethod
    def load(cls, path: str | Path) -> QualityModel:
        """
        Raises:
            FormatError: not a file that `save` wrote.
        """
        try:
            head, _, body = Path(path).read_bytes().partition(b"\n")
            values: dict[str, Any] = json.loads(head)
            if values["format"] != _FORMAT or values["version"] != _VERSION or len(body) != 4 << _BITS:
                raise ValueError("of another format")
            bias, slope, offset = (float(values[name]) for name in ("bias", "slope", "offset"))
            return cls(np.frombuffer(body, "<f4"), bias, slope, offset, dict(values["figures"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FormatError(f"no quality model ({error})", where=path, hint="Train one: curate quality.") from None


def _features(texts: Sequence[str]) -> csr_matrix:
    """Which runs of words occur in each text: (n, 2^18), rows of unit length."""
    from scipy.sparse import csr_matrix

    columns, sizes = list[NDArray[np.int64]](), [0]
    for start in range(0, len(texts), _BATCH):
        for words in word_hashes(texts[start : start + _BATCH]):
            runs = np.concatenate([run_hashes(words, length) for length in _RUNS])
            # The upper bits of a product depend on all bits of a hash.
            places = np.unique((runs * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - _BITS)).astype(np.int64)
            columns.append(places)
            sizes.append(len(places))
    counts = np.array(sizes[1:])
    values = np.repeat(1 / np.sqrt(np.maximum(counts, 1)), counts)
    indices = np.concatenate(columns) if columns else np.zeros(0, np.int64)
    return csr_matrix((values, indices, np.cumsum(sizes)), shape=(len(texts), 1 << _BITS))


def _fit(
    features: csr_matrix, labels: NDArray[np.float64], start: NDArray[np.float64], penalty: float
) -> NDArray[np.float64]:
    """The weights and bias of least logistic loss, classes counting alike."""
    from scipy.optimize import minimize

    share = np.where(labels == 1, 0.5 / labels.sum(), 0.5 / (len(labels) - labels.sum()))

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights, bias = parameters[:-1], parameters[-1]
        scores = features @ weights + bias
        value = float(share @ (np.logaddexp(0, scores) - labels * scores)) + penalty / 2 * float(weights @ weights)
        slope = share * (_sigmoid(scores) - labels)
        return value, np.append(features.T @ slope + penalty * weights, slope.sum())

    return minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x


def _sigmoid(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * (1 + np.tanh(np.asarray(scores, np.float64) / 2))


def _figures(found: NDArray[np.float64], labels: NDArray[np.float64]) -> dict[str, float]:
    from scipy.stats import rankdata

    ranks, good = rankdata(found), labels == 1
    count = int(good.sum())
    auc = (ranks[good].sum() - count * (count + 1) / 2) / (count * (len(labels) - count))
    bins = np.minimum((found * 10).astype(int), 9)
    error = sum(abs(found[bins == one].sum() - labels[bins == one].sum()) for one in range(10)) / len(labels)
    accuracy = float(((found >= 0.5) == good).mean())
    return {"examples": len(labels), "accuracy": accuracy, "auc": float(auc), "calibration_error": float(error)}


def texts_of(sources: Sequence[str]) -> Iterator[str]:
    """The documents of sources, as curation reads and normalises them."""
    from .blobs import ReadingConfig
    from .documents import Document
    from .normalize import normalize
    from .sources import read_sources

    for piece in read_sources(sources, ReadingConfig()):
        if isinstance(piece, Document) and (text := normalize(piece.text)).strip():
            yield text
