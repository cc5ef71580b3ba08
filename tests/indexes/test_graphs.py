"""What HNSW and the quantised graph must both do: determinism, change, copies, filters, threads, SIMD levels."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seedbed.indexes import FlatIndex, GraphIndex, HNSWIndex

from .checks import CHANGES, agrees_with_flat, searched_while_changed
from .test_vectors import LEVELS, clustered, recall

GRAPHS = {"hnsw": HNSWIndex, **{codes: partial(GraphIndex, codes=codes) for codes in ("sq8", "rabitq")}}


@pytest.fixture(params=GRAPHS)
def graph(request):
    return GRAPHS[request.param]


def test_every_simd_level_finds_the_same(simd, graph):
    vectors, queries = clustered(1000, 33), clustered(30, 33, 1)
    found = []
    for level in LEVELS:
        try:
            simd(level)
        except ValueError:
            continue
        index = graph(33, "l2", threads=1, ef_construction=60)
        index.add(vectors)
        found.append(index.search(queries, 10, ef=200)[1])
    assert len(found) >= 1
    for other in found[1:]:
        assert recall(other, found[0]) > 0.999


@pytest.mark.parametrize("graph", [HNSWIndex, GraphIndex])
def test_one_thread_is_deterministic_and_many_keep_recall(tmp_path, graph):
    vectors, queries = clustered(2500, 24), clustered(60, 24, 1)
    for name in ("a", "b"):
        index = graph(24, threads=1, seed=3)
        index.add(vectors)
        index.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    flat, parallel = FlatIndex(24), graph(24, threads=4)
    flat.add(vectors)
    parallel.add(vectors)
    assert len(parallel) == 2500
    assert recall(parallel.search(queries, 10, ef=100)[1], flat.search(queries, 10)[1]) > 0.98


def test_rounds_of_deletion_and_insertion_keep_recall(graph):
    random = np.random.default_rng(5)
    index, flat = graph(16, "l2", ef_construction=80, threads=1), FlatIndex(16, "l2")
    queries = clustered(60, 16, 1)
    for turn in range(12):
        fresh = clustered(300, 16, 100 + turn)
        index.add(fresh)
        flat.add(fresh)
        if turn > 2:
            gone = random.choice(flat.ids, 280, replace=False)
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


@pytest.mark.parametrize("graph", [HNSWIndex, GraphIndex])
def test_thousands_of_equal_vectors(graph):
    same, others = np.ones((1500, 8), dtype=np.float32), clustered(500, 8)
    index = graph(8, threads=1)
    index.add(same)
    index.add(others)
    found = index.search(same[:1], 1500, ef=10)[1][0]
    assert sorted(found) == list(range(1500))
    assert recall(index.search(others, 1, ef=50)[1], np.arange(1500, 2000)[:, None]) > 0.99
    index.remove(np.arange(0, 1499))
    assert index.search(same[:1], 1)[1][0, 0] == 1499
    assert len(index) == 501


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.02, 0.001])
def test_filters_keep_recall_at_every_selectivity(graph, share):
    vectors, queries = clustered(3000, 20), clustered(40, 20, 1)
    index, flat = graph(20, threads=1, ef_construction=60), FlatIndex(20)
    index.add(vectors)
    flat.add(vectors)
    allowed = np.random.default_rng(0).choice(3000, max(1, int(3000 * share)), replace=False)
    found, exact = index.search(queries, 10, filter=allowed)[1], flat.search(queries, 10, filter=allowed)[1]
    assert set(found.ravel()) <= {*allowed.tolist(), -1}
    assert recall(found, exact) > 0.97
    assert (index.search(queries, 10, filter=[])[1] == -1).all()
    assert (index.search(queries, 10, filter=[10**12])[1] == -1).all()


@pytest.mark.parametrize("graph", [HNSWIndex, GraphIndex])
def test_searches_while_adding_and_removing(graph):
    searched_while_changed(graph(16, threads=1, ef_construction=60), clustered(3000, 16), step=500)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([partial(HNSWIndex, m=2), *list(GRAPHS.values())[1:]]), CHANGES)
def test_any_sequence_of_changes_agrees_with_flat(new, changes):
    agrees_with_flat(new(3, "l2", ef_construction=8, threads=1), changes, most=30, tolerance=1e-3, ef=40)


@pytest.mark.parametrize("removed", [False, True])
def test_a_trace_is_the_walk_of_the_search(removed):
    vectors, queries = clustered(1500, 12), clustered(5, 12, 1)
    index = HNSWIndex(12, "l2", m=6, threads=1)
    index.add(vectors, np.arange(1500) * 3)
    if removed:
        index.remove(np.arange(0, 1500, 7) * 3)
    arrays, entry, _ = index._core.state()
    labels, levels = arrays["labels"], arrays["levels"]
    slot_of = {int(label): slot for slot, label in enumerate(labels)}
    links = arrays["links"].reshape(-1, 12)
    for query in queries:
        trace = index.trace(query, ef=40)
        seen = set(trace.ids.tolist())
        assert trace.ids[0] == labels[entry]
        assert trace.origins[0] == -1
        assert trace.levels[0] == levels[entry]
        assert (np.diff(trace.levels) <= 0).all()
        np.testing.assert_allclose(trace.distances, ((vectors[trace.ids // 3] - query) ** 2).sum(1), rtol=1e-4)
        lowest = trace.levels == 0
        assert len(set(trace.ids[lowest].tolist())) == lowest.sum()  # each is looked at once there
        for found, origin in zip(trace.ids[lowest], trace.origins[lowest], strict=True):
            assert origin in seen
            assert slot_of[int(found)] in links[slot_of[int(origin)]]
        assert set(index.search(query, 10, ef=40)[1][0].tolist()) <= seen
        assert len(seen) < 900
