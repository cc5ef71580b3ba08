"""What IVFIndex and PQIndex share: training first, then the protocol of all indexes, over native inverted lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from .. import _native
from ..core.devices import cpu_count
from ..core.errors import ConfigError, FormatError
from .base import (
    Floats,
    Found,
    check_filter,
    check_size,
    check_vectors,
)
from .storage import Stored, write_sections
from .vector_index import VectorIndex, id_table_bytes, padded

_TRAINING = ("origin", "centroids", "rotation", "codebooks")
_CONTENT = {
    "sizes": np.uint32,
    "labels": np.int64,
    "codes": np.uint8,
    "scales": np.float32,
    "adds": np.float32,
    "vectors": np.float32,
}
NOTHING: Floats = np.zeros(0, dtype=np.float32)


class InvertedLists(VectorIndex):
    """An index over the native lists (native/index/ivf.hpp). Subclasses say what is learnt and how it is called."""

    def __init__(
        self,
        dim: int,
        metric: str,
        lists: int,
        codes: str,
        subspaces: int,
        bits: int,
        vectors: bool,
        seed: int,
        threads: int | None,
    ) -> None:
        super().__init__(dim, metric, threads, 1 << 16)
        self.lists = check_size("lists", lists, 1, 1 << 24)
        self.seed = check_size("seed", seed, 0, (1 << 62) - 1)
        self._core = _native.Ivf(self.dim, self.lists, self.metric == "l2", codes, vectors, subspaces, bits)
        self._vectors = vectors

    @property
    def trained(self) -> bool:
        return self._core.trained

    def _check_trainable(self, vectors: npt.ArrayLike, least: int) -> Floats:
        rows = check_vectors(vectors, self.dim, self.metric)
        if len(self):
            raise ConfigError("this index holds vectors already", hint="Train a new one.")
        if len(rows) < least:
            raise ConfigError(f"training needs at least {least:,} vectors, not {len(rows):,}")
        return rows

    def _check_ready(self) -> None:
        if not self.trained:
            raise ConfigError("this index is not trained", hint="Call train(vectors) first.")

    def _search(
        self,
        queries: npt.ArrayLike,
        k: int,
        probes: int,
        candidates: int | None,
        exact: bool,
        filter: npt.ArrayLike | None,
        threads: int | None,
    ) -> Found:
        rows = check_vectors(queries, self.dim, self.metric, "queries")
        self._check_ready()
        k, probes = check_size("k", k, 0, 1 << 31), check_size("probes", probes, 1, 1 << 31)
        if candidates is None:
            candidates = 10 * k if self._vectors else 0
        candidates = check_size("candidates", candidates, 0, 1 << 31)
        if (exact or candidates) and not self._vectors:
            raise ConfigError("this index keeps no vectors to rank by", hint="Make it with rerank=True.")
        return self._core.search(rows, k, probes, candidates, exact, check_filter(filter), threads or cpu_count())

    def _settings(self) -> dict[str, Any]:
        """The arguments of the constructor, for a file."""
        raise NotImplementedError

    def save(self, path: str | Path) -> None:
        with self._changing:  # searches go on
            settings = {**self._settings(), "trained": self.trained, "highest": self._highest}
            learnt, content = self._core.training(), self._core.content()
            sections = {**{name: learnt[name] for name in _TRAINING}, **{name: content[name] for name in _CONTENT}}
            write_sections(Path(path), self.kind, settings, sections)

    def _restore(self, stored: Stored) -> Self:
        try:
            if stored.setting("trained", bool):
                learnt = [stored.array(name, np.float32) for name in _TRAINING]
                if not all(np.isfinite(array).all() for array in learnt):
                    raise ValueError("what was learnt is not finite")
                self._core.train(*learnt)
            self._core.restore(*(stored.array(name, dtype) for name, dtype in _CONTENT.items()))
        except (ValueError, TypeError) as error:
            raise FormatError(f"the lists are damaged ({error})", where=stored.path) from None
        self._highest = stored.setting("highest", int)
        return self


def predict_lists_bytes(
    count: int, dim: int, *, lists: int, code_bytes: float, adds: bool, vectors: bool, learnt: int
) -> int:
    """Bytes of `count` vectors in native lists: ids, places, codes with their factors, vectors, and what was learnt.

    Args:
        code_bytes: of one vector's code; 0 for none.
        learnt: bytes of rotation and codebooks.
    """
    factors = (4 + 4 * adds) * in_blocks(count, lists) if code_bytes else 0
    each = 8 + 4 + 4 + 4 + (4 * padded(dim) if vectors else 0)
    panels = (lists + 31) // 32 * 32
    fixed = 4 * dim * (2 + lists) + 4 * panels * (dim + 1) + (4 + 200) * lists + learnt
    return round(count * (each + code_bytes) + factors) + id_table_bytes(count) + fixed


def in_blocks(count: int, lists: int) -> int:
    """Vectors that blocks of 32 in `lists` lists have room for: the last block of a list is half full on average."""
    return (count + 31) // 32 * 32 if lists == 1 else count + 16 * min(lists, count)
