"""Examples one behind another: each as if it stood alone, in one step or in eight, and from where a run was killed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seedbed.core.config import build
from seedbed.core.errors import DataError
from seedbed.core.ragged import Ragged
from seedbed.core.randomness import numpy_generator, torch_generator
from seedbed.datasets.loader import PaddedBatches
from seedbed.finetuning.packing import AnswerTokens, ExampleBatches, example_nats
from seedbed.models import Decoder, ModelConfig
from seedbed.training import NextToken

_LENGTHS = (3, 9, 2, 17, 5, 12, 4, 8)


def decoder(**changes: object) -> Decoder:
    values = {"vocab_size": 40, "hidden_size": 32, "layers": 2, "heads": 4, "kv_heads": 2, "context_length": 32}
    return Decoder(build(ModelConfig, values | changes), torch_generator(1, "packing"))


def examples() -> tuple[Ragged, Ragged]:
    random = numpy_generator(0, "packing")
    ids = [random.integers(2, 40, length).astype(np.uint32) for length in _LENGTHS]
    return Ragged.from_rows(ids), Ragged.from_rows([np.arange(len(one)) > 0 for one in ids], np.bool_)


def gradients(model: Decoder) -> list[torch.Tensor]:
    found = [one.grad.clone() for one in model.parameters() if one.grad is not None]
    model.zero_grad()
    return found


@pytest.mark.parametrize("changes", [{}, {"window": 4}, {"softcap": 5.0}, {"positions": "learned"}])
def test_packed_examples_are_those_that_stand_alone(changes: dict[str, object]) -> None:
    model, (ids, weights) = decoder(**changes), examples()
    loss, count, _ = AnswerTokens().loss(model, next(ExampleBatches(ids, weights, 8)))
    loss.backward()
    packed = gradients(model)
    other, other_count, _ = NextToken().loss(model, next(PaddedBatches(ids, weights, 8, 32, 1)))
    other.backward()
    torch.testing.assert_close(loss, other, atol=1e-4, rtol=1e-5)
    assert count == other_count == sum(_LENGTHS) - 8
    for one, theirs in zip(packed, gradients(model), strict=True):
        torch.testing.assert_close(one, theirs, atol=1e-5, rtol=1e-4)
    sums, counts = example_nats(model, ExampleBatches(ids, weights, 3).once())
    assert len(sums) == 8
    assert counts.sum() == float(count)
    assert sums.sum() == pytest.approx(float(loss.detach()), rel=1e-5)


def test_one_step_of_eight_is_eight_of_one() -> None:
    model, (ids, weights) = decoder(), examples()
    batch = next(ExampleBatches(ids, weights, 8))
    found = []
    for parts in (1, 3, 8):
        pieces = batch.split(parts)
        assert len(pieces) == parts
        losses = [AnswerTokens().loss(model, piece) for piece in pieces]
        sum(loss for loss, _, _ in losses).backward()  # type: ignore[union-attr]
        found.append((sum(float(count) for _, count, _ in losses), gradients(model)))
    for count, some in found[1:]:
        assert count == found[0][0]
        for one, whole in zip(some, found[0][1], strict=True):
            torch.testing.assert_close(one, whole, atol=1e-5, rtol=1e-4)


def test_batches_go_on_where_they_were() -> None:
    ids, weights = examples()
    whole, first = ExampleBatches(ids, weights, 3, max_tokens=20), ExampleBatches(ids, weights, 3, max_tokens=20)
    expected = [next(whole) for _ in range(11)]
    assert all(one.ids_BT.shape[1] <= 20 for one in expected)
    assert sorted(length for one in list(first.once()) for length in one.lengths) == sorted(n - 1 for n in _LENGTHS)
    for _ in range(5):
        next(first)
    second = ExampleBatches(ids, weights, 3, max_tokens=20)
    second.load_state_dict(first.state_dict())
    for one, other in zip(expected[5:], second, strict=False):
        assert torch.equal(one.ids_BT, other.ids_BT)
        assert one.lengths == other.lengths
    with pytest.raises(DataError, match="less than two"):
        ExampleBatches(Ragged.from_rows([np.zeros(1, np.uint32)]), Ragged.from_rows([np.ones(1, bool)], np.bool_), 1)


def test_noise_falls_on_embeddings_in_training_alone() -> None:
    model, (ids, weights) = decoder(), examples()
    batch = next(ExampleBatches(ids, weights, 8))
    plain, noisy = AnswerTokens(), AnswerTokens(noise=5.0)
    assert torch.equal(noisy.hidden(model.eval(), batch), plain.hidden(model, batch))
    seen: list[torch.Tensor] = []
    model.train()
    model.blocks[0].register_forward_pre_hook(lambda block, inputs: seen.append(inputs[0]))
    plain.hidden(model, batch)
    noisy.hidden(model, batch)
    moved = (seen[1] - seen[0]).abs()[0].split(batch.lengths)
    for length, one in zip(batch.lengths, moved, strict=True):
        limit = 5.0 / (length * 32) ** 0.5
        assert 0.8 * limit < float(one.max()) <= limit * 1.0001
