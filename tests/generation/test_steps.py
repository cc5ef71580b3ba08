"""Every step is the model's own forward pass; the native one at every instruction set and precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seedbed import _native
from seedbed.core.errors import ConfigError
from seedbed.finetuning import LoRAConfig, add_adapter
from seedbed.generation import Engine, Sampling
from seedbed.generation.native import PACKED, NativeStep, native_supports, unpacked_twin
from seedbed.generation.recorded_step import RecordedStep
from seedbed.generation.steps import Step, TorchStep, choose_step
from seedbed.models import CacheConfig, Decoder, KeyValueCache, ModelConfig
from tests.models.shaking import shaken

_GPT2 = {
    "norm": "layer", "positions": "learned", "activation": "gelu_tanh", "qk_norm": False, "kv_heads": 4,
    "qkv_bias": True, "output_bias": True, "feedforward_bias": True,
}  # fmt: skip
_VARIANTS: dict[str, dict[str, Any]] = {
    "qwen3": {},
    "llama": {"qk_norm": False, "tie_embeddings": False,
              "rope_scaling": {"kind": "llama3", "factor": 8, "original_context": 32}},
    "qwen2": {"qk_norm": False, "qkv_bias": True, "kv_heads": 1},
    "mistral": {"qk_norm": False, "window": 7, "rope_scaling": {"kind": "yarn", "factor": 4, "original_context": 32}},
    "gpt2": _GPT2,
    "odd widths": {"hidden_size": 44, "heads": 2, "kv_heads": 1, "head_dim": 22, "intermediate_size": 50,
                   "activation": "relu2", "tie_embeddings": False},
    "windows, sinks, caps": {"window": 5, "sink_tokens": 2, "global_every": 2, "local_rope_theta": 100.0,
                             "softcap": 3.0, "logit_softcap": 5.0, "learned_sinks": True},
    "sinusoids": {"positions": "sinusoidal", "activation": "gelu", "scale_head": True},
    "no positions": {"positions": "none", "activation": "geglu", "norm": "layer", "norm_bias": False,
                     "scale_scores": False},
}  # fmt: skip
_LEVELS = ["scalar", "avx2", "avx512", "avx512vnni"]


def _model(**changes: Any) -> Decoder:
    shape = {"vocab_size": 101, "hidden_size": 64, "layers": 2, "heads": 4, "kv_heads": 2, "context_length": 128}
    model: Decoder = shaken(Decoder(ModelConfig(**{**shape, **changes})))
    return model.requires_grad_(False)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Models so small are run faster by one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=_LEVELS)
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set that this processor has."""
    before = _native.simd_level()
    try:
        _native.set_simd_level(request.param)
    except ValueError:
        pytest.skip(f"no {request.param} here")
    yield request.param
    _native.set_simd_level(before)


def _walk(step: Step, model: Decoder, ids_BT: Tensor, dtype: torch.dtype | None = None) -> list[Tensor]:
    """Prompts of different lengths, single tokens, several tokens, and a part of the rows in another order."""
    cache = KeyValueCache(model.config, len(ids_BT), 100, dtype=dtype or step.cache_dtype)
    columns_B = torch.tensor([39, 20, 2])
    found = [step.last(ids_BT[:, :40], columns_B, cache)]
    cache.set_lengths(columns_B + 1)
    found += [step(ids_BT[:, 40 : 40 + tokens], cache) for tokens in (1, 9, 1)]
    some = cache.view([2, 0])
    found.append(step(ids_BT[:2, 50:53], some))
    found.append(step(ids_BT[:, 60:61], cache))
    return found


