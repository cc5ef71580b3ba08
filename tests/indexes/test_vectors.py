"""Flat and HNSW: exactness, recall, filters far from the query, bad input."""

from __future__ import annotations

import numpy as np
import pytest

from seedbed import _native
from seedbed.core.errors import ConfigError, DataError
from seedbed.indexes import FlatIndex, HNSWIndex, Index

METRICS = ["cosine", "dot", "l2"]
LEVELS = ["scalar", "neon", "avx2", "avx512", "avx512vnni"]


def clustered(count: int, dim: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(40, dim))
    return (centres[random.integers(0, 40, count)] + 0.7 * random.normal(size=(count, dim))).astype(np.float32)


def naive(vectors: np.ndarray, ids: np.ndarray, queries: np.ndarray, k: int, metric: str):
    """The twin: one query at a time, in float64."""
    v, q = vectors.astype(np.float64), queries.astype(np.float64)
    if metric == "cosine":
        v, q = v / np.linalg.norm(v, axis=1, keepdims=True), q / np.linalg.norm(q, axis=1, keepdims=True)
    scores = np.array([((v - one) ** 2).sum(1) if metric == "l2" else v @ one for one in q])
    order = np.argsort(scores if metric == "l2" else -scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), ids[order]


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    hits = sum(len((set(a) & set(b)) - {-1}) for a, b in zip(found, exact, strict=True))
    return hits / int((exact >= 0).sum())


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("level", LEVELS)
def test_flat_equals_the_naive_twin(simd, metric, level):
    try:
        simd(level)
    except ValueError:
        pytest.skip(f"this processor has no {level}")
    for count, dim, queries, threads in ((1, 19, 3, 1), (7, 4, 1, 2), (3001, 19, 70, 1), (3001, 100, 1, 3)):
        vectors, asked = clustered(count, dim), clustered(queries, dim, 1)
        ids = np.random.default_rng(2).permutation(count) + 50
        index = FlatIndex(dim, metric)
        index.add(vectors[: count // 3], ids[: count // 3])
        index.add(vectors[count // 3 :], ids[count // 3 :])
        distances, found = index.search(asked, 5, threads=threads)
        expected, expected_ids = naive(vectors, ids, asked, 5, metric)
        width = min(5, count)
        np.testing.assert_array_equal(found[:, :width], expected_ids)
        np.testing.assert_allclose(distances[:, :width], expected, rtol=1e-4, atol=1e-5)
        assert (found[:, width:] == -1).all()
        assert np.isinf(distances[:, width:]).all()


@pytest.mark.parametrize("metric", METRICS)
def test_flat_is_exact_where_codes_tell_little(metric):
    """Vectors far from the origin and close together, of very different lengths, zeros, and many equal ones."""
    random = np.random.default_rng(0)
    far = 1000 + random.normal(size=(600, 33))
    lengths = random.normal(size=(600, 33)) * 10.0 ** random.uniform(-18, 12, (600, 1))
    spikes = np.eye(33)[random.integers(0, 33, 600)] * 1e4 + random.normal(size=(600, 33))
    grid = random.integers(1, 3, (600, 33))
    for vectors in (far, lengths, spikes, grid, np.concatenate([far, grid, np.zeros((5, 33))])):
        vectors = vectors.astype(np.float32)
        if metric == "cosine":
            vectors = vectors[(vectors != 0).any(axis=1)]
        index = FlatIndex(33, metric)
        index.add(vectors)
        queries = np.concatenate([vectors[:20], vectors[-3:] + 1])
        found_distances, found = index.search(queries, 9)
        rows = vectors if metric != "cosine" else vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        asked = queries if metric != "cosine" else queries / np.linalg.norm(queries, axis=1, keepdims=True)
        for query, distances, ids in zip(asked, found_distances, found, strict=True):
            exact = _native.vector_distance(query.astype(np.float32), rows.astype(np.float32), metric == "l2")[0]
            order = np.lexsort((np.arange(len(exact)), exact if metric == "l2" else -exact))[:9]
            np.testing.assert_allclose(distances, exact[order], rtol=1e-5 if metric != "cosine" else 1e-4)
            if metric != "cosine":  # else the index rounds otherwise when it normalises
                np.testing.assert_array_equal(ids, order)


@pytest.mark.parametrize("metric", METRICS)
def test_hnsw_recall_and_distances(metric):
    vectors, queries = clustered(3000, 40), clustered(100, 40, 1)
    index, flat = HNSWIndex(40, metric, threads=1), FlatIndex(40, metric)
    assert isinstance(index, Index)
    assert isinstance(flat, Index)
    index.add(vectors[:1000])
    index.add(vectors[1000:])
    flat.add(vectors)
    exact_distances, exact = flat.search(queries, 10)
    distances, found = index.search(queries, 10, ef=100)
    assert recall(found, exact) > (0.95 if metric == "dot" else 0.99)
    agree = found == exact
    np.testing.assert_allclose(distances[agree], exact_distances[agree], rtol=1e-4, atol=1e-4)
    again = index.search(queries, 10, ef=100, threads=3)
    np.testing.assert_array_equal(again[1], found)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("l2", [False, True])
def test_kernels_equal_numpy_at_every_level(simd, level, l2):
    try:
        simd(level)
    except ValueError:
        pytest.skip(f"this processor has no {level}")
    random = np.random.default_rng(0)
    for dim in (1, 15, 16, 17, 31, 32, 48, 100, 384):
        query, rows = random.normal(size=dim).astype(np.float32), random.normal(size=(9, dim)).astype(np.float32)
        expected = ((rows.astype(float) - query) ** 2).sum(1) if l2 else rows.astype(float) @ query
        for row in _native.vector_distance(query, rows, l2):
            np.testing.assert_allclose(row, expected, rtol=2e-5, atol=2e-4)


def test_a_deleted_region_takes_new_vectors():
    vectors = clustered(1200, 12)
    near = vectors[0] + 0.05 * np.random.default_rng(0).normal(size=(150, 12)).astype(np.float32)
    index = HNSWIndex(12, "l2", threads=1)
    index.add(np.concatenate([vectors, near]))
    index.remove(np.arange(1200, 1350))
    index.add(near, np.arange(5000, 5150))
    found = index.search(near, 1, ef=50)[1][:, 0]
    assert (found == np.arange(5000, 5150)).mean() > 0.98


@pytest.mark.parametrize("share", [0.3, 0.05, 0.01])
def test_a_filter_far_from_the_query_keeps_recall(share):
    """What may be returned lies on the other side of the space, where a walk towards the query does not come by."""
    vectors, queries = clustered(4000, 20), clustered(20, 20, 1)
    index, flat = HNSWIndex(20, "l2", threads=1, ef_construction=100), FlatIndex(20, "l2")
    index.add(vectors)
    flat.add(vectors)
    for query in queries:
        far = np.argsort(((vectors - query) ** 2).sum(axis=1))[-int(4000 * share) :]
        found, exact = index.search(query, 10, filter=far)[1], flat.search(query, 10, filter=far)[1]
        assert recall(found, exact) >= 0.9


@pytest.mark.parametrize("cls", [FlatIndex, HNSWIndex])
def test_bad_input_is_refused_and_changes_nothing(cls):
    index = cls(4)
    index.add(np.eye(4), [5, 6, 7, 8])
    nan, infinite = np.full((1, 4), np.nan), np.full((1, 4), np.inf)
    for bad in (
        nan,
        infinite,
        np.zeros((1, 4)),
        np.full((1, 4), 1e30),
        np.ones((1, 5)),
        [["a"] * 4],
        np.ones((1, 2, 2)),
    ):
        with pytest.raises(DataError):
            index.add(bad)
        with pytest.raises(DataError):
            index.search(bad)
    for ids in ([5], [-1], [1.5], [1, 2], [2**63]):
        with pytest.raises(DataError):
            index.add(np.ones((1, 4)), ids)
    with pytest.raises(DataError, match="twice"):
        index.add(np.ones((2, 4)), [9, 9])
    for ids in ([99], [5, 5], [5, 99]):
        with pytest.raises(DataError):
            index.remove(ids)
    with pytest.raises(ConfigError):
        index.search(np.ones((1, 4)), k=-1)
    with pytest.raises(ConfigError):
        cls(4, "hamming")
    with pytest.raises(ConfigError):
        cls(0)
    assert len(index) == 4
    assert index.search(np.eye(4)[:1], k=9)[1].tolist() == [[5, 6, 7, 8, -1, -1, -1, -1, -1]]
    assert index.search(np.zeros((0, 4)), k=3)[1].shape == (0, 3)
    assert cls(4).search(np.eye(4), k=2)[1].tolist() == [[-1, -1]] * 4
    index.add(np.ones((1, 4)))
    assert 9 in index.ids


def test_memory_is_predicted():
    vectors = clustered(3000, 50)
    index = HNSWIndex(50, threads=2)
    index.add(vectors)
    assert index.memory_bytes() == pytest.approx(HNSWIndex.predict_memory_bytes(3000, 50), rel=0.03)
    for metric in METRICS:
        flat = FlatIndex(50, metric)
        flat.add(vectors)
        assert flat.memory_bytes() == FlatIndex.predict_memory_bytes(3000, 50, metric)
