"""The quantised graph: recall and distances for both codes, change, filters, determinism, SIMD levels, bad files."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seedbed import _native
from seedbed.core.errors import ConfigError, DataError, FormatError
from seedbed.indexes import FlatIndex, GraphIndex, load_index
from seedbed.indexes.storage import read_sections, write_sections

from .test_vectors import LEVELS, METRICS, clustered, naive, recall

CODES = ["sq8", "rabitq"]


@pytest.fixture
def simd():
    before = _native.simd_level()
    yield _native.set_simd_level
    _native.set_simd_level(before)


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("metric", METRICS)
def test_recall_and_distances(metric, codes):
    vectors, queries = clustered(3000, 40), clustered(100, 40, 1)
    vectors *= np.random.default_rng(5).uniform(0.5, 1.5, (3000, 1)).astype(np.float32)
    index, flat = GraphIndex(40, metric, codes=codes, threads=1), FlatIndex(40, metric)
    index.add(vectors[:1000])
    index.add(vectors[1000:])
    flat.add(vectors)
    exact_distances, exact = flat.search(queries, 10)
    distances, found = index.search(queries, 10, ef=100)
    assert recall(found, exact) > 0.99
    agree = found == exact
    np.testing.assert_allclose(distances[agree], exact_distances[agree], rtol=1e-4, atol=1e-4)
    assert (np.diff(distances, axis=1) * (1 if metric == "l2" else -1) >= 0).all()
    for again in (index.search(queries, 10, ef=100, threads=3), index.search(queries, 10, ef=100)):
        np.testing.assert_array_equal(again[1], found)
    assert recall(index.search(queries, 10, ef=100, exact_walk=True)[1], exact) > 0.99
    np.testing.assert_array_equal(index.search(queries, 10, ef=3000)[1], exact)


def test_an_exact_walk_tells_the_graph_from_its_codes():
    random = np.random.default_rng(0)
    vectors, queries = random.normal(size=(3000, 64)), random.normal(size=(200, 64))
    index, flat = GraphIndex(64, threads=1), FlatIndex(64)
    index.add(vectors)
    flat.add(vectors)
    exact = flat.search(queries, 10)[1]
    walked, coded = (recall(index.search(queries, 10, ef=20, exact_walk=way)[1], exact) for way in (True, False))
    assert coded < walked < 1


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("dim", [1, 3, 96, 130])
def test_any_dimension(codes, dim):
    vectors = clustered(700, dim)
    index, flat = GraphIndex(dim, "l2", codes=codes, threads=1), FlatIndex(dim, "l2")
    index.add(vectors)
    flat.add(vectors)
    found, exact = index.search(vectors[:50] + 0.01, 5, ef=150), flat.search(vectors[:50] + 0.01, 5)
    np.testing.assert_allclose(found[0], exact[0], rtol=1e-2, atol=1e-3 * dim)
    np.testing.assert_allclose(index.vectors([3, 600]), vectors[[3, 600]], atol=1e-3)


def test_vectors_far_from_the_origin_are_told_apart():
    vectors, queries = clustered(2000, 32) + 1000, clustered(50, 32, 1) + 1000
    index = GraphIndex(32, "l2", threads=1)
    index.add(vectors)
    exact = naive(vectors, np.arange(2000), queries, 10, "l2")[1]
    assert recall(index.search(queries, 10, ef=100)[1], exact) > 0.98


@pytest.mark.parametrize("codes", CODES)
def test_every_simd_level_finds_the_same(simd, codes):
    vectors, queries = clustered(1500, 33), clustered(30, 33, 1)
    found = []
    for level in LEVELS:
        try:
            simd(level)
        except ValueError:
            continue
        index = GraphIndex(33, "l2", codes=codes, threads=1, ef_construction=60)
        index.add(vectors)
        found.append(index.search(queries, 10, ef=200)[1])
    assert len(found) >= 1
    for other in found[1:]:
        assert recall(other, found[0]) > 0.999


def test_one_thread_is_deterministic_and_many_keep_recall(tmp_path):
    vectors, queries = clustered(3000, 24), clustered(60, 24, 1)
    for name in ("a", "b"):
        index = GraphIndex(24, threads=1, seed=3)
        index.add(vectors)
        index.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    flat, parallel = FlatIndex(24), GraphIndex(24, threads=4)
    flat.add(vectors)
    parallel.add(vectors)
    assert len(parallel) == 3000
    assert recall(parallel.search(queries, 10, ef=100)[1], flat.search(queries, 10)[1]) > 0.98


@pytest.mark.parametrize("codes", CODES)
def test_rounds_of_deletion_and_insertion_keep_recall(codes):
    random = np.random.default_rng(5)
    index, flat = GraphIndex(16, "l2", codes=codes, ef_construction=60, threads=1), FlatIndex(16, "l2")
    queries = clustered(60, 16, 1)
    for turn in range(12):
        fresh = clustered(400, 16, 100 + turn)
        index.add(fresh)
        flat.add(fresh)
        if turn > 2:
            gone = random.choice(flat.ids, 380, replace=False)
            index.remove(gone)
            flat.remove(gone)
            found, exact = index.search(queries, 10, ef=80)[1], flat.search(queries, 10)[1]
            assert not set(gone) & set(found.ravel())
            assert recall(found, exact) > 0.97
    assert sorted(index.ids) == sorted(flat.ids)
    index.remove(index.ids[:-3])
    assert set(index.search(queries[:1], 5)[1][0].tolist()) - {-1} == set(index.ids.tolist())
    index.remove(index.ids)
    assert len(index) == 0
    assert (index.search(queries[:1], 3)[1] == -1).all()
    index.add(queries)
    assert recall(index.search(queries, 1)[1], np.arange(len(queries))[:, None] + int(index.ids.min())) == 1.0


def test_vectors_added_one_by_one_are_found():
    vectors = clustered(400, 12)
    index = GraphIndex(12, threads=1, ef_construction=40)
    for i, vector in enumerate(vectors):
        index.add(vector[None], [i])
    assert recall(index.search(vectors, 1, ef=32)[1], np.arange(400)[:, None]) > 0.99


def test_thousands_of_equal_vectors():
    same, others = np.ones((1500, 8), dtype=np.float32), clustered(500, 8)
    index = GraphIndex(8, threads=1)
    index.add(same)
    index.add(others)
    found = index.search(same[:1], 1500, ef=10)[1][0]
    assert sorted(found) == list(range(1500))
    assert recall(index.search(others, 1, ef=50)[1], np.arange(1500, 2000)[:, None]) > 0.99
    index.remove(np.arange(0, 1499))
    assert index.search(same[:1], 1)[1][0, 0] == 1499
    assert len(index) == 501


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.02, 0.001])
def test_filters_keep_recall_at_every_selectivity(codes, share):
    vectors, queries = clustered(4000, 20), clustered(40, 20, 1)
    index, flat = GraphIndex(20, codes=codes, threads=1, ef_construction=60), FlatIndex(20)
    index.add(vectors)
    flat.add(vectors)
    allowed = np.random.default_rng(0).choice(4000, max(1, int(4000 * share)), replace=False)
    found, exact = index.search(queries, 10, filter=allowed)[1], flat.search(queries, 10, filter=allowed)[1]
    assert set(found.ravel()) <= {*allowed.tolist(), -1}
    assert recall(found, exact) > 0.97
    assert (index.search(queries, 10, filter=[])[1] == -1).all()
    assert (index.search(queries, 10, filter=[10**12])[1] == -1).all()


def test_settings_that_cannot_be_are_refused():
    for bad in (
        {"dim": 0},
        {"dim": 1 << 17},
        {"dim": 4, "codes": "pq"},
        {"dim": 4, "degree": 40},
        {"dim": 4, "degree": 3, "codes": "sq8"},
        {"dim": 4, "metric": "hamming"},
    ):
        with pytest.raises(ConfigError):
            GraphIndex(**bad)
    with pytest.raises(DataError):
        GraphIndex(4).vectors([1])


def test_searches_while_adding_and_removing():
    vectors = clustered(3000, 16)
    index = GraphIndex(16, threads=1, ef_construction=60)
    index.add(vectors[:500])
    stop, failures = threading.Event(), []

    def search():
        while not stop.is_set():
            distances, ids = index.search(vectors[:20], 5)
            if (ids < 0).any() or (np.diff(distances, axis=1) > 0).any():
                failures.append(ids)

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for start in range(500, 3000, 500):
        index.add(vectors[start : start + 500])
        index.remove(np.arange(start - 200, start))
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(index) == 2000


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(CODES),
    st.lists(st.tuples(st.sampled_from(["add", "remove", "search"]), st.integers(0, 2**31)), max_size=12),
)
def test_any_sequence_of_changes_agrees_with_flat(codes, steps):
    """Few vectors, some of them equal: a walk with all candidates is exact."""
    index, flat = GraphIndex(3, "l2", codes=codes, ef_construction=8, threads=1), FlatIndex(3, "l2")
    for action, seed in steps:
        random = np.random.default_rng(seed)
        if action == "add":
            rows = random.integers(0, 3, (int(random.integers(0, 30)), 3)).astype(np.float32)
            index.add(rows)
            flat.add(rows)
        elif action == "remove" and len(flat):
            gone = random.choice(flat.ids, int(random.integers(0, len(flat) + 1)), replace=False)
            index.remove(gone)
            flat.remove(gone)
        assert sorted(index.ids) == sorted(flat.ids)
        query = random.normal(size=(2, 3)).astype(np.float32)
        expected, found = flat.search(query, 5), index.search(query, 5, ef=40)
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("codes", CODES)
def test_memory_is_predicted_and_lean(codes):
    index = GraphIndex(384, codes=codes, threads=2, ef_construction=20)
    index.add(clustered(3000, 384))
    assert index.memory_bytes() == pytest.approx(GraphIndex.predict_memory_bytes(3000, 384, codes=codes), rel=0.03)
    hnswlib = 3000 * (4 * 384 + 8 * 16 + 4 + 8)  # vectors, links and labels of hnswlib's lowest layer, m = 16
    if codes == "sq8":
        assert index.memory_bytes() < 0.6 * hnswlib


@pytest.mark.parametrize("codes", CODES)
def test_a_file_that_leads_outside_is_refused(tmp_path, codes):
    """Content with right checksums, as a hostile writer would make it: each array broken in its own way."""
    path = tmp_path / "index"
    index = GraphIndex(8, codes=codes, threads=1)
    index.add(clustered(50, 8))
    index.save(path)
    stored = read_sections(path)
    far = np.uint32(1 << 30)
    for name, place, value in (
        ("links", 3, far),
        ("ring", 0, far),
        ("ring", 1, 0),
        ("entries", 0, far),
        ("blocks", 32 * 16 // 8 + 256, 200),
    ):
        if stored.arrays[name].size == 0:
            continue
        arrays = {key: array.copy() for key, array in stored.arrays.items()}
        arrays[name].reshape(-1)[place] = value
        write_sections(path, stored.kind, stored.settings, arrays)
        with pytest.raises(FormatError):
            load_index(path)
    for name in stored.arrays:
        arrays = {key: array[: -1 if key == name else None] for key, array in stored.arrays.items()}
        if arrays[name].shape == stored.arrays[name].shape or name == "entries":
            continue
        write_sections(path, stored.kind, stored.settings, arrays)
        with pytest.raises(FormatError):
            load_index(path)
    random = np.random.default_rng(0)
    for name in ("high", "low", "shapes", "centre"):  # any numbers are numbers: answers, not crashes
        arrays = dict(stored.arrays)
        noise = random.integers(0, 256, arrays[name].nbytes, dtype=np.uint8)
        arrays[name] = noise.view(arrays[name].dtype).reshape(arrays[name].shape)
        write_sections(path, stored.kind, stored.settings, arrays)
        load_index(path).search(clustered(5, 8), 5)
