"""Objectives against plain cross-entropy on all logits, and documents that do not see each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seedbed.core.randomness import numpy_generator, torch_generator
from seedbed.datasets.corruption import CorruptSpans, GivePrefix, MaskTokens
from seedbed.datasets.loader import Batch
from seedbed.models import Decoder, Encoder, EncoderDecoder, MaskedLanguageModel, ModelConfig
from seedbed.training import MaskedTokens, NextToken, SpanCorruption

_SHAPE: dict[str, Any] = {"vocab_size": 50, "hidden_size": 16, "layers": 2, "heads": 2, "context_length": 24}


def _batch(rows: int = 3, length: int = 24) -> Batch:
    ids = torch.randint(2, 40, (rows, length + 1), generator=torch_generator(0, "ids"))
    return Batch(ids[:, :-1].clone(), ids[:, 1:].clone(), torch.ones(rows, length))


def _documents(batch: Batch, lengths: list[int]) -> Batch:
    numbers = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).expand_as(batch.ids_BT)
    weights = batch.weights_BT.clone()
    weights[:, torch.tensor(lengths).cumsum(0) - 1] = 0.0
    return Batch(batch.ids_BT, batch.targets_BT, weights, numbers)


def _masked(batch: Batch) -> Batch:
    return MaskTokens(mask_id=1, vocab_size=40, special_ids=(0,), share=0.4)(batch, numpy_generator(0, "mask"))


def _cases() -> dict[str, tuple[Any, Any, Any]]:
    encoder = ModelConfig(kind="encoder", **_SHAPE)
    return {
        "decoder": (NextToken(), Decoder(ModelConfig(**_SHAPE)), lambda batch: batch),
        "learned positions": (NextToken(), Decoder(ModelConfig(**_SHAPE, positions="learned")), lambda batch: batch),
        "encoder": (MaskedTokens(), MaskedLanguageModel(Encoder(encoder)), _masked),
    }


@pytest.mark.parametrize("case", ["decoder", "learned positions", "encoder"])
def test_packed_documents_are_as_if_alone(case: str) -> None:
    objective, model, change = _cases()[case]
    lengths = [5, 12, 7]
    packed = change(_documents(_batch(), lengths))
    total, count, _ = objective.loss(model, packed)
    apart = 0.0
    for start, length in zip(np.cumsum([0, *lengths[:-1]]), lengths, strict=True):
        part = slice(int(start), int(start) + length)
        alone = Batch(packed.ids_BT[:, part], packed.targets_BT[:, part], packed.weights_BT[:, part])
        apart += float(objective.loss(model, alone)[0].detach())
    assert float(total.detach()) == pytest.approx(apart, rel=1e-5)
    assert float(count) == float(packed.weights_BT.sum())


@pytest.mark.parametrize("case", ["decoder", "encoder"])
def test_no_gradient_crosses_documents(case: str) -> None:
    objective, model, change = _cases()[case]
    packed = change(_documents(_batch(rows=1), [10, 14]))
    table = (model.encoder if case == "encoder" else model).embedding
    seen: list[torch.Tensor] = []
    table.register_forward_hook(lambda *inputs: seen.append(inputs[-1]) or inputs[-1].retain_grad())
    weights = packed.weights_BT.clone()
    weights[:, :10] = 0.0  # the second document's losses alone
    assert bool(weights.any())
    objective.loss(model, Batch(packed.ids_BT, packed.targets_BT, weights, packed.documents_BT))[0].backward()
    gradient = seen[0].grad
    assert gradient is not None
    assert not bool(gradient[:, :10].any())
    assert bool(gradient[:, 10:].any())


def test_a_prefix_sees_itself_whole_and_the_rest_is_told_in_order() -> None:
    model = Decoder(ModelConfig(**_SHAPE))
    batch = GivePrefix()(_batch(), numpy_generator(0, "prefix"))
    prefixes = batch.prefix_B
    assert prefixes is not None
    assert torch.equal(batch.weights_BT.sum(1).long(), 24 - prefixes + 1)
    for row, prefix in enumerate(prefixes.tolist()):
        embedded = model.embedding(batch.ids_BT[row : row + 1]).detach().requires_grad_()
        from seedbed.models.masks import prefix_mask

        mask = prefix_mask(prefixes[row : row + 1], 24)
        hidden = super(Decoder, model).forward(embedded, mask=mask)
        for place in {0, prefix - 1, prefix, 23} - {24}:
            (gradient,) = torch.autograd.grad(hidden[0, place].sum(), embedded, retain_graph=True)
            seen = gradient[0].abs().sum(-1) > 0
            assert seen.tolist() == [key < max(prefix, place + 1) for key in range(24)]
    total, _, _ = NextToken().loss(model, batch)
    logits = model(batch.ids_BT, mask=prefix_mask(prefixes, 24))
    plain = F.cross_entropy(logits.flatten(0, 1), batch.targets_BT.flatten(), reduction="none")
    assert float(total.detach()) == pytest.approx(float((plain * batch.weights_BT.flatten()).sum().detach()), rel=1e-5)


def test_masked_tokens_equal_plain_logits() -> None:
    objective, model, change = _cases()["encoder"]
    torch.nn.init.normal_(model.bias)
    batch = change(_batch())
    total, _, _ = objective.loss(model, batch)
    chosen = batch.weights_BT > 0
    plain = F.cross_entropy(model(batch.ids_BT)[chosen], batch.targets_BT[chosen], reduction="sum")
    names, parameters = zip(*model.named_parameters(), strict=True)
    found, expected = (torch.autograd.grad(one, parameters, allow_unused=True) for one in (total, plain))
    assert float(total.detach()) == pytest.approx(float(plain.detach()), rel=1e-5)
    for name, one, other in zip(names, found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("scale_head", [False, True])
def test_span_corruption_equals_plain_logits(scale_head: bool) -> None:
    model = EncoderDecoder(ModelConfig(kind="encoder-decoder", scale_head=scale_head, **_SHAPE))
    batch = CorruptSpans(sentinel_id=49, start_id=0, end_id=1, sentinels=9)(_batch(), numpy_generator(0, "spans"))
    total, count, _ = SpanCorruption().loss(model, batch)
    logits = model(batch.source_BS, batch.ids_BT)
    plain = F.cross_entropy(logits.flatten(0, 1), batch.targets_BT.flatten(), reduction="sum")
    assert float(total.detach()) == pytest.approx(float(plain.detach()), rel=1e-5)
    assert int(count) == batch.targets_BT.numel()


def test_a_capped_head_is_heeded() -> None:
    model = Decoder(ModelConfig(**_SHAPE, logit_softcap=0.5))
    batch = _batch()
    total, _, _ = NextToken().loss(model, batch)
    plain = F.cross_entropy(model(batch.ids_BT).flatten(0, 1), batch.targets_BT.flatten(), reduction="sum")
    assert float(total.detach()) == pytest.approx(float(plain.detach()), rel=1e-5)
