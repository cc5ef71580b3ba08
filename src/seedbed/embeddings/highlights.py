"""Why a passage was found: words that it shares with the query, and tokens that late interaction matched."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..indexes import Analyzer, BM25Index

if TYPE_CHECKING:
    from .multivector import MultiVectorEncoder
    from .sparse import SparseEncoder

_MOST_TOKENS = 8  # shared tokens of learned sparse vectors that are told


@dataclass(frozen=True)
class Match:
    """A piece of the query and the piece of the passage that answers it.

    Attributes:
        by: "bm25", "sparse" or "tokens" (late interaction).
        query, text: both pieces, as they are written.
        start, end: where `text` stands in the passage's text; -1 where it stands in the title, or stands for the whole.
        weight: the query piece's share of the score: of BM25's, of the product of sparse vectors, or a cosine.
    """

    by: str
    query: str
    text: str
    start: int
    end: int
    weight: float


@dataclass(frozen=True)
class Why:
    """Attributes:
    ranks: mode to (rank, score) in the list of each way that took part and found the passage.
    matches: by falling weight within each way.
    """

    ranks: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    matches: Sequence[Match] = ()


def word_matches(index: BM25Index, query: str, number: int, title: str, text: str) -> list[Match]:
    """The query's words that are in passage `number`, each with all places where it stands."""
    analyze = Analyzer(index.analyzer)
    wanted = {word: set(terms) for _, _, word, terms in _words(analyze, query)}
    if not wanted:
        return []
    # BM25 is a sum over the query's terms, so a word alone scores what it gives.
    scores = index.search(list(wanted), 1, filter=[number])[0][:, 0]
    found = []
    for (word, terms), score in zip(wanted.items(), scores.tolist(), strict=True):
        if score == -np.inf:
            continue
        places = [(start, end) for start, end, _, own in _words(analyze, text) if terms & set(own)]
        matches = [Match("bm25", word, text[start:end], start, end, score) for start, end in places]
        if not matches:
            named = next((other for _, _, other, own in _words(analyze, title) if terms & set(own)), word)
            matches = [Match("bm25", word, named, -1, -1, score)]
        found += matches
    return sorted(found, key=lambda one: (-one.weight, one.start))


def _words(analyze: Analyzer, text: str) -> Iterator[tuple[int, int, str, list[str]]]:
    """(start, end, word, its terms) of every word with terms."""
    for start, end in analyze.spans(text):
        word = unicodedata.normalize("NFKC", text[start:end])
        if terms := analyze(word):
            yield start, end, word, terms


def sparse_matches(encoder: SparseEncoder, query: str, text: str) -> list[Match]:
    """The tokens at which both vectors have weights, heaviest products first."""
    vectors = encoder.encode([query, text])
    asked, held = (dict(zip(vectors.tokens[i].tolist(), vectors.weights[i].tolist(), strict=True)) for i in (0, 1))
    products = sorted(((asked[token] * held[token], token) for token in asked.keys() & held.keys()), reverse=True)
    names = [(str(encoder.tokenizer.id_to_token(token)), weight) for weight, token in products[:_MOST_TOKENS]]
    return [Match("sparse", name, name, -1, -1, weight) for name, weight in names]


def token_matches(encoder: MultiVectorEncoder, query: str, text: str) -> list[Match]:
    """For each token of the query the token of the text that is closest to it."""
    asked, query_spans = _token_vectors(encoder, query, True)
    held, text_spans = _token_vectors(encoder, text, False)
    if not len(asked) or not len(held):
        return []
    cosines = asked @ held.T
    found = []
    for row, (start, end) in enumerate(query_spans):
        best = int(cosines[row].argmax())
        first, last = text_spans[best]
        found.append(Match("tokens", query[start:end], text[first:last], first, last, float(cosines[row, best])))
    return sorted(found, key=lambda one: -one.weight)


def _token_vectors(encoder: MultiVectorEncoder, text: str, query: bool) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Vectors of the tokens that stand for characters of the text, and these characters' places."""
    from .sentence import around

    vectors = (encoder.encode_queries if query else encoder.encode_documents)([text])[0]
    rows = encoder.tokenize([text], query)
    kept = encoder.batch(rows, query)[2][0].numpy()
    offsets = encoder.tokenizer.encode_with_offsets(text)[1].tolist()
    prefix = encoder.config.query_prefix if query else encoder.config.document_prefix
    prefixed = prefix is not None and encoder.tokenizer.token_to_id(prefix) is not None
    first = len(around(encoder.tokenizer)[0]) + prefixed
    # Behind the text's own tokens stands what ends every text, and what expands a query.
    last = first + min(len(offsets), len(rows[0]) - first - len(around(encoder.tokenizer)[1]))
    places = np.flatnonzero(kept)
    own = [(row, int(place) - first) for row, place in enumerate(places) if first <= place < last]
    return vectors[[row for row, _ in own]], [tuple(offsets[token]) for _, token in own]
