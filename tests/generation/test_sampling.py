"""Sampling: every truncation against a plain twin, and frequencies against probabilities."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seedbed.generation.sampling import Sampler, Sampling


def allowed_tokens(logits: np.ndarray, sampling: Sampling) -> set[int]:
    """The plain twin, one token at a time."""
    weights = np.exp(logits.astype(np.float64) / sampling.temperature)
    order = sorted(range(len(weights)), key=lambda token: -weights[token])
    if sampling.top_k:
        order = order[: sampling.top_k]
    kept, held, total = [], 0.0, sum(weights[token] for token in order)
    for token in order:
        if held >= sampling.top_p * total:
            break
        kept.append(token)
        held += weights[token]
    return {token for token in kept if weights[token] >= sampling.min_p * weights[order[0]]}


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
    top_k=st.sampled_from([0, 1, 3, 50]),
    top_p=st.sampled_from([1.0, 0.9, 0.31]),
    min_p=st.sampled_from([0.0, 0.07]),
)
def test_truncation_keeps_what_the_twin_keeps(
    seed: int, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    logits = np.random.default_rng(seed).normal(size=(2, 30)).astype(np.float32)
    # A neighbour with other settings in the same batch.
    sampler = Sampler([sampling, Sampling(top_k=2, min_p=0.01, top_p=0.99)], [0, 0], 4)
    weights = sampler._truncate((torch.from_numpy(logits) / sampler.temperature).softmax(-1))
    assert set(weights[0].nonzero()[:, 0].tolist()) == allowed_tokens(logits[0], sampling)


def test_frequencies_follow_probabilities() -> None:
    rows = 5_000
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, float("-inf")])
    sampler = Sampler([Sampling(temperature=0.8)] * rows, range(rows), 1)
    ids, logprobs = sampler.choose(logits.expand(rows, -1), 0)
    expected = (logits / 0.8).softmax(-1)
    observed = torch.bincount(ids, minlength=5) / rows
    torch.testing.assert_close(observed, expected, atol=0.03, rtol=0)
    torch.testing.assert_close(logprobs, expected.log()[ids])


def test_the_penalty_weighs_on_seen_tokens_alone() -> None:
    logits = torch.tensor([[3.0, 2.0, -1.0], [3.0, 2.0, -1.0]])
    seen = torch.tensor([[True, False, True], [True, False, True]])
    sampler = Sampler([Sampling(temperature=0, repetition_penalty=2), Sampling(temperature=0)], [0, 0], 1)
    ids, logprobs = sampler.choose(logits, 0, seen)
    assert ids.tolist() == [1, 0]
    torch.testing.assert_close(logprobs, logits.log_softmax(-1)[[0, 1], ids])
