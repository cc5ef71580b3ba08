"""Late interaction: MaxSim against a double loop, codes against a NumPy twin, searches against all that is decoded."""

from __future__ import annotations

import numpy as np
import pytest

from seedbed.core.errors import ConfigError, DataError
from seedbed.core.ragged import Ragged
from seedbed.indexes import MultiVectorIndex, maxsim

from .test_bm25 import at_every_level

DIM = 24


def documents(count: int, seed: int = 0, dim: int = DIM, words: int = 40) -> list[np.ndarray]:
    """Rows of tokens about common directions, as words are; every tenth document has none."""
    random = np.random.default_rng(seed)
    directions = np.random.default_rng(99).normal(size=(words, dim))
    rows = []
    for i in range(count):
        length = 0 if i % 10 == 9 else int(random.integers(1, 20))
        row = directions[random.integers(0, words, length)] + 0.4 * random.normal(size=(length, dim))
        rows.append((row / np.linalg.norm(row, axis=1, keepdims=True)).astype(np.float32))
    return rows


def naive_maxsim(query: np.ndarray, document: np.ndarray) -> float:
    if len(query) == 0 or len(document) == 0:
        return -np.inf
    return sum(max(float(np.dot(q, d)) for d in document.astype(np.float64)) for q in query.astype(np.float64))


@pytest.mark.parametrize("dim", [1, 7, 24, 128])
def test_maxsim_equals_the_double_loop(dim):
    random = np.random.default_rng(dim)
    queries = [random.normal(size=(length, dim)).astype(np.float32) for length in (1, 5, 32, 33, 70, 0)]
    texts = documents(45, dim=dim)
    halves = [row.astype(np.float16) for row in texts]
    for level in at_every_level():
        for rows in (texts, halves):
            expected = [[naive_maxsim(query, row) for row in rows] for query in queries]
            for given in (rows, Ragged.from_rows(rows, dtype=rows[0].dtype)):
                found = maxsim(queries, given, threads=2)
                np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5, err_msg=level)


def test_every_half_is_widened_as_numpy_does():
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)].reshape(-1, 1)
    one = np.ones((1, 1), dtype=np.float32)
    for level in at_every_level():
        found = maxsim([one], list(halves.reshape(-1, 1, 1)))[0]
        np.testing.assert_array_equal(found, halves[:, 0].astype(np.float32), err_msg=level)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("dim", [1, 24, 100, 128])
