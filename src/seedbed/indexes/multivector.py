"""Late interaction: a document is many vectors, one a token, and scores by MaxSim.

`maxsim` is exact. MultiVectorIndex keeps codes and ranks by them, after PLAID (native/index/multivector.hpp says how).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from .. import _native
from ..core.devices import cpu_count
from ..core.errors import ConfigError, DataError, FormatError
from ..core.ragged import Ragged
from .base import (
    Floats,
    Found,
    Ids,
    Metric,
    as_data_error,
    check_filter,
    check_ids,
    check_size,
    check_vectors,
    next_ids,
)
from .kmeans import kmeans
from .storage import Stored, write_sections

Documents = Ragged | Sequence[npt.ArrayLike]

_ARRAYS = {
    "centroids": np.float32,
    "cutoffs": np.float32,
    "weights": np.float32,
    "labels": np.int64,
    "starts": np.uint64,
    "token_centroids": np.uint32,
    "codes": np.uint8,
}
_SAMPLES = 32  # tokens a centroid to train on, if there are so many
_ROUNDS = 5  # of k-means
_WORKING_BYTES = 24  # of memory for each component of a token that is trained on or encoded


def maxsim(queries: Documents, documents: Documents, *, threads: int | None = None) -> Floats:
    """Exact scores (queries, documents): the sum over a query's tokens of the largest inner product with a token of the
    document (Khattab & Zaharia, ColBERT, SIGIR 2020). -inf where one of both has no tokens.

    Args:
        queries: vectors (tokens, dim) of each query.
        documents: of each document; float16 stays float16 in memory and is compared in float32.
        threads: None for all processors.

    Raises:
        DataError: vectors that cannot be used, or of different dimensions.
    """
    blocks, offsets = _blocks(documents)
    if not blocks:
        return np.full((len(_rows(queries)), len(offsets) - 1), -np.inf, dtype=np.float32)
    asked, query_offsets = _unit_rows(_rows(queries), blocks[0].shape[1], "queries", "dot")
    threads = threads or cpu_count()
    try:
        if all(block.dtype == np.float16 for block in blocks):
            halves = [np.ascontiguousarray(block).view(np.uint16) for block in blocks]
            return _native.maxsim_halves(asked, query_offsets, halves, offsets, threads)
        floats = [np.ascontiguousarray(block, dtype=np.float32) for block in blocks]
        return _native.maxsim(asked, query_offsets, floats, offsets, threads)
    except ValueError as error:
        raise DataError(str(error)) from None


def _blocks(documents: Documents) -> tuple[list[npt.NDArray[Any]], Ids]:
    """Tokens in arrays (tokens, dim) as they lie, none of them empty, and offsets (documents + 1,) in all of them."""
    if isinstance(documents, Ragged) and documents.values.ndim == 2 and documents.offsets[-1] == len(documents.values):
        offsets = np.ascontiguousarray(documents.offsets, dtype=np.int64)
        return [documents.values] if documents.values.size else [], offsets
    rows = _rows(documents)
    full = [row for row in rows if row.size]
    if any(row.ndim != 2 or row.shape[1] != full[0].shape[1] or row.dtype.kind not in "fiu" for row in full):
        raise DataError("documents need real vectors (tokens, dim), all of one dimension")
    lengths = [len(row) if row.size else 0 for row in rows]
    return full, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


class MultiVectorIndex:
    """Ranks documents of many vectors by MaxSim of cosines.

    >>> index = MultiVectorIndex(dim=128, bits=4)
    >>> index.add(document_vectors)              # a list of (tokens, 128) arrays, or Ragged
    >>> scores, ids = index.search(query_vectors, k=10)

    A token takes 4 + dim * bits / 8 bytes, and about 4 more in the lists of the centroids.

    Args:
        dim: of each vector.
        bits: of a component's code: 1, 2 or 4.
        centroids: None for 2^floor(log2(16 sqrt(tokens))) of the tokens that it learns from (ColBERTv2).
        memory: most bytes that training and encoding may take beside the index itself.
        spill: folder in which a file without a name takes the codes, for indexes larger than memory; some ten bytes a
            token stay in memory, and searches read the codes of their candidates from the file. Saved and loaded with
            mmap=True, an index lies in its file in the same way.
        seed: of the sample and of k-means.
        threads: for training and adding; None for all processors.

    Raises:
        ConfigError: a number lies outside its range, or nothing can be written in `spill`.
    """

    kind = "multivector"

    def __init__(
        self,
        dim: int,
        bits: int = 4,
        *,
        centroids: int | None = None,
        memory: int = 1 << 30,
        spill: str | Path | None = None,
        seed: int = 0,
        threads: int | None = None,
    ) -> None:
        self.dim = check_size("dim", dim, 1, 1 << 14)
        if bits not in (1, 2, 4):
            raise ConfigError(f"bits must be 1, 2 or 4, not {bits!r}")
        self.bits = int(bits)
        self.centroids = None if centroids is None else check_size("centroids", centroids, 1, 1 << 24)
        self.memory = check_size("memory", memory, 1 << 20, 1 << 60)
        self.seed = check_size("seed", seed, 0, (1 << 63) - 1)
        self.threads = threads
        try:
            self._store = _native.MultiVector(self.dim, self.bits, "" if spill is None else str(spill))
        except ValueError as error:
            raise ConfigError(str(error)) from None
        self._highest = -1
        self._changing = threading.Lock()

    def __len__(self) -> int:
        return len(self._store)

    @property
    def tokens(self) -> int:
        return self._store.tokens

    @property
    def ids(self) -> Ids:
        with self._changing:
            return self._store.state()["labels"].reshape(-1).copy()

    def train(self, documents: Documents) -> Self:
        """Learn centroids and codes from a sample of what will be added; else the first `add` does it.

        Raises:
            DataError: it is trained already, or there is no token to learn from.
        """
        with self._changing:
            self._train(documents)
        return self

    def add(self, items: Documents | Iterator[npt.ArrayLike], ids: npt.ArrayLike | None = None) -> None:
        """Add documents under `ids`, or under the next free numbers; an iterator is read and encoded piece by piece.

        An untrained index learns from a sample of all documents, or of an iterator's beginning, as much as the memory
        holds: where that is not like the rest, call `train` before.

        Raises:
            DataError: vectors or ids that cannot be used; nothing is added then but earlier pieces of an iterator.
        """
        if isinstance(items, Iterator):
            if ids is not None:
                raise DataError(
                    "ids cannot be given for an iterator", hint="Give a list of documents, or leave ids out."
                )
            for piece in self._pieces(items):
                self.add(piece)
            return
        rows = _rows(items)
        parts = self._parts([len(row) for row in rows])
        for part in parts:
            _unit_rows(rows[part], self.dim, "documents")
        with self._changing:
            listed = next_ids(self._highest, len(rows)) if ids is None else check_ids(ids, len(rows))
            if (known := self._store.first_known(listed)) >= 0:
                raise DataError(f"id {known} is in the index already")
            if not self._store.trained and any(len(row) for row in rows):
                self._train(rows)
            for part in parts:
                tokens, offsets = _unit_rows(rows[part], self.dim, "documents")
                as_data_error(self._store.add, tokens, offsets, listed[part], self.threads or cpu_count())
            self._highest = max(self._highest, int(listed.max(initial=-1)))

    def remove(self, ids: npt.ArrayLike) -> None:
        """Remove `ids`.

        Raises:
            DataError: one of them is not there; nothing is removed then.
        """
        with self._changing:
            as_data_error(self._store.remove, check_ids(ids))

    def search(
        self,
        queries: Documents,
        k: int = 10,
        *,
        filter: npt.ArrayLike | None = None,
        probes: int = 8,
        candidates: int = 128,
        threads: int | None = 1,
    ) -> Found:
        """The k best documents for each query: scores (q, k) and ids (q, k). Documents without tokens are never found.

        Args:
            filter: ids that may be returned.
            probes: centroids looked into for each token of a query.
            candidates: documents that are scored by their decoded tokens; at least k.
        """
        tokens, offsets = _unit_rows(_rows(queries), self.dim, "queries")
        k, probes = check_size("k", k, 0, 1 << 31), check_size("probes", probes, 1, 1 << 31)
        candidates = check_size("candidates", candidates, 1, 1 << 31)
        allowed = check_filter(filter)
        return self._store.search(tokens, offsets, k, probes, candidates, allowed, threads or cpu_count())

    def decoded(self, id: int) -> Floats:
        """The unit vectors (tokens, dim) that a document's codes stand for.

        Raises:
            DataError: it is not there.
        """
        try:
            return self._store.decoded(int(id))
        except ValueError as error:
            raise DataError(str(error)) from None

    def vectors(self, ids: npt.ArrayLike) -> list[Floats]:
        """`decoded` of each of `ids`.

        Raises:
            DataError: one of them is not there.
        """
        return [self.decoded(id) for id in check_ids(ids).tolist()]

    def memory_bytes(self) -> int:
        return self._store.memory_bytes()

    @staticmethod
    def predict_memory_bytes(count: int, tokens: float, dim: int, bits: int = 4, centroids: int | None = None) -> int:
        """Memory of `count` documents of `tokens` tokens on average: 4 + dim * bits / 8 bytes a token, and 4 in the
        lists, which take a document once for each of its centroids (at most one a token)."""
        total = round(count * tokens)
        centroids = centroids or _usual_centroids(total)
        group = 16 * (8 // bits)  # components whose codes lie together
        padded = -(-dim // group) * group
        return total * (4 + padded * bits // 8 + 4) + count * 29 + centroids * (4 * padded + 4 * dim + 36)

    def save(self, path: str | Path) -> None:
        with self._changing:
            settings = {
                "dim": self.dim,
                "bits": self.bits,
                "centroids": self.centroids or 0,
                "memory": self.memory,
                "seed": self.seed,
                "highest": self._highest,
            }
            arrays = self._store.state()
            write_sections(Path(path), self.kind, settings, {name: arrays[name] for name in _ARRAYS})

    @classmethod
    def from_stored(cls, stored: Stored) -> Self:
        number = {name: stored.setting(name, int) for name in ("dim", "bits", "centroids", "memory", "seed")}
        index = cls(
            number["dim"],
            number["bits"],
            centroids=number["centroids"] or None,
            memory=number["memory"],
            seed=number["seed"],
        )
        try:
            index._store.restore(**{name: stored.array(name, dtype) for name, dtype in _ARRAYS.items()})
        except (ValueError, TypeError) as error:
            raise FormatError(f"the documents are damaged ({error})", where=stored.path) from None
        index._highest = stored.setting("highest", int)
        return index

    def _train(self, documents: Documents) -> None:
        if self._store.trained:
            raise DataError("the index is trained already")
        rows = _rows(documents)
        total = sum(len(row) for row in rows)
        if total == 0:
            raise DataError("there is no token to learn from")
        wanted = self.centroids or _usual_centroids(total)
        most = min(self._working_tokens(), _SAMPLES * wanted)
        chosen: list[npt.NDArray[np.generic]] = []
        held = 0
        for place in np.random.default_rng(self.seed).permutation(len(rows)):
            if held >= most:
                break
            chosen.append(rows[int(place)][: most - held])
            held += len(chosen[-1])
        sample, _ = _unit_rows(chosen, self.dim, "documents")
        count = min(wanted, max(1, len(sample) // 4))
        found = kmeans(sample, count, rounds=_ROUNDS, seed=self.seed, spherical=True, threads=self.threads)
        part = sample[: max(1, (1 << 21) // self.dim)]
        residuals = np.sort((part - found.centroids[found.assignments[: len(part)]]).reshape(-1))
        self._store.set_codec(found.centroids.reshape(-1), *_scalar_codes(residuals, self.bits))

    def _working_tokens(self) -> int:
        return max(1, self.memory // (_WORKING_BYTES * self.dim))

    def _parts(self, lengths: Sequence[int]) -> list[slice]:
        """Runs of documents that can be encoded together."""
        most, parts, start, held = self._working_tokens(), [], 0, 0
        for place, length in enumerate(lengths):
            if held + length > most and place > start:
                parts.append(slice(start, place))
                start, held = place, 0
            held += length
        return [*parts, slice(start, len(lengths))]

    def _pieces(self, documents: Iterator[npt.ArrayLike]) -> Iterator[list[npt.NDArray[np.generic]]]:
        piece: list[npt.NDArray[np.generic]] = []
        held = 0
        for document in documents:
            piece.append(np.asarray(document))
            held += len(piece[-1]) if piece[-1].ndim else 0
            if held >= self._working_tokens():
                yield piece
                piece, held = [], 0
        yield piece


def _usual_centroids(tokens: int) -> int:
    """ColBERTv2's rule (Santhanam et al., NAACL 2022): the power of two below 16 times the root of the tokens."""
    return 1 << math.floor(math.log2(16 * math.sqrt(max(1, tokens))))


