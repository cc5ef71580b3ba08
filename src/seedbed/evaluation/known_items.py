"""Known items: a document's opening sentence, taken out of it, has to find the rest of it among all others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.errors import DataError
from ..core.randomness import numpy_generator
from ..datasets.pairs import held_out_queries
from ..embeddings import SentenceEncoder
from ..indexes import FlatIndex
from ..indexes.base import Floats, Ids
from .retrieval import mrr, per_query

K = 10


@dataclass(frozen=True)
class KnownItems:
    """Queries, and for each the place of the text that it was taken out of."""

    queries: list[str]
    texts: list[str]
    answers: list[int]

    def mrr(self, found: Ids) -> float:
        return mrr(found, [[answer] for answer in self.answers], K)

    def reciprocal_ranks(self, found: Ids) -> npt.NDArray[np.float64]:
        """(q,) of which `mrr` is the mean: 1 / the rank of each query's text, 0 past the first ten."""
        return per_query("mrr", found, [[answer] for answer in self.answers], K)

    def found_by(self, encoder: SentenceEncoder) -> Ids:
        """(q, ten) the texts that an encoder's vectors find."""
        return nearest(encoder.encode_documents(self.texts), encoder.encode_queries(self.queries), "cosine")


def nearest(texts: Floats, queries: Floats, metric: str) -> Ids:
    """(q, ten) places of the texts closest to each query, by exact search."""
    index = FlatIndex(texts.shape[1], metric)
    index.add(texts)
    return index.search(queries, K)[1]


def known_items(
    documents: Sequence[Mapping[str, Any]], most: int, queries: int, seed: int = 0, *, fewest: int = 20
) -> KnownItems:
    """At most `most` documents, drawn at random; the openings of as many as `queries` are asked for.

    Raises:
        DataError: not even the `fewest` documents can be asked for.
    """
    drawn = numpy_generator(seed, "documents").permutation(len(documents))[:most]
    chosen = [documents[place] for place in np.sort(drawn)]
    pairs = held_out_queries(chosen)[:queries]
    if len(pairs) < fewest:
        raise DataError(
            f"{len(pairs)} documents have an opening sentence of their own and more text",
            hint=f"Give at least {fewest} documents of some sentences each.",
        )
    without = {pair.document: pair.text for pair in pairs}
    places = {document["id"]: place for place, document in enumerate(chosen)}
    texts = [without.get(document["id"], document["text"]) for document in chosen]
    return KnownItems([pair.query for pair in pairs], texts, [places[pair.document] for pair in pairs])
