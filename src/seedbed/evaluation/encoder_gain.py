"""Whether training helped an encoder: held-out queries asked before and after, told apart by a paired bootstrap."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.stats import rankdata

from ..core.errors import DataError
from ..core.randomness import numpy_generator
from ..datasets.examples import Example, form_of
from ..datasets.pairs import held_out_queries
from ..embeddings import CrossEncoder, MultiVectorEncoder, SentenceEncoder, SparseEncoder, TruncationWarning
from ..embeddings.sparse import SparseVectors
from ..embeddings.starts import AnyEncoder
from ..embeddings.training import Document, EncoderTrainingConfig
from ..indexes import BM25Index, FlatIndex
from ..indexes.multivector import maxsim
from .collections import Collection
from .retrieval import per_query
from .statistics import Difference

_DEPTH = 10
_READ_AGAIN = 30  # texts that a cross-encoder ranks, the best by words


@dataclass(frozen=True)
class Asked:
    """Held-out queries, the texts to search, and for each query the texts that answer it, with their gains."""

    queries: Sequence[str]
    texts: Sequence[str]
    relevant: Sequence[Mapping[int, float]]
    metric: str = "mrr"

    @property
    def measure(self) -> str:
        return f"{ {'mrr': 'MRR', 'ndcg': 'nDCG'}[self.metric] }@{_DEPTH}"

    def per_query(self, encoder: AnyEncoder) -> npt.NDArray[np.float64]:
        ranked = rank(encoder, self.queries, self.texts, _DEPTH)
        return per_query(self.metric, [[int(one) for one in row if one >= 0] for row in ranked], self.relevant, _DEPTH)


@dataclass(frozen=True)
class Rated:
    """Held-out pairs with a person's scores. A pair's part of Spearman's correlation is the product of its two
    standardised ranks: the mean of the parts is the correlation."""

    examples: Sequence[Example]

    @property
    def measure(self) -> str:
        return "Spearman correlation"

    def per_query(self, encoder: AnyEncoder) -> npt.NDArray[np.float64]:
        found = closeness(encoder, self.examples)
        given = np.array([example.scores[0] if example.scores else 0.0 for example in self.examples])
        ranks = [rankdata(values) for values in (found, given)]
        standard = [(one - one.mean()) / max(float(one.std()), 1e-12) for one in ranks]
        return np.asarray(standard[0] * standard[1], dtype=np.float64)


HeldOut = Asked | Rated


@dataclass(frozen=True)
class Gain:
    """What held-out queries found before and after, on average, and the difference between."""

    measure: str
    before: float
    after: float
    difference: Difference

    @property
    def sentence(self) -> str:
        numbers = (
            f"{self.measure} of {self.difference.queries:,} held-out {'queries' if '@' in self.measure else 'pairs'}: "
            f"{self.before:.3f} before training, {self.after:.3f} after ({self.difference})."
        )
        if not self.difference.certain:
            return f"{numbers} The difference may be luck: training cannot be said to have helped or harmed."
        return f"{numbers} Training {'helped' if self.difference.mean > 0 else 'made the encoder worse'}."

    def as_metrics(self) -> dict[str, Any]:
        difference = self.difference
        return {
            "measure": self.measure,
            "before": self.before,
            "after": self.after,
            "difference": difference.mean,
            "low": difference.low,
            "high": difference.high,
            "p_value": difference.p_value,
            "queries": difference.queries,
            "sentence": self.sentence,
        }


def split(rows: Sequence[Any], config: EncoderTrainingConfig) -> tuple[list[Any], list[Any]]:
    """What is trained on and what is held out: whole documents, and all examples of a query."""
    keys = [row.query if isinstance(row, Example) else row["id"] for row in rows]
    distinct = list(dict.fromkeys(keys))
    count = max(1, round(config.held_out * len(distinct)))
    if len(distinct) < 4:
        raise DataError(f"{len(distinct)} documents or queries are too few to hold some out", hint="Use more text.")
    order = numpy_generator(config.seed, "held-out").permutation(len(distinct))
    held = {distinct[place] for place in order[:count]}
    return (
        [row for row, key in zip(rows, keys, strict=True) if key not in held],
        [row for row, key in zip(rows, keys, strict=True) if key in held],
    )


def ask_of_examples(held: Sequence[Example], examples: Sequence[Example], config: EncoderTrainingConfig) -> HeldOut:
    if form_of(examples) == "scored":
        return Rated(held[: config.held_out_queries])
    own = [text for example in held for text in example.texts]
    others = (text for example in examples for text in example.texts)
    texts = list(dict.fromkeys([*own, *others]))[: config.held_out_texts]
    number = {text: place for place, text in enumerate(texts)}
    right: dict[str, dict[int, float]] = {}
    for example in held:
        best = 0 if example.scores is None else int(np.argmax(example.scores))
        if example.texts[best] in number:
            right.setdefault(example.query, {})[number[example.texts[best]]] = 1.0
    queries = list(right)[: config.held_out_queries]
    return Asked(queries, texts, [right[query] for query in queries])


def ask_of_passages(held: Sequence[Document], others: Sequence[Document], config: EncoderTrainingConfig) -> Asked:
    """Openings of held-out passages, to find the passage without it, among all others'."""
    pairs = held_out_queries(held, others)[: min(config.held_out_queries, config.held_out_texts)]
    if not pairs:
        raise DataError("no held-out document opens with a sentence that could be asked", hint="Use more text.")
    asked = {pair.document for pair in pairs}
    rest = [row["text"] for row in (*held, *others) if row["id"] not in asked]
    texts = [*(pair.text for pair in pairs), *rest][: config.held_out_texts]
    return Asked([pair.query for pair in pairs], texts, [{place: 1.0} for place in range(len(pairs))])


