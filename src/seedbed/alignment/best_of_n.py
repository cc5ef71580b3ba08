"""Best of n: the policy that asks n times and keeps what the reward likes best.

It is the plainest optimiser of a reward, and its divergence from the policy that it samples is known beforehand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

from ..datasets.instructions import Turns
from ..models import Decoder
from .rollouts import Answer, Reward, rewards_of, sample_answers

if TYPE_CHECKING:
    from ..tokenizers import Tokenizer


def best_of_n(
    model: Decoder, tokenizer: Tokenizer, prompts: Sequence[str | Turns], reward: Reward, n: int, *,
    temperature: float = 1.0, max_new_tokens: int = 48, seed: int = 0,
) -> list[Answer]:  # fmt: skip
    """Of `n` sampled answers to each prompt the one of the highest reward: what optimising a reward buys without
    training."""
    answers = sample_answers(
        model, tokenizer, prompts, temperature=temperature, max_new_tokens=max_new_tokens, seed=seed, samples=n
    )
    best = rewards_of(reward, answers).reshape(len(prompts), n).argmax(axis=1)
    return [answers[place * n + int(one)] for place, one in enumerate(best)]


def divergence(n: int) -> float:
    """KL(best of n || policy) in nats: log n - (n - 1) / n, if no two answers have the same reward (Stiennon et al.
    2020, appendix G.3); else at most that."""
    return math.log(n) - (n - 1) / n


def expected_best(proxy: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """What `values` the best of n has, in expectation over which n of a prompt's answers are drawn: (prompts,).

    Args:
        proxy: (prompts, samples), by which the best is chosen.
        values: (prompts, samples), what it is then worth: the proxy itself, or the gold reward.

    With samples sorted by proxy, the one of rank r is the best of n with probability C(r - 1, n - 1) / C(N, n): all
    samples serve, which has far less variance than drawing (Nakano et al. 2021, appendix I). Ties go to the earlier.
    """
    samples = proxy.shape[1]
    if not 1 <= n <= samples:
        raise ValueError(f"best of {n} needs at least as many samples, not {samples}")
    order = np.argsort(proxy, axis=1, kind="stable")
    ranks = np.arange(1, samples + 1)
    share = np.zeros(samples)
    chosen = ranks >= n
    share[chosen] = np.exp(_log_choose(ranks[chosen] - 1, n - 1) - _log_choose(samples, n))
    return np.take_along_axis(values, order, axis=1) @ share


def pass_at_k(right: np.ndarray, k: int) -> np.ndarray:
    """The chance that one of k of a prompt's answers is right, (prompts,): 1 - C(N - c, k) / C(N, k) (Chen et al.
    2021).

    Args:
        right: bool (prompts, samples).
    """
    samples, wrong = right.shape[1], (~right).sum(axis=1)
    if not 1 <= k <= samples:
        raise ValueError(f"pass@{k} needs at least as many samples, not {samples}")
    none = np.exp(_log_choose(np.maximum(wrong, k), k) - _log_choose(samples, k))
    return 1 - np.where(wrong >= k, none, 0.0)


def _log_choose(n: np.ndarray | int, k: np.ndarray | int) -> np.ndarray:
    n, k = np.asarray(n, float), np.asarray(k, float)
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