def test_codes_stand_for_the_nearest_weights(bits, dim):
    """Decoded by the formula from the saved arrays: centroid plus weight, normalised."""
    index = MultiVectorIndex(dim, bits, threads=1)
    rows = documents(60, dim=dim)
    index.add(rows)
    state = index._store.state()
    group = 16 * (8 // bits)
    width = -(-dim // group) * group
    centroids = state["centroids"].reshape(-1, width)[:, :dim]
    assert (np.diff(state["cutoffs"]) >= 0).all()
    packed = state["codes"].reshape(-1, width // group, 16)
    codes = np.stack([packed >> shift & (2**bits - 1) for shift in range(0, 8, bits)], axis=2)
    codes = codes.reshape(len(packed), width)[:, :dim]
    tokens = np.concatenate(rows)
    nearest = centroids[state["token_centroids"]]
    distances = ((tokens[:, None] - centroids) ** 2).sum(axis=2)
    np.testing.assert_allclose(((tokens - nearest) ** 2).sum(axis=1), distances.min(axis=1), atol=1e-5)
    error = np.abs(tokens - nearest - state["weights"][codes])
    others = np.abs((tokens - nearest)[..., None] - state["weights"]).min(axis=2)
    np.testing.assert_allclose(error, others, atol=1e-6)
    expected = nearest + state["weights"][codes]
    norms = np.linalg.norm(expected, axis=1, keepdims=True)
    expected = np.divide(expected, norms, out=np.zeros_like(expected), where=norms > 0)
    for level in at_every_level():
        found = np.concatenate([index.decoded(i) for i in range(60)])
        np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=level)


def exact_answers(index, live, queries, k):
    """By the double loop over all that the index decodes."""
    scores = np.full((len(queries), k), -np.inf)
    ids = np.full((len(queries), k), -1)
    decoded = {key: index.decoded(key) for key in live}
    for row, query in enumerate(queries):
        best = sorted(((-naive_maxsim(query, tokens), key) for key, tokens in decoded.items() if len(tokens)))[:k]
        scores[row, : len(best)] = [-score for score, _ in best]
        ids[row, : len(best)] = [key for _, key in best]
    return scores, ids


@pytest.mark.parametrize("threads", [1, 2])
def test_searches_of_everything_are_exact_through_additions_and_removals(threads):
    random = np.random.default_rng(3)
    index, live = MultiVectorIndex(DIM, centroids=32, threads=threads), set[int]()
    rows = documents(200)
    queries = [row[:5] for row in documents(6, seed=5)[:5]]
    for start in range(0, 200, 50):
        index.add(rows[start : start + 50], np.arange(start, start + 50) * 2)
        live |= set(range(2 * start, 2 * start + 100, 2))
        gone = random.choice(sorted(live), 20, replace=False)
        index.remove(gone)
        live -= set(gone.tolist())
        assert len(index) == len(live)
        for level in at_every_level():
            scores, ids = index.search(queries, 10, probes=32, candidates=1000, threads=threads)
            expected = exact_answers(index, live, queries, 10)
            np.testing.assert_allclose(scores, expected[0], rtol=1e-5, err_msg=level)
            np.testing.assert_array_equal(ids, expected[1], err_msg=level)
        allowed = random.choice(400, 60, replace=False)
        found = index.search(queries, 10, filter=allowed)[1]
        expected = exact_answers(index, live & set(allowed.tolist()), queries, 10)[1]
        np.testing.assert_array_equal(found, expected)
        assert index.search(queries, 300)[1].shape == (5, 300)
        np.testing.assert_array_equal(index.search(queries, 300)[1], exact_answers(index, live, queries, 300)[1])


def test_few_probes_and_candidates_find_nearly_all():
    rows = documents(1500, dim=64, words=1000)
    random = np.random.default_rng(7)
    queries = [row[::3] + 0.05 * random.normal(size=row[::3].shape) for row in rows[:300] if len(row) >= 12]
    index = MultiVectorIndex(64, threads=2)
    index.add(rows)
    exact = np.argsort(-maxsim(queries, rows), axis=1)[:, :3]
    for probes, candidates, floor in ((4, 32, 0.7), (16, 128, 0.9)):
        found = index.search(queries, 3, probes=probes, candidates=candidates)[1]
        assert (found[:, 0] == exact[:, 0]).mean() >= 0.99
        recall = np.mean([len(set(one) & set(other)) for one, other in zip(found, exact, strict=True)]) / 3
        assert recall >= floor


def test_a_stream_within_little_memory_is_indexed_like_a_list():
    rows = documents(400)
    streamed = MultiVectorIndex(128, memory=1 << 20)  # 341 tokens at a time
    wide = [np.pad(row, ((0, 0), (0, 104))) for row in rows]
    streamed.train(wide[::2])
    streamed.add(iter(wide))
    at_once = MultiVectorIndex(128, memory=1 << 20).train(wide[::2])
    at_once.add(wide)
    assert len(streamed) == len(at_once) == 400
    queries = [row for row in wide[:20] if len(row)]
    for one, other in zip(streamed.search(queries), at_once.search(queries), strict=True):
        np.testing.assert_array_equal(one, other)


def test_bad_input_changes_nothing_and_empty_input_is_answered():
    index = MultiVectorIndex(DIM)
    rows = documents(30)
    nothing = np.zeros((0, DIM), dtype=np.float32)
    assert index.search([rows[0], nothing], 3)[1].tolist() == [[-1] * 3] * 2
    index.add([])
    index.add([nothing, []])  # documents without tokens need no training
    index.add(rows)
    assert len(index) == 32
    assert index.search([nothing], 3)[1].tolist() == [[-1] * 3]
    assert index.search(rows[0], 1)[1].tolist() == [[2]]
    assert np.isneginf(index.search(rows[:1], 40)[0][0, 27:]).all()  # 27 of them have tokens
    bad = [
        [np.ones((3, DIM + 1))],
        [np.ones((3, DIM, 1))],
        [np.full((2, DIM), np.nan)],
        [np.zeros((2, DIM))],
        [np.array([["a"] * DIM])],
    ]
    with pytest.raises(DataError, match="list of arrays"):
        index.add(None)
    for items in bad:
        with pytest.raises(DataError):
            index.add([rows[0], *items])
        with pytest.raises(DataError):
            index.search(items)
    for ids in ([0], [5, 5], [-1]):
        with pytest.raises(DataError):
            index.add(rows[: len(ids)], ids)
    with pytest.raises(DataError):
        index.remove([1000])
    with pytest.raises(DataError):
        index.decoded(1000)
    with pytest.raises(DataError, match="already"):
        index.train(rows)
    assert len(index) == 32
    for arguments in ({"bits": 3}, {"centroids": 0}, {"memory": 10}, {"dim": 0}):
        with pytest.raises(ConfigError):
            MultiVectorIndex(**{"dim": DIM, **arguments})
    for one in (np.ones((1, 4)), np.full((1, 3), np.inf), np.full((1, 3), np.nan, dtype=np.float16), np.ones(3)):
        with pytest.raises(DataError):
            maxsim([np.ones((1, 3))], [np.ones((1, 3)), one])
    assert maxsim([], rows).shape == (0, 30)
    assert maxsim(rows[:2], []).shape == (2, 0)


def test_codes_in_a_file_are_the_codes_in_memory(tmp_path):
    rows = documents(300)
    spilled, held = (MultiVectorIndex(DIM, spill=folder).train(rows) for folder in (tmp_path, None))
    for index in (spilled, held):
        for start in range(0, 300, 60):
            index.add(rows[start : start + 60])
        index.remove(range(0, 300, 3))
    assert list(tmp_path.iterdir()) == []
    queries = [row for row in rows[:20] if len(row)]
    for one, other in zip(spilled.search(queries), held.search(queries), strict=True):
        np.testing.assert_array_equal(one, other)
    spilled.save(tmp_path / "spilled")
    held.save(tmp_path / "held")
    assert (tmp_path / "spilled").read_bytes() == (tmp_path / "held").read_bytes()
    with pytest.raises(ConfigError, match="No such file"):
        MultiVectorIndex(DIM, spill=tmp_path / "missing")
