"""Exhibits of word vectors and of search: analogies and rankings written out in NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import rankdata

from seedbed.core.errors import DataError
from seedbed.datasets.pairs import read_corpus
from seedbed.embeddings import WordVectors
from seedbed.evaluation.known_items import known_items
from seedbed.lab.bench import Bench
from seedbed.lab.exhibit import Finding
from seedbed.lab.exhibits import dense_and_sparse, embedding_geometry

Measure = Callable[..., Finding]


def test_planted_relations_are_found_by_the_offset_and_not_by_neighbours() -> None:
    stems = ["file", "line", "word", "name", "byte"]
    words = [*stems, *(f"{stem}s" for stem in stems), *(f"near{stem}" for stem in stems)]
    random = np.random.default_rng(0)
    vectors = random.standard_normal((15, 16)).astype(np.float32)
    vectors[5:10] = vectors[:5] + random.standard_normal(16)
    vectors[10:] = vectors[:5] + 0.1 * vectors[10:]  # closer to the stems
    relations = embedding_geometry.pairs_of(words)
    assert relations == {"s": [(stem, f"{stem}s") for stem in stems]}
    found = embedding_geometry.answer("planted", WordVectors(words, vectors), relations, 4, 0)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for place in range(5):
        right = []
        for other in (one for one in range(5) if one != place):
            cosines = unit @ (unit[other + 5] - unit[other] + unit[place])
            cosines[[other, other + 5, place]] = -9
            right.append(cosines.argmax() == place + 5)
        assert found.offset[place] == pytest.approx(np.mean(right))
    assert found.offset.mean() > 0.8 > 0.2 > found.alone.mean()
    steps = unit[5:10] - unit[:5]
    steps /= np.linalg.norm(steps, axis=1, keepdims=True)
    assert found.parallel == pytest.approx((steps @ steps.T)[np.triu_indices(5, 1)].mean(), abs=1e-6)


def test_a_text_without_relations_is_refused(measure: Measure) -> None:
    with pytest.raises(DataError, match="too few pairs"):
        measure("embedding-geometry", min_count=500)


def test_search_against_rankings_written_out(measure: Measure, bench: Bench) -> None:
    found = measure("dense-and-sparse", fewest=6)
    documents = [row for split in ("test", "validation") for row in read_corpus(bench.run / "corpus", split)]
    items = known_items(documents, 1000, 400, 0, fewest=6)
    texts, queries = (bench.encoder.encode(side, normalize=False) for side in (items.texts, items.queries))
    cosines = queries @ texts.T / np.linalg.norm(texts, axis=1)
    ranks = np.array([rankdata(-row, "ordinal")[answer] for row, answer in zip(cosines, items.answers, strict=True)])
    expected = np.where(ranks <= 10, 1 / ranks, 0)
    assert found.numbers[dense_and_sparse.DENSE] == pytest.approx(expected.mean(), abs=1e-3)
    assert found.numbers["unit"] > 0.999
    nearest = np.argsort(-cosines, axis=1)[:, :10]
    dots = np.argsort(-(queries @ texts.T), axis=1)[:, :10]
    apart = np.argsort(((queries[:, None] - texts[None]) ** 2).sum(-1), axis=1)[:, :10]
    shared = [np.mean([len({*a} & {*b}) / 10 for a, b in zip(nearest, one, strict=True)]) for one in (dots, apart)]
    assert found.numbers["raw"] == pytest.approx(min(shared), abs=0.01)
