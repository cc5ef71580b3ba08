"""Measures of a space against their definitions, written out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from seedbed.core.errors import DataError
from seedbed.embeddings import geometry

RANDOM = np.random.default_rng(0)
VECTORS = (RANDOM.normal(size=(60, 7)) * [4, 2, 1, 1, 0.5, 0.2, 0.1] + 0.7).astype(np.float32)


def units(rows):
    return [row / math.sqrt(row @ row) for row in rows.astype(float)]


def test_measures_follow_their_definitions():
    rows = units(VECTORS)
    pairs = [(i, j) for i in range(60) for j in range(i)]
    assert geometry.mean_cosine(VECTORS) == pytest.approx(np.mean([rows[i] @ rows[j] for i, j in pairs]))
    spread = [math.exp(-2 * ((rows[i] - rows[j]) ** 2).sum()) for i, j in pairs]
    assert geometry.uniformity(VECTORS) == pytest.approx(math.log(np.mean(spread)))
    assert geometry.alignment(VECTORS, VECTORS[::-1]) == pytest.approx(
        np.mean([((a - b) ** 2).sum() for a, b in zip(rows, rows[::-1], strict=True)])
    )
    exact = VECTORS.astype(float)
    directions = np.linalg.eigh(exact.T @ exact)[1].T
    partition = [sum(math.exp(a @ x) for x in exact) for a in directions]
    assert geometry.partition_isotropy(VECTORS) == pytest.approx(min(partition) / max(partition))


def test_isoscore_is_that_of_its_five_steps():
    # Rudman et al. (2022), algorithm 1.
    width = VECTORS.shape[1]
    variances = np.linalg.eigvalsh(np.cov(VECTORS.astype(float).T))
    scaled = math.sqrt(width) * variances / np.linalg.norm(variances)
    defect = np.linalg.norm(scaled - 1) / math.sqrt(2 * (width - math.sqrt(width)))
    share = (width - defect**2 * (width - math.sqrt(width))) ** 2 / width**2
    assert geometry.isoscore(VECTORS) == pytest.approx((width * share - 1) / (width - 1))
    assert geometry.isoscore(np.eye(50, dtype=np.float32)) == pytest.approx(1, abs=0.03)


def test_straightening():
    white = geometry.whitening(VECTORS)(VECTORS)
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(7), atol=1e-4)
    flat = np.concatenate([VECTORS, np.zeros((60, 2), np.float32)], axis=1)
    assert geometry.whitening(flat)(flat).shape == (60, 7)
    top = geometry.all_but_the_top(VECTORS, 2)
    spread = np.linalg.eigvalsh(np.cov(top(VECTORS).T))
    expected = np.linalg.eigvalsh(np.cov(VECTORS.T))
    np.testing.assert_allclose(spread, [0, 0, *expected[:5]], atol=1e-4)
    assert abs(geometry.centring(VECTORS)(VECTORS).mean()) < 1e-6
    for bad in (VECTORS[:1], VECTORS * np.nan, VECTORS[0]):
        with pytest.raises(DataError):
            geometry.isoscore(bad)
    with pytest.raises(DataError, match="no direction"):
        geometry.mean_cosine(np.zeros((3, 4)))
