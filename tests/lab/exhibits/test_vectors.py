"""Exhibits of vectors and indexes, against brute force in NumPy and closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seedbed.embeddings import SentenceEncoder
from seedbed.evaluation.known_items import known_items
from seedbed.evaluation.vector_sources import VectorSet
from seedbed.indexes import HNSWIndex
from seedbed.lab.bench import Bench
from seedbed.lab.exhibits import dimensionality, graph_traversal, late_interaction, sentence_embeddings, vector_indexes

from ..conftest import Measure


@pytest.fixture
def of_vectors(tmp_path: Path) -> Callable[..., Bench]:
    """A bench whose vectors are normal, (count, dim), with 40 queries."""

    def bench(count: int, dim: int, metric: str = "l2") -> Bench:
        drawn = np.random.default_rng(3).standard_normal((count + 40, dim)).astype(np.float32)
        if metric == "cosine":
            drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        made = Bench(tmp_path, tmp_path, lambda what: None)
        made.__dict__["vectors"] = VectorSet("drawn", metric, drawn[:count], drawn[count:], 0, False)  # type: ignore[arg-type]
        return made

    return bench


def _nearest(vectors: np.ndarray, queries: np.ndarray, k: int) -> list[set[int]]:
    distances = ((queries[:, None] - vectors[None]) ** 2).sum(axis=2)
    return [set(row.tolist()) for row in np.argsort(distances, axis=1)[:, :k]]


def _recall(index: HNSWIndex, queries: np.ndarray, truth: list[set[int]], ef: int) -> float:
    found = index.search(queries, 10, ef=ef)[1]
    return float(np.mean([len(truth[place] & set(row.tolist())) / 10 for place, row in enumerate(found)]))


def test_graph_traversal_counts_what_the_narrowest_sufficient_search_looks_at(of_vectors: Callable[..., Bench]) -> None:
    bench = of_vectors(900, 24)
    vectors, queries = bench.vectors.vectors, bench.vectors.queries
    settings = graph_traversal.GraphTraversalSettings(smallest=200)
    found = graph_traversal.effort(vectors, queries, "l2", settings)
    index = HNSWIndex(24, "l2", ef_construction=100, threads=1)
    index.add(vectors)
    truth = _nearest(vectors, queries, 10)
    assert found.recall == pytest.approx(_recall(index, queries, truth, found.ef))
    assert _recall(index, queries, truth, found.ef - 1) < 0.95 <= found.recall
    assert found.distances == np.mean([len(index.trace(query, ef=found.ef).ids) for query in queries])
    finding = graph_traversal.measure(bench, settings)
    sizes, distances = ([row[place] for row in finding.rows] for place in (0, 4))
    assert sizes == [200, 400, 900]
    assert finding.numbers["growth"] == pytest.approx(distances[-1] / distances[0], rel=0.01)
    assert finding.numbers["logarithm"] == pytest.approx(np.log(900) / np.log(200))
    grown, logarithm = finding.numbers["growth"], finding.numbers["logarithm"]
    expected = "holds" if grown <= 1.5 * logarithm else "holds in part" if grown < 4.5**0.5 else "does not hold"
    assert finding.verdict == expected


def test_spread_of_random_distances_is_that_of_a_chi_distribution(of_vectors: Callable[..., Bench]) -> None:
    finding = dimensionality.measure(
        of_vectors(600, 40), dimensionality.DimensionalitySettings(vectors=600, queries=20)
    )
    assert [row[0] for row in finding.rows] == [4, 8, 16, 32, 40]
    for dim, _, spread, *_ in finding.rows:
        mean = math.exp(math.lgamma((dim + 1) / 2) - math.lgamma(dim / 2)) * math.sqrt(2)
        assert spread == pytest.approx(math.sqrt(dim / mean**2 - 1), rel=0.06)
    assert finding.numbers["skewness_random"] > 1
    # Both are normal here, so what is said of one is said of the other.
    assert finding.verdict in ("holds", "does not hold")


def test_vector_indexes_against_brute_force(of_vectors: Callable[..., Bench]) -> None:
    bench = of_vectors(1200, 16)
    finding = vector_indexes.measure(bench, vector_indexes.VectorIndexesSettings())
    table = {row[0]: row for row in finding.rows}
    assert list(table) == ["exact scan", "HNSW", "IVF, no codes", "PQ", "LSH"]
    index = HNSWIndex(16, "l2", threads=1)
    index.add(bench.vectors.vectors)
    truth = _nearest(bench.vectors.vectors, bench.vectors.queries, 10)
    possible = {round(_recall(index, bench.vectors.queries, truth, ef), 6) for ef in (10, 16, 24, 40)}
    assert round(table["HNSW"][1], 6) in possible
    for title, gain in ((title, finding.numbers.get(f"gain_{title}")) for title in list(table)[1:]):
        assert gain is None or gain == pytest.approx(table[title][2] / table["exact scan"][2], rel=0.01)
    assert table["HNSW"][5] == pytest.approx(index.memory_bytes() / 1200, rel=0.02)


def test_averaged_tokens_and_the_encoder_find_what_brute_force_finds(measure: Measure, bench: Bench) -> None:
    table = np.arange(12.0).reshape(4, 3).astype(np.float32)

    class Two:
        def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
            return [np.array([3, 1, 1]), np.array([], dtype=np.int64)]

    np.testing.assert_allclose(
        sentence_embeddings.averaged(table, Two(), ["", ""]), [(table[3] + 2 * table[1]) / 3, table[0]]
    )
    finding = measure("sentence-embeddings", fewest=10)
    assert finding.numbers["encoder"] == pytest.approx(_mrr_of_one_vector(bench, bench.encoder))
    assert finding.numbers["longest"] == pytest.approx(finding.numbers["encoder"])


def test_late_interaction_against_maxsim_written_out(measure: Measure, bench: Bench) -> None:
    settings = {"steps": 2, "batch_size": 8, "dim": 8, "fewest": 10}
    finding = measure("late-interaction", **settings)
    chosen = late_interaction.LateInteractionSettings(**settings)
    one, many = (late_interaction.trained(bench, chosen, kind) for kind in ("bi-encoder", "multi-vector"))
    assert finding.numbers["one_vector"] == pytest.approx(_mrr_of_one_vector(bench, one))
    items = _items(bench)
    queries, texts = many.encode_queries(items.queries), many.encode_documents(items.texts)
    scores = np.array([[(query @ text.T).max(axis=1).sum() for text in texts] for query in queries])
    assert finding.numbers["maxsim"] == pytest.approx(_mrr(scores, items.answers), abs=1e-6)
    assert finding.numbers["bytes"] == pytest.approx(2 * 8 * texts.offsets[-1] / len(texts))


def _items(bench: Bench):
    from seedbed.datasets.pairs import read_corpus

    documents = [row for split in ("test", "validation") for row in read_corpus(bench.run / "corpus", split)]
    return known_items(documents, 1000, 300, fewest=10)


def _mrr_of_one_vector(bench: Bench, encoder: SentenceEncoder) -> float:
    items = _items(bench)
    texts, queries = encoder.encode(items.texts), encoder.encode(items.queries)
    return _mrr(queries @ texts.T, items.answers)


def _mrr(scores: np.ndarray, answers: list[int]) -> float:
    ranks = [1 + int((row > row[answer]).sum()) for row, answer in zip(scores, answers, strict=True)]
    return float(np.mean([1 / rank if rank <= 10 else 0.0 for rank in ranks]))
