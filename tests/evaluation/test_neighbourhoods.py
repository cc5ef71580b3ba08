"""Contrast, intrinsic dimension and hubness against their definitions and against sets whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from seedbed.core.errors import DataError
from seedbed.evaluation.neighbourhoods import (
    intrinsic_dimension,
    measure_neighbourhoods,
    occurrences,
    relative_contrast,
    skewness,
)


def test_intrinsic_dimension_is_the_likelihood_estimate():
    rows = np.array([[1.0, 2.0, 4.0], [0.0, 1.0, 2.0], [3.0, 3.0, 3.0], [0.0, 0.0, 5.0]])
    found = intrinsic_dimension(rows)
    np.testing.assert_allclose(found[:2], [2 / (np.log(4) + np.log(2)), 1 / np.log(2)])
    assert np.isnan(found[2:]).all()  # all alike, and copies alone


@pytest.mark.parametrize("dim", [2, 5, 10])
def test_intrinsic_dimension_of_a_plane_within_a_larger_space(dim):
    random = np.random.default_rng(0)
    flat = random.uniform(size=(4000, dim)) @ np.linalg.qr(random.normal(size=(30, dim)))[0].T
    found = measure_neighbourhoods(flat.astype(np.float32), "l2", k=20, most=1500).summary()
    assert abs(found["intrinsic_dimension"] / dim - 1) < 0.2


def test_contrast_and_hubs_by_brute_force():
    vectors = np.random.default_rng(1).normal(size=(300, 8)).astype(np.float32)
    found = measure_neighbourhoods(vectors, "l2", k=7, hub_k=4, most=300)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    by_cosine = measure_neighbourhoods(vectors, "cosine", k=7, hub_k=4, most=300)
    for rows, result in ((vectors, found), (unit, by_cosine)):
        distances = np.linalg.norm(rows[:, None].astype(np.float64) - rows[None], axis=2)
        order = np.argsort(distances + np.diag(np.full(300, np.inf)), axis=1)
        counts = np.zeros(300, dtype=int)
        for row in order:
            for other in row[:4]:
                counts[other] += 1
        np.testing.assert_array_equal(result.occurrences, counts)
        nearest = np.sort(distances, axis=1)[:, 1]
        assert np.isin(np.round(result.distances, 4), np.round(nearest, 4)).mean() > 0.98
        assert abs(result.pairs.mean() / distances.mean() - 1) < 0.05
        seventh = np.median(distances.mean(1) / np.sort(distances, axis=1)[:, 7])
        assert abs(result.summary()["relative_contrast"] / seventh - 1) < 0.1
        np.testing.assert_allclose(result.summary()["hub_skewness"], stats.skew(counts))
        assert result.summary()["anti_hubs"] == (counts == 0).mean()


def test_small_functions():
    np.testing.assert_allclose(relative_contrast([[1.0, 2.0], [0.0, 0.0]], [6.0, 1.0]), [3.0, np.inf])
    np.testing.assert_array_equal(occurrences(np.array([[0, 2], [2, -1]]), 4), [1, 0, 2, 0])
    assert skewness([3, 3, 3]) == 0
    with pytest.raises(DataError, match="no neighbourhoods"):
        measure_neighbourhoods(np.ones((2, 3), dtype=np.float32))


def test_a_vector_is_not_its_own_neighbour_even_among_copies():
    vectors = np.repeat(np.eye(6, dtype=np.float32), 20, axis=0)
    found = measure_neighbourhoods(vectors, "cosine", k=30, hub_k=3, most=120)
    assert (found.distances == 0).all()
    assert found.occurrences.sum() == 120 * 3
    assert np.isnan(found.dimensions).all()
