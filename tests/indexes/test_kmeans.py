"""k-means: a naive twin, faiss and scikit-learn on real text, seeds, threads, SIMD levels, balance, degenerate data."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from seedbed import _native
from seedbed.core.errors import ConfigError, DataError
from seedbed.indexes.kmeans import kmeans, nearest

LEVELS = ["scalar", "neon", "avx2", "avx512", "avx512vnni"]


@pytest.fixture(scope="module")
def lines(shared_data) -> np.ndarray:
    """Real text as vectors: counts of hashed letter triples of Shakespeare's lines, (6000, 48)."""
    texts = [line for line in shared_data("text/tinyshakespeare.txt").read_text().splitlines() if len(line) > 30][:6000]
    signs = np.random.default_rng(0).normal(size=(4096, 48)).astype(np.float32)
    rows = [signs[[zlib.crc32(text[i : i + 3].encode()) % 4096 for i in range(len(text) - 2)]].sum(0) for text in texts]
    return np.array(rows) / np.linalg.norm(rows, axis=1, keepdims=True)


def lloyd(rows: np.ndarray, centroids: np.ndarray):
    """The twin: one round, in float64."""
    rows, centroids = rows.astype(np.float64), centroids.astype(np.float64)
    squared = ((rows[:, None] - centroids) ** 2).sum(2)
    assigned = squared.argmin(1)
    means = np.array(
        [rows[assigned == c].mean(0) if (assigned == c).any() else centroids[c] for c in range(len(centroids))]
    )
    return assigned, squared.min(1).sum(), means


def test_result_is_a_fixed_point_of_the_naive_twin():
    rows = np.random.default_rng(0).normal(size=(700, 5)).astype(np.float32) + 100
    found = kmeans(rows, 9, rounds=200)
    assigned, inertia, means = lloyd(rows, found.centroids)
    np.testing.assert_array_equal(found.assignments, assigned)
    assert found.inertia == pytest.approx(inertia, rel=1e-5)
    assert lloyd(rows, means)[1] > inertia * 0.999  # nothing is left to gain
    assert found.rounds < 200


def test_inertia_is_no_worse_than_the_peers(lines):
    faiss, cluster = pytest.importorskip("faiss"), pytest.importorskip("sklearn.cluster")
    ours = [kmeans(lines, 64, rounds=20, seed=seed).inertia for seed in range(3)]
    theirs = []
    for seed in range(3):
        peer = faiss.Kmeans(48, 64, niter=20, seed=seed, max_points_per_centroid=1000)
        peer.train(lines)
        theirs.append(float(peer.index.search(lines, 1)[0].sum()))
    sklearn = [cluster.KMeans(64, max_iter=20, n_init=1, random_state=seed).fit(lines).inertia_ for seed in range(3)]
    assert np.mean(ours) < 1.003 * min(np.mean(theirs), np.mean(sklearn))


def test_seeding_finds_separate_groups():
    """Thirty far groups of very different size: a seeding at random misses some of them."""
    random = np.random.default_rng(1)
    centres = random.normal(size=(30, 6)) * 50
    rows = np.concatenate([c + random.normal(size=(30 + 40 * (i % 7), 6)) for i, c in enumerate(centres)])
    found = kmeans(rows, 30, rounds=30)
    assert found.inertia < 1.3 * 6 * len(rows)


@pytest.mark.parametrize("balanced", [False, True])
def test_threads_change_nothing_and_seeds_do(lines, balanced):
    one, many = (kmeans(lines, 50, rounds=6, balanced=balanced, threads=threads) for threads in (1, 4))
    np.testing.assert_array_equal(one.centroids, many.centroids)
    np.testing.assert_array_equal(one.assignments, many.assignments)
    assert not np.array_equal(one.centroids, kmeans(lines, 50, rounds=6, seed=1, balanced=balanced).centroids)


def test_balanced_clusters_are_of_like_size_and_fit_as_well(lines):
    def uneven(assignments: np.ndarray) -> float:
        sizes = np.bincount(assignments, minlength=100).astype(float)
        return float((sizes**2).mean() / sizes.mean() ** 2)  # 1: all equal

    plain, balanced = kmeans(lines, 100), kmeans(lines, 100, balanced=True)
    assert uneven(balanced.assignments) - 1 < 0.5 * (uneven(plain.assignments) - 1)
    assert balanced.inertia < 1.01 * plain.inertia


def test_spherical_centroids_are_unit_vectors(lines):
    found = kmeans(lines * 3, 20, spherical=True)
    np.testing.assert_allclose(np.linalg.norm(found.centroids, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(found.assignments, (lines @ found.centroids.T).argmax(1))


def test_fewer_values_than_clusters():
    rows = np.repeat(np.eye(3, 4, dtype=np.float32), 500, axis=0)
    found = kmeans(rows, 8)
    assert found.inertia == 0
    assert np.isfinite(found.centroids).all()
    assert kmeans(rows[:1], 1).centroids.tolist() == rows[:1].tolist()


def test_bad_input_is_refused():
    with pytest.raises(ConfigError, match="at least as many"):
        kmeans(np.eye(3), 4)
    with pytest.raises(ConfigError):
        kmeans(np.eye(3), 0)
    with pytest.raises(DataError):
        kmeans(np.full((3, 3), np.nan), 2)


@pytest.mark.parametrize("level", LEVELS)
def test_products_and_nearest_at_every_level(level):
    before = _native.simd_level()
    try:
        _native.set_simd_level(level)
    except ValueError:
        pytest.skip(f"this processor has no {level}")
    try:
        random = np.random.default_rng(3)
        for count, others, dim in [(1, 1, 1), (13, 33, 7), (200, 70, 40), (97, 31, 100)]:
            rows, centroids = (random.normal(size=(n, dim)).astype(np.float32) for n in (count, others))
            np.testing.assert_allclose(_native.products(rows, centroids, 2), rows @ centroids.T, rtol=1e-4, atol=1e-4)
            expected = ((rows[:, None] - centroids) ** 2).sum(2).argmin(1)
            np.testing.assert_array_equal(nearest(rows, centroids), expected)
            np.testing.assert_array_equal(nearest(centroids, np.concatenate([centroids, centroids])), np.arange(others))
    finally:
        _native.set_simd_level(before)
