"""The codes that indexes are made of, at every SIMD level: rotation, fast scan, RaBitQ."""

from __future__ import annotations

import numpy as np
import pytest

from seedbed import _native

LEVELS = ["scalar", "neon", "avx2", "avx512", "avx512vnni"]


@pytest.fixture(params=LEVELS)
def level(request):
    before = _native.simd_level()
    try:
        _native.set_simd_level(request.param)
    except ValueError:
        pytest.skip(f"this processor has no {request.param}")
    yield request.param
    _native.set_simd_level(before)


def naive_rabitq(rows, centre, queries, l2):
    """From the paper's formulas, in float64: the estimate by the code's direction, unbiased by <o-bar, o>."""
    rows, centre, queries = rows.astype(float), centre.astype(float), queries.astype(float)
    residuals = rows - centre
    signs = np.where(residuals >= 0, 1.0, -1.0) / np.sqrt(rows.shape[1])  # o-bar
    lengths = np.linalg.norm(residuals, axis=1)
    agreement = (signs * residuals).sum(1) / lengths  # <o-bar, o>
    shifted = queries - centre
    dots = shifted @ signs.T / agreement * lengths  # of q - c and x - c
    if l2:
        return (shifted**2).sum(1)[:, None] + lengths**2 - 2 * dots
    return -(queries @ centre)[:, None] - residuals @ centre - dots


@pytest.mark.parametrize("dim", [16, 32, 48, 96, 112, 384, 1536])
def test_a_rotation_is_orthogonal_random_and_the_same_everywhere(level, dim):
    rows = np.random.default_rng(0).normal(size=(20, dim)).astype(np.float32)
    turned = _native.rotate(rows, 7)
    np.testing.assert_allclose(turned @ turned.T, rows @ rows.T, atol=2e-3)
    np.testing.assert_allclose(_native.rotate(turned, 7, inverse=True), rows, atol=1e-5)
    assert np.abs(turned - _native.rotate(rows, 8)).max() > 0.5
    _native.set_simd_level("scalar")
    np.testing.assert_array_equal(turned, _native.rotate(rows, 7))


def test_a_rotation_spreads_what_stands_in_one_coordinate():
    for dim in (96, 384, 1000 // 16 * 16):
        turned = _native.rotate(np.eye(dim, dtype=np.float32)[: dim // 2], 1)
        assert np.abs(turned).max() < 6 / np.sqrt(dim)


@pytest.mark.parametrize(("largest", "addable"), [(255, 1), (127, 2), (63, 4), (31, 8)])
@pytest.mark.parametrize("groups", [4, 24, 96, 388, 3000])
def test_fast_scan_equals_a_table_lookup(level, largest, addable, groups):
    random = np.random.default_rng(groups)
    codes = random.integers(0, 16, (32, groups), dtype=np.uint8)
    for tables in (
        random.integers(0, largest + 1, (groups, 16), dtype=np.uint8),
        np.full((groups, 16), largest, dtype=np.uint8),
    ):
        expected = tables[np.arange(groups), codes].astype(np.int64).sum(1)
        np.testing.assert_array_equal(_native.fastscan_sums(codes, tables, addable)[0], expected)


@pytest.mark.parametrize("l2", [True, False])
@pytest.mark.parametrize("dim", [16, 96, 384, 1536])
def test_rabitq_equals_its_formula(level, l2, dim):
    random = np.random.default_rng(dim)
    centre = random.normal(size=dim).astype(np.float32)
    rows = (centre + random.normal(size=(70, dim))).astype(np.float32)
    queries = (centre + random.normal(size=(5, dim))).astype(np.float32)
    expected = naive_rabitq(rows, centre, queries, l2)
    # Five-bit tables round each group by up to half a step; six standard deviations of their sum, times F.
    step = 2 * np.abs(queries).reshape(5, -1, 4).sum(2).max() / 31
    slack = 6 * 1.3 * step * np.sqrt(dim / 48) * (2 if l2 else 1)
    found = _native.rabitq_estimate(rows, centre, queries, l2)
    np.testing.assert_allclose(found, expected, atol=slack, rtol=1e-4)


def test_rabitq_is_unbiased_and_its_error_falls_with_the_dimension():
    random = np.random.default_rng(3)
    errors = []
    for dim in (64, 256, 1024):
        rows = random.normal(size=(2000, dim)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        query = random.normal(size=(1, dim)).astype(np.float32)
        query /= np.linalg.norm(query)
        zero = np.zeros(dim, dtype=np.float32)
        error = -_native.rabitq_estimate(rows, zero, query, False)[0] - rows @ query[0]
        assert abs(error.mean()) < 4 * error.std() / np.sqrt(len(rows))
        errors.append(error.std() * np.sqrt(dim))
    # sqrt((1 - 2/pi) / (2/pi)) for a direction drawn at random: RaBitQ, theorem 3.2
    np.testing.assert_allclose(errors, 0.755, rtol=0.08)


def test_rabitq_of_the_centre_itself_is_exact():
    rows = np.ones((3, 32), dtype=np.float32)
    found = _native.rabitq_estimate(rows, rows[0], np.zeros((1, 32), dtype=np.float32), True)
    np.testing.assert_array_equal(found, [[32.0] * 3])


@pytest.mark.parametrize("bytes_", [64, 192, 1536, 65536])
def test_byte_products_are_exact(level, bytes_):
    random = np.random.default_rng(bytes_)
    query = random.integers(-127, 128, bytes_, dtype=np.int8)
    codes = random.integers(0, 256, (5, bytes_), dtype=np.uint8)
    codes[0], codes[1] = 255, np.where(query > 0, 255, 0)
    expected = codes.astype(np.int64) @ query.astype(np.int64)
    for row in _native.byte_products(query, codes):
        np.testing.assert_array_equal(row, expected)
