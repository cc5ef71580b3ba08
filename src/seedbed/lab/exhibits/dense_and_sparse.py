"""Search by words, by vectors and by both on the run's own held-out texts, by how many words question and text share;
and whether cosine, dot product and distance rank alike.

q queries, n texts. Items are known: an opening sentence is to find the rest of its document.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from ...datasets.pairs import read_corpus
from ...embeddings.fusion import fuse
from ...embeddings.sentence import TruncationWarning
from ...evaluation.known_items import KnownItems, known_items
from ...evaluation.retrieval import neighbour_recall, per_query
from ...evaluation.statistics import Difference, paired_bootstrap
from ...indexes import BM25Index, FlatIndex
from ...indexes.analysis import Analyzer
from ...indexes.base import Ids
from ...reports import charts, numbers
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict

Floats = npt.NDArray[np.float32]

SPARSE, DENSE, BOTH = "words (BM25)", "vectors", "both"
_WAYS = (SPARSE, DENSE, BOTH)
_SHARED = ("few", "some", "many")  # words in common
_K, _DEPTH, _CONSTANT = 10, 100, 60.0
_METRICS = ("cosine", "dot", "l2")


class DenseAndSparseSettings(Settings):
    documents: int = Field(1000, ge=2, description="held-out ones that are searched, at most")
    queries: int = Field(400, ge=6, description="of them that are asked for, at most")
    fewest: int = Field(20, ge=6, description="of them without which nothing is measured")


@dataclass(frozen=True)
class Searched:
    """Reciprocal ranks (q,) by way of searching, and the share of each query's words that its text holds (q,)."""

    found: dict[str, npt.NDArray[np.float64]]
    shared: npt.NDArray[np.float64]

    def thirds(self) -> list[npt.NDArray[np.int64]]:
        """Queries by how much they share, the least first."""
        return np.array_split(np.argsort(self.shared, kind="stable"), len(_SHARED))


def measure(bench: Bench, settings: DenseAndSparseSettings) -> Finding:
    documents = [row for split in ("test", "validation") for row in read_corpus(bench.corpus.path, split)]
    items = known_items(documents, settings.documents, settings.queries, settings.seed, fewest=settings.fewest)
    bench.advance(f"{len(items.queries)} questions to {len(items.texts):,} texts")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # texts beyond the encoder's length are its own loss
        texts, queries = (bench.encoder.encode(side, normalize=False) for side in (items.texts, items.queries))
    searched = search(items, texts, queries)
    found, thirds = searched.found, searched.thirds()
    more = {way: paired_bootstrap(found[way], found[BOTH], seed=settings.seed) for way in (SPARSE, DENSE)}
    gap = [float((found[DENSE][third] - found[SPARSE][third]).mean()) for third in thirds]
    raw, unit = agreement(texts, queries), agreement(_unit(texts), _unit(queries))
    fused = all(one.low > 0 for one in more.values())
    helped, alike = gap[0] > gap[-1], min(unit.values()) > 0.999
    verdict: Verdict = (
        "holds" if fused and helped and alike else "holds in part" if fused or helped else "does not hold"
    )  # fmt: skip
    mean = {way: float(found[way].mean()) for way in _WAYS}
    sentences = (
        f"MRR@{_K} is {mean[SPARSE]:.3f} by words, {mean[DENSE]:.3f} by vectors and {mean[BOTH]:.3f} by both "
        f"({_told(more[SPARSE])} against words, {_told(more[DENSE])} against vectors); vectors are "
        f"{_signed(gap[0])} against words where few words are shared and {_signed(gap[-1])} where many are.",
        f"Of the ten nearest by cosine {unit['l2']:.1%} are so by distance too when vectors have length 1, and "
        f"{raw['l2']:.1%} as the encoder makes them ({raw['dot']:.1%} by dot product; lengths vary by "
        f"{_spread(texts):.0%}).",
    )
    rows = [
        {"shared": f"{name} ({searched.shared[third].mean():.0%})", "way": way, "mrr": float(found[way][third].mean())}
        for name, third in zip(_SHARED, thirds, strict=True)
        for way in _WAYS
    ]
    table: list[list[Any]] = [
        [way, numbers.fixed(mean[way], 3), *(numbers.fixed(float(found[way][third].mean()), 3) for third in thirds)]
        for way in _WAYS
    ]
    return Finding(
        verdict, sentences, ("Search by", f"MRR@{_K}", *(f"{name.capitalize()} shared" for name in _SHARED)), table,
        [("MRR by share of the question’s words in the text", charts.grouped_bars(
            rows, "shared", "way", "mrr", f"MRR@{_K}", _WAYS, label=lambda one: numbers.fixed(one), highest=1.0)),
         ("Of the ten nearest by cosine", charts.grouped_bars(
             [{"metric": _name(metric), "vectors": kind, "share": values[metric]}
              for kind, values in (("length 1", unit), ("as made", raw)) for metric in ("dot", "l2")],
             "metric", "vectors", "share", "share that agrees", ("length 1", "as made"),
             label=lambda one: numbers.percent(one, 0), highest=1.1))],
        {**mean, "gap_few": gap[0], "gap_many": gap[-1], "unit": min(unit.values()), "raw": min(raw.values())},
        f"{len(items.queries)} questions, thirds by how many of a question’s words its text holds. Both: "
        "reciprocal-rank fusion, weights alike. In brackets: 95% intervals over questions.",
    )  # fmt: skip


