"""Learned sparse vectors (SPLADE, Formal et al. 2021) in an inverted index, searched as BM25's postings are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from ..core.devices import cpu_count
from ..core.errors import DataError, FormatError
from ..core.ragged import Ragged
from .base import Found, as_data_error, check_filter, check_ids, check_size, next_ids
from .postings import Postings
from .storage import Stored, write_sections


@runtime_checkable
class SparseVectors(Protocol):
    """Row i has the weights `weights[i]` at the numbers `tokens[i]`, distinct (SparseEncoder.encode gives them)."""

    @property
    def tokens(self) -> Ragged: ...

    @property
    def weights(self) -> Ragged: ...


Vectors = SparseVectors | Sequence[tuple[npt.ArrayLike, npt.ArrayLike]]  # (numbers, weights) of each


class SparseIndex(Postings):
    """Ranks sparse vectors by their inner product with the query's, exactly.

    >>> index = SparseIndex(encoder.model.config.vocab_size)
    >>> index.add(encoder.encode(texts))
    >>> scores, ids = index.search(encoder.encode(["read a csv file"]), k=10)

    Args:
        vocabulary: numbers that vectors have weights at, from 0.

    Raises:
        ConfigError: `vocabulary` lies outside its range.
    """

    kind = "sparse"

    def __init__(self, vocabulary: int) -> None:
        super().__init__("learned")
        self.vocabulary = check_size("vocabulary", vocabulary, 1, 1 << 24)

    def add(self, items: Vectors, ids: npt.ArrayLike | None = None) -> None:
        """Add vectors under `ids`, or under the next free numbers. A vector without weights is never found.

        Raises:
            DataError: a number lies outside the vocabulary or is there twice in a vector, a weight is not above 0, or
                an id cannot be used; nothing is added then.
        """
        tokens, offsets, weights = self._checked(items)
        with self._changing:
            count = len(offsets) - 1
            listed = next_ids(self._highest, count) if ids is None else check_ids(ids, count)
            as_data_error(self._postings.add, tokens, offsets, listed, self.vocabulary, weights)
            self._highest = max(self._highest, int(listed.max(initial=-1)))

    def search(
        self, queries: Vectors, k: int = 10, *, filter: npt.ArrayLike | None = None, threads: int | None = 1
    ) -> Found:
        """The k largest products for each query: scores (q, k) and ids (q, k). Vectors that share no number with it are
        left out.

        Args:
            filter: ids that may be returned.
        """
        tokens, offsets, weights = self._checked(queries)
        k = check_size("k", k, 0, 1 << 31)
        allowed = check_filter(filter)
        return self._postings.search(tokens, offsets, k, allowed, threads or cpu_count(), weights)

    @staticmethod
    def predict_memory_bytes(count: int, terms: float, vocabulary: int) -> int:
        """Memory of `count` vectors with `terms` weights each on average."""
        return round(16 * count * terms) + 32 * count + 64 * vocabulary

    def save(self, path: str | Path) -> None:
        with self._changing:
            settings = {"vocabulary": self.vocabulary, "highest": self._highest}
            write_sections(Path(path), self.kind, settings, self._sections())

    @classmethod
    def from_stored(cls, stored: Stored) -> Self:
        index = cls(stored.setting("vocabulary", int))
        if len(stored.array("term_offsets", np.uint64)) > index.vocabulary + 1:
            raise FormatError("the postings lie outside the vocabulary", where=stored.path)
        index._restore(stored)
        return index

    def _checked(self, vectors: Vectors) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64], Any]:
        """Numbers, offsets and weights as native code takes them."""
        if isinstance(vectors, SparseVectors):
            tokens, weights = vectors.tokens, vectors.weights
        else:
            tokens, weights = _ragged(vectors)
        if not np.array_equal(tokens.offsets, weights.offsets):
            raise DataError("there are not as many weights as numbers")
        if tokens.values.dtype.kind not in "iu" or weights.values.dtype.kind not in "fiu":
            raise DataError(f"numbers of {tokens.values.dtype} and weights of {weights.values.dtype} are no vectors")
        if len(tokens.values) and not 0 <= int(tokens.values.min()) <= int(tokens.values.max()) < self.vocabulary:
            raise DataError(f"a number lies outside this index's vocabulary of {self.vocabulary:,}")
        values = np.ascontiguousarray(weights.values, dtype=np.float32)
        if not (np.isfinite(values) & (values >= 0)).all():
            raise DataError("weights must be finite and not negative")
        return (
            np.ascontiguousarray(tokens.values, dtype=np.uint32),
            np.ascontiguousarray(tokens.offsets, dtype=np.int64),
            values,
        )


def _ragged(vectors: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]]) -> tuple[Ragged, Ragged]:
    """Numbers and weights of pairs."""
    try:
        rows = [(np.atleast_1d(np.asarray(numbers)), np.atleast_1d(np.asarray(values))) for numbers, values in vectors]
        if any(len(numbers) and numbers.dtype.kind not in "iu" for numbers, _ in rows):
            raise DataError("the numbers that vectors have weights at must be whole")
        return (
            Ragged.from_rows((numbers for numbers, _ in rows), np.int64),
            Ragged.from_rows((values for _, values in rows), np.float32),
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"these are no pairs of numbers and weights ({error})") from None
