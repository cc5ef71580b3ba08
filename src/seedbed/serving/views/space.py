"""The corpus's vectors on a plane, and a search among them: neighbours, and what the graph looked at on its way.

n vectors, d dimensions.
"""

from __future__ import annotations

import base64
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...core.errors import ConfigError, DataError
from ...core.randomness import numpy_generator
from ...indexes import HNSWIndex
from .materials import Materials

if TYPE_CHECKING:
    from ...embeddings.search import Searcher

_MOST_POINTS = 20_000  # drawn; more are sampled
_GROUPS = 5  # sources that get a colour of their own
_SCALE = 32_000  # coordinates are sent as int16
_MOST_STEPS = 4000

Floats = npt.NDArray[np.float64]


class Space:
    """Principal components of the run's dense vectors, computed once."""

    def __init__(self, materials: Materials) -> None:
        self._materials = materials

    @cached_property
    def points(self) -> dict[str, Any]:
        """All points (or a sample): int16 coordinates as base64, titles, groups, and the share of variance shown."""
        searcher, index = self._open()
        mean, axes, share = self._plane
        numbers = self._shown
        flat = (index.vectors(numbers) - mean) @ axes
        rows = np.searchsorted(searcher.passages.numbers, numbers)
        codes, groups = self._groups(searcher, rows)
        named, titles = searcher.passages.column("title")
        return {
            "count": len(index),
            "shown": len(numbers),
            "dimensions": index.dim,
            "variance": share,
            "numbers": numbers.tolist(),
            "points": base64.b64encode(self._packed(flat).tobytes()).decode(),
            "titles": [titles[one] for one in named[rows].tolist()],
            "groups": groups,
            "codes": codes.tolist(),
        }

    def neighbours(self, number: int, k: int) -> dict[str, Any]:
        """A passage, and those whose vectors are closest to its own."""
        searcher, index = self._open()
        try:
            vector = index.vectors(np.array([number], dtype=np.int64))[0]
        except DataError:
            raise ConfigError(f"there is no passage {number}") from None
        scores, found = index.search(vector[None], k + 1, ef=max(searcher.settings.ef, k + 1))
        hits = [
            self._told(searcher, index, other, score)
            for score, other in zip(scores[0].tolist(), found[0].tolist(), strict=True)
            if other not in (-1, number)
        ][:k]
        return {"of": self._told(searcher, index, number, 1.0), "hits": hits}

    def walk(self, query: str, k: int) -> dict[str, Any]:
        """Where a query lies, what it finds, and every vector that the index looked at, in order."""
        searcher, index = self._open()
        assert searcher.encoder is not None
        vector = searcher.encoder.encode_queries([query], normalize=True)[0]
        ef = max(searcher.settings.ef, k)
        scores, found = index.search(vector[None], k, ef=ef)
        trace = index.trace(vector, ef=ef)
        looked_at, places = np.unique(trace.ids, return_inverse=True)
        steps = slice(0, _MOST_STEPS)
        mean, axes, _ = self._plane
        at = self._packed((index.vectors(looked_at) - mean) @ axes)[places[steps]]
        where = self._packed(((vector - mean) @ axes)[None])[0]
        return {
            "at": where.tolist(),
            "hits": [
                self._told(searcher, index, number, score)
                for score, number in zip(scores[0].tolist(), found[0].tolist(), strict=True)
                if number >= 0
            ],
            "looked": len(looked_at),
            "count": len(index),
            "ef": ef,
            "steps": {
                "numbers": trace.ids[steps].tolist(),
                "origins": trace.origins[steps].tolist(),
                "levels": trace.levels[steps].tolist(),
                "at": at.tolist(),
            },
        }

    def _open(self) -> tuple[Searcher, HNSWIndex]:
        searcher = self._materials.searcher
        if searcher is None or searcher.dense is None or searcher.encoder is None:
            raise ConfigError("this run has no dense index", hint="Build one: seedbed index --run RUN.")
        if not len(searcher.dense):
            raise ConfigError("the index is empty")
        return searcher, searcher.dense

    @cached_property
    def _plane(self) -> tuple[Floats, Floats, float]:
        """Mean (d,), the two principal axes as columns (d, 2), and their share of the variance."""
        _, index = self._open()
        rows = index.vectors(self._shown).astype(np.float64)
        mean = rows.mean(axis=0)
        centred = rows - mean
        values, directions = np.linalg.eigh(centred.T @ centred / len(rows))
        axes = directions[:, :-3:-1]
        if axes.shape[1] < 2:  # vectors of one dimension
            axes = np.concatenate((axes, np.zeros_like(axes)), axis=1)
        share = float(values[-2:].sum() / max(values.sum(), np.finfo(np.float64).tiny))
        return mean, axes, min(1.0, share)

    @cached_property
    def _shown(self) -> npt.NDArray[np.int64]:
        _, index = self._open()
        numbers = np.sort(index.ids)
        if len(numbers) > _MOST_POINTS:
            numbers = np.sort(numpy_generator(0, "space").choice(numbers, _MOST_POINTS, replace=False))
        return numbers

    @cached_property
    def _reach(self) -> float:
        """The largest coordinate of a point that is shown."""
        _, index = self._open()
        mean, axes, _ = self._plane
        return float(np.abs((index.vectors(self._shown) - mean) @ axes).max()) or 1.0

    def _packed(self, flat: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
        """Coordinates (n, 2) as int16, half of whose range is the reach: a query may lie outside of it."""
        scaled = np.rint(flat / self._reach * (_SCALE / 2))
        return np.clip(scaled, -_SCALE, _SCALE).astype("<i2")

    def _groups(self, searcher: Searcher, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], list[str]]:
        """Each point's group: the most frequent folders or documents by name, and all others together."""
        codes, values = searcher.passages.column("source")
        counts = np.bincount(codes[rows], minlength=len(values))
        largest = np.argsort(-counts, kind="stable")[:_GROUPS]
        place = np.full(len(values), len(largest), dtype=np.int64)
        place[largest] = np.arange(len(largest))
        return place[codes[rows]], [values[one] for one in largest.tolist()] + ["others"]

    def _told(self, searcher: Searcher, index: HNSWIndex, number: int, score: float) -> dict[str, Any]:
        passage = searcher.passages[number]
        mean, axes, _ = self._plane
        at = self._packed((index.vectors(np.array([number])) - mean) @ axes)[0]
        return {
            "number": number,
            "title": passage.title,
            "source": passage.source,
            "text": passage.text[:400],
            "score": score,
            "at": at.tolist(),
        }