def _assert_close(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert float((one - other).abs().max() / other.abs().max()) < tolerance


_IDS_BT = torch.from_numpy(np.random.default_rng(0).integers(0, 101, (3, 64)))


@pytest.mark.parametrize("name", _VARIANTS)
def test_the_native_step_is_the_forward_pass(name: str) -> None:
    model = _model(**_VARIANTS[name])
    step = choose_step(model)
    assert isinstance(step, NativeStep)
    _assert_close(_walk(step, model, _IDS_BT), _walk(TorchStep(model), model, _IDS_BT), 1e-5)


def _rounded(x: np.ndarray, weights: str) -> np.ndarray:
    """Activations as a product with packed weights takes them."""
    if weights == "bfloat16":
        return torch.from_numpy(x).bfloat16().float().numpy()
    blocks = np.pad(x, ((0, 0), (0, -x.shape[1] % 32))).reshape(len(x), -1, 32)
    largest = np.abs(blocks).max(-1, keepdims=True)
    codes = np.rint(blocks * np.divide(np.float32(127), largest, where=largest > 0, out=np.zeros_like(largest)))
    return (codes.astype(np.float64) * largest / 127).reshape(len(x), -1)[:, : x.shape[1]]


@pytest.mark.parametrize("weights", ["float32", *PACKED])
@pytest.mark.parametrize(("rows", "columns", "outputs"), [(1, 32, 32), (8, 70, 50), (13, 200, 65)])
def test_every_instruction_set_multiplies_alike(
    level: str, weights: str, rows: int, columns: int, outputs: int
) -> None:
    draws = np.random.default_rng(rows)
    x, matrix = (draws.normal(size=(count, columns)).astype(np.float32) for count in (rows, outputs))
    x[0, :32], x[-1] = 0, x[-1] * 1e3
    native = _native.DecoderWeights
    packed = native(matrix) if weights == "float32" else native.pack(matrix, PACKED[weights])
    taken = x if weights == "float32" else _rounded(x, weights)
    expected = taken.astype(np.float64) @ packed.unpack().astype(np.float64).T
    found = packed.multiply(x)
    assert np.abs(found - expected).max(1) == pytest.approx(0, abs=1e-5 * np.abs(expected).max())
    assert np.array_equal(packed.multiply(x[-1:])[0], found[-1])
    x[0, 3], x[-1, -1] = np.nan, np.inf
    found = packed.multiply(x)
    assert not np.isfinite(found[[0, -1]]).any()
    assert np.isfinite(found[1:-1]).all()
    with pytest.raises(ValueError, match="another width"):
        packed.multiply(x[:, 1:].copy())


@pytest.mark.parametrize("weights", ["float32", *PACKED])
@pytest.mark.parametrize("name", ["qwen3", "odd widths"])
def test_every_instruction_set_runs_what_packed_weights_stand_for(level: str, name: str, weights: str) -> None:
    model = _model(**_VARIANTS[name])
    twin = model if weights == "float32" else unpacked_twin(model, weights)
    # Products round activations, too.
    tolerance = {"float32": 1e-5, "bfloat16": 0.03}.get(weights, 0.06)
    _assert_close(_walk(NativeStep(model, weights), model, _IDS_BT), _walk(TorchStep(twin), model, _IDS_BT), tolerance)


@pytest.mark.parametrize("name", ["qwen3", "odd widths", "windows, sinks, caps"])
def test_every_instruction_set_reads_bfloat16_caches(level: str, name: str) -> None:
    model = _model(**_VARIANTS[name])
    found, expected = (_walk(step, model, _IDS_BT, torch.bfloat16) for step in (NativeStep(model), TorchStep(model)))
    _assert_close(found, expected, 2e-3)
    apart = [
        float((one - whole).abs().max())
        for one, whole in zip(found, _walk(TorchStep(model), model, _IDS_BT), strict=True)
    ]
    assert min(apart) > 1e-5  # what rounding does


def test_unpacked_weights_are_those_of_the_formats(level: str) -> None:
    weights = np.random.default_rng(1).normal(size=(5, 80)).astype(np.float32)
    weights[1, 32:64] = 0
    rounded = torch.from_numpy(weights).bfloat16().float().numpy()
    assert np.array_equal(_native.DecoderWeights.pack(weights, PACKED["bfloat16"]).unpack(), rounded)
    padded = np.pad(weights, ((0, 0), (0, 16))).reshape(5, 3, 32)
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.abs(padded).max(-1, keepdims=True) / np.float32(127)
        codes = np.where(steps > 0, np.round(padded * (1 / steps)), 0)
        eight = (codes * steps.astype(np.float16)).astype(np.float32)
        largest = np.take_along_axis(padded, np.abs(padded).argmax(-1)[..., None], -1)
        steps = largest / np.float32(-8)
        codes = np.where(steps != 0, np.clip(np.floor(padded * (1 / steps) + np.float32(8.5)), 0, 15) - 8, 0)
        four = (codes * steps.astype(np.float16)).astype(np.float32)
    for kind, expected in (("int8", eight), ("int4", four)):
        packed = _native.DecoderWeights.pack(weights, PACKED[kind])
        assert np.array_equal(packed.unpack(), expected.reshape(5, 96)[:, :80])
    with np.errstate(invalid="ignore"):
        weights[0, 3], weights[4, 79] = np.nan, np.inf
    for kind in ("int8", "int4"):
        unpacked = _native.DecoderWeights.pack(weights, PACKED[kind]).unpack()
        assert np.isnan(unpacked[[0, 4], [3, 79]]).all()
        assert np.isfinite(unpacked[1:4]).all()


@pytest.mark.parametrize(("weights", "bound"), [("bfloat16", 0.02), ("int8", 0.06), ("int4", 0.45)])
def test_packed_weights_change_logits_little(weights: str, bound: float) -> None:
    model = _model(hidden_size=256, heads=4, head_dim=64)
    expected = _walk(TorchStep(model), model, _IDS_BT)
    for one, other in zip(_walk(NativeStep(model, weights), model, _IDS_BT), expected, strict=True):
        assert bound / 4 < float((one - other).abs().mean() / other.abs().mean()) < bound


@pytest.mark.parametrize("weights", ["float32", "int8", "bfloat16"])
def test_a_rows_bits_depend_on_nothing_else(level: str, weights: str) -> None:
    model = _model(hidden_size=160, heads=5, kv_heads=5, vocab_size=1000, intermediate_size=700)
    step, ids_BT = NativeStep(model, weights), _IDS_BT.repeat(5, 1)[:13]
    together = KeyValueCache(model.config, 13, 64, dtype=step.cache_dtype)
    logits_BTV = step(ids_BT[:, :30], together)
    threads = torch.get_num_threads()
    try:
        for row, count in ((0, 1), (4, 2), (12, 3)):
            torch.set_num_threads(count)
            alone = KeyValueCache(model.config, 1, 64, dtype=step.cache_dtype)
            parts = [
                step(ids_BT[row : row + 1, first : first + size], alone) for first, size in ((0, 7), (7, 1), (8, 22))
            ]
            assert torch.equal(torch.cat(parts, dim=1)[0], logits_BTV[row])
    finally:
        torch.set_num_threads(threads)


def test_weights_may_change_in_between() -> None:
    model = _model()
    for weights in ("float32", "int8"):
        step = NativeStep(model, weights)
        with torch.no_grad():
            model.blocks[1].get_submodule("attention.q_proj").weight.mul_(-1)  # type: ignore[operator]
        fresh = NativeStep(model, weights)
        assert torch.equal(_walk(step, model, _IDS_BT)[0], _walk(fresh, model, _IDS_BT)[0])
    model.lm_head = torch.nn.Linear(64, 101, bias=False)  # another kind of model now
    _assert_close(
        _walk(step, model, _IDS_BT)[:1], _walk(TorchStep(unpacked_twin(model, "int8")), model, _IDS_BT)[:1], 0.03
    )


def test_what_native_code_does_not_serve_goes_through_pytorch() -> None:
    model = _model()
    ring = CacheConfig(kind="sinks", window=12, slack=16)
    step, expected = NativeStep(model), TorchStep(model)
    caches = [KeyValueCache(model.config, 3, 100, layout=ring) for _ in range(2)]
    for first in range(0, 40, 10):
        ids = _IDS_BT[:, first : first + 10]
        assert torch.equal(step(ids, caches[0]), expected(ids, caches[1]))
    for other in (_model(norm_position="post"), _model(experts=4), _model(positions="alibi"), _model().double()):
        assert not native_supports(other)
        assert isinstance(choose_step(other), TorchStep)
    assert isinstance(choose_step(_model(positions="alibi"), "int8"), TorchStep)
    add_adapter(model, LoRAConfig(rank=2))
    assert not native_supports(model)
    with pytest.raises(ConfigError, match="int3"):
        choose_step(model, "int3")


def _recorder(times: list[int]) -> Callable[[Callable[[], Tensor]], Any]:
    """Recording without a GPU: a replay does the same work again, into the same memory."""

    def record(work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], object]]:
        found, mine = work(), len(times)
        times.append(0)

        def replay() -> None:
            times[mine] += 1
            found.copy_(work())

        return found, replay

    return record


