"""Rows from several sources by weight, with curricula, exactly resumable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from ..core.errors import ConfigError
from .loader import Batch, Batches, join_batches

Weights = Mapping[str, float]


class MixedBatches:
    """Batches of `batch_size` rows, each row from one of `sources`.

    The next row comes from the source that is furthest behind its share, so at any moment every source has given its
    share to within one row: nothing is left to chance, and the state is a count for each source.

    Args:
        sources: by name, each with batches of one row.
        weights: positive and zero shares, in any unit. Or a curriculum: weights from a row number on, in order; between
            two of its stages they change linearly.

    Raises:
        ConfigError: weights that name other sources, are negative, or all zero; stages out of order.
    """

    def __init__(
        self, sources: Mapping[str, Batches[Batch]], weights: Weights | Sequence[tuple[int, Weights]], batch_size: int
    ) -> None:
        self._sources, self._batch_size = dict(sources), batch_size
        stages = [(0, weights)] if isinstance(weights, Mapping) else list(weights)
        self._starts = np.array([start for start, _ in stages])
        if not len(stages) or self._starts[0] != 0 or bool(np.any(np.diff(self._starts) <= 0)):
            raise ConfigError("a curriculum's stages begin at row 0 and go up", where="weights")
        self._shares = np.stack([self._share(one) for _, one in stages])
        self._drawn = dict.fromkeys(self._sources, 0)
        self._owed = np.zeros(len(self._sources))

    def _share(self, weights: Weights) -> np.ndarray:
        if set(weights) != set(self._sources):
            names = ", ".join(sorted(set(weights) ^ set(self._sources)))
            raise ConfigError(f"weights and sources differ in: {names}", where="weights")
        values = np.array([float(weights[name]) for name in self._sources])
        if not np.isfinite(values).all() or values.min() < 0 or values.sum() <= 0:
            raise ConfigError(f"weights must not be negative, nor all zero: {dict(weights)}", where="weights")
        return values / values.sum()

    def share_at(self, row: int) -> dict[str, float]:
        """Each source's share at a row."""
        now = [float(np.interp(row, self._starts, column)) for column in self._shares.T]
        return dict(zip(self._sources, now, strict=True))

    @property
    def drawn(self) -> dict[str, int]:
        """Rows drawn so far from each source."""
        return dict(self._drawn)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        return join_batches([self._row() for _ in range(self._batch_size)])

    def _row(self) -> Batch:
        self._owed += list(self.share_at(sum(self._drawn.values())).values())
        place = int(self._owed.argmax())
        self._owed[place] -= 1
        name = list(self._sources)[place]
        self._drawn[name] += 1
        return next(self._sources[name])

    def state_dict(self) -> dict[str, Any]:
        sources = {name: source.state_dict() for name, source in self._sources.items()}
        return {"drawn": dict(self._drawn), "owed": self._owed.tolist(), "sources": sources}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if set(state["drawn"]) != set(self._sources):
            raise ConfigError(
                f"the saved mixture is of {', '.join(state['drawn'])}, not of {', '.join(self._sources)}",
                where="sources",
            )
        self._drawn, self._owed = dict(state["drawn"]), np.array(state["owed"])
        for name, source in self._sources.items():
            source.load_state_dict(state["sources"][name])
