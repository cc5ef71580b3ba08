"""Losses told apart, curves, limits and their formulas, on small data."""

from __future__ import annotations

import math

import numpy as np
import pytest

from seedbed.core.errors import ConfigError, DataError, FormatError
from seedbed.evaluation import indexes
from seedbed.evaluation.autotune import Candidate, autotune, build_chosen, choose
from seedbed.evaluation.index_explanation import explain_indexes
from seedbed.evaluation.index_limits import hnsw_paper_bytes, loss_by_rate, memory_by_links
from seedbed.evaluation.index_setups import FLAT, Setup, candidate_setups, compared_setups
from seedbed.evaluation.indexes import exact_neighbours, frontier, measure_setup, split_loss
from seedbed.evaluation.vector_sources import read_vector_set, vector_set
from seedbed.indexes import BM25Index, FlatIndex, GraphIndex, HNSWIndex, IVFIndex, load_index, load_vectors
from seedbed.reports.index_pages import explanation_page


def _clustered(count: int, dim: int, seed: int = 0) -> np.ndarray:
    centres = np.random.default_rng(99).normal(size=(30, dim))
    random = np.random.default_rng(seed)
    return (centres[random.integers(0, 30, count)] + 0.6 * random.normal(size=(count, dim))).astype(np.float32)


VECTORS = _clustered(6000, 32)


@pytest.fixture(autouse=True)
def no_timing(monkeypatch):
    """Speeds are not tested: one pass is enough for them."""
    monkeypatch.setattr(indexes, "_LEAST_SECONDS", 0.0)


def test_losses_are_told_apart_neighbour_by_neighbour():
    exact = np.array([[1, 2, 3, 4], [5, 6, 7, -1]])
    found = np.array([[1, 2, 9, 8], [5, -1, -1, -1]])
    structure = np.array([[1, 3, 9, 8], [5, 6, 9, -1]])  # 2 was found although whole vectors would have missed it
    loss = split_loss(exact, found, structure)
    assert (loss.found, loss.by_structure, loss.by_quantisation) == (3 / 7, 2 / 7, 2 / 7)
    assert split_loss(exact, exact).found == 1
    assert split_loss(exact, found).by_structure == 0


def test_curves_blame_what_loses():
    source = vector_set(VECTORS, None, "cosine", held_out=100)
    exact = exact_neighbours(source.vectors, source.queries, 10, "cosine")
    unit = source.vectors @ source.queries.T
    np.testing.assert_array_equal(np.sort(exact, 1), np.sort(np.argsort(-unit, axis=0)[:10].T, 1))
    curves = {
        setup.title: measure_setup(setup, source.vectors, source.queries, exact, "cosine", threads=1)
        for setup in compared_setups(len(source.vectors), 32)
    }
    assert len(curves) == 9
    for curve in curves.values():
        assert abs(curve.memory_bytes_predicted / curve.memory_bytes - 1) < 0.05
        assert curve.points[-1].recall > 0.9
        for point in curve.points:
            assert point.loss is not None
            assert point.loss.found == pytest.approx(point.recall)
            assert point.loss.found + point.loss.by_structure + point.loss.by_quantisation == pytest.approx(1)
    assert all(point.loss.by_quantisation == 0 for point in curves["HNSW"].points)
    assert all(point.loss.by_structure == 0 for point in curves["PQ"].points)
    assert curves["graph, 1-bit codes"].points[0].loss.by_quantisation > 0.05
    narrow = curves["IVF, 4-bit PQ"].points[0]
    assert narrow.loss.by_structure > 0.05
    assert curves["IVF, 4-bit PQ"].points[-1].alone < curves["IVF, 4-bit PQ"].points[-1].recall
    # The partition alone gives what the same lists without codes give.
    assert narrow.loss.by_structure == pytest.approx(1 - curves["IVF, no codes"].points[0].recall, abs=0.02)


