"""PQ: every vector's product code against the query's tables, all of them scanned in turn.

Jégou, Douze & Schmid, "Product quantization for nearest neighbor search" (2011), with asymmetric distances.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ..core.devices import cpu_count
from .base import Found, check_size
from .inverted import InvertedLists, in_blocks, predict_lists_bytes
from .ivf import check_bits, product_code_bytes, product_learnt_bytes
from .quantization import ProductQuantizer
from .storage import Stored

_SAMPLE = 1 << 16


class PQIndex(InvertedLists):
    """Compressed vectors without a partition: small, and as fast as memory is read with 4-bit codes.

    >>> index = PQIndex(dim=384, subspaces=48, bits=8).train(vectors)
    >>> index.add(vectors)
    >>> cosines, ids = index.search(queries, k=10)

    Args:
        subspaces: parts into which a vector is cut; its code has subspaces * bits bits.
        bits: 4 (scanned by register shuffles) or 8.
        rotate: learn a rotation before (OPQ), which evens out the parts.
        rerank: keep the vectors too, and rank the best candidates by them.
    """

    kind = "pq"

    def __init__(
        self,
        dim: int,
        subspaces: int = 48,
        bits: int = 8,
        rotate: bool = True,
        metric: str = "cosine",
        *,
        rerank: bool = False,
        seed: int = 0,
        threads: int | None = None,
    ) -> None:
        self.subspaces = check_size("subspaces", subspaces, 1, check_size("dim", dim, 1, 1 << 16))
        self.bits, self.rotate, self.rerank = check_bits(bits), bool(rotate), bool(rerank)
        super().__init__(dim, metric, 1, "product", self.subspaces, self.bits, self.rerank, seed, threads)

    def train(self, vectors: npt.ArrayLike) -> Self:
        """Learn rotation and codebooks from `vectors` (n, dim), at least 2^bits of them. They are not added.

        Raises:
            ConfigError: too few vectors, or vectors have been added already.
        """
        rows = self._check_trainable(vectors, 1 << self.bits)[:_SAMPLE]
        mean = rows.mean(0)
        origin = mean if self.metric == "l2" else np.zeros_like(mean)
        quantizer = ProductQuantizer.train(
            rows - mean,
            self.subspaces,
            self.bits,
            rotate=self.rotate,
            seed=self.seed,
            threads=self.threads or cpu_count(),
        )
        with self._changing:
            self._core.train(origin, mean - origin, quantizer.rotation.reshape(-1), quantizer.codebooks.reshape(-1))
        return self

    def search(
        self,
        queries: npt.ArrayLike,
        k: int = 10,
        *,
        candidates: int | None = None,
        filter: npt.ArrayLike | None = None,
        threads: int | None = 1,
    ) -> Found:
        """The k closest found for each of `queries` (q, dim): distances (q, k) and ids (q, k).

        Args:
            candidates: how many of the best by their codes are ranked again by their vectors; 10 k if left out and the
                vectors are kept. 0: the codes have the last word, and distances are estimates.
            filter: ids that may be returned.
            threads: across queries (None: all processors).

        Raises:
            ConfigError: the index is not trained, or keeps no vectors to rank by.
        """
        return self._search(queries, k, 1, candidates, False, filter, threads)

    @property
    def quantizer(self) -> ProductQuantizer:
        """What was learnt, of vectors less their mean.

        Raises:
            ConfigError: the index is not trained.
        """
        self._check_ready()
        learnt = self._core.training()
        rotation = learnt["rotation"].reshape(-1, self.dim) if learnt["rotation"].size else np.zeros((0, 0), np.float32)
        return ProductQuantizer(learnt["codebooks"].reshape(self.subspaces, 1 << self.bits, -1), rotation)

    @staticmethod
    def predict_memory_bytes(
        count: int,
        dim: int,
        subspaces: int = 48,
        bits: int = 8,
        rotate: bool = True,
        metric: str = "cosine",
        *,
        rerank: bool = False,
    ) -> int:
        """Memory of `count` vectors before building."""
        return predict_lists_bytes(
            count,
            dim,
            lists=1,
            code_bytes=product_code_bytes(subspaces, bits) * in_blocks(count, 1) / max(count, 1),
            adds=metric == "l2",
            vectors=rerank,
            learnt=product_learnt_bytes(dim, subspaces, bits, rotate),
        )

    def _settings(self) -> dict[str, Any]:
        return {
            "dim": self.dim,
            "subspaces": self.subspaces,
            "bits": self.bits,
            "rotate": self.rotate,
            "metric": self.metric,
            "rerank": self.rerank,
            "seed": self.seed,
        }

    @classmethod
    def from_stored(cls, stored: Stored) -> Self:
        numbers = {name: stored.setting(name, int) for name in ("dim", "subspaces", "bits", "seed")}
        flags = {name: stored.setting(name, bool) for name in ("rotate", "rerank")}
        index = cls(metric=stored.setting("metric", str), **numbers, **flags)
        return index._restore(stored)
