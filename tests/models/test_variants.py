"""Each variant of attention, positions and feed-forward against its definition, and cached against whole."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from seedbed.core.config import build
from seedbed.core.errors import ConfigError, DataError, FormatError
from seedbed.core.randomness import torch_generator
from seedbed.models import (
    Decoder,
    Encoder,
    EncoderDecoder,
    KeyValueCache,
    ModelConfig,
    attend_online,
    balance_loss,
    save_model,
)
from seedbed.models.attention import attend, attend_reference
from seedbed.models.config import RopeScaling
from seedbed.models.families import family_of
from seedbed.models.feedforward import MixtureOfExperts
from seedbed.models.masks import alibi_slopes, relative_bucket
from seedbed.models.positions import rotary_frequencies, rotate, sinusoids
from seedbed.models.recurrent import RecurrentConfig, RecurrentEncoderDecoder

from .shaking import shaken

SMALL = {"vocab_size": 60, "hidden_size": 32, "layers": 2, "heads": 4, "context_length": 64}
LATENT = {"rank": 12, "rope_head_dim": 4}
VARIANTS: dict[str, dict[str, Any]] = {
    "multi-query": {"kv_heads": 1},
    "latent": {"latent": LATENT, "qk_norm": False, "kv_heads": 4},
    "latent, low-rank queries": {"latent": {**LATENT, "query_rank": 8}, "qk_norm": False},
    "window": {"window": 5},
    "window and sinks": {"window": 4, "sink_tokens": 2, "global_every": 2},
    "learned sinks": {"learned_sinks": True},
    "softcap": {"softcap": 3.0, "logit_softcap": 5.0, "learned_sinks": True},
    "alibi": {"positions": "alibi", "qk_norm": False},
    "relative": {"positions": "relative", "relative_buckets": 8, "relative_distance": 16},
    "learned": {"positions": "learned", "norm": "layer", "activation": "gelu_tanh"},
    "sinusoidal, post-norm": {"positions": "sinusoidal", "norm_position": "post", "activation": "relu2"},
    "none": {"positions": "none"},
    "ntk": {"rope_scaling": {"kind": "ntk", "factor": 4.0}},
    "experts": {"experts": 4, "experts_per_token": 2},
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def config(**changes: Any) -> ModelConfig:
    return build(ModelConfig, {**SMALL, **changes})


def some_ids(rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 60, (rows, length), generator=torch_generator(seed, "ids"))


@pytest.mark.parametrize("name", VARIANTS)
def test_cached_equals_whole_and_counts_hold(name: str) -> None:
    model = shaken(Decoder(config(**VARIANTS[name])))
    ids = some_ids(2, 23)
    whole = model(ids)
    cache = KeyValueCache(model.config, 2, 23)
    pieces = [model(ids[:, start:end], cache=cache) for start, end in ((0, 9), (9, 10), (10, 14), (14, 23))]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=2e-5, rtol=0)
    (heads, width), (value_heads, value_width) = model.config.cache_shapes()
    assert cache.bytes == 2 * 2 * 23 * (heads * width + value_heads * value_width) * 4
    assert model.config.parameter_count() == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", VARIANTS)
def test_what_has_no_hugging_face_layout_is_said(name: str, tmp_path: Any) -> None:
    model = Decoder(config(**VARIANTS[name]))
    if name in ("multi-query", "ntk"):
        save_model(model, tmp_path)
    else:
        with pytest.raises(FormatError, match=r"cannot have|no architecture"):
            save_model(model, tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"norm_position": "pre"},
        {"norm_position": "pre", "window": 4},
        {"norm_position": "pre", "window": 4, "global_every": 2, "activation": "swiglu"},
        {"activation": "swiglu"},
        {"positions": "alibi"},
    ],
)
@pytest.mark.parametrize("kind", ["encoder", "encoder-decoder"])
def test_others_without_a_layout_are_refused_too(kind: str, changes: dict[str, Any], tmp_path: Any) -> None:
    model = {"encoder": Encoder, "encoder-decoder": EncoderDecoder}[kind](config(kind=kind, **changes))
    with pytest.raises(FormatError, match="cannot have"):
        save_model(model, tmp_path)


def test_one_rotary_pair_turns_alike_whatever_the_base() -> None:
    shape = config(heads=16, qk_norm=False, rope_scaling={"kind": "ntk", "factor": 4.0})
    assert family_of(Decoder(shape)).architecture == "LlamaForCausalLM"
    assert rotary_frequencies(2, 10_000.0, shape.rope_scaling)[0].tolist() == [1.0]


def test_a_latent_cache_is_small() -> None:
    latent, full = config(**VARIANTS["latent"]), config()
    small, large = KeyValueCache(latent, 1, 64), KeyValueCache(full, 1, 64)
    assert small.bytes / large.bytes == (12 + 4) / (2 * 32)


@pytest.mark.parametrize("name", ["window", "window and sinks", "alibi", "relative", "learned sinks", "softcap"])
def test_attention_is_as_written_out(name: str) -> None:
    """One block's attention on its own, with the scores' mask and bias from loops over tokens."""
    model = shaken(Decoder(config(**VARIANTS[name], rope_theta=1e30)))  # rotations that all but vanish beyond pair 0
    shape, length = model.config, 13
    seen: dict[str, Tensor] = {}
    layer = model.blocks[1].attention
    layer.register_forward_pre_hook(lambda _, args: seen.update(x=args[0], rotation=args[1].rotation))
    layer.o_proj.register_forward_pre_hook(lambda _, args: seen.update(mixed=args[0]))
    model(some_ids(1, length))
    bias = torch.zeros(4, length, length)
    for query in range(length):
        for key in range(length):
            gap = query - key
            far = shape.windowed(1) and gap >= shape.window and key >= shape.sink_tokens
            if gap < 0 or far:
                bias[:, query, key] = -math.inf
            elif name == "alibi":
                bias[:, query, key] = -torch.tensor([2.0 ** (-2 * (head + 1)) for head in range(4)]) * gap
            elif name == "relative":
                bucket = gap if gap < 4 else min(7, 4 + int(math.log(gap / 4) / math.log(16 / 4) * 4))
                bias[:, query, key] = model.relative_bias.weight[bucket].detach()
    q, k, v = (getattr(layer, f"{one}_proj")(seen["x"]).unflatten(-1, (4, 8)) for one in "qkv")
    if layer.q_norm is not None:
        q, k = layer.q_norm(q), layer.k_norm(k)
    if shape.positions == "rotary":
        q, k = rotate(q, seen["rotation"]), rotate(k, seen["rotation"])
    expected = attend_reference(q, k, v, bias[None], softcap=shape.softcap, sinks_H=layer.sinks)
    torch.testing.assert_close(seen["mixed"], expected.flatten(2), atol=1e-5, rtol=0)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    queries=st.integers(1, 20),
    keys=st.integers(1, 20),
    heads=st.sampled_from([(4, 4), (4, 2), (6, 1)]),
    kind=st.sampled_from(["full", "causal", "mask", "additive", "by query"]),
    block=st.sampled_from([1, 3, 8, 64]),
)
def test_the_online_softmax_equals_the_reference(
    seed: int, queries: int, keys: int, heads: tuple[int, int], kind: str, block: int
) -> None:
    generator = torch_generator(seed, "online")
    keys = queries if kind == "causal" else keys
    q = torch.randn(2, queries, heads[0], 8, generator=generator) * 4
    k, v = (torch.randn(2, keys, heads[1], 8, generator=generator) for _ in range(2))
    mask = None
    if kind == "mask":
        mask = torch.rand(2, 1, queries, keys, generator=generator) < 0.5
        mask[..., -1] = True
    if kind == "additive":
        mask = torch.randn(1, heads[0], 1, keys, generator=generator)
    if kind == "by query":
        mask = torch.randn(2, 1, queries, 1, generator=generator)
    expected = attend_reference(q, k, v, mask, causal=kind == "causal", scale=0.3)
    actual = attend_online(q, k, v, mask, causal=kind == "causal", scale=0.3, block=block)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("causal", [False, True])
def test_sinks_and_scale_on_the_fast_path(causal: bool) -> None:
    generator = torch_generator(1, "sinks")
    q, k, v = (torch.randn(2, 6, heads, 8, generator=generator) for heads in (4, 2, 2))
    sinks = torch.randn(4, generator=generator, requires_grad=True)
    mask = torch.rand(2, 1, 6, 6, generator=generator) < 0.7
    mask |= torch.eye(6, dtype=torch.bool)
    for chosen in (None, mask):
        extra = {"scale": 0.2, "sinks_H": sinks}
        expected = attend_reference(q, k, v, chosen, causal, **extra)
        actual = attend(q, k, v, chosen, causal, **extra)
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)
        gradients = [torch.autograd.grad(one.square().sum(), sinks)[0] for one in (actual, expected)]
        torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)
    assert attend_reference(q, k, v, sinks_H=torch.full((4,), 1e9)).abs().max() == 0  # the sink takes all


def test_published_slopes_buckets_and_sinusoids() -> None:
    assert alibi_slopes(8).tolist() == [2.0**-i for i in range(1, 9)]
    assert alibi_slopes(6).tolist() == [2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8, 2.0**-1, 2.0**-3]
    distances = torch.tensor([-200, -130, -9, -8, -1, 0, 1, 7, 8, 9, 16, 127, 128, 500])
    # T5's own: 32 buckets to 128, both ways and one way
    assert relative_bucket(distances, 32, 128, causal=False).tolist() == [
        31, 31, 24, 24, 17, 0, 1, 7, 8, 8, 10, 15, 15, 15,
    ]  # fmt: skip
    assert relative_bucket(distances, 32, 128, causal=True).tolist() == [0] * 6 + [1, 7, 8, 9, 16, 31, 31, 31]
    table = sinusoids(torch.arange(3), 4)
    expected = [[0, 1, 0, 1]] + [[math.sin(p), math.cos(p), math.sin(p / 100), math.cos(p / 100)] for p in (1, 2)]
    torch.testing.assert_close(table, torch.tensor(expected), atol=1e-6, rtol=0)


def test_extended_rotations_keep_fast_pairs_and_slow_the_others() -> None:
    plain, _ = rotary_frequencies(64, 10_000.0)
    for kind in ("linear", "ntk", "yarn", "llama3"):
        scaling = RopeScaling(kind=kind, factor=4.0, original_context=256)
        scaled, factor = rotary_frequencies(64, 10_000.0, scaling)
        ratio = plain / scaled
        torch.testing.assert_close(ratio[-1], torch.tensor(4.0), atol=1e-3, rtol=0)
        torch.testing.assert_close(ratio[0], torch.tensor(4.0 if kind == "linear" else 1.0), atol=1e-4, rtol=0)
        assert (ratio.diff() >= -1e-4).all()
        assert factor == pytest.approx(0.1 * math.log(4) + 1 if kind == "yarn" else 1.0)
    with pytest.raises(ConfigError, match="beta_fast"):
        config(rope_scaling={"kind": "yarn", "factor": 2.0, "beta_fast": 1.0})


def test_a_mixture_is_its_experts_weighted() -> None:
    mixture = Decoder(config(**VARIANTS["experts"])).blocks[0].feedforward
    assert isinstance(mixture, MixtureOfExperts)
    x = torch.randn(2, 5, 32, generator=torch_generator(1, "x"))
    mixed = mixture(x)
    for row in range(2):
        for token in range(5):
            scores = mixture.router(x[row, token])
            best = scores.topk(2).indices.tolist()
            weights = scores[best].softmax(0)
            expected = sum(w * mixture.experts[e](x[row, token]) for w, e in zip(weights, best, strict=True))
            torch.testing.assert_close(mixed[row, token], expected, atol=1e-5, rtol=0)
    assert float(mixture.load.sum()) == pytest.approx(1)
    with torch.no_grad():
        mixture.router.weight.zero_()
    mixture(x)
    assert mixture.balance_loss.item() == pytest.approx(1)  # equal probabilities cannot be told apart
    assert balance_loss(Decoder(config())) is None


def test_the_balance_loss_spreads_the_load() -> None:
    model = Decoder(config(**VARIANTS["experts"]))
    with torch.no_grad():
        for block in model.blocks:
            block.feedforward.router.weight[0] += 0.5  # one expert is liked best
    ids = some_ids(8, 32)
    optimizer = torch.optim.Adam([block.feedforward.router.weight for block in model.blocks], lr=0.02)

    def step() -> float:
        model(ids)
        loss = balance_loss(model)
        assert loss is not None
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return max(float(block.feedforward.load.max()) for block in model.blocks)

    before = step()
    for _ in range(30):
        after = step()
    assert after < before - 0.03


@pytest.mark.parametrize(
    "changes",
    [{}, {"positions": "relative", "norm": "rms", "norm_position": "pre"}, {"positions": "rotary", "qk_norm": True}],
)
def test_encoder_decoders_decode_step_by_step_as_in_one_go(changes: dict[str, Any]) -> None:
    model = shaken(EncoderDecoder(config(kind="encoder-decoder", encoder_layers=3, **changes)))
    source, target = some_ids(2, 9), some_ids(2, 7, seed=1)
    mask = torch.arange(9) < torch.tensor([[9], [4]])
    whole = model(source, target, mask)
    torch.testing.assert_close(model(source[1:, :4], target[1:])[0], whole[1], atol=1e-5, rtol=0)  # padding is not seen
    memory = model.encode(source, mask)
    cache = KeyValueCache(model.config, 2, 7)
    steps = [model.decode(target[:, i : i + 1], memory, mask, cache) for i in range(7)]
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, atol=1e-5, rtol=0)
    assert model.config.parameter_count() == sum(parameter.numel() for parameter in model.parameters())
    order = torch.tensor([1, 0])
    cache.select(order)
    cache.set_lengths([6, 6])
    again = model.decode(target[order, 6:], memory[order], mask[order], cache)
    torch.testing.assert_close(again[order], whole[:, 6:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("attention", ["none", "additive", "multiplicative"])
def test_recurrent_models_decode_step_by_step_as_in_one_go(cell: str, attention: str) -> None:
    shape = build(
        RecurrentConfig, {"vocab_size": 60, "hidden_size": 16, "layers": 2, "cell": cell, "attention": attention}
    )
    model = RecurrentEncoderDecoder(shape)
    source, target = some_ids(2, 9), some_ids(2, 6, seed=1)
    mask = torch.arange(9) < torch.tensor([[9], [4]])
    whole = model(source, target, mask)
    torch.testing.assert_close(model(source[1:, :4], target[1:])[0], whole[1], atol=1e-5, rtol=0)
    memory, state = model.encode(source, mask)
    for step in range(6):
        logits, state = model.decode(target[:, step : step + 1], memory, state, mask)
        torch.testing.assert_close(logits[:, 0], whole[:, step], atol=1e-5, rtol=0)
    if attention != "none":
        hidden = torch.randn(2, 16, generator=torch_generator(1, "h"))
        weights = model.weights(hidden, memory, mask)
        assert weights[1, 4:].abs().max() == 0
        if attention == "additive":
            a = model.attention
            scores = [a.score.weight[0] @ torch.tanh(a.query.weight @ hidden[0] + a.key.weight @ m) for m in memory[0]]
        else:
            scores = [hidden[0] @ model.attention.key.weight @ m for m in memory[0]]
        torch.testing.assert_close(weights[0], torch.stack(scores).softmax(0), atol=1e-6, rtol=0)


def test_learned_positions_end() -> None:
    model = Decoder(config(**VARIANTS["learned"]))
    with pytest.raises(DataError, match="65 tokens are more than the context of 64"):
        model(some_ids(1, 65))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sink_tokens": 2}, "need a window"),
        ({"experts": 1}, r"experts_per_token \(2\) is more than experts \(1\)"),
        ({"latent": LATENT}, "latent attention"),
        ({"pooler": True}, "are an encoder's"),
        ({"latent": {"rank": 4, "rope_head_dim": 3}}, "rope_head_dim"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**changes)


def test_gradients_reach_every_parameter() -> None:
    for name in VARIANTS:
        model = shaken(Decoder(config(**VARIANTS[name])))
        ids = some_ids(2, 16)
        F.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
        still = [path for path, x in model.named_parameters() if x.grad is None or not x.grad.abs().sum() > 0]
        assert all("experts" in path for path in still), (name, still)  # an expert may go unchosen