@pytest.mark.parametrize("name", [*_VARIANTS, "alibi", "latent"])
def test_the_recorded_step_is_the_forward_pass(name: str) -> None:
    others: dict[str, dict[str, Any]] = {
        "alibi": {"positions": "alibi"}, "latent": {"latent": {"rank": 16, "rope_head_dim": 8}, "qk_norm": False}
    }  # fmt: skip
    model, times = _model(**{**_VARIANTS, **others}[name]), []
    step = RecordedStep(model, _recorder(times))
    _assert_close(_walk(step, model, _IDS_BT), _walk(TorchStep(model), model, _IDS_BT), 1e-5)
    assert times == [3]


def test_recorded_steps_serve_requests_that_come_and_go() -> None:
    model, times = _model(), []
    lora = add_adapter(_model(), LoRAConfig(rank=2))
    prompts = [row[: 1 + 3 * place].numpy() for place, row in enumerate(_IDS_BT.repeat(3, 1))]
    sampling = [Sampling(temperature=0, max_new_tokens=3 + 5 * place) for place in range(9)]
    for one in (model, lora):
        engines = [Engine(one, batch_size=4) for _ in range(2)]
        engines[0]._step, engines[1]._step = RecordedStep(one, _recorder(times)), TorchStep(one)
        found, expected = (engine.generate(prompts, sampling) for engine in engines)
        for mine, theirs in zip(found, expected, strict=True):
            assert np.array_equal(mine.ids, theirs.ids)
            assert mine.logprobs == pytest.approx(theirs.logprobs, abs=1e-4)
    assert len(times) < sum(times) / 5
    step, cache = RecordedStep(model, _recorder(times)), KeyValueCache(model.config, 1, 64)
    full = KeyValueCache(model.config, 1, 64)
    for number in range(3):  # another weight, and another cache, are seen
        model.blocks[0].attention.q_proj.weight = torch.nn.Parameter(torch.randn(64, 64) * number)  # type: ignore[union-attr]
        cache.set_lengths([0])
        full.set_lengths([0])
        for way, kept in ((step, cache), (TorchStep(model), full)):
            way.last(_IDS_BT[:1, :5], torch.tensor([4]), kept)
        assert torch.allclose(step(_IDS_BT[:1, 5:6], cache), TorchStep(model)(_IDS_BT[:1, 5:6], full), atol=1e-5)
        assert int(cache.lengths) == 6


