"""NF4: codes and state are bitsandbytes' bit for bit on every instruction set; products are those of its weights."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from seedbed import _native
from seedbed.core.errors import ConfigError, DataError
from seedbed.core.randomness import torch_generator
from seedbed.finetuning import LoRAConfig, add_adapter, quantize_nf4
from seedbed.finetuning.quantization import BLOCK, VALUES, _pack, scale_table, unpack
from seedbed.models import Decoder, ModelConfig

_LEVELS = ("scalar", "avx2", "avx512")


@pytest.fixture(params=_LEVELS)
def level(request: pytest.FixtureRequest) -> Iterator[None]:
    before = _native.simd_level()
    try:
        _native.set_simd_level(request.param)
    except ValueError:
        pytest.skip("not on this processor")
    yield
    _native.set_simd_level(before)


def weights(seed: int) -> Tensor:
    """Awkward ones in turn: ties, blocks of zeros, half precision, sizes that fill no block."""
    generator = torch_generator(seed, "weights")
    rows, columns = (int(one) for one in torch.randint(1, 200, (2,), generator=generator))
    found = torch.randn(rows, columns, generator=generator) * 0.02
    if seed % 3 == 0:
        found = (found * 400).round() / 400
    if seed % 4 == 0:
        found.view(-1)[:150] = 0
    return found.bfloat16() if seed % 5 == 0 else found


@pytest.mark.parametrize("seed", range(12))
def test_codes_and_state_are_those_of_bitsandbytes(seed: int, level: None) -> None:
    theirs = importlib.import_module("bitsandbytes.functional")
    found = weights(seed)
    codes, state = theirs.quantize_4bit(found, compress_statistics=True, quant_type="nf4")
    ours = quantize_nf4(found)
    assert ours.nested is not None
    assert ours.offset is not None
    for mine, their in ((ours.codes, codes), (ours.scales, state.absmax), (ours.nested, state.state2.absmax),
                        (ours.offset, state.offset), (scale_table(), state.state2.code)):  # fmt: skip
        assert torch.equal(mine, their)
    assert torch.equal(torch.tensor(VALUES), state.code)
    plain, state = theirs.quantize_4bit(found, compress_statistics=False, quant_type="nf4")
    once = quantize_nf4(found, double=False)
    assert torch.equal(once.codes, plain)
    assert torch.equal(once.scales, state.absmax)


@pytest.mark.parametrize("seed", range(6))
def test_unpacking_equals_its_definition(seed: int, level: None) -> None:
    ours = quantize_nf4(weights(seed))
    parts = ours.codes.view(-1), ours.scales, ours.nested, ours.offset
    expected = unpack(*parts, torch.tensor(VALUES), scale_table(), torch.float32)[: ours.shape.numel()]
    assert torch.equal(ours.dequantize(torch.float32).flatten(), expected)


def test_the_twin_for_devices_packs_the_same() -> None:
    for seed in range(12):
        flat = weights(seed).float().flatten()
        codes, scales = torch.empty((len(flat) + 1) // 2, dtype=torch.uint8), torch.empty(-(-len(flat) // BLOCK))
        _pack(flat, codes, scales)
        ours = quantize_nf4(flat, double=False)
        assert torch.equal(ours.codes[:, 0], codes)
        assert torch.equal(ours.scales, scales)


@pytest.mark.parametrize(("outputs", "inputs", "rows"), [(7, 64, 1), (33, 128, 3), (64, 192, 19), (1, 512, 8)])
@pytest.mark.parametrize("threads", [1, 2])
def test_products_are_those_of_the_unpacked_weights(
    outputs: int, inputs: int, rows: int, threads: int, level: None
) -> None:
    generator = torch_generator(outputs, "products")
    ours = quantize_nf4(torch.randn(outputs, inputs, generator=generator), double=threads == 1)
    x = torch.randn(rows, inputs, generator=generator)
    torch.set_num_threads(threads)
    torch.testing.assert_close(ours.multiply(x), x @ ours.dequantize().T, atol=1e-4, rtol=1e-5)
    torch.set_num_threads(1)


def test_misuse_is_named() -> None:
    with pytest.raises(DataError, match="no finite number"):
        quantize_nf4(torch.tensor([1.0, float("nan")]))
    config = ModelConfig(vocab_size=16, hidden_size=64, layers=1, heads=2)
    with pytest.raises(ConfigError, match="'typo' matches no linear layer"):
        quantize_nf4(Decoder(config), targets=("typo",))
    with pytest.raises(ConfigError, match="Quantise first"):
        quantize_nf4(add_adapter(Decoder(config), LoRAConfig()))
    scales = _native.Nf4Scales(np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="do not fit"):
        _native.nf4_unpack(np.zeros(1, np.uint8), scales, np.zeros(64, np.float32))
    with pytest.raises(ValueError, match="multiple of 64"):
        _native.nf4_multiply(
            np.zeros((1, 32), np.float32), np.zeros(16, np.uint8), scales, np.zeros((1, 1), np.float32)
        )
    with pytest.raises(ValueError, match="256"):
        _native.Nf4Scales(np.zeros(1, np.uint8), np.zeros(9, np.float32), np.zeros(1, np.float32), 0.0)
