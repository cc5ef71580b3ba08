"""Caches: what is read from each equals the whole forward pass under the same mask and positions, however the tokens
came, and each takes the bytes that were foretold."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seedbed.core.config import build
from seedbed.core.errors import ConfigError
from seedbed.core.randomness import torch_generator
from seedbed.models import CacheConfig, Decoder, KeyValueCache, ModelConfig
from seedbed.models.attention import attend_reference
from seedbed.models.masks import alibi_slopes
from seedbed.models.positions import rotate

SMALL = {"vocab_size": 60, "hidden_size": 32, "layers": 2, "heads": 4, "kv_heads": 2, "context_length": 64}
LATENT = {"latent": {"rank": 12, "rope_head_dim": 6}, "qk_norm": False, "kv_heads": 4}
YARN = {"rope_scaling": {"kind": "yarn", "factor": 4.0, "original_context": 16}}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def decoder(**changes: Any) -> Decoder:
    return Decoder(build(ModelConfig, {**SMALL, **changes}), torch_generator(1, "tests"))


def layout(**values: Any) -> CacheConfig:
    return build(CacheConfig, values)


def tokens(rows: int, length: int, seed: int = 2) -> Tensor:
    return torch.randint(0, 60, (rows, length), generator=torch_generator(seed, "ids"))


@torch.no_grad()
def read_in_steps(model: Decoder, ids: Tensor, cache: KeyValueCache, steps: list[int]) -> Tensor:
    """The logits of all tokens, given to the cache `steps` at a time."""
    parts, start = [], 0
    for step in steps:
        parts.append(model(ids[:, start : start + step], cache=cache))
        start += step
    return torch.cat(parts, dim=1)


STEPS = [([1] * 40), ([8, 8, 8, 8, 8]), ([5, 1, 1, 8, 1, 7, 2, 1, 1, 1, 8, 4])]


@pytest.mark.parametrize("steps", STEPS)
def test_a_window_sees_what_the_mask_of_a_window_leaves(steps: list[int]) -> None:
    model, ids = decoder(), tokens(2, 40)
    cache = KeyValueCache(model.config, 2, 40, layout=layout(kind="window", window=11, slack=8))
    distance = torch.arange(40)[:, None] - torch.arange(40)
    with torch.no_grad():
        expected = model(ids, mask=(distance >= 0) & (distance < 11))
    torch.testing.assert_close(read_in_steps(model, ids, cache, steps), expected, atol=1e-5, rtol=0)
    assert cache.keys[0].shape[1] == 11 - 1 + 8


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"global_every": 2, "local_rope_theta": 100.0},
        {"sink_tokens": 3},
        {"positions": "alibi", "learned_sinks": True},
        LATENT,
    ],
)
def test_a_models_own_windows_lose_nothing(changes: dict[str, Any], steps: list[int]) -> None:
    model, ids = decoder(window=9, **changes), tokens(2, 40)
    cache = KeyValueCache(model.config, 2, 40, layout=layout(kind="window", slack=8))
    with torch.no_grad():
        expected = model(ids)
    torch.testing.assert_close(read_in_steps(model, ids, cache, steps), expected, atol=1e-5, rtol=0)


def with_sinks(model: Decoder, ids: Tensor, sinks: int, window: int) -> Tensor:
    """The plain twin, one token of one row at a time: keys are kept as they were before any rotation, and turned by
    their place among those kept."""
    config = model.config
    kept: list[list[tuple[Tensor, Tensor]]] = [[] for _ in model.blocks]
    logits = []
    for token in ids:
        x = model.embedding(token.view(1, 1))
        for layer, block in enumerate(model.blocks):
            attention, past = block.attention, kept[layer]
            below = block.attention_norm(x)
            q, k, v = (
                project(below).unflatten(-1, (-1, config.head_dim))
                for project in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            if attention.q_norm is not None:
                q, k = attention.q_norm(q), attention.k_norm(k)
            past.append((k, v))
            if len(past) > sinks + window:
                del past[sinks]
            keys, values = (torch.cat(part, dim=1) for part in zip(*past, strict=True))
            mask = None
            if config.positions == "rotary":
                places = torch.arange(len(past))
                keys = rotate(keys, model.rotary.at(places[None], 64, x))
                q = rotate(q, model.rotary.at(places[None, -1:], 64, x))
            elif config.positions == "alibi":
                mask = -alibi_slopes(config.heads)[None, :, None, None] * torch.arange(len(past) - 1, -1, -1)
            mixed = attend_reference(q, keys, values, mask)
            x = x + attention.o_proj(mixed.flatten(2))
            x = x + block.feedforward(block.feedforward_norm(x))
        logits.append(model.head(model.norm(x))[0, 0])
    return torch.stack(logits)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("changes", [{}, YARN, {"positions": "alibi"}, {"positions": "none"}])
def test_sinks_count_positions_within_the_cache(changes: dict[str, Any], steps: list[int]) -> None:
    model, ids = decoder(**changes), tokens(2, 40)
    cache = KeyValueCache(model.config, 2, 1000, layout=layout(kind="sinks", window=7, sinks=3, slack=8))
    with torch.no_grad():
        expected = torch.stack([with_sinks(model, row, 3, 7) for row in ids])
    torch.testing.assert_close(read_in_steps(model, ids, cache, steps), expected, atol=2e-5, rtol=0)


def test_sinks_of_latent_attention_and_of_quantised_caches_move_too() -> None:
    ids = tokens(2, 40)
    for changes, dtype, tolerance in ((LATENT, "model", 1e-5), ({}, "int8", 1e-5)):
        model = decoder(**changes)
        kept = layout(kind="sinks", window=7, sinks=3, slack=8, dtype=dtype)
        one, many = (
            read_in_steps(model, ids, KeyValueCache(model.config, 2, 40, layout=kept), steps)
            for steps in (STEPS[0], STEPS[1])
        )
        torch.testing.assert_close(one, many, atol=tolerance, rtol=0)
    # Far beyond the cache the sinks count as near, so a text that repeats itself is read the same at any place.
    model = decoder()
    cache = KeyValueCache(model.config, 1, 1 << 30, layout=layout(kind="sinks", window=7, sinks=3, slack=8))
    again = tokens(1, 7).repeat(1, 20)
    logits = read_in_steps(model, torch.cat((tokens(1, 3, 5), again), 1), cache, [1] * 143)
    torch.testing.assert_close(logits[:, 45:52], logits[:, -7:], atol=1e-5, rtol=0)
    assert cache.keys[0].shape[1] == 3 + (7 - 1 + 8) + 3


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), kind=st.sampled_from(["full", "window", "sinks"]), data=st.data())
def test_rows_come_together_in_any_order(seed: int, kind: str, data: st.DataObject) -> None:
    """Steps on random rows, padded and taken back: each row reads as if it were alone."""
    model, rows, length = decoder(), 4, 30
    ids = tokens(rows, length, seed)
    chosen = {} if kind == "full" else {"window": 6, "slack": 8}
    kept = layout(kind=kind, **chosen, **({"sinks": 2} if kind == "sinks" else {}))
    expected = read_in_steps(model, ids, KeyValueCache(model.config, rows, length, layout=kept), [1] * length)
    cache = KeyValueCache(model.config, rows, length + 8, layout=kept)
    done = [0] * rows
    for _ in range(data.draw(st.integers(2, 7))):
        some = data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=rows, unique=True))
        counts = [min(data.draw(st.integers(0, 8)), length - done[row]) for row in some]
        widest = max(*counts, 1)
        padded = torch.zeros(len(some), widest, dtype=torch.int64)
        for place, (row, count) in enumerate(zip(some, counts, strict=True)):
            padded[place, :count] = ids[row, done[row] : done[row] + count]
        view = cache.view(some)
        assert view.slots is not None
        assert view.slots.tolist() == some
        with torch.no_grad():
            logits = model(padded, cache=view)
        for place, (row, count) in enumerate(zip(some, counts, strict=True)):
            torch.testing.assert_close(
                logits[place, :count], expected[row, done[row] : done[row] + count], atol=2e-5, rtol=0
            )
            done[row] += count
        view.set_lengths([done[row] for row in some])
        assert cache.lengths.tolist() == done
    source = max(range(rows), key=lambda row: done[row])
    others = [row for row in range(rows) if row != source]
    cache.share(source, others)
    if done[source] < length:
        with torch.no_grad():
            logits = model(ids[source, done[source]].expand(rows)[:, None], cache=cache)
        torch.testing.assert_close(logits[:, 0], expected[source, done[source]].expand(rows, -1), atol=2e-5, rtol=0)


@pytest.mark.parametrize("changes", [{}, LATENT, {"window": 9, "global_every": 2}])
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"kind": "window", "window": 20},
        {"kind": "sinks", "window": 20},
        {"dtype": "int8"},
        {"kind": "window", "window": 20, "dtype": "int8"},
        {"dtype": "bfloat16"},
    ],
)
def test_bytes_are_foretold(changes: dict[str, Any], values: dict[str, Any]) -> None:
    model, kept = decoder(**changes), layout(**values)
    if kept.kind == "sinks" and "window" in changes:
        return
    for rows, length in ((1, 16), (3, 500)):
        cache = KeyValueCache(model.config, rows, length, layout=kept)
        assert cache.bytes == kept.bytes(model.config, rows, length)
    per_token = 2 * 2 * 8 * 4  # keys and values, two heads of eight numbers of four bytes
    if not changes and not values:
        assert cache.bytes == 2 * 3 * 500 * per_token
    if not changes and values == {"dtype": "int8"}:
        assert cache.bytes == 2 * 3 * 500 * (2 * 2 * (8 + 4))


@pytest.mark.parametrize(("dtype", "bound"), [("int8", 0.02), ("bfloat16", 0.02)])
def test_a_smaller_cache_costs_little(dtype: str, bound: float) -> None:
    model, ids = decoder(), tokens(3, 40)
    logits = [
        read_in_steps(model, ids, KeyValueCache(model.config, 3, 40, layout=layout(dtype=dtype)), steps)
        for steps in (STEPS[0], STEPS[1])
    ]
    with torch.no_grad():
        expected = model(ids)
    torch.testing.assert_close(logits[0], logits[1], atol=1e-5 if dtype == "int8" else 1e-2, rtol=0)
    error = float((logits[0] - expected).abs().max() / expected.abs().max())
    assert 0 < error < bound


def test_what_a_cache_cannot_be() -> None:
    for values, message in (
        ({"window": 8}, "full cache has no window"),
        ({"kind": "sinks"}, "needs a window"),
        ({"kind": "ring"}, "'full', 'window' or 'sinks'"),
    ):
        with pytest.raises(ConfigError, match=message):
            layout(**values)
    for model, kept, message in (
        (decoder(), layout(kind="window"), "no window of its own"),
        (decoder(window=9), layout(kind="sinks", window=9), "windows of its own"),
        (decoder(positions="learned"), layout(kind="sinks", window=9), "learned positions"),
    ):
        with pytest.raises(ConfigError, match=message):
            KeyValueCache(model.config, 1, 10, layout=kept)
    with pytest.raises(ValueError, match="that one step may bring"):
        model = decoder()
        model(tokens(1, 9), cache=KeyValueCache(model.config, 1, 64, layout=layout(kind="window", window=8, slack=8)))
