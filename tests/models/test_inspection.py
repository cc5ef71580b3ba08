"""The heads that are shown are those that the model computes with."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from seedbed.core.config import build
from seedbed.core.randomness import torch_generator
from seedbed.models import Decoder, Encoder, EncoderDecoder, ModelConfig
from seedbed.models.inspection import Inspected

_SMALL = {"vocab_size": 60, "hidden_size": 32, "layers": 2, "heads": 4, "kv_heads": 2, "context_length": 64}
_IDS = torch.arange(1, 10)[None]


def _first_layer_by_hand(model: Decoder) -> Tensor:
    """The weights (H, T, T) of the first layer, from the projections."""
    block = model.blocks[0]
    attention, x = block.attention, block.attention_norm(model.embedding(_IDS))
    q = attention.q_norm(attention.q_proj(x).view(1, 9, 4, 8))
    k = attention.k_norm(attention.k_proj(x).view(1, 9, 2, 8))
    scores = torch.stack([q[0, :, head] @ k[0, :, head // 2].T for head in range(4)]) / 8**0.5
    return scores.masked_fill(torch.ones(9, 9).triu(1).bool(), float("-inf")).softmax(-1)


def test_weights_of_a_decoder_are_those_of_its_projections() -> None:
    model = Decoder(build(ModelConfig, {**_SMALL, "positions": "none"}), torch_generator(1, "tests"))
    found = Inspected(model).maps(_IDS).by_module
    assert list(found) == ["blocks.0.attention", "blocks.1.attention"]
    torch.testing.assert_close(found["blocks.0.attention"], _first_layer_by_hand(model))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"window": 3, "sink_tokens": 1},
        {"positions": "alibi"},
        {"latent": {"rank": 8, "rope_head_dim": 4}, "qk_norm": False, "kv_heads": 4},
    ],
)
def test_a_decoder_sees_no_later_token(changes: dict[str, Any]) -> None:
    model = Decoder(build(ModelConfig, {**_SMALL, **changes}), torch_generator(1, "tests"))
    seen = Inspected(model)
    for weights in seen.maps(_IDS).by_module.values():
        assert weights.shape == (4, 9, 9)
        assert weights.triu(1).max() == 0
        torch.testing.assert_close(weights.sum(-1), torch.ones(4, 9))
        if "window" in changes:
            assert weights[:, 8, 1:6].max() == 0
            assert weights[:, 8, 0].min() > 0
    torch.testing.assert_close(seen.model(_IDS), model(_IDS))


def test_an_encoder_looks_both_ways_and_cross_attention_at_the_source() -> None:
    shape = {name: value for name, value in _SMALL.items() if name != "kv_heads"}
    encoder = Encoder(build(ModelConfig, {**shape, "kind": "encoder"}), torch_generator(1, "tests"))
    for weights in Inspected(encoder).maps(_IDS).by_module.values():
        assert weights.triu(1).max() > 0
    both = EncoderDecoder(build(ModelConfig, {**shape, "kind": "encoder-decoder"}), torch_generator(1, "tests"))
    maps = Inspected(both).maps(_IDS, _IDS[:, :5]).by_module
    crossing = [weights for name, weights in maps.items() if "cross" in name]
    assert [tuple(one.shape) for one in crossing] == [(4, 5, 9)] * 2


def test_the_inspected_model_shares_the_weights_and_leaves_the_other_alone() -> None:
    model = Decoder(build(ModelConfig, _SMALL), torch_generator(1, "tests"))
    seen = Inspected(model)
    assert {one.data_ptr() for one in seen.model.parameters()} == {one.data_ptr() for one in model.parameters()}
    assert "attend" not in vars(model.blocks[0].attention)