def ask_of_collection(collection: Collection) -> Asked:
    number = {name: place for place, name in enumerate(collection.documents)}
    relevant = [
        {number[name]: gain for name, gain in judged.items() if name in number} for judged in collection.relevant
    ]
    queries = [collection.queries[query] for query in collection.asked]
    return Asked(queries, list(collection.documents.values()), relevant, "ndcg")


def rank(encoder: AnyEncoder, queries: Sequence[str], texts: Sequence[str], k: int) -> npt.NDArray[np.int64]:
    """Numbers of each query's k best texts, (q, k): by exact search; a cross-encoder ranks again what words find."""
    k = min(k, len(texts))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        if isinstance(encoder, SentenceEncoder):
            flat = FlatIndex(encoder.dim, "cosine")
            flat.add(encoder.encode_documents(list(texts), normalize=True))
            return flat.search(encoder.encode_queries(list(queries), normalize=True), k)[1]
        if isinstance(encoder, CrossEncoder):
            return _read_again(encoder, queries, texts, k)
        if isinstance(encoder, MultiVectorEncoder):
            scores = maxsim(encoder.encode_queries(queries), encoder.encode_documents(texts))
        else:
            scores = (_sparse(encoder.encode(queries)) @ _sparse(encoder.encode(texts)).T).toarray()
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def _read_again(encoder: CrossEncoder, queries: Sequence[str], texts: Sequence[str], k: int) -> npt.NDArray[np.int64]:
    words = BM25Index()
    words.add(list(texts))
    found = words.search(list(queries), min(_READ_AGAIN, len(texts)))[1]
    pairs = [(query, texts[place]) for query, row in zip(queries, found, strict=True) for place in row if place >= 0]
    scores = np.full(found.shape, -np.inf, dtype=np.float32)
    scores[found >= 0] = encoder.score(pairs)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(found, order, axis=1)


def _sparse(vectors: SparseVectors) -> csr_array:
    shape = (len(vectors), vectors.vocab_size)
    return csr_array((vectors.weights.values, vectors.tokens.values.astype(np.int64), vectors.tokens.offsets), shape)


def closeness(encoder: AnyEncoder, examples: Sequence[Example]) -> npt.NDArray[np.float64]:
    """(n,): how alike the encoder holds each example's query and its first text."""
    queries, texts = [example.query for example in examples], [example.texts[0] for example in examples]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        if isinstance(encoder, CrossEncoder):
            return encoder.score(list(zip(queries, texts, strict=True))).astype(np.float64)
        if isinstance(encoder, SentenceEncoder):
            first, second = (encoder.encode(one, normalize=True) for one in (queries, texts))
            return np.einsum("nc,nc->n", first, second).astype(np.float64)
        if isinstance(encoder, SparseEncoder):
            product = _sparse(encoder.encode(queries)) * _sparse(encoder.encode(texts))
            return np.asarray(product.sum(axis=1), dtype=np.float64).ravel()
        asked, documents = encoder.encode_queries(queries), encoder.encode_documents(texts)
    scores = [maxsim([query], [document])[0, 0] for query, document in zip(asked, documents, strict=True)]
    return np.array(scores, dtype=np.float64)