def search(items: KnownItems, texts: Floats, queries: Floats) -> Searched:
    """By BM25, by exact cosine, and by both fused."""
    words, vectors = BM25Index(), FlatIndex(texts.shape[1], "cosine")
    words.add(items.texts)
    vectors.add(texts)
    depth = min(_DEPTH, len(items.texts))
    ranked: dict[str, Ids] = {SPARSE: words.search(items.queries, depth)[1], DENSE: vectors.search(queries, depth)[1]}
    ranked[BOTH] = fuse([ranked[SPARSE], ranked[DENSE]], [0.5, 0.5], _CONSTANT, depth)[1]
    answers = [[answer] for answer in items.answers]
    found = {
        way: per_query("mrr", [[one for one in row if one >= 0] for row in ids.tolist()], answers, _K)
        for way, ids in ranked.items()
    }
    analyzer = Analyzer()
    shared = []
    for query, answer in zip(items.queries, items.answers, strict=True):
        asked = set(analyzer(query))
        shared.append(len(asked & set(analyzer(items.texts[answer]))) / max(len(asked), 1))
    return Searched(found, np.array(shared))


def agreement(texts: Floats, queries: Floats) -> dict[str, float]:
    """Of the nearest by cosine, the share that is among the nearest by another measure."""
    nearest: dict[str, Ids] = {}
    for metric in _METRICS:
        index = FlatIndex(texts.shape[1], metric)
        index.add(texts)
        nearest[metric] = index.search(queries, min(_K, len(texts)))[1]
    return {metric: neighbour_recall(nearest[metric], nearest["cosine"]) for metric in _METRICS[1:]}


def _unit(vectors: Floats) -> Floats:
    units: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units


def _spread(vectors: Floats) -> float:
    """Standard deviation of the lengths over their mean."""
    lengths = np.linalg.norm(vectors, axis=1)
    return float(lengths.std() / lengths.mean())


def _name(metric: str) -> str:
    return {"dot": "dot product", "l2": "distance"}[metric]


def _signed(number: float) -> str:
    return numbers.fixed(number, 3, sign=True)


def _told(one: Difference) -> str:
    return f"{_signed(one.mean)} [{_signed(one.low)}, {_signed(one.high)}]"


EXHIBIT = Exhibit(
    question="When do vectors find what words do not, and does the measure of nearness matter?",
    claim="Vectors help most where question and text share few words, both together find more than either, and between "
    "vectors of length 1 cosine, dot product and distance rank alike.",
    formula="BM25 = Σ idf(t) tf(k₁ + 1) / (tf + k₁(1 − b + b · length / mean length)); ‖q − d‖² = 2 − 2 cos(q, d) for "
    "length 1.",
    source="Robertson and Zaragoza 2009, section 3; Karpukhin et al. 2020, section 5; Cormack et al. 2009",
    settings=DenseAndSparseSettings,
    measure=measure,
    needs=("corpus", "encoder"),
)