def _scalar_codes(values: Floats, bits: int) -> tuple[Floats, Floats]:
    """Cutoffs (2^bits - 1,) and weights (2^bits,) for sorted `values`: Lloyd's and Max's rounds."""
    levels = 1 << bits
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    places = np.linspace(0, len(values), levels + 1).astype(np.int64)
    weights = np.zeros(levels)
    for _ in range(30):
        counts = np.diff(places)
        means = np.diff(sums[places]) / np.maximum(counts, 1)
        weights = np.maximum.accumulate(np.where(counts > 0, means, weights))
        cutoffs = ((weights[1:] + weights[:-1]) / 2).astype(np.float32)
        places = np.concatenate([[0], np.searchsorted(values, cutoffs), [len(values)]])
    return cutoffs, weights.astype(np.float32)


def _rows(items: Documents) -> list[npt.NDArray[np.generic]]:
    """Views of the documents; one array (tokens, dim) is one document."""
    if isinstance(items, np.ndarray) and items.ndim == 2:
        return [items]
    if not isinstance(items, Iterable):
        raise DataError(
            f"documents are wanted, not {type(items).__name__}", hint="Pass a list of arrays (tokens, dim), or Ragged."
        )
    return [np.atleast_1d(np.asarray(row)) for row in items]


def _unit_rows(
    rows: Sequence[npt.NDArray[np.generic]], dim: int, what: str, metric: Metric = "cosine"
) -> tuple[Floats, Ids]:
    """All tokens (N, dim), of unit length under "cosine", and offsets (rows + 1,)."""
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    for place, row in enumerate(rows):
        if row.size and (row.ndim != 2 or row.shape[1] != dim):
            raise DataError(f"{what[:-1]} {place} has shape {row.shape}, not (tokens, {dim})")
        if row.dtype.kind not in "fiu":
            raise DataError(f"{what} must be real numbers, not {row.dtype}")
        offsets[place + 1] = offsets[place] + (len(row) if row.size else 0)
    full = [row for row in rows if row.size]
    tokens = np.concatenate(full, dtype=np.float32, casting="unsafe") if full else np.zeros((0, dim), dtype=np.float32)
    return check_vectors(tokens, dim, metric, f"tokens of the {what}"), offsets
