"""The quantised graph: recall and distances for both codes, walks without codes, dimensions, settings, bad files."""

from __future__ import annotations

import numpy as np
import pytest

from seedbed.core.errors import ConfigError, DataError, FormatError
from seedbed.indexes import FlatIndex, GraphIndex, load_index
from seedbed.indexes.storage import read_sections, write_sections

from .test_vectors import METRICS, clustered, naive, recall

CODES = ["sq8", "rabitq"]


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


def test_vectors_added_one_by_one_are_found():
    vectors = clustered(400, 12)
    index = GraphIndex(12, threads=1, ef_construction=40)
    for i, vector in enumerate(vectors):
        index.add(vector[None], [i])
    assert recall(index.search(vectors, 1, ef=32)[1], np.arange(400)[:, None]) > 0.99


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
        ("centre", 0, np.nan),
        ("centre", 0, 1e30),  # so far that distances from it are infinite
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
    for name in ("high", "low", "shapes"):  # any numbers are numbers: answers, not crashes
        arrays = dict(stored.arrays)
        noise = random.integers(0, 256, arrays[name].nbytes, dtype=np.uint8)
        arrays[name] = noise.view(arrays[name].dtype).reshape(arrays[name].shape)
        write_sections(path, stored.kind, stored.settings, arrays)
        load_index(path).search(clustered(5, 8), 5)
