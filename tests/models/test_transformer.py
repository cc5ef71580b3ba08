"""Attention against its reference, cached against uncached, and what the config promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seedbed.core.config import build
from seedbed.core.errors import ConfigError, DataError
from seedbed.core.randomness import torch_generator
from seedbed.models import Decoder, Encoder, KeyValueCache, ModelConfig, SequenceClassifier
from seedbed.models.attention import Attention, Sight, attend, attend_reference

SMALL = {"vocab_size": 60, "hidden_size": 32, "layers": 2, "heads": 4, "kv_heads": 2, "context_length": 64}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def decoder(**changes: Any) -> Decoder:
    return Decoder(build(ModelConfig, {**SMALL, **changes}), torch_generator(1, "tests"))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    queries=st.sampled_from([1, 2, 7, 33]),
    keys=st.sampled_from([1, 7, 40]),
    heads=st.sampled_from([(4, 4), (4, 2), (6, 1), (1, 1)]),
    kind=st.sampled_from(["full", "causal", "mask", "heads mask", "additive"]),
)
def test_the_fast_path_equals_the_reference(
    seed: int, queries: int, keys: int, heads: tuple[int, int], kind: str
) -> None:
    generator = torch_generator(seed, "attention")
    keys = queries if kind == "causal" else keys
    q = torch.randn(2, queries, heads[0], 8, generator=generator)
    k, v = (torch.randn(2, keys, heads[1], 8, generator=generator) for _ in range(2))
    mask = None
    if "mask" in kind or kind == "additive":
        mask = torch.rand(2, heads[0] if kind == "heads mask" else 1, queries, keys, generator=generator) < 0.6
        mask[..., 0] = True
    fast = (
        torch.zeros(mask.shape).masked_fill(~mask, float("-inf")) if kind == "additive" and mask is not None else mask
    )
    inputs = [tensor.requires_grad_() for tensor in (q, k, v)]
    expected = attend_reference(q, k, v, mask, causal=kind == "causal")
    actual = attend(q, k, v, fast, causal=kind == "causal")
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)
    for ours, theirs in zip(
        torch.autograd.grad(actual.square().sum(), inputs),
        torch.autograd.grad(expected.square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_cross_attention_reads_the_memory() -> None:
    layer = Attention(build(ModelConfig, {**SMALL, "hidden_size": 16, "head_dim": 8, "qk_norm": False}))
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, generator=torch_generator(1, "cross"))
    x, memory = (torch.randn(2, length, 16, generator=torch_generator(2, length)) for length in (3, 5))
    q, k, v = layer.q_proj(x), layer.k_proj(memory), layer.v_proj(memory)
    mixed = attend_reference(q.view(2, 3, 4, 8), k.view(2, 5, 2, 8), v.view(2, 5, 2, 8))
    torch.testing.assert_close(layer(x, Sight(), memory_BSC=memory), layer.o_proj(mixed.flatten(2)), atol=1e-5, rtol=0)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    steps=st.lists(st.integers(1, 5), min_size=1, max_size=4),
)
def test_cached_logits_equal_uncached(seed: int, lengths: list[int], steps: list[int]) -> None:
    model, rows = decoder(), len(lengths)
    total = sum(steps)
    ids = torch.randint(0, 60, (rows, max(lengths) + total), generator=torch_generator(seed, "ids"))
    cache = KeyValueCache(model.config, rows, max(lengths) + total)
    with torch.no_grad():
        whole = model(ids)
        model(ids[:, : max(lengths)], cache=cache)  # what lies beyond a row's length is padding to be forgotten
        cache.set_lengths(torch.tensor(lengths))
        done = torch.tensor(lengths)
        for step in steps:
            columns = done[:, None] + torch.arange(step)
            logits = model(ids.gather(1, columns), cache=cache)
            for row in range(rows):
                torch.testing.assert_close(logits[row], whole[row, columns[row]], atol=1e-5, rtol=0)
            done += step
            if rows > 1:
                order = torch.tensor([*range(1, rows), 0])
                cache.select(order)
                ids, whole, done = ids[order], whole[order], done[order]
    assert cache.lengths.tolist() == done.tolist()
    assert cache.bytes == 2 * model.config.layers * rows * cache.capacity * 2 * 8 * 4
    with pytest.raises(ValueError, match="do not fit"):
        model(ids[:, :1].expand(-1, cache.capacity), cache=cache)


def test_positions_and_masks_keep_packed_documents_apart() -> None:
    model = decoder()
    first, second = (torch.randint(0, 60, (1, size), generator=torch_generator(size, "d")) for size in (5, 7))
    packed, document = torch.cat((first, second), 1), torch.tensor([0] * 5 + [1] * 7)
    mask = (document[:, None] == document[None, :]) & torch.ones(12, 12, dtype=torch.bool).tril()
    positions = torch.cat((torch.arange(5), torch.arange(7)))[None]
    logits = model(packed, positions, mask)
    torch.testing.assert_close(logits[:, :5], model(first), atol=1e-5, rtol=0)
    torch.testing.assert_close(logits[:, 5:], model(second), atol=1e-5, rtol=0)


def test_encoder_rows_do_not_depend_on_padding() -> None:
    model = Encoder(build(ModelConfig, {**SMALL, "kind": "encoder", "kv_heads": 4}), torch_generator(1, "tests"))
    ids = torch.randint(0, 60, (2, 9), generator=torch_generator(2, "ids"))
    mask = torch.arange(9) < torch.tensor([[9], [4]])
    torch.testing.assert_close(model(ids, mask)[1, :4], model(ids[1:, :4])[0], atol=1e-5, rtol=0)
    with pytest.raises(DataError, match="65 tokens"):
        model(torch.zeros(1, 65, dtype=torch.int64))


def test_a_classifier_reads_the_last_real_token() -> None:
    model = SequenceClassifier(decoder(pad_token_id=1), labels=2)
    torch.nn.init.normal_(model.score.weight, generator=torch_generator(1, "score"))
    ids = torch.randint(2, 60, (2, 9), generator=torch_generator(2, "ids"))
    padded = torch.nn.functional.pad(ids, (0, 3), value=1)
    torch.testing.assert_close(model(padded), model(ids), atol=1e-5, rtol=0)
    with pytest.raises(ConfigError, match="pad_token_id"):
        SequenceClassifier(decoder())


def test_the_generator_alone_decides_the_weights() -> None:
    state = torch.random.get_rng_state()
    first, second = decoder(), decoder()
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    other = Decoder(first.config, torch_generator(2, "tests"))
    assert not torch.equal(first.embedding.weight, other.embedding.weight)
    ids = torch.randint(0, 60, (4, 32), generator=torch_generator(2, "ids"))
    loss = torch.nn.functional.cross_entropy(first(ids).flatten(0, 1), ids.roll(-1, 1).flatten())
    assert abs(float(loss.detach()) - torch.log(torch.tensor(60.0))) < 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "hidden_size 32 does not divide into 3 heads"),
        ({"kv_heads": 3}, r"heads \(4\) must be a multiple of kv_heads \(3\)"),
        ({"head_dim": 7}, "must be even"),
        ({"eos_token_id": 60}, "outside the vocabulary"),
        ({"layers": 0}, "'layers'"),
        ({"hidden_size": 1 << 40}, "'hidden_size'"),
        ({"depth": 2}, "unknown key 'depth'"),
    ],
)
def test_bad_configs_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(ModelConfig, {**SMALL, **changes})


def test_counts_follow_the_textbook() -> None:
    config = build(ModelConfig, {**SMALL, "kv_heads": None, "qk_norm": False, "intermediate_size": 96})
    matrices = 2 * (4 * 32 * 32 + 3 * 32 * 96)
    assert config.parameter_count(embeddings=False) == matrices + 5 * 32
    assert config.parameter_count() == matrices + 5 * 32 + 60 * 32
    assert config.flops_per_token(10) == 6 * (matrices + 60 * 32) + 12 * 2 * 32 * 10