def test_frontier():
    assert frontier([(0.9, 10), (0.8, 20), (0.85, 15), (0.9, 9), (0.7, 20), (1.0, 1)]) == [1, 2, 0, 5]
    assert frontier([]) == []


def _candidate(recall: float, speed: float, memory: int, setup: Setup | None = None) -> Candidate:
    return Candidate(setup or Setup(f"{speed}", HNSWIndex), None, recall, speed, memory, 0.0)


def test_choosing_is_a_function_of_what_was_measured():
    scan, small, fast, loose = (
        _candidate(1.0, 800, 400, FLAT), _candidate(0.96, 4700, 100), _candidate(0.97, 5000, 900),
        _candidate(0.5, 90_000, 10),
    )  # fmt: skip
    everything = [scan, small, fast, loose]
    assert choose(everything, 0.95)[0] is small  # within a tenth of the fastest, and smaller
    assert choose(everything, 0.965)[0] is fast
    assert choose(everything, 0.99)[0] is scan
    taken, why = choose(everything, 0.95, enough_speed=500)
    assert taken is scan
    assert "exact scan" in why
    assert choose(everything, 0.95, enough_speed=900)[0] is small
    with pytest.raises(ConfigError, match=r"no index reaches .* 0\.9700"):
        choose([small, fast], 0.98)


def test_autotune_fits_recall_and_memory(tmp_path):
    source = vector_set(VECTORS, None, "l2", held_out=200)
    choice = autotune(source, 0.9, enough_speed=0, sample=2000, queries=100, threads=1)
    assert choice.chosen.recall >= 0.9
    assert choice.chosen in choice.candidates
    assert (choice.measured_on, choice.count) == (2000, 5800)
    built = build_chosen(choice, source, queries=100, threads=1)
    assert len(built.index) == 6000  # those held out are in it at last
    assert built.point.recall >= 0.9
    built.index.save(tmp_path / "chosen.index")
    assert len(load_index(tmp_path / "chosen.index")) == 6000
    # A byte a component leaves room for codes alone.
    tight = autotune(source, 0.5, memory_limit=90 * 5800, enough_speed=0, sample=2000, queries=100, threads=1)
    assert tight.chosen.memory_bytes <= 90 * 5800
    assert "exact scan" in {title for title, _ in tight.too_large}
    assert autotune(source, 0.9, enough_speed=1, sample=2000, queries=50).chosen.setup is FLAT
    with pytest.raises(ConfigError, match="fits into 1,000 bytes"):
        autotune(source, 0.9, memory_limit=1000, sample=500)
    with pytest.raises(ConfigError, match="above 0"):
        autotune(source, 1.5)


def test_expected_slowdowns_and_setups_for_few_vectors():
    graph, part = (Setup("", HNSWIndex, growth=growth) for growth in ("logarithm", "root"))
    assert FLAT.slowdown(1000, 100_000) == 100
    assert part.slowdown(1000, 100_000) == 10
    assert graph.slowdown(1000, 1_000_000) == pytest.approx(2)
    assert [one.title for one in compared_setups(30, 8)] == ["graph, 1-bit codes", "graph, 8-bit codes", "HNSW"]
    assert candidate_setups(30, 8)[0] is FLAT


def test_product_codes_of_random_vectors_stay_above_their_bound():
    random = np.random.default_rng(2).normal(size=(4400, 32)).astype(np.float32)
    points = loss_by_rate(random[:4300], random[4300:], "l2", threads=1)
    assert [point.yours.subspaces for point in points] == [1, 2, 4, 8]
    for point in points:
        assert point.yours.gaussian == 2 ** (-2 * point.yours.bits_per_dimension)
        assert point.yours.gaussian < point.yours.lost < 1.15
        assert point.yours.lost == pytest.approx(point.random.lost, rel=0.1)
    lost = [point.yours.lost for point in points]
    assert lost == sorted(lost, reverse=True)
    assert points[-1].yours.recall > points[0].yours.recall
    assert loss_by_rate(random[:1000], random[4300:], "l2") == []


