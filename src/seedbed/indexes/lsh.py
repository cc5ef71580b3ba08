"""LSH: random hyperplanes give every vector a key in each of several tables; near vectors tend to share keys.

Charikar, "Similarity estimation techniques from rounding algorithms" (2002), with the multi-probe of Lv, Josephson,
Wang, Charikar & Li (2007); native/index/lsh.hpp.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from .. import _native
from ..core.devices import cpu_count
from ..core.errors import ConfigError, FormatError
from .base import Found, check_filter, check_size, check_vectors
from .storage import Stored, write_sections
from .vector_index import VectorIndex, id_table_bytes, padded

_ARRAYS = {"origin": np.float32, "vectors": np.float32, "labels": np.int64, "keys": np.uint32}


class LSHIndex(VectorIndex):
    """Approximate nearest neighbours by hashing: nothing to train, and every vector costs the same to add.

    >>> index = LSHIndex(dim=384, tables=16, bits=18)
    >>> index.add(vectors)
    >>> cosines, ids = index.search(queries, k=10, probes=16)

    Distances are exact; what is lost, the tables lost. Searches may run in many threads, also while another thread adds
    or removes. The same vectors give the same index, whatever the number of threads.

    Args:
        tables: hash tables: recall against memory, 12 bytes a table and vector.
        bits: hyperplanes of a table; about the logarithm of the number of vectors, so that buckets hold a few.
    """

    kind = "lsh"

    def __init__(
        self,
        dim: int,
        tables: int = 16,
        bits: int = 18,
        metric: str = "cosine",
        *,
        seed: int = 0,
        threads: int | None = None,
    ) -> None:
        super().__init__(dim, metric, threads)
        self.tables = check_size("tables", tables, 1, 1024)
        self.bits = check_size("bits", bits, 1, 32)
        self.seed = check_size("seed", seed, 0, (1 << 62) - 1)
        if self.dim * self.tables * self.bits > 1 << 31:
            raise ConfigError("tables of so many bits in so many dimensions need too much memory")
        self._core = _native.Lsh(self.dim, self.metric == "l2", self.tables, self.bits, self.seed)

    def search(
        self,
        queries: npt.ArrayLike,
        k: int = 10,
        *,
        probes: int = 16,
        filter: npt.ArrayLike | None = None,
        threads: int | None = 1,
    ) -> Found:
        """The k closest found for each of `queries` (q, dim): distances (q, k) and ids (q, k).

        Args:
            probes: buckets a table that are looked into, the likeliest over all tables: recall against time. More are,
                where these hold fewer than k.
            filter: ids that may be returned.
            threads: across queries (None: all processors).
        """
        rows = check_vectors(queries, self.dim, self.metric, "queries")
        k, probes = check_size("k", k, 0, 1 << 31), check_size("probes", probes, 1, 1 << 20)
        return self._core.search(rows, k, probes, check_filter(filter), threads or cpu_count())

    @staticmethod
    def predict_memory_bytes(count: int, dim: int, tables: int = 16, bits: int = 18) -> int:
        """Memory of `count` vectors before building."""
        heads = 16
        while heads < count:
            heads *= 2
        planes = (tables * bits + 31) // 32 * 32 * 4 * (dim + 1)
        return count * (4 * padded(dim) + 8 + 8 * tables) + id_table_bytes(count) + 4 * tables * heads + planes

    def save(self, path: str | Path) -> None:
        with self._changing:  # searches go on
            arrays = self._core.content()
            settings = {
                "dim": self.dim,
                "tables": self.tables,
                "bits": self.bits,
                "metric": self.metric,
                "seed": self.seed,
                "highest": self._highest,
            }
            write_sections(Path(path), self.kind, settings, {name: arrays[name] for name in _ARRAYS})

    @classmethod
    def from_stored(cls, stored: Stored) -> Self:
        numbers = {name: stored.setting(name, int) for name in ("dim", "tables", "bits", "seed")}
        arrays = {name: stored.array(name, dtype) for name, dtype in _ARRAYS.items()}
        if len(arrays["origin"]) != numbers["dim"] or len(arrays["keys"]) != numbers["tables"] * len(arrays["labels"]):
            raise FormatError("the tables are damaged (sizes differ)", where=stored.path)
        index = cls(metric=stored.setting("metric", str), **numbers)
        try:
            index._core.restore(**arrays)
        except (ValueError, TypeError) as error:
            raise FormatError(f"the tables are damaged ({error})", where=stored.path) from None
        index._highest = stored.setting("highest", int)
        return index
