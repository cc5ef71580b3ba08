"""IVF: vectors in lists around the centroids of k-means; a search looks into the lists nearest to the query.

Jégou, Douze & Schmid, "Product quantization for nearest neighbor search" (2011), section IV; native/index/ivf.hpp.
"""

from __future__ import annotations

from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from .. import _native
from ..core.devices import cpu_count
from ..core.errors import ConfigError
from ..core.randomness import numpy_generator
from .base import Floats, Found, check_size
from .inverted import NOTHING, InvertedLists, in_blocks, predict_lists_bytes
from .quantization import ProductQuantizer, random_rotation, sign_codebooks
from .storage import Stored

Codes = Literal["flat", "sq8", "pq", "rabitq"]

_PER_LIST = 256  # vectors that train one centroid; more hardly improve it
_QUANTIZER_SAMPLE = 1 << 16
_ROUNDS = 10


class IVFIndex(InvertedLists):
    """Approximate nearest neighbours in inverted lists, trained once on vectors like those to come.

    >>> index = IVFIndex(dim=384, lists=1024, codes="pq", rerank=True).train(vectors)
    >>> index.add(vectors)
    >>> cosines, ids = index.search(queries, k=10, probes=32)

    Searches may run in many threads, also while another thread adds or removes. The same vectors give the same index,
    whatever the number of threads.

    Args:
        lists: parts of the partition; some four times the square root of the number of vectors.
        codes: "flat", the vectors themselves; "sq8", a byte a component; "pq", product quantisation; "rabitq", a bit a
            component after a random rotation. All codes but the flat ones are of what is left beside the centroid.
        subspaces: of "pq"; a fourth of the dimension if left out.
        bits: of a code in "pq": 4 (scanned by register shuffles) or 8.
        rotate: learn a rotation before "pq" (OPQ).
        rerank: keep the vectors too, and rank the best candidates by them.
    """

    kind = "ivf"

    def __init__(
        self,
        dim: int,
        lists: int = 1024,
        codes: Codes = "flat",
        metric: str = "cosine",
        *,
        subspaces: int | None = None,
        bits: int = 4,
        rotate: bool = False,
        rerank: bool = False,
        seed: int = 0,
        threads: int | None = None,
    ) -> None:
        if codes not in get_args(Codes):
            raise ConfigError(f"codes '{codes}' are unknown (known: {', '.join(get_args(Codes))})")
        self.codes, self.rotate, self.rerank = codes, bool(rotate), bool(rerank)
        dim = check_size("dim", dim, 1, 1 << 16)
        self.subspaces, self.bits = 0, 4
        if codes == "pq":
            self.subspaces = check_size("subspaces", subspaces or (dim + 3) // 4, 1, dim)
            self.bits = check_bits(bits)
        elif codes == "rabitq":
            self.subspaces = (dim + 3) // 4
        native = {"flat": "none", "sq8": "bytes"}.get(codes, "product")
        keeps = self.rerank or codes == "flat"
        super().__init__(dim, metric, lists, native, self.subspaces, self.bits, keeps, seed, threads)

    def train(self, vectors: npt.ArrayLike) -> Self:
        """Learn the partition and the codebooks from `vectors` (n, dim). They are not added.

        Raises:
            ConfigError: fewer vectors than lists or entries of a codebook, or vectors have been added already.
        """
        least = max(self.lists, 1 << self.bits if self.codes == "pq" else 1)
        rows = _sample(self._check_trainable(vectors, least), max(_PER_LIST * self.lists, _QUANTIZER_SAMPLE), self.seed)
        origin = rows.mean(0) if self.metric == "l2" else np.zeros(self.dim, dtype=np.float32)
        shifted = rows - origin
        threads = self.threads or cpu_count()
        centroids, assigned, _, _ = _native.kmeans(
            shifted, self.lists, _ROUNDS, self.seed, self.metric == "cosine", True, threads
        )
        rotation, codebooks = self._learn_codes(shifted - centroids.reshape(self.lists, -1)[assigned], threads)
        with self._changing:
            self._core.train(origin, centroids, rotation.reshape(-1), codebooks.reshape(-1))
        return self

    def _learn_codes(self, residuals: Floats, threads: int) -> tuple[Floats, Floats]:
        if self.codes == "pq":
            quantizer = ProductQuantizer.train(
                _sample(residuals, _QUANTIZER_SAMPLE, self.seed),
                self.subspaces,
                self.bits,
                rotate=self.rotate,
                seed=self.seed,
                threads=threads,
            )
            return quantizer.rotation, quantizer.codebooks
        if self.codes == "rabitq":
            return random_rotation(self.dim, self.seed), sign_codebooks(self.dim)
        return NOTHING, NOTHING

    def search(
        self,
        queries: npt.ArrayLike,
        k: int = 10,
        *,
        probes: int = 16,
        candidates: int | None = None,
        exact: bool = False,
        filter: npt.ArrayLike | None = None,
        threads: int | None = 1,
    ) -> Found:
        """The k closest found for each of `queries` (q, dim): distances (q, k) and ids (q, k).

        Args:
            probes: lists that are looked into: recall against time. More are, where these hold fewer than is wanted.
            candidates: how many of the best by their codes are ranked again by their vectors; 10 k if left out and the
                vectors are kept. 0: the codes have the last word, and distances are estimates.
            exact: compare with the vectors of all lists that are probed. What such a search misses, the partition lost;
                what it finds and the same search by codes does not, quantisation lost.
            filter: ids that may be returned; where they are few, the answer is exact.
            threads: across queries (None: all processors).

        Raises:
            ConfigError: the index is not trained, or keeps no vectors to rank by.
        """
        return self._search(queries, k, probes, candidates, exact, filter, threads)

    @property
    def list_sizes(self) -> npt.NDArray[np.uint32]:
        """(lists,) vectors in each list."""
        return self._core.list_sizes()

    @staticmethod
    def predict_memory_bytes(
        count: int,
        dim: int,
        lists: int = 1024,
        codes: Codes = "flat",
        metric: str = "cosine",
        *,
        subspaces: int | None = None,
        bits: int = 4,
        rotate: bool = False,
        rerank: bool = False,
    ) -> int:
        """Memory of `count` vectors before building."""
        parts = subspaces or (dim + 3) // 4
        bytes_per_code, learnt = 0.0, 0
        if codes == "sq8":
            bytes_per_code = (dim + 63) // 64 * 64
        elif codes != "flat":
            bits, rotate = (bits, rotate) if codes == "pq" else (4, True)
            bytes_per_code = product_code_bytes(parts, bits) * in_blocks(count, lists) / max(count, 1)
            learnt = product_learnt_bytes(dim, parts, bits, rotate)
        return predict_lists_bytes(
            count,
            dim,
            lists=lists,
            code_bytes=bytes_per_code,
            adds=metric == "l2" and codes != "flat",
            vectors=rerank or codes == "flat",
            learnt=learnt,
        )

    def _settings(self) -> dict[str, Any]:
        return {
            "dim": self.dim,
            "lists": self.lists,
            "codes": self.codes,
            "metric": self.metric,
            "subspaces": self.subspaces,
            "bits": self.bits,
            "rotate": self.rotate,
            "rerank": self.rerank,
            "seed": self.seed,
        }

    @classmethod
    def from_stored(cls, stored: Stored) -> Self:
        numbers = {name: stored.setting(name, int) for name in ("dim", "lists", "subspaces", "bits", "seed")}
        flags = {name: stored.setting(name, bool) for name in ("rotate", "rerank")}
        sizes = stored.array("sizes", np.uint32)
        if len(sizes) != numbers["lists"]:  # before memory for so many lists is taken
            raise ConfigError(f"{len(sizes)} lists and not {numbers['lists']}")
        index = cls(codes=stored.setting("codes", str), metric=stored.setting("metric", str), **numbers, **flags)
        return index._restore(stored)


def check_bits(bits: int) -> int:
    if bits not in (4, 8) or isinstance(bits, bool):
        raise ConfigError(f"bits of a product code must be 4 or 8, not {bits!r}")
    return int(bits)


def product_code_bytes(subspaces: int, bits: int) -> int:
    return (subspaces + 3) // 4 * 2 if bits == 4 else subspaces


def product_learnt_bytes(dim: int, subspaces: int, bits: int, rotate: bool) -> int:
    """Codebooks three times (plain, by component, in panels), and the rotation twice."""
    width = (dim + subspaces - 1) // subspaces
    entries, turned = 1 << bits, width * subspaces
    books = 4 * subspaces * (2 * entries * width + max(entries, 32) * (width + 1) + width)
    return books + (4 * (turned * dim + (turned + 31) // 32 * 32 * (dim + 1) + dim) if rotate else 0)


def _sample(rows: Floats, most: int, seed: int) -> Floats:
    if len(rows) <= most:
        return rows
    chosen = numpy_generator(seed, "ivf", "sample").choice(len(rows), most, replace=False)
    return np.ascontiguousarray(rows[np.sort(chosen)])