def test_memory_by_links():
    for point in memory_by_links(48, count=2000, links=(4, 16)):
        assert point.paper == 4 * 48 + 4 * (2 * point.m + point.m / math.log(point.m)) == hnsw_paper_bytes(48, point.m)
        assert abs(point.predicted / point.measured - 1) < 0.02
        assert 0 < point.measured - point.paper < 60  # ids, levels and their table


@pytest.mark.parametrize("dim", [20, 32])
def test_vectors_come_back_out_of_index_files(tmp_path, dim):
    vectors = _clustered(200, dim)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = np.delete(unit, [3, 150], axis=0)
    path = tmp_path / "an.index"
    for index in (
        FlatIndex(dim), HNSWIndex(dim, threads=1), GraphIndex(dim, threads=1),
        IVFIndex(dim, lists=4, codes="sq8", rerank=True).train(vectors),
    ):  # fmt: skip
        index.add(vectors)
        index.remove([3, 150])
        index.save(path)
        found, metric = load_vectors(path)
        assert metric == "cosine"
        assert found.shape == expected.shape
        closeness = found @ expected.T
        np.testing.assert_allclose(closeness.max(1), 1, atol=1e-4)
        assert len(set(closeness.argmax(1))) == len(expected)
    words = BM25Index()
    words.add(["a text"])
    words.save(path)
    with pytest.raises(FormatError, match="keeps no vectors"):
        load_vectors(path)


def test_sets_of_vectors(tmp_path):
    path = tmp_path / "v.npy"
    np.save(path, np.concatenate([VECTORS[:300], VECTORS[:50]]))
    source = read_vector_set(path)
    assert (len(source.vectors), len(source.queries), source.copies, source.held_out) == (270, 30, 50, True)
    together = np.concatenate([source.vectors, source.queries])
    assert len(np.unique(together, axis=0)) == 300
    np.save(tmp_path / "q.npy", VECTORS[5000:5010])
    asked = read_vector_set(path, queries=tmp_path / "q.npy", metric="l2")
    assert (len(asked.vectors), len(asked.queries), asked.held_out, asked.metric) == (300, 10, False, "l2")
    sample = source.sampled(100, 10)
    assert (len(sample.vectors), len(sample.queries)) == (100, 10)
    (tmp_path / "bad.npy").write_bytes(path.read_bytes()[:90])
    np.save(tmp_path / "flat.npy", VECTORS[0])
    np.save(tmp_path / "few.npy", np.ones((50, 4)))
    np.save(tmp_path / "objects.npy", np.array([[{}]]), allow_pickle=True)
    for name, problem in (("bad", "no file of numbers"), ("flat", "no table"), ("objects", "no file of numbers")):
        with pytest.raises(FormatError, match=problem):
            read_vector_set(tmp_path / f"{name}.npy")
    for name, problem in (("few", "1 different"), ("none", "no such file")):
        with pytest.raises(DataError, match=problem):
            read_vector_set(tmp_path / f"{name}.npy")


def test_an_explanation_and_its_page():
    source = vector_set(VECTORS[:800, :16], None, "cosine", held_out=60)
    result = explain_indexes(source, sample=600, queries=40, threads=1)
    found = result.to_json()
    assert (found["vectors"], found["sample"], found["queries"]) == (740, 600, 40)
    titles = [one["index"] for one in found["indexes"]]
    assert titles[0] == "exact scan"
    assert {"HNSW", "graph, 1-bit codes", "IVF, 4-bit PQ", "LSH"} <= set(titles)
    assert [one["dim"] for one in found["recall_by_dimension"]] == [4, 4, 8, 8, 16, 16]
    yours = [one for one in found["recall_by_dimension"] if one["vectors"] == "yours"]
    assert yours[-1]["kept"] == 1
    assert found["loss_by_rate"] == []  # too few vectors for codebooks
    page = explanation_page(result).html()
    for words in ("Recall against speed", "Neighbours lost, by what", "600 vectors drawn from 740"):
        assert words in page
