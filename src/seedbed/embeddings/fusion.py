"""Rankings into one: by ranks, which needs no common scale, or by scores brought to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from ..core.config import Config
from ..indexes.base import Found, Ids


class FusionConfig(Config):
    """How a hybrid search weighs what several ways to search have found.

    "ranks": weighted reciprocal-rank fusion (Cormack, Clarke & Büttcher 2009), sum of weight / (constant + rank).
    "scores": each list's scores from 0 for its last to 1 for its first (Bruch, Gai & Ingber 2023 compare both).
    """

    method: Literal["ranks", "scores"] = "ranks"
    dense_weight: float = Field(0.4, ge=0, le=1, description="weight of the vectors; BM25 has what the others leave")
    sparse_weight: float = Field(0.0, ge=0, le=1, description="weight of learned sparse vectors")
    multivector_weight: float = Field(0.0, ge=0, le=1, description="weight of late interaction")
    constant: float = Field(10.0, ge=0, description="how little the first ranks stand out")
    depth: int = Field(100, ge=1, description="places of each list that count")

    @model_validator(mode="after")
    def _weights_fit(self) -> Self:
        if self.dense_weight + self.sparse_weight + self.multivector_weight > 1 + 1e-9:
            raise ValueError("the weights add up to more than 1")
        return self

    @property
    def weights(self) -> dict[str, float]:
        """Mode to weight, where that is not 0."""
        others = {"dense": self.dense_weight, "sparse": self.sparse_weight, "multivector": self.multivector_weight}
        words = max(0.0, 1 - sum(others.values()))
        return {mode: weight for mode, weight in ({"bm25": words} | others).items() if weight > 1e-9}

    def combine(self, found: Mapping[str, Found], k: int) -> Found:
        """One list of what was `found` by each mode that `weights` names."""
        weights = list(self.weights.values())
        if self.method == "scores":
            return fuse_scores([found[mode] for mode in self.weights], weights, k)
        return fuse([found[mode][1] for mode in self.weights], weights, self.constant, k)


def fuse(rankings: Sequence[Ids], weights: Sequence[float], constant: float, k: int) -> Found:
    """Weighted reciprocal-rank fusion of rankings (q, n), padded with -1. Ties go to the smaller id."""
    gains = [
        np.broadcast_to(weight / (constant + np.arange(1, ranking.shape[1] + 1)), ranking.shape)
        for ranking, weight in zip(rankings, weights, strict=True)
    ]
    return _sums(rankings, gains, weights, k)


def fuse_scores(found: Sequence[Found], weights: Sequence[float], k: int) -> Found:
    """Weighted sums of scores that run from 0 for the last of a list to 1 for its first; what a list lacks adds 0.

    Args:
        found: scores, larger is better, and ids of each list, (q, n) padded with -1.
    """
    gains = []
    for (scores, ids), weight in zip(found, weights, strict=True):
        there = ids >= 0
        least = np.where(there, scores, np.inf).min(axis=1, initial=np.inf, keepdims=True)
        most = np.where(there, scores, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(most > least, (scores - least) / (most - least), 1.0)
        gains.append(weight * np.where(there, share, 0.0))
    return _sums([ids for _, ids in found], gains, weights, k)


def _sums(rankings: Sequence[Ids], gains: Sequence[npt.NDArray[np.float64]], weights: Sequence[float], k: int) -> Found:
    rows = len(rankings[0])
    scores = np.full((rows, k), -np.inf, dtype=np.float32)
    ids = np.full((rows, k), -1, dtype=np.int64)
    for row in range(rows):
        sums: dict[int, float] = {}
        for ranking, gain, weight in zip(rankings, gains, weights, strict=True):
            if weight > 0:
                for item, one in zip(ranking[row].tolist(), gain[row].tolist(), strict=True):
                    if item >= 0:
                        sums[item] = sums.get(item, 0.0) + one
        best = sorted(sums.items(), key=lambda one: (-one[1], one[0]))[:k]
        for place, (item, score) in enumerate(best):
            scores[row, place], ids[row, place] = score, item
    return scores, ids
