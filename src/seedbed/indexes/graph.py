"""The default for large sets: a proximity graph walked on codes (native/index/graph.hpp).

A walk reads eight-bit codes of points ("sq8"), or with "rabitq" the one-bit codes of all neighbours of a point at
once, which lie in one block beside it (SymphonyQG: Gou et al., SIGMOD 2025; RaBitQ: Gao & Long, SIGMOD 2024). What it
finds is ranked by sixteen bits for each dimension. Links are chosen by HNSW's heuristic (arXiv:1603.09320, Algorithm
4), and free places filled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from .. import _native
from ..core.devices import cpu_count
from ..core.errors import ConfigError, DataError, FormatError
from .base import (
    Floats,
    Found,
    check_filter,
    check_ids,
    check_size,
    check_vectors,
)
from .storage import Stored, write_sections
from .vector_index import VectorIndex, id_table_bytes, padded

Codes = Literal["sq8", "rabitq"]

_METRICS = {"cosine": 0, "dot": 1, "l2": 2}
_ARRAYS = {
    "high": np.uint8,
    "low": np.uint8,
    "shapes": np.uint8,
    "centre": np.float32,
    "labels": np.int64,
    "flags": np.uint8,
    "ring": np.uint32,
    "links": np.uint32,
    "entries": np.uint32,
    "blocks": np.uint8,
}

_COUNTS = {"reach": float, "sampled_at": int, "unchecked": int}


class GraphIndex(VectorIndex):
    """Approximate nearest neighbours in a quantised graph, incremental, with deletion and filters.

    >>> index = GraphIndex(dim=384)
    >>> index.add(vectors)
    >>> cosines, ids = index.search(queries, k=10, ef=64)

    Vectors are kept in sixteen-bit fixed point, so distances are exact to about 1e-5 of the vectors' length. Any number
    of searches run together, and while others add or remove; what is added is found when `add` returns. With
    one thread the same vectors added in the same order give the same graph, to the bit; several threads keep the
    recall and lose that.

    Args:
        degree: links of a vector; with "rabitq" a multiple of 32.
        codes: what a walk reads: "rabitq" is the faster, "sq8" takes a third of its memory.
        ef_construction: candidates weighed when a vector is linked in.
        threads: for adding (None: all processors).
        seed: of the rotation and the entry points.
    """

    kind = "graph"

    def __init__(
        self,
        dim: int,
        metric: str = "cosine",
        degree: int = 32,
        codes: str = "rabitq",
        ef_construction: int = 200,
        threads: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(dim, metric, threads, 1 << 16)
        self.degree = check_size("degree", degree, 4, 512)
        self.codes = _check_codes(codes, self.degree)
        self.ef_construction = check_size("ef_construction", ef_construction, 1, 1 << 20)
        self.seed = check_size("seed", seed, 0, (1 << 63) - 1)
        self._core = _native.Graph(
            self.dim, _METRICS[self.metric], self.degree, self.ef_construction, self.codes == "rabitq", self.seed
        )

    def search(
        self,
        queries: npt.ArrayLike,
        k: int = 10,
        *,
        ef: int = 64,
        filter: npt.ArrayLike | None = None,
        threads: int | None = 1,
        exact_walk: bool = False,
    ) -> Found:
        """The k closest found for each of `queries` (q, dim): distances (q, k) and ids (q, k).

        Args:
            ef: candidates kept while walking (at least k): recall against time.
            filter: ids that may be returned; where they are few, all of them are compared.
            threads: across queries (None: all processors).
            exact_walk: walk on all sixteen bits instead of the codes. Slower: the recall that is missing then was lost
                by the graph, and what the codes lose beyond it was lost by quantisation.
        """
        rows = check_vectors(queries, self.dim, self.metric, "queries")
        k, ef = check_size("k", k, 0, 1 << 31), check_size("ef", ef, 1, 1 << 31)
        return self._core.search(
            rows, k, ef, exact_walk=exact_walk, allowed=check_filter(filter), threads=threads or cpu_count()
        )

    def vectors(self, ids: npt.ArrayLike) -> Floats:
        """The vectors of `ids` (n, dim), to sixteen bits (normalised under "cosine").

        Raises:
            DataError: one of them is not there.
        """
        try:
            return self._core.vectors(check_ids(ids))
        except ValueError as error:
            raise DataError(str(error)) from None

    @staticmethod
    def predict_memory_bytes(count: int, dim: int, degree: int = 32, codes: str = "rabitq") -> int:
        """Memory of `count` vectors before building: codes, ids, links, blocks, and the table from ids to slots."""
        width = padded(dim)
        points = (width + 63) // 64 * 64 + width + 16
        block = degree * (width // 8 + 12) if _check_codes(codes, degree) == "rabitq" else 0
        return count * (points + block + 4 * degree + 14) + id_table_bytes(count)

    def save(self, path: str | Path) -> None:
        with self._changing:  # searches go on
            arrays, counts = self._core.state()
            settings = {
                "dim": self.dim,
                "metric": self.metric,
                "degree": self.degree,
                "codes": self.codes,
                "ef_construction": self.ef_construction,
                "seed": self.seed,
                **counts,
                "highest": self._highest,
            }
            write_sections(Path(path), self.kind, settings, {name: arrays[name] for name in _ARRAYS})

    @classmethod
    def from_stored(cls, stored: Stored) -> Self:
        sizes = {name: stored.setting(name, int) for name in ("dim", "degree", "ef_construction", "seed")}
        index = cls(metric=stored.setting("metric", str), codes=stored.setting("codes", str), **sizes)
        parts: dict[str, Any] = {name: stored.array(name, dtype) for name, dtype in _ARRAYS.items()}
        parts |= {name: stored.setting(name, kind) for name, kind in _COUNTS.items()}
        try:
            index._core.restore(**parts)
        except (ValueError, TypeError) as error:
            raise FormatError(f"the graph is damaged ({error})", where=stored.path) from None
        index._highest = stored.setting("highest", int)
        return index


def _check_codes(codes: str, degree: int) -> Codes:
    if codes not in get_args(Codes):
        raise ConfigError(f"codes '{codes}' are unknown (known: {', '.join(get_args(Codes))})")
    if codes == "rabitq" and degree % 32:
        raise ConfigError(f"with rabitq codes the degree must be a multiple of 32, not {degree}")
    return codes  # type: ignore[return-value]
