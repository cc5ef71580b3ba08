"""The limits' arithmetic: best of n by enumeration, the curves by their own points, diversity, alarms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from seedbed.alignment.alarms import online_alarms, preference_alarms
from seedbed.alignment.best_of_n import divergence, expected_best, pass_at_k
from seedbed.alignment.diversity import distinct_n, self_bleu, unique_share
from seedbed.alignment.overoptimization import Form, fit
from seedbed.core.errors import DataError


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_best_of_n_is_the_mean_over_all_draws(n: int) -> None:
    generator = np.random.default_rng(0)
    proxy, gold = generator.normal(size=(2, 5)), generator.normal(size=(2, 5))
    for row in range(2):
        draws = [max(draw, key=lambda i: proxy[row, i]) for draw in itertools.combinations(range(5), n)]
        assert expected_best(proxy, gold, n)[row] == pytest.approx(np.mean(gold[row, draws]))
    right = proxy > 0.2
    any_right = [[right[row, list(draw)].any() for draw in itertools.combinations(range(5), n)] for row in range(2)]
    np.testing.assert_allclose(pass_at_k(right, n), np.mean(any_right, axis=1), atol=1e-12)


def test_divergence_of_best_of_n_is_that_of_the_largest_of_n_numbers() -> None:
    """The largest of n uniform numbers has density n x^(n-1): its divergence from the uniform is the integral."""
    x = (np.arange(1_000_000) + 0.5) / 1_000_000
    for n in (2, 4, 16):
        density = n * x ** (n - 1)
        assert divergence(n) == pytest.approx(float(np.mean(density * np.log(density))), abs=1e-4)


@pytest.mark.parametrize("form", ["best-of-n", "rl"])
def test_curves_are_found_again_with_their_peak(form: Form) -> None:
    alpha, beta = 0.5, 0.12
    d = np.linspace(0.3, 6, 12)
    gold = d * (alpha - beta * (d if form == "best-of-n" else np.log(d)))
    noisy = gold + np.random.default_rng(0).normal(0, 0.01, len(d))
    found = fit(np.append(0.0, d), np.append(0.2, noisy + 0.2), form)
    assert found.alpha == pytest.approx(alpha, abs=4 * found.errors[0])
    assert found.beta == pytest.approx(beta, abs=4 * found.errors[1])
    assert found.bends
    wanted = alpha / (2 * beta) if form == "best-of-n" else math.exp(alpha / beta - 1)
    assert found.peak == pytest.approx(wanted, rel=0.15)
    np.testing.assert_allclose(found.gain(d), gold, atol=0.05)
    assert found.start == pytest.approx(0.2, abs=0.05)
    known = fit(d, noisy, form, start=0.0)
    assert known.start == 0
    assert known.alpha == pytest.approx(alpha, abs=4 * known.errors[0])
    straight = fit(d, 0.3 * d + np.random.default_rng(1).normal(0, 0.05, len(d)), form, start=0.0)
    assert not straight.bends
    with pytest.raises(DataError, match="cannot tell a curve"):
        fit([0.0, 1.0, 2.0], [0.0, 1.0, 1.0], form)


def test_diversity() -> None:
    alike, different = ["the cat sat on the mat ."] * 4, ["a b c d e", "f g h i j", "k l m n o"]
    assert self_bleu(alike) == pytest.approx(1)
    assert self_bleu(different) < 0.05
    assert self_bleu(["one"]) == 0
    assert distinct_n(alike, 2) == pytest.approx(6 / 24)
    assert distinct_n(different, 2) == 1
    assert unique_share(alike) == 0.25


def test_alarms_say_what_is_wrong_and_nothing_of_a_healthy_run() -> None:
    first = {"kl": 0.0, "kl_exact": 0.0, "ratio": 1.0, "first_ratio": 1.0, "sampler_gap": 1e-5, "ended": 0.9,
             "entropy": 2.0, "gold": 0.5, "proxy": 0.0, "distinct": 0.9}  # fmt: skip
    assert online_alarms(first | {"kl": 1.0, "kl_exact": 1.1, "proxy": 1.0, "gold": 0.6}, first) == []
    for change, word in (
        ({"kl": -3.0, "kl_exact": 1.0}, "negative"), ({"ratio": 2.4}, "too large"), ({"first_ratio": 1.3}, "sampler"),
        ({"ended": 0.0}, "ended"), ({"entropy": 0.2}, "explore"), ({"groups_alike": 0.9}, "alike"),
        ({"gold": 0.4, "proxy": 1.0}, "over-optimisation"), ({"distinct": 0.2}, "differ"),
    ):  # fmt: skip
        (alarm,) = online_alarms(first | change, first)
        assert word in alarm
    assert preference_alarms({"margin": 1.0, "chosen_reward": 0.2}) == []
    assert "less likely" in preference_alarms({"margin": 1.0, "chosen_reward": -0.2})[0]
