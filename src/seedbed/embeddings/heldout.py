"""Known-item search on documents that no training saw: is a document found by its opening sentence, taken out of it?

The index is the one that is served, with one change, made in memory: the passages of each held-out document give way
to those of the document without its opening sentence. All other passages compete.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..datasets.pairs import held_out_queries, read_corpus
from ..indexes.base import Ids
from .chunking import make_passages, token_counter
from .fusion import FusionConfig, fuse
from .late_chunking import passage_vectors
from .search import Mode, Searcher
from .sentence import SentenceEncoder, TruncationWarning

SPLITS = ("train", "validation", "test")
_PASSAGES_PER_DOCUMENT = 5  # so many times more passages than documents are fetched, before copies of a document go


@dataclass(frozen=True)
class HeldOut:
    """Queries, the document that each should find, and a searcher over the changed index."""

    queries: list[str]
    documents: list[str]
    searcher: Searcher

    @property
    def relevant(self) -> list[list[str]]:
        return [[document] for document in self.documents]

    def ranked(self, mode: Mode, k: int = 10, fusion: FusionConfig | None = None) -> list[list[str]]:
        """For each query the ids of the k best documents, each where its best passage stands."""
        return self.by_document(self.searcher.ranks(self.queries, k * _PASSAGES_PER_DOCUMENT, mode, fusion)[1], k)

    def by_document(self, passages: Ids, k: int) -> list[list[str]]:
        listed = self.searcher.passages
        return [
            list(dict.fromkeys(listed[number].document for number in row.tolist() if number >= 0))[:k]
            for row in passages
        ]


def open_held_out(index: Path, corpus: Path, split: str, encoder: SentenceEncoder, *, limit: int = 1000) -> HeldOut:
    """The held-out queries of a split and the index to ask them.

    Args:
        limit: at most so many queries, the first of the split.
    """
    searcher = Searcher.open(index, encoder)
    documents = read_corpus(corpus, split)
    others = [row for other in SPLITS if other != split for row in read_corpus(corpus, other)]
    pairs = held_out_queries(documents, others)[:limit]
    rows = {row["id"]: row for row in documents}
    changed = [{**rows[pair.document], "text": pair.text} for pair in pairs]
    passages = list(searcher.passages)
    names = {pair.document for pair in pairs}
    gone = np.array([i for i, passage in enumerate(passages) if passage.document in names], dtype=np.int64)
    fresh = make_passages(changed, token_counter(encoder.tokenizer), searcher.settings.passage_tokens)
    if fresh and searcher.dense is not None:
        numbers = np.arange(len(passages), len(passages) + len(fresh))
        texts = [passage.searchable for passage in fresh]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)
            vectors = passage_vectors(encoder, fresh, late=searcher.settings.late_chunking)
        searcher.bm25.remove(gone)
        searcher.bm25.add(texts, numbers)
        searcher.dense.remove(gone)
        searcher.dense.add(vectors, numbers)
    changed_searcher = Searcher(passages + fresh, searcher.bm25, searcher.dense, searcher.encoder, searcher.settings)
    return HeldOut([pair.query for pair in pairs], [pair.document for pair in pairs], changed_searcher)


def choose_fusion(
    held_out: HeldOut, weights: Sequence[float], constants: Sequence[float], depth: int = 100
) -> tuple[FusionConfig, float]:
    """The fusion with the highest MRR@10 on these queries, and that; the first of equals. Without queries, defaults."""
    if not held_out.queries:
        return FusionConfig(), 0.0
    by_words = held_out.searcher.ranks(held_out.queries, depth, "bm25")[1]
    by_meaning = held_out.searcher.ranks(held_out.queries, depth, "dense")[1]
    best, best_mrr = FusionConfig(), -1.0
    for weight in weights:
        for constant in constants:
            found = fuse([by_words, by_meaning], [1 - weight, weight], constant, 10 * _PASSAGES_PER_DOCUMENT)[1]
            ranked = held_out.by_document(found, 10)
            mrr = float(
                np.mean(
                    [
                        1 / (row.index(right) + 1) if right in row else 0.0
                        for row, right in zip(ranked, held_out.documents, strict=True)
                    ]
                )
            )
            if mrr > best_mrr:
                best, best_mrr = FusionConfig(dense_weight=weight, constant=constant, depth=depth), mrr
    return best, best_mrr
