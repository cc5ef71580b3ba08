"""What holds for every index of vectors that can be changed: the tests of each kind call it with an index of theirs."""

from __future__ import annotations

import threading

import numpy as np
from hypothesis import strategies as st

from seedbed.indexes import FlatIndex

CHANGES = st.lists(st.tuples(st.sampled_from(["add", "remove", "search"]), st.integers(0, 2**31)), max_size=12)


def searched_while_changed(index, vectors, step: int) -> None:
    """Adds `vectors` (the first 500 before all) and removes 200 of every `step`, while two threads search for some."""
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
    for start in range(500, len(vectors), step):
        index.add(vectors[start : start + step])
        index.remove(np.arange(start - 200, start))
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(index) == len(vectors) - 200 * (len(vectors) - 500) // step


def agrees_with_flat(index, changes, most: int, tolerance: float, **options) -> None:
    """Few vectors, at most `most` at once and some of them equal: with `options` a search of all of them is exact."""
    flat = FlatIndex(3, "l2")
    for action, seed in changes:
        random = np.random.default_rng(seed)
        if action == "add":
            rows = random.integers(0, 3, (int(random.integers(0, most)), 3)).astype(np.float32)
            index.add(rows)
            flat.add(rows)
        elif action == "remove" and len(flat):
            gone = random.choice(flat.ids, int(random.integers(0, len(flat) + 1)), replace=False)
            index.remove(gone)
            flat.remove(gone)
        assert sorted(index.ids) == sorted(flat.ids)
        query = random.normal(size=(2, 3)).astype(np.float32)
        found, expected = index.search(query, 5, **options), flat.search(query, 5)
        np.testing.assert_allclose(found[0], expected[0], rtol=tolerance, atol=tolerance)
