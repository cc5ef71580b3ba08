"""A vector for a text: averaged tokens beside what contrastive training makes, how both fill their space, and what is
lost past the tokens that are read. Searches are for known items: an opening sentence finds the rest of its document."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from ...datasets.pairs import read_corpus
from ...embeddings import SentenceEncoder, geometry
from ...embeddings.sentence import TruncationWarning
from ...evaluation.encoder_limits import token_limits
from ...evaluation.known_items import K, KnownItems, known_items
from ...evaluation.statistics import Difference, paired_bootstrap
from ...indexes import FlatIndex
from ...reports import charts, numbers
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict

Floats = npt.NDArray[np.float32]

_AVERAGED, _STRAIGHT, _STATES = "averaged tokens", "averaged, all but the top", "the base model’s averaged states"
_CONTRASTIVE = "the encoder"


class SentenceEmbeddingsSettings(Settings):
    documents: int = Field(1000, ge=2, description="held-out ones that are searched, at most")
    queries: int = Field(300, ge=2, description="of them that are asked for, at most")
    fewest: int = Field(20, ge=2, description="of them without which nothing is measured")


@dataclass(frozen=True)
class Space:
    """Vectors of texts by one way to make them.

    Attributes:
        found: (q,) reciprocal rank of each query's document, 0 past the first ten.
        mean_cosine, isoscore: of the texts' vectors, as `embeddings.geometry` has them.
    """

    way: str
    found: npt.NDArray[np.float64]
    mean_cosine: float
    isoscore: float

    @property
    def mrr(self) -> float:
        return float(self.found.mean())


def measure(bench: Bench, settings: SentenceEmbeddingsSettings) -> Finding:
    documents = [row for split in ("test", "validation") for row in read_corpus(bench.run / "corpus", split)]
    items = known_items(documents, settings.documents, settings.queries, settings.seed, fewest=settings.fewest)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # the limit is what is measured
        found = spaces(bench, items)
        bench.advance("texts cut short")
        limits = token_limits(bench.encoder, items)
        short = SentenceEncoder(
            bench.encoder.model, bench.encoder.tokenizer, limits[0]["tokens"], pooling=bench.encoder.pooling
        )
        # Queries are read whole: the limit is one on texts.
        cut = _ranks(short.encode(items.texts), bench.encoder.encode(items.queries), items)
    before, after = found[_AVERAGED], found[_CONTRASTIVE]
    difference = paired_bootstrap(before.found, after.found, seed=settings.seed)
    longer = paired_bootstrap(cut, after.found, seed=settings.seed)
    return _finding(found, difference, longer, limits, items)


def spaces(bench: Bench, items: KnownItems) -> dict[str, Space]:
    """Each way to make vectors of the items, in the order of the table."""
    base = bench.decoder("base")
    table = base.embedding.weight.detach().numpy()
    texts, queries = (averaged(table, bench.tokenizer, side) for side in (items.texts, items.queries))
    straighten = geometry.all_but_the_top(texts)
    states = SentenceEncoder(base, bench.tokenizer, pooling="mean")
    ways: dict[str, tuple[Floats, Floats]] = {
        _AVERAGED: (texts, queries),
        _STRAIGHT: (straighten(texts), straighten(queries)),
    }
    for way, encoder in ((_STATES, states), (_CONTRASTIVE, bench.encoder)):
        bench.advance(way)
        ways[way] = encoder.encode(items.texts, normalize=False), encoder.encode(items.queries, normalize=False)
    out = {}
    for way, (held, asked) in ways.items():
        out[way] = Space(way, _ranks(held, asked, items), geometry.mean_cosine(held), geometry.isoscore(held))
    return out


def _ranks(held: Floats, asked: Floats, items: KnownItems) -> npt.NDArray[np.float64]:
    index = FlatIndex(held.shape[1], "cosine")
    index.add(held)
    return items.reciprocal_ranks(index.search(asked, K)[1])


def averaged(table: Floats, tokenizer: Any, texts: list[str]) -> Floats:
    """(n, C) means of the rows of `table` (V, C) of all tokens of each text; of an empty one, the first row."""
    encoded = tokenizer.encode_batch(texts)
    return np.stack([table[row if len(row) else [0]].mean(axis=0) for row in encoded]).astype(np.float32)


def _finding(
    found: dict[str, Space], difference: Difference, longer: Difference, limits: list[dict[str, Any]],
    items: KnownItems,
) -> Finding:  # fmt: skip
    before, after, documents = found[_AVERAGED], found[_CONTRASTIVE], len(items.texts)
    shortest, longest = limits[0], limits[-1]
    better, wider = difference.low > 0, after.mean_cosine < before.mean_cosine
    verdict: Verdict = (
        "holds" if better and wider and longer.low > 0 else "holds in part" if better or wider else "does not hold"
    )  # fmt: skip
    sentences = (
        f"By averaged token vectors an opening sentence finds its document among {documents:,} with an MRR@{K} of "
        f"{before.mrr:.3f}, by the trained encoder of {after.mrr:.3f} (difference {_signed(difference)}), and the mean "
        f"cosine of two texts is {before.mean_cosine:.2f} and {after.mean_cosine:.2f}.",
        f"Reading {shortest['tokens']} tokens cuts {shortest['cut']:.0%} of the texts and gives {shortest['mrr']:.3f}; "
        f"{longest['tokens']} tokens, the most that it reads, cut {longest['cut']:.0%} and give {longest['mrr']:.3f} "
        f"(difference {_signed(longer)}).",
    )
    rows: list[list[Any]] = [[one.way, one.mrr, one.mean_cosine, one.isoscore] for one in found.values()]
    rows += [[f"{_CONTRASTIVE}, {one['tokens']} tokens", one["mrr"], None, None] for one in limits]
    ways = [{"way": one.way, "mrr": one.mrr, "cosine": one.mean_cosine} for one in found.values()]
    return Finding(
        verdict, sentences, ("Vectors", f"MRR@{K}", "Mean cosine", "IsoScore"), rows,
        [("Documents found", charts.bars(ways, "way", "mrr", f"MRR@{K}", lambda one: numbers.fixed(one, 3))),
         ("By the tokens that are read", charts.curve(limits, "tokens", "mrr", "tokens", f"MRR@{K}", height=200))],
        {"averaged": before.mrr, "encoder": after.mrr, "averaged_cosine": before.mean_cosine,
         "encoder_cosine": after.mean_cosine, "shortest": shortest["mrr"], "longest": longest["mrr"]},
        f"{len(items.queries)} queries. Mean cosine: 0 where directions are spread evenly. IsoScore: share of the "
        "dimensions that are used evenly. All but the top: without the mean and the strongest directions.",
    )  # fmt: skip


def _signed(difference: Difference) -> str:
    low, high = (numbers.fixed(one, 3, sign=True) for one in (difference.low, difference.high))
    return f"{low} to {high} with 95% confidence"


EXHIBIT = Exhibit(
    question="What does contrastive training add to an average of token vectors, and what does a token limit cost?",
    claim="Averaged tokens lie in a narrow cone and find little; contrastive training spreads them out and finds more, "
    "but only of what stands within the tokens that it reads.",
    formula="InfoNCE: −log exp(cos(q, t⁺)/τ) / Σ exp(cos(q, t)/τ); mean cosine (|Σx̂|² − n) / (n(n − 1)).",
    source="Gao et al. 2021 (SimCSE), sections 2 and 5; Ethayarajh 2019, section 3.3",
    settings=SentenceEmbeddingsSettings,
    measure=measure,
    needs=("corpus", "tokenizer", "base", "encoder"),
)
