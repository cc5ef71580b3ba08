"""IVF, PQ and LSH: twins in NumPy, faiss, recall and what is lost where, change, filters, bad input, threads, SIMD."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seedbed import _native
from seedbed.core.errors import ConfigError, DataError
from seedbed.indexes import FlatIndex, Index, IVFIndex, LSHIndex, PQIndex
from seedbed.indexes.collapse import pq_collapse, spectral_bound
from seedbed.indexes.kmeans import nearest
from seedbed.indexes.quantization import ProductQuantizer

from .checks import CHANGES, agrees_with_flat, searched_while_changed
from .test_vectors import LEVELS, METRICS, clustered, recall

CODES = ["flat", "sq8", "pq", "rabitq"]


def flat_of(vectors, metric, ids=None):
    index = FlatIndex(vectors.shape[1], metric)
    index.add(vectors, ids)
    return index


def estimates(index, vectors, queries, bits):
    """The twin of one list's product codes, in float64: each query's score of each vector, and how far the rounding of
    the tables may lead away from it.
    """
    learnt = {name: array.astype(np.float64) for name, array in index._core.training().items()}
    books = learnt["codebooks"].reshape(index.subspaces, 1 << bits, -1)
    dim, parts = index.dim, index.subspaces
    turn = learnt["rotation"].reshape(-1, dim) if learnt["rotation"].size else np.eye(parts * books.shape[2], dim)
    shifted = vectors - learnt["origin"]
    rows = ((shifted - learnt["centroids"]) @ turn.T).reshape(len(vectors), parts, -1)
    codes = ((rows[:, :, None] - books) ** 2).sum(3).argmin(2)
    decoded = np.take_along_axis(books[None], codes[:, :, None, None], axis=2)[:, :, 0]
    scales = (rows**2).sum((1, 2)) / (rows * decoded).sum((1, 2))
    asked = queries - learnt["origin"]
    tables = np.einsum("qpw,pew->qpe", (asked @ turn.T).reshape(len(queries), parts, -1), books)
    sums = np.stack([tables[:, p, codes[:, p]] for p in range(parts)], axis=2)
    entry = np.ptp(tables, axis=2).max(1) / 31 if bits == 4 else np.zeros(len(queries))
    scores = (asked @ learnt["centroids"])[:, None] + scales * sums.sum(2)
    slack = 0.5 * parts * entry[:, None] * np.abs(scales)
    if index.metric == "l2":
        return (asked**2).sum(1)[:, None] + (shifted**2).sum(1) - 2 * scores, 2 * slack
    return scores, slack


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("bits", "subspaces", "rotate"), [(8, 5, False), (4, 6, False), (4, 7, True)])
@pytest.mark.parametrize("metric", METRICS)
def test_product_codes_equal_the_naive_twin(level, bits, subspaces, rotate, metric):
    before = _native.simd_level()
    try:
        _native.set_simd_level(level)
    except ValueError:
        pytest.skip(f"this processor has no {level}")
    try:
        vectors, queries = clustered(300, 17), clustered(4, 17, 1)
        index = PQIndex(17, subspaces, bits, rotate, metric).train(vectors)
        index.add(vectors)
        distances, found = index.search(queries, 300)
    finally:
        _native.set_simd_level(before)
    if metric == "cosine":
        vectors, queries = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (vectors, queries))
    expected, slack = estimates(index, vectors.astype(np.float64), queries.astype(np.float64), bits)
    for row in range(4):
        order = found[row]
        tolerance = slack[row, order] + 2e-4 * np.abs(expected[row]).max()
        assert sorted(order) == list(range(300))
        assert (
            np.abs(distances[row] - np.maximum(expected[row, order], 0 if metric == "l2" else -np.inf)) <= tolerance
        ).all()


def test_quantizers_lose_no_more_than_faiss():
    faiss = pytest.importorskip("faiss")
    vectors = clustered(4000, 32)
    peer = faiss.ProductQuantizer(32, 8, 4)
    peer.train(vectors)
    lost = ((vectors - peer.decode(peer.compute_codes(vectors))) ** 2).sum() / (vectors**2).sum()
    assert ProductQuantizer.train(vectors, 8, 4, rotate=False).distortion(vectors) < 1.02 * lost


def test_a_rotation_helps_where_parts_differ():
    vectors = clustered(3000, 16) * np.repeat([4.0, 1.0, 0.5, 0.1], 4).astype(np.float32)
    plain, rotated = (ProductQuantizer.train(vectors, 4, 4, rotate=rotate) for rotate in (False, True))
    assert rotated.distortion(vectors) < 0.7 * plain.distortion(vectors)
    np.testing.assert_allclose(rotated.rotation.T @ rotated.rotation, np.eye(16), atol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("codes", CODES)
def test_all_lists_by_their_vectors_are_exact_and_losses_tell_apart(metric, codes):
    vectors, queries = clustered(3000, 24), clustered(60, 24, 1)
    index = IVFIndex(24, 40, codes, metric, rerank=True, subspaces=12).train(vectors)
    assert isinstance(index, Index)
    index.add(vectors[:1000])
    index.add(vectors[1000:])
    exact_distances, exact = flat_of(vectors, metric).search(queries, 10)
    distances, found = index.search(queries, 10, probes=40, exact=True)
    np.testing.assert_array_equal(found, exact)
    np.testing.assert_allclose(distances, exact_distances, rtol=1e-4, atol=1e-4)

    by_partition = recall(index.search(queries, 10, probes=6, exact=True)[1], exact)
    assert by_partition > 0.8
    by_codes = recall(index.search(queries, 10, probes=6, candidates=0)[1], exact)
    again = recall(index.search(queries, 10, probes=6, candidates=150)[1], exact)
    assert by_codes <= again + 0.01
    assert again > by_partition - 0.05
    floor = {"flat": 1, "sq8": 0.97, "pq": 0.6, "rabitq": 0.3}[codes]
    assert recall(index.search(queries, 10, probes=40, candidates=0)[1], exact) >= floor
    rough = index.search(queries, 10, probes=40, candidates=0)[0]
    assert np.abs(rough - exact_distances).mean() < 0.5 * np.abs(exact_distances).mean()


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_probed_lists_are_the_nearest(metric):
    """What an exact search within p lists finds, against brute force within the p lists that NumPy says are nearest."""
    vectors, queries = clustered(1500, 12), clustered(25, 12, 1)
    index = IVFIndex(12, 20, metric=metric).train(vectors)
    index.add(vectors)
    if metric == "cosine":
        vectors, queries = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (vectors, queries))
    learnt = index._core.training()
    centroids = learnt["centroids"].reshape(20, 12) + learnt["origin"]
    lists = nearest(vectors, centroids)
    np.testing.assert_array_equal(index.list_sizes, np.bincount(lists, minlength=20))
    squared = ((queries[:, None] - centroids) ** 2).sum(2)
    for row, query in enumerate(queries):
        inside = np.isin(lists, np.argsort(squared[row])[:3])
        near = np.argsort(((vectors - query) ** 2).sum(1) + np.where(inside, 0, np.inf))[:5]
        assert index.search(query, 5, probes=3)[1][0].tolist() == near.tolist()


def test_recall_of_a_partition_is_no_worse_than_faiss():
    faiss = pytest.importorskip("faiss")
    vectors, queries = clustered(5000, 32), clustered(200, 32, 1)
    exact = flat_of(vectors, "l2").search(queries, 10)[1]
    index = IVFIndex(32, 64, metric="l2").train(vectors)
    index.add(vectors)
    peer = faiss.IndexIVFFlat(faiss.IndexFlatL2(32), 32, 64)
    peer.train(vectors)
    peer.add(vectors)
    for probes in (2, 6):
        peer.nprobe = probes
        ours, theirs = index.search(queries, 10, probes=probes)[1], peer.search(queries, 10)[1]
        assert recall(ours, exact) > recall(theirs, exact) - 0.02
    sizes = index.list_sizes.astype(float)
    assert (sizes**2).mean() / sizes.mean() ** 2 < peer.invlists.imbalance_factor() + 0.05


def test_l2_does_not_suffer_from_a_large_common_part():
    vectors, queries = clustered(2000, 16), clustered(40, 16, 1)
    found = []
    for offset in (0, 1000):
        index = IVFIndex(16, 16, "sq8", "l2").train(vectors + offset)
        index.add(vectors + offset)
        found.append(
            recall(index.search(queries + offset, 10, probes=16)[1], flat_of(vectors, "l2").search(queries, 10)[1])
        )
    assert min(found) > 0.9


@pytest.mark.parametrize("metric", METRICS)
def test_hashing_finds_more_with_more_probes(metric):
    vectors, queries = clustered(3000, 20), clustered(60, 20, 1)
    index = LSHIndex(20, 8, 10, metric)
    assert isinstance(index, Index)
    index.add(vectors)
    exact_distances, exact = flat_of(vectors, metric).search(queries, 10)
    recalls = [recall(index.search(queries, 10, probes=probes)[1], exact) for probes in (1, 8, 64, 1024)]
    assert recalls == sorted(recalls)
    assert recalls[0] < 0.9
    assert recalls[-1] == 1
    np.testing.assert_allclose(index.search(queries, 10, probes=1024)[0], exact_distances, rtol=1e-4, atol=1e-4)


def test_hashing_collides_as_often_as_theory_says():
    """One bit of a table differs with probability angle / pi (Charikar 2002)."""
    angle = 0.6
    vectors = np.array([[1, 0, 0], [np.cos(angle), np.sin(angle), 0]], dtype=np.float32)
    index = LSHIndex(3, 1000, 32)
    index.add(vectors)
    one, other = index._core.content()["keys"].reshape(1000, 2).T
    differing = np.unpackbits((one ^ other).view(np.uint8)).mean()
    assert differing == pytest.approx(angle / np.pi, abs=0.01)


def make(kind, dim, vectors, metric="cosine", **options):
    if kind == "lsh":
        return LSHIndex(dim, 6, 6, metric, **options)
    if kind == "pq-index":
        return PQIndex(dim, max(1, dim // 4), 4, False, metric, rerank=True, **options).train(vectors)
    return IVFIndex(dim, 8, kind, metric, rerank=True, **options).train(vectors)


KINDS = [*CODES, "pq-index", "lsh"]
ALL = {"probes": 1 << 20}


def everything(kind):
    return {} if kind == "pq-index" else ALL


@pytest.mark.parametrize("kind", KINDS)
def test_filters_duplicates_and_more_than_there_is(kind):
    vectors = clustered(600, 8)
    same = np.repeat(vectors[:1], 1500, axis=0)
    index = make(kind, 8, vectors)
    index.add(vectors)
    index.add(same)
    flat = flat_of(np.concatenate([vectors, same]), "cosine")
    queries = clustered(20, 8, 1)
    for share in (1.0, 0.3, 0.02, 0.002):
        allowed = np.random.default_rng(0).choice(600, max(1, int(600 * share)), replace=False)
        found = index.search(queries, 10, filter=allowed)[1]
        assert set(found.ravel()) <= {*allowed.tolist(), -1}
        assert recall(found, flat.search(queries, 10, filter=allowed)[1]) > 0.9
    for nothing in ([], [10**12]):
        assert (index.search(queries, 10, filter=nothing)[1] == -1).all()
    found = index.search(vectors[:1], 1501, **everything(kind))[1][0]
    assert {0, *range(600, 2100)} == set(found)
    distances, found = index.search(queries[:2], 5000)
    assert (found[:, :2100] >= 0).all()
    assert (found[:, 2100:] == -1).all()
    assert np.isinf(distances[:, 2100:]).all()
    index.remove(np.arange(599, 2100))
    assert len(index) == 599
    assert not set(index.search(queries, 100)[1].ravel()) & set(range(599, 2100))


@pytest.mark.parametrize("kind", KINDS)
def test_bad_input_is_refused_and_changes_nothing(kind):
    vectors = clustered(64, 4)
    index = make(kind, 4, vectors)
    assert (index.search(vectors[:2], 3)[1] == -1).all()
    index.add(np.eye(4), [5, 6, 7, 8])
    for bad in (np.full((1, 4), np.nan), np.full((1, 4), np.inf), np.zeros((1, 4)), np.ones((1, 5)), [["a"] * 4]):
        with pytest.raises(DataError):
            index.add(bad)
        with pytest.raises(DataError):
            index.search(bad)
    for ids in ([5], [-1], [1.5], [1, 2]):
        with pytest.raises(DataError):
            index.add(np.ones((1, 4)), ids)
    for ids in ([99], [5, 5], [5, 99]):
        with pytest.raises(DataError):
            index.remove(ids)
    with pytest.raises(ConfigError):
        index.search(np.ones((1, 4)), k=-1)
    assert sorted(index.ids) == [5, 6, 7, 8]
    assert index.search(np.zeros((0, 4)), k=3)[1].shape == (0, 3)
    assert sorted(index.search(np.eye(4)[:1], k=9)[1][0]) == [-1] * 5 + [5, 6, 7, 8]
    index.add(np.ones((1, 4)))
    assert 9 in index.ids


def test_training_comes_first_and_needs_enough():
    vectors = clustered(100, 8)
    for index in (IVFIndex(8, 4), PQIndex(8, 2)):
        for call in (index.search, index.add):
            with pytest.raises(ConfigError, match="not trained"):
                call(vectors)
    with pytest.raises(ConfigError, match="at least 200 vectors, not 100"):
        IVFIndex(8, 200).train(vectors)
    with pytest.raises(ConfigError, match="at least 256 vectors, not 100"):
        PQIndex(8, 2).train(vectors)
    index = IVFIndex(8, 4, "pq").train(vectors)
    index.add(vectors)
    with pytest.raises(ConfigError, match="holds vectors already"):
        index.train(vectors)
    with pytest.raises(ConfigError, match="keeps no vectors"):
        index.search(vectors, exact=True)
    for wrong in ({"codes": "zip"}, {"codes": "pq", "bits": 5}, {"codes": "pq", "subspaces": 9}, {"lists": 0}):
        with pytest.raises(ConfigError):
            IVFIndex(8, **wrong)
    for wrong in ({"tables": 0}, {"bits": 33}, {"metric": "hamming"}):
        with pytest.raises(ConfigError):
            LSHIndex(8, **wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_threads_change_nothing(tmp_path, kind):
    vectors, queries = clustered(900, 10), clustered(70, 10, 1)
    found = []
    for name, threads in (("one", 1), ("many", 4)):
        index = make(kind, 10, vectors, threads=threads)
        index.add(vectors)
        index.save(tmp_path / name)
        found.append(index.search(queries, 5, threads=threads))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "many").read_bytes()
    for one, many in zip(*found, strict=True):
        np.testing.assert_array_equal(one, many)


@pytest.mark.parametrize("kind", KINDS)
def test_every_simd_level_finds_the_same(kind):
    before = _native.simd_level()
    vectors, queries = clustered(900, 18), clustered(30, 18, 1)
    found = []
    index = make(kind, 18, vectors)
    try:
        for level in LEVELS:
            try:
                _native.set_simd_level(level)
            except ValueError:
                continue
            if index.ids.size:
                index.remove(index.ids)
            index.add(vectors, np.arange(900))
            found.append(index.search(queries, 10)[1])
    finally:
        _native.set_simd_level(before)
    for other in found[1:]:
        assert recall(other, found[0]) > 0.995


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("rerank", [False, True])
def test_memory_is_predicted(codes, rerank):
    vectors = clustered(4000, 50)
    index = IVFIndex(50, 30, codes, rerank=rerank).train(vectors)
    index.add(vectors)
    predicted = IVFIndex.predict_memory_bytes(4000, 50, 30, codes, rerank=rerank)
    assert index.memory_bytes() == pytest.approx(predicted, rel=0.05)


def test_product_codes_collapse_as_bits_fall_and_stay_above_the_bound():
    random = np.random.default_rng(0)
    table = pq_collapse(random.normal(size=(3000, 16)), random.normal(size=(30, 16)), metric="l2", bits=4)
    assert [row.subspaces for row in table] == [8, 4, 2, 1]
    assert [row.bits_per_dimension for row in table] == [2, 1, 0.5, 0.25]
    for above, below in pairwise(table):
        assert above.lost < below.lost
        assert above.recall > below.recall
    for row in table:
        assert row.gaussian < row.lost < 2 * row.gaussian
        assert row.spectral == pytest.approx(row.gaussian, rel=0.03)


def test_the_spectral_bound_fills_with_water():
    assert spectral_bound(np.full(8, 3.0), 1.5) == pytest.approx(2**-3)
    # Two bits for two directions: both go to the first, whose variance falls to a sixteenth, still above the other's.
    assert spectral_bound(np.array([1.0, 0.01]), 1) == pytest.approx((1 / 16 + 0.01) / 1.01)
    # Both directions above the level: the product of the errors is 4 * 1 / 2^8.
    assert spectral_bound(np.array([4.0, 1.0]), 2) == pytest.approx(2 * np.sqrt(4 / 2**8) / 5)
    assert spectral_bound(np.array([1.0, 0.0]), 0) == 1


@pytest.mark.parametrize("kind", ["pq", "sq8", "lsh"])
def test_searches_while_adding_and_removing(kind):
    vectors = clustered(3000, 16)
    searched_while_changed(make(kind, 16, vectors), vectors, step=250)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(KINDS), CHANGES)
def test_any_sequence_of_changes_agrees_with_flat(kind, changes):
    options = everything(kind) | ({} if kind == "lsh" else {"candidates": 1000})
    agrees_with_flat(make(kind, 3, clustered(60, 3), "l2"), changes, most=80, tolerance=1e-4, **options)
