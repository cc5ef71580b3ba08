"""Learned sparse vectors in postings against products of whole rows, through additions and removals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seedbed.core.errors import ConfigError, DataError
from seedbed.indexes import SparseIndex, load_index

WIDTH = 12
vectors = st.dictionaries(st.integers(0, WIDTH - 1), st.floats(2**-10, 8, width=32), max_size=6)


def pairs(rows):
    return [(np.array(list(row), dtype=np.int64), list(row.values())) for row in rows]


def dense(rows):
    out = np.zeros((len(rows), WIDTH))
    for place, row in enumerate(rows):
        out[place, list(row)] = list(row.values())
    return out


@settings(max_examples=60, deadline=None)
@given(
    st.lists(vectors, max_size=12), st.lists(vectors, max_size=9), st.lists(vectors, min_size=1, max_size=3), st.data()
)
def test_searches_are_products(first, second, queries, data):
    index, held = SparseIndex(WIDTH), {}
    for start, rows in ((0, first), (100, second)):
        index.add(pairs(rows), np.arange(start, start + len(rows)))
        held |= dict(enumerate(rows, start))
        gone = data.draw(st.sets(st.sampled_from(sorted(held))) if held else st.just(set()))
        index.remove(sorted(gone))
        held = {key: row for key, row in held.items() if key not in gone}
    assert len(index) == len(held)
    allowed = data.draw(st.none() | st.lists(st.integers(0, 110), max_size=8))
    keys = [key for key in held if allowed is None or key in allowed]
    expected = dense(queries) @ dense([held[key] for key in keys]).T
    scores, ids = index.search(pairs(queries), 30, filter=allowed)
    for products, found, named in zip(expected, scores, ids, strict=True):
        assert sorted(named[named >= 0]) == [key for key, one in zip(keys, products, strict=True) if one > 0]
        np.testing.assert_allclose(found[named >= 0], np.sort(products[products > 0])[::-1], rtol=1e-6)


def test_the_best_of_many_are_the_best(tmp_path):
    random = np.random.default_rng(3)
    rows = [(random.choice(500, 40, replace=False), random.exponential(size=40)) for _ in range(9000)]
    table = np.zeros((9000, 500), dtype=np.float32)
    for place, (numbers, weights) in enumerate(rows):
        table[place, numbers] = weights
    index = SparseIndex(500)
    for start in range(0, 9000, 2500):
        index.add(rows[start : start + 2500])
    index.save(tmp_path / "index")
    queries = rows[:20]
    expected = np.sort(table[:20].astype(np.float64) @ table.T, axis=1)[:, ::-1][:, :10]
    for one in (index, load_index(tmp_path / "index")):
        np.testing.assert_allclose(one.search(queries, 10)[0], expected, rtol=1e-6)


def test_what_is_no_vector_is_refused():
    index = SparseIndex(WIDTH)
    for numbers, weights in (([1, 1], [1, 2]), ([1], [0]), ([1], [-1]), ([1], [np.nan]), ([WIDTH], [1]), ([1, 2], [1])):
        with pytest.raises(DataError):
            index.add([([3], [1.0]), (np.array(numbers), weights)])
        assert len(index) == 0
    with pytest.raises(ConfigError):
        SparseIndex(0)
