"""Losses and advantages against naive twins, formulas and exact enumeration over a vocabulary of three."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seedbed.alignment import losses
from seedbed.alignment.advantages import explained_variance, gae, whiten


def _random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _naive_gae(rewards: list[float], values: list[float], gamma: float, lam: float) -> list[float]:
    """The definition: sum over l of (gamma lam)^l delta_{t+l}."""
    following = [*values[1:], 0.0][: len(values)]
    deltas = [r + gamma * n - v for r, v, n in zip(rewards, values, following, strict=True)]
    return [
        sum((gamma * lam) ** (later - t) * deltas[later] for later in range(t, len(deltas))) for t in range(len(deltas))
    ]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1.0, 0.9]), st.sampled_from([0.0, 0.95, 1.0]))
def test_gae_equals_its_definition_whatever_is_masked(seed: int, gamma: float, lam: float) -> None:
    rewards, values = _random(seed, 3, 7), _random(seed + 1, 3, 7)
    mask = _random(seed + 2, 3, 7) > -0.3
    poisoned = [torch.where(mask, tensor, torch.nan) for tensor in (rewards, values)]
    advantages, returns = gae(*poisoned, mask, gamma, lam)
    for row in range(3):
        kept = mask[row]
        expected = _naive_gae(rewards[row][kept].tolist(), values[row][kept].tolist(), gamma, lam)
        np.testing.assert_allclose(advantages[row][kept].numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(returns[mask], (advantages + values)[mask])
    assert not advantages[~mask].any()


def test_gae_refuses_unequal_shapes() -> None:
    with pytest.raises(ValueError, match=r"one shape"):
        gae(torch.zeros(2, 3), torch.zeros(2, 4), torch.ones(2, 3))


def test_whitening_centres_and_scales_the_unmasked() -> None:
    values, mask = _random(0, 4, 9) * 3 + 5, _random(1, 4, 9) > 0
    poisoned = torch.where(mask, values, torch.nan)
    white = whiten(poisoned, mask)
    assert abs(float(white[mask].mean())) < 1e-12
    assert float(white[mask].std()) == pytest.approx(1)
    assert not white[~mask].any()
    assert float(whiten(poisoned, mask, centre=False)[mask].mean()) == pytest.approx(float(values[mask].mean()))
    assert not whiten(poisoned, torch.zeros_like(mask)).any()


def test_bradley_terry_is_its_formula() -> None:
    chosen, rejected = _random(0, 5), _random(1, 5)
    expected = [
        math.log1p(math.exp(-(c - r - 0.5))) + 0.01 * (c + r) ** 2 for c, r in zip(chosen, rejected, strict=True)
    ]
    assert float(losses.bradley_terry(chosen, rejected, margin=0.5, centring=0.01)) == pytest.approx(np.mean(expected))
    assert float(losses.bradley_terry(chosen, chosen)) == pytest.approx(math.log(2))


def test_ppo_losses_equal_loops_and_pads_never_count() -> None:
    new, old, advantages, values, old_values, returns = (_random(seed, 3, 6) * 0.4 for seed in range(6))
    mask = _random(9, 3, 6) > -0.5
    policy = value = 0.0
    for b, t in itertools.product(range(3), range(6)):
        if mask[b, t]:
            ratio, advantage = math.exp(new[b, t] - old[b, t]), float(advantages[b, t])
            policy -= min(ratio * advantage, min(max(ratio, 0.8), 1.2) * advantage)
            change = min(max(float(values[b, t] - old_values[b, t]), -0.2), 0.2)
            plain, clipped = (values[b, t] - returns[b, t]) ** 2, (old_values[b, t] + change - returns[b, t]) ** 2
            value += 0.5 * max(float(plain), float(clipped))
    poison = torch.where(mask, 0.0, torch.inf)
    new.requires_grad_(True)
    loss = losses.ppo_policy(new + poison, old - poison, advantages, mask)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(policy / int(mask.sum()))
    assert torch.isfinite(new.grad).all()
    assert not new.grad[~mask].any()
    assert float(losses.ppo_value(values + poison, old_values, returns, mask)) == pytest.approx(value / int(mask.sum()))
    halves = [losses.ppo_value(*(x[rows] for x in (values, old_values, returns, mask)), denominator=int(mask.sum()))
              for rows in (slice(0, 1), slice(1, 3))]  # fmt: skip
    assert float(sum(halves)) == pytest.approx(value / int(mask.sum()))
    same = losses.ppo_statistics(old, old, mask)
    assert float(same["ratio"]) == int(mask.sum())
    assert float(same["clipped"]) == float(same["approximate_kl"]) == 0


def test_kl_by_enumeration_over_three_tokens() -> None:
    logits, reference = _random(0, 3), _random(1, 3)
    p, q = logits.softmax(-1), reference.softmax(-1)
    exact = sum(float(p[v]) * math.log(float(p[v] / q[v])) for v in range(3))
    assert float(losses.kl_exact(logits, reference)) == pytest.approx(exact)
    assert float(losses.entropy(logits)) == pytest.approx(-sum(float(x) * math.log(float(x)) for x in p))
    means = {name: float((p * losses.kl(p.log(), q.log(), name)).sum()) for name in ("k1", "k2", "k3")}
    assert means["k1"] == pytest.approx(exact)  # unbiased
    assert means["k3"] == pytest.approx(exact)  # unbiased
    assert means["k2"] == pytest.approx(float((p * (p / q).log() ** 2 / 2).sum()))
    assert (losses.kl(p.log(), q.log(), "k3") >= 0).all()


def test_policy_gradient_by_enumeration_over_three_tokens() -> None:
    """At ratio 1 the surrogate's expected gradient is the gradient of the expected advantage."""
    logits, advantage = _random(0, 3).requires_grad_(True), _random(1, 3)
    (expected,) = torch.autograd.grad((logits.softmax(-1) * advantage).sum(), logits)
    logprobs = logits.log_softmax(-1)
    old = logprobs.detach()
    surrogate = sum(
        old[v].exp()
        * losses.ppo_policy(logprobs[v].view(1, 1), old[v].view(1, 1), advantage[v].view(1, 1), torch.ones(1, 1))
        for v in range(3)
    )
    (found,) = torch.autograd.grad(-surrogate, logits)
    torch.testing.assert_close(found, expected)


def test_kl_estimators_have_the_gaussian_means_and_deviations() -> None:
    """N(0,1) against N(mu,1): deviations over the true KL are 2/mu (k1), sqrt(2 + mu^2) (k2); k2's bias is mu^2/4."""
    mu, n = 0.5, 400_000
    x = _random(3, n)
    log_p, log_q = -(x**2) / 2, -((x - mu) ** 2) / 2
    true = mu**2 / 2
    k1, k2, k3 = (losses.kl(log_p, log_q, name) for name in ("k1", "k2", "k3"))
    assert float(k1.std()) / true == pytest.approx(2 / mu, rel=0.01)
    assert float(k2.std()) / true == pytest.approx(math.sqrt(2 + mu**2), rel=0.03)
    assert float(k2.mean()) / true - 1 == pytest.approx(mu**2 / 4, abs=0.02)
    assert float(k1.mean()) == pytest.approx(true, rel=0.02)
    assert float(k3.mean()) == pytest.approx(true, rel=0.02)


def test_explained_variance() -> None:
    targets, mask = _random(0, 2, 8), torch.ones(2, 8, dtype=torch.bool)
    assert float(explained_variance(targets, targets, mask)) == pytest.approx(1)
    assert float(explained_variance(torch.zeros(2, 8), targets, mask)) == pytest.approx(0)
