"""Sampling: every truncation against a plain twin, and frequencies against probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seedbed.core.randomness import numpy_generator
from seedbed.generation.sampling import Sampler, Sampling


def sampler_of(samplings: Sequence[Sampling], vocabulary: int, prompts: Sequence[list[int]] | None = None) -> Sampler:
    sampler = Sampler(len(samplings), vocabulary)
    for row, sampling in enumerate(samplings):
        sampler.put(row, sampling, (row,), prompts[row] if prompts else ())
    return sampler


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
    top_p=st.sampled_from([1.0, 0.999, 0.31]),
    min_p=st.sampled_from([0.0, 0.07]),
)
def test_truncation_keeps_what_the_twin_keeps(
    seed: int, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    logits = np.random.default_rng(seed).normal(size=(2, 700)).astype(np.float32)
    # A neighbour with other settings in the same batch.
    sampler = sampler_of([sampling, Sampling(top_k=2, min_p=0.01, top_p=0.99)], 700)
    weights, _ = sampler.distribution([0, 1], torch.from_numpy(logits))
    assert set(weights[0].nonzero()[:, 0].tolist()) == allowed_tokens(logits[0], sampling)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2))


def test_frequencies_follow_probabilities() -> None:
    rows = 5_000
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, float("-inf")])
    sampler = sampler_of([Sampling(temperature=0.8)] * rows, 5)
    ids, logprobs = sampler.choose(range(rows), logits.expand(rows, -1))
    expected = (logits / 0.8).softmax(-1)
    torch.testing.assert_close(torch.bincount(ids, minlength=5) / rows, expected, atol=0.03, rtol=0)
    torch.testing.assert_close(logprobs, expected.log().expand(rows, -1))


def test_a_rows_random_numbers_are_its_own_streams() -> None:
    sampler = sampler_of([Sampling(seed=3)] * 3, 5)
    alone = numpy_generator(3, "sampling", 1).random(150)
    drawn = []
    for step in range(150):
        if step == 70:
            sampler.move(1, 0)
        rows = [2, 1] if step < 70 else [0]
        drawn.append(float(sampler.uniforms(rows)[-1]))
    assert drawn == alone.tolist()


def penalised(logits: np.ndarray, sampling: Sampling, prompt: list[int], answer: list[int]) -> np.ndarray:
    """The plain twin."""
    scores = logits.astype(np.float64).copy()
    for token in set(prompt) | set(answer):
        factor = sampling.repetition_penalty
        scores[token] = scores[token] / factor if scores[token] > 0 else scores[token] * factor
    for token in answer:
        scores[token] -= sampling.frequency_penalty
    for token in set(answer):
        scores[token] -= sampling.presence_penalty
    return scores


def test_penalties_equal_the_twin() -> None:
    requests = [
        Sampling(temperature=0, repetition_penalty=2),
        Sampling(temperature=0, frequency_penalty=0.7, presence_penalty=0.4),
        Sampling(temperature=0.6, repetition_penalty=0.9, frequency_penalty=-0.3, presence_penalty=1.1),
        Sampling(temperature=0),
    ]
    prompts = [[1, 2], [3], [], [4, 4]]
    sampler = sampler_of(requests, 12, prompts)
    answers: list[list[int]] = [[] for _ in requests]
    generator = np.random.default_rng(1)
    for _ in range(25):
        logits = generator.normal(size=(4, 12)).astype(np.float32)
        expected = np.stack([penalised(*row) for row in zip(logits, requests, prompts, answers, strict=True)])
        weights, _ = sampler.distribution(range(4), torch.from_numpy(logits))
        warm = torch.from_numpy(expected[2] / 0.6).softmax(-1).float()
        torch.testing.assert_close(weights[2], warm)
        ids, logprobs = sampler.choose(range(4), torch.from_numpy(logits))
        assert ids[[0, 1, 3]].tolist() == expected.argmax(-1)[[0, 1, 3]].tolist()
        plain = torch.from_numpy(logits[0]).log_softmax(-1)
        torch.testing.assert_close(logprobs[0], plain)
        for answer, token in zip(answers, ids.tolist(), strict=True):
            answer.append(token)
