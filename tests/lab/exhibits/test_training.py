"""Exhibits that train: what they measure against formulas and models that are known, and that training is resumed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seedbed.lab.bench import Bench
from seedbed.lab.exhibit import Finding
from seedbed.lab.exhibits import encoder_decoder, positional_encodings, recurrence
from seedbed.lab.training import Drawn, train
from seedbed.models import Decoder, ModelConfig
from seedbed.training import TrainerConfig

Measure = Callable[..., Finding]


def test_what_was_trained_is_not_trained_again(bench: Bench) -> None:
    settings = recurrence.RecurrenceSettings(width=8, symbols=3)
    drawn: list[int] = []

    def draw(number: int) -> recurrence.Question:
        drawn.append(number)
        return recurrence.Question.drawn(4, 5, settings, number)

    def weights(steps: int) -> Tensor:
        config = TrainerConfig(steps=steps, optimizer="adamw", schedule="constant", checkpoint_every=2)
        model = recurrence.Reader(recurrence.LSTM, settings, 5)
        return train(bench, "once", model, recurrence.Recall(), Drawn(draw), config).head.weight

    first = weights(3)
    assert drawn == [0, 1, 2]
    assert torch.equal(weights(3), first)
    assert drawn == [0, 1, 2]


def test_order_is_seen_by_positions_alone(measure: Measure) -> None:
    found = measure("positional-encodings", steps=2, context=8, hidden_size=16, batch_size=2, texts=4)
    assert found.numbers["moved_none"] < 1e-12
    settings = positional_encodings.PositionalEncodingsSettings(context=8, hidden_size=16)
    assert all(positional_encodings.order_seen(kind, settings) > 1e-3 for kind in ("learned", "sinusoidal", "rotary"))
    assert [row[0] for row in found.rows] == list(positional_encodings.KINDS.values())


def test_losses_by_stretch_against_whole_logits() -> None:
    settings = positional_encodings.PositionalEncodingsSettings(context=8, hidden_size=16)
    shape = {"vocab_size": 256, "hidden_size": 16, "layers": 1, "heads": 2, "positions": "alibi", "context_length": 8}
    model = Decoder(ModelConfig.model_validate(shape)).eval()
    rows = torch.randint(0, 256, (3, 33), generator=torch.Generator().manual_seed(0))
    found = positional_encodings.learnt("alibi", model, rows, settings)
    with torch.inference_mode():
        nats = F.cross_entropy(model(rows[:, :-1]).transpose(1, 2), rows[:, 1:], reduction="none").numpy()
    assert found.inside == pytest.approx(nats[:, 4:8].mean(axis=1), rel=1e-4)
    assert found.beyond[32] == pytest.approx(nats[:, 16:32].mean(axis=1), rel=1e-4)
    assert found.shuffled.shape == (3,)


class _Forgetful(nn.Module):
    """Copies the first `kept` symbols and says the start for all others."""

    def __init__(self, kept: int, symbols: int) -> None:
        super().__init__()
        self.kept, self.symbols = kept, symbols

    def forward(self, source_BS: Tensor, inputs_BT: Tensor) -> Tensor:
        told = torch.where(torch.arange(source_BS.shape[1]) < self.kept, source_BS, 0)
        return F.one_hot(told, self.symbols + 1).float()


def test_copies_of_one_that_forgets_and_of_tiny_networks(measure: Measure) -> None:
    settings = encoder_decoder.EncoderDecoderSettings(lengths=(2, 4, 8), tested=10)
    found = encoder_decoder.accuracies(_Forgetful(4, settings.symbols), settings)  # type: ignore[arg-type]
    assert found == {2: (1.0, 0.0, 1.0), 4: (1.0, 0.0, 1.0), 8: (0.5, 0.0, 0.0)}
    tiny = {"steps": 2, "hidden_size": 8, "tested": 200, "batch_size": 4, "longest": 4, "symbols": 4}
    guesses = measure("encoder-decoder", **tiny, lengths=(2, 4)).numbers
    assert guesses["fixed_long"] == pytest.approx(1 / 4, abs=0.12)


def test_gradients_against_the_product_of_jacobians(measure: Measure) -> None:
    """dh_T/dx_t = Π_{k>t} diag(1 - h_k²) W_hh · diag(1 - h_t²) W_ih."""
    settings = recurrence.RecurrenceSettings(width=8, reach=12)
    model = recurrence.Reader(recurrence.PLAIN, settings, 12)
    found = recurrence.gradients(model, settings, rows=3)
    random = recurrence.torch_generator(settings.seed, "gradients")
    x = torch.randn(3, 12, 8, generator=random, dtype=torch.float64)
    weights = torch.randn(3, 8, generator=random, dtype=torch.float64).numpy()
    w_in, w_state = (getattr(model.reader, f"weight_{name}_l0").detach().double().numpy() for name in ("ih", "hh"))
    with torch.no_grad():
        states = model.states(x).numpy()
    expected = np.zeros(12)
    for row in range(3):
        flow = weights[row]
        for place in reversed(range(12)):
            flow = flow * (1 - states[row, place] ** 2)
            expected[11 - place] += np.linalg.norm(flow @ w_in) / 3
            flow = flow @ w_state
    assert found == pytest.approx(expected, rel=1e-6)
    tiny = {"width": 8, "symbols": 3, "distances": (4, 6), "steps": 2, "reach": 40, "lengths": (4, 8), "repeats": 1}
    numbers = measure("recurrence", **tiny).numbers
    assert numbers["plain"] < numbers["attention"]