def test_misuse_is_refused() -> None:
    model = _model()
    step = NativeStep(model)
    native, cache = step._native, KeyValueCache(model.config, 2, 8)
    assert native is not None
    step(_IDS_BT[:2, :4], cache)
    step._reach_to(8)
    keys, values = ([block.numpy() for block in blocks] for blocks in (cache.keys, cache.values))

    def run(ids: list[int], rows: list[int], positions: list[int], wanted: list[int], layers: int = 2) -> None:
        arrays = (np.array(one, dtype=np.int64) for one in (ids, rows, positions, wanted))
        native.forward(*arrays, keys[:layers], values[:layers], 1)

    run([1, 2], [0, 0], [4, 5], [1])
    for wrong in (
        ([101], [0], [4], [0]), ([-1], [0], [4], [0]), ([1], [2], [4], [0]), ([1], [0], [8], [0]),
        ([1], [0], [-1], [0]), ([1], [0], [4], [1]), ([1, 2], [0, 0], [4, 6], [0]), ([1, 2], [0], [4], [0]),
        ([1], [0], [4], [0], 1),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"."):
            run(*wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="do not fit"):
        step(_IDS_BT[:2, :5], cache)


@pytest.mark.parametrize("dtype", [None, "int8"])
def test_the_engine_says_the_same_again_and_in_any_company(dtype: str | None) -> None:
    model = _model(hidden_size=96, heads=4)
    prompts = [row[:size].numpy() for row, size in zip(_IDS_BT, (40, 9, 23), strict=True)]
    sampling = [Sampling(temperature=0.9, top_p=0.95, max_new_tokens=20, seed=seed) for seed in range(3)]
    first, second = (Engine(model, dtype=dtype).generate(prompts, sampling) for _ in range(2))
    alone = [Engine(model, dtype=dtype).generate([one], [way])[0] for one, way in zip(prompts, sampling, strict=True)]
    for one, again, lonely in zip(first, second, alone, strict=True):
        assert np.array_equal(one.ids, again.ids)
        assert np.array_equal(one.ids, lonely.ids)
        assert np.array_equal(one.logprobs, again.logprobs)
