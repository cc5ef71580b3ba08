"""Exhibits of attention and of the block: masks, heads, residual stream, against the model computed by other means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from seedbed.generation.long_context import stretches
from seedbed.lab.bench import Bench
from seedbed.lab.exhibit import Finding
from seedbed.lab.exhibits import attention_masks
from seedbed.lab.exhibits.attention_heads import without_heads

Measure = Callable[..., Finding]


def test_masks_against_gradients(measure: Measure, bench: Bench) -> None:
    """A token reaches an output where the output's gradient with respect to its embedding is not zero."""
    found = measure("attention-masks", tokens=8)
    assert (found.verdict, found.numbers["leaked"]) == ("holds", 0)
    assert found.numbers["apart"] < 1e-4
    model = bench.decoder()
    ids, _ = attention_masks._text(bench, 8)
    kept: list[torch.Tensor] = []
    model.embedding.register_forward_hook(lambda module, inputs, output: kept.append(output.requires_grad_()) or output)
    hidden = model.hidden(torch.tensor([ids]))[0]
    reached = np.array(
        [torch.autograd.grad(row.sum(), kept[0], retain_graph=True)[0][0].abs().sum(-1).numpy() > 0 for row in hidden]
    ).T
    assert np.array_equal(reached, np.triu(np.ones((8, 8), dtype=bool)))
    row = found.rows[1]
    assert (row[1], row[3]) == (reached.sum(), (~reached).sum())


def test_a_mask_that_leaks_is_found_out(bench: Bench) -> None:
    both_ways = attention_masks._moved(attention_masks._encoder(bench), list(range(10, 16)), 0)
    one = attention_masks.Influence("causal", both_ways, np.triu(np.ones((6, 6), dtype=bool)))
    assert (one.leaked, one.reached) == (15, 1.0)


def test_heads_against_zeros_in_what_the_projection_reads(measure: Measure, bench: Bench) -> None:
    found = measure("attention-heads", texts=6)
    model = bench.decoder()
    width = model.config.head_dim
    rows = stretches(bench.tokens("validation").tokens, model.config.context_length + 1, 6)

    def loss(heads: list[int]) -> float:
        def silence(module: Any, inputs: Any) -> Any:
            mixed = inputs[0].clone()
            for head in heads:
                mixed[..., head * width : (head + 1) * width] = 0
            return (mixed,)

        hook = model.blocks[0].get_submodule("attention.o_proj").register_forward_pre_hook(silence)
        with torch.inference_mode():
            logits = model(rows[:, :-1])
        hook.remove()
        return float(F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()))

    assert found.numbers["loss"] == pytest.approx(loss([]), rel=1e-5)
    assert found.numbers["none"] == pytest.approx(loss([0, 1]), rel=1e-5)
    assert found.numbers["dearest"] == pytest.approx(max(loss([0]), loss([1])) - loss([]), abs=1e-5)
    before = model.blocks[0].get_submodule("attention.o_proj").weight.clone()
    with without_heads(model, [(0, 1)]):
        assert not model.blocks[0].get_submodule("attention.o_proj").weight[:, width:].any()
    assert torch.equal(before, model.blocks[0].get_submodule("attention.o_proj").weight)


def test_blocks_against_the_flop_counter_and_the_stream_by_hand(measure: Measure, bench: Bench) -> None:
    found = measure("transformer-blocks", texts=4)
    model = bench.decoder()
    config = model.config
    rows = stretches(bench.tokens("validation").tokens, config.context_length, 4)
    with torch.inference_mode():
        first = model.embedding(rows)
        assert found.numbers["first"] == pytest.approx(float(first.square().mean().sqrt()), rel=1e-5)
        kept: list[torch.Tensor] = []
        assert model.norm is not None
        model.norm.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0]))
        model.hidden(rows)
        assert found.numbers["last"] == pytest.approx(float(kept[0].square().mean().sqrt()), rel=1e-5)
        with FlopCounterMode(display=False) as counter:
            model(rows[:1])
    # The counter does not know the CPU's fused attention: its two products are counted here.
    pairs = 4 * config.layers * config.heads * config.head_dim * config.context_length**2
    counted = counter.get_total_flops() + pairs
    assert found.numbers["flops"] * config.context_length == pytest.approx(counted, rel=0.01)
    assert sum(row[1] for row in found.rows) == config.parameter_count()
