"""BM25 over an inverted index (native/index/bm25.hpp holds the formula), updatable with exact statistics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from ..core.config import build
from ..core.devices import cpu_count
from ..core.errors import ConfigError, DataError, FormatError
from ..core.ragged import Ragged
from .analysis import Analyzer, AnalyzerConfig
from .base import Found, Ids, as_data_error, check_filter, check_ids, check_size, next_ids
from .postings import Postings
from .storage import Stored, write_sections

Variant = Literal["lucene", "robertson", "atire", "bm25l", "bm25+"]


class BM25Index(Postings):
    """Ranks texts by the words that they share with the query.

    >>> index = BM25Index()
    >>> index.add(texts)
    >>> scores, ids = index.search(["read a csv file"], k=10)

    Args:
        k1: how slowly a word's repetitions saturate.
        b: how much long documents are discounted, 0 to 1.
        variant: "lucene", "robertson", "atire", "bm25l" or "bm25+" (Kamphuis et al., ECIR 2020, table 1).
        delta: what bm25l and bm25+ add for an occurrence, however long the document.
        analyzer: how text becomes terms.

    Raises:
        ConfigError: a number lies outside its range, or the variant is unknown.
    """

    kind = "bm25"

    def __init__(
        self,
        k1: float = 1.2,
        b: float = 0.75,
        analyzer: AnalyzerConfig | None = None,
        *,
        variant: str = "lucene",
        delta: float = 0.5,
    ) -> None:
        if not (0 <= k1 < 1e6 and 0 <= b <= 1 and 0 <= delta < 1e6):
            raise ConfigError(f"k1 and delta must be at least 0 and b between 0 and 1, not {k1}, {delta} and {b}")
        if variant not in get_args(Variant):
            raise ConfigError(f"variant '{variant}' is unknown (known: {', '.join(get_args(Variant))})")
        self.k1, self.b, self.variant, self.delta = float(k1), float(b), variant, float(delta)
        self._analyze = Analyzer(analyzer)
        self._vocabulary: dict[str, int] = {}
        super().__init__(self.variant, self.k1, self.b, self.delta)

    @property
    def analyzer(self) -> AnalyzerConfig:
        return self._analyze.config

    def add(self, items: Sequence[str] | str, ids: npt.ArrayLike | None = None) -> None:
        """Add texts under `ids`, or under the next free numbers.

        Raises:
            DataError: a text is no string, or an id cannot be used; nothing is added then.
        """
        terms = [self._analyze(text) for text in _texts(items)]
        with self._changing:
            listed = next_ids(self._highest, len(terms)) if ids is None else check_ids(ids, len(terms))
            vocabulary = self._vocabulary
            numbers = [vocabulary.setdefault(term, len(vocabulary)) for term in chain.from_iterable(terms)]
            flat = np.array(numbers, dtype=np.uint32)
            as_data_error(self._postings.add, flat, _offsets(terms), listed, len(vocabulary))
            self._highest = max(self._highest, int(listed.max(initial=-1)))

    def search(
        self,
        queries: Sequence[str] | str,
        k: int = 10,
        *,
        filter: npt.ArrayLike | None = None,
        threads: int | None = 1,
    ) -> Found:
        """The k best texts for each query: scores (q, k) and ids (q, k). Texts that share no term are left out."""
        unknown = np.uint32(0xFFFFFFFF)
        terms = [self._analyze(text) for text in _texts(queries)]
        flat = np.array([self._vocabulary.get(t, unknown) for t in chain.from_iterable(terms)], dtype=np.uint32)
        k = check_size("k", k, 0, 1 << 31)
        return self._postings.search(flat, _offsets(terms), k, check_filter(filter), threads or cpu_count())

    def sparse_vectors(self) -> tuple[Ids, Ragged, Ragged]:
        """Texts as sparse vectors: ids (n,), and for each its terms' numbers, ascending, and values.

        A value is the term's share of the score before idf, tf / (tf + k1 (1 - b + b |d| / average |d|)). So for the
        variant "lucene" the product with `sparse_queries`, each term weighed by ln(1 + (N - df + 1/2) / (df + 1/2)), is
        the score of `search`, as long as no text is added or removed: the average length is that of now.
        """
        with self._changing:
            arrays = {name: array.reshape(-1) for name, array in self._postings.state().items()}
            documents, counts, labels = arrays["documents"], arrays["counts"], arrays["labels"].copy()
            holders: Ids = np.diff(arrays["term_offsets"]).astype(np.int64)
            terms = np.repeat(np.arange(len(holders)), holders)
            order = np.argsort(documents, kind="stable")  # within a document by term, as they lie
            lengths = np.bincount(documents, weights=counts, minlength=len(labels))
            relative = lengths * (len(labels) / max(1.0, lengths.sum()))
            values = counts / (counts + self.k1 * (1 - self.b + self.b * relative[documents]))
            offsets = np.zeros(len(labels) + 1, dtype=np.int64)
            np.cumsum(np.bincount(documents, minlength=len(labels)), out=offsets[1:])
        return (
            labels,
            Ragged(terms[order].astype(np.uint32), offsets),
            Ragged(values[order].astype(np.float32), offsets),
        )

    def sparse_queries(self, queries: Sequence[str] | str) -> tuple[Ragged, Ragged]:
        """Queries as sparse vectors: for each the numbers of its known terms, ascending, and how often they occur."""
        rows = []
        for text in _texts(queries):
            known = [self._vocabulary[term] for term in self._analyze(text) if term in self._vocabulary]
            rows.append(np.unique(np.array(known, dtype=np.uint32), return_counts=True))
        return Ragged.from_rows([terms for terms, _ in rows]), Ragged.from_rows([n for _, n in rows], np.float32)

    def memory_bytes(self) -> int:
        """Postings and statistics, and the vocabulary's strings as Python keeps them (about 100 bytes a term)."""
        words = sum(57 + len(term) for term in self._vocabulary)
        return super().memory_bytes() + words + 40 * len(self._vocabulary)

    @staticmethod
    def predict_memory_bytes(count: int, terms: float, vocabulary: int) -> int:
        """Memory of `count` texts with `terms` distinct terms each on average, from a vocabulary of so many."""
        postings = round(count * terms)
        return 16 * postings + 32 * count + 170 * vocabulary

    def save(self, path: str | Path) -> None:
        with self._changing:
            words = "\n".join(self._vocabulary).encode()
            settings = {
                "k1": self.k1,
                "b": self.b,
                "variant": self.variant,
                "delta": self.delta,
                "analyzer": self._analyze.config.model_dump(mode="json"),
                "highest": self._highest,
            }
            sections = {**self._sections(), "vocabulary": np.frombuffer(words, dtype=np.uint8)}
            write_sections(Path(path), self.kind, settings, sections)

    @classmethod
    def from_stored(cls, stored: Stored) -> Self:
        analyzer = build(AnalyzerConfig, stored.setting("analyzer", dict), where=stored.path)
        variant, delta = stored.setting("variant", str), stored.setting("delta", float)
        index = cls(stored.setting("k1", float), stored.setting("b", float), analyzer, variant=variant, delta=delta)
        try:
            words = stored.array("vocabulary", np.uint8).tobytes().decode()
        except ValueError as error:
            raise FormatError(f"the vocabulary is damaged ({error})", where=stored.path) from None
        index._restore(stored)
        index._vocabulary = {word: number for number, word in enumerate(words.split("\n") if words else [])}
        if len(index._vocabulary) + 1 < len(stored.array("term_offsets", np.uint64)):
            raise FormatError("the vocabulary and the postings do not belong together", where=stored.path)
        return index


def _texts(items: Sequence[str] | str) -> Iterable[str]:
    if not isinstance(items, Iterable):
        raise DataError(f"texts are wanted, not {type(items).__name__}", hint="Pass a string or a list of strings.")
    listed = [items] if isinstance(items, str) else list(items)
    for row, text in enumerate(listed):
        if not isinstance(text, str):
            raise DataError(f"row {row} is {type(text).__name__}, not text")
    return listed


def _offsets(terms: Sequence[Sequence[str]]) -> Ids:
    offsets = np.zeros(len(terms) + 1, dtype=np.int64)
    np.cumsum([len(one) for one in terms], out=offsets[1:])
    return offsets
