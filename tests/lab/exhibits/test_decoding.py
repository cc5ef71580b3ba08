"""Exhibits of decoding: length, caches, sinks and sampling, against formulas and other computations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
import torch.nn.functional as F

from seedbed.generation.long_context import stretches
from seedbed.lab.bench import Bench
from seedbed.lab.exhibit import Finding
from seedbed.lab.exhibits import sampling
from seedbed.models import Decoder
from seedbed.models.inspection import Inspected

Measure = Callable[..., Finding]


def test_memory_of_all_scores_is_of_the_square(measure: Measure) -> None:
    """Scores, and what masking or the softmax makes of them, live at once: two to four matrices of T² numbers."""
    found = measure("quadratic-wall", lengths=(512, 1024, 2048), heads=1, head_dim=16, repeats=1)
    scores = 4 * 2048**2
    assert 2 * scores <= found.numbers["bytes_all"] <= 4.5 * scores
    assert found.numbers["memory_all"] == pytest.approx(2, abs=0.1)
    assert found.numbers["memory_online"] < 1.1
    assert all(float(row[1]) > 0 for row in found.rows)


def test_bytes_of_caches_counted_by_hand(measure: Measure) -> None:
    """Two layers of width 64: 8 heads of 8 numbers, 4 bytes each, keys and values."""
    found = measure("kv-cache", lengths=(8, 16), hidden_size=64, layers=2, rank=16, repeats=1)
    assert {kind: found.numbers[kind] for kind in ("MHA", "GQA", "MQA", "MLA")} == {
        "MHA": 2 * 2 * 8 * 8 * 4, "GQA": 2 * 2 * 2 * 8 * 4, "MQA": 2 * 2 * 1 * 8 * 4, "MLA": 2 * (16 + 16) * 4,
    }  # fmt: skip
    assert found.numbers["apart"] < 1e-4


def test_sinks_against_a_model_with_a_window_of_its_own(measure: Measure, bench: Bench) -> None:
    """Of one layer, a cache of the latest tokens is a mask. The tiny run's base has one."""
    found = measure("attention-sinks", window=16, texts=2)
    model = bench.decoder()
    assert model.config.layers == 1
    context = model.config.context_length
    tokens = bench.tokens("validation").tokens
    rows = stretches(tokens, 2 * context + 1, 2)
    windowed = Decoder(model.config.replace(window=16))
    windowed.load_state_dict(model.state_dict())
    with torch.inference_mode():
        nats = F.cross_entropy(windowed(rows[:, :-1]).transpose(1, 2), rows[:, 1:], reduction="none")
    assert found.numbers["window"] == pytest.approx(float(nats[:, 20:].mean()), abs=1e-4)
    masses = [
        next(iter(Inspected(model).maps(row[None]).by_module.values()))[:, 1:, 0].mean()
        for row in stretches(tokens, context, 16)
    ]
    assert found.numbers["mass"] == pytest.approx(float(torch.stack(masses).mean()), rel=1e-4)
    assert found.numbers["even"] == pytest.approx(np.mean([1 / place for place in range(2, context + 1)]))


def test_entropy_nucleus_and_repetition_against_scipy_and_loops(measure: Measure, bench: Bench) -> None:
    found = measure("sampling", temperatures=(0.5, 1.0), top_p=(0.9,), prompts=4)
    model, tokens = bench.decoder(), bench.tokens("validation").tokens
    rows = stretches(tokens, model.config.context_length + 1, 16)
    with torch.inference_mode():
        logits = model(rows[:, :-1])[:, ::8].flatten(0, 1).double().numpy()
    for name, temperature in (("entropy_first", 0.5), ("entropy_last", 1.0)):
        probabilities = scipy.special.softmax(logits / temperature, axis=1)
        assert found.numbers[name] == pytest.approx(scipy.stats.entropy(probabilities, axis=1).mean(), rel=1e-4)
    sizes = []
    for row in scipy.special.softmax(logits, axis=1):
        held, size = 0.0, 0
        for one in sorted(row, reverse=True):
            held, size = held + one, size + 1
            if held >= 0.9:
                break
        sizes.append(size)
    assert found.numbers["nucleus"] == pytest.approx(np.mean(sizes), rel=1e-3)
    context = model.config.context_length
    texts = stretches(tokens, context // 4 + context // 2, 4)[:, context // 4 :].tolist()
    shares = [np.mean([row[at : at + 4] in [row[to : to + 4] for to in range(at)] for at in range(len(row) - 3)])
              for row in texts]  # fmt: skip
    assert found.numbers["human"] == pytest.approx(np.mean(shares))
    assert sampling.repeated([1, 2] * 10) == pytest.approx(15 / 17)
