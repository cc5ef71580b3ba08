"""The limits of learning from a reward, measured on one's own model: what optimising a proxy buys and costs.

Gold is the reward that nobody trains on, proxy the reward model; d is the root of the divergence from the start, in
nats per answer. The curves' forms are in `overoptimization`. P prompts, S samples of each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import Field

from ..core.config import Config
from ..core.errors import DataError
from ..core.randomness import derive_seed
from ..datasets.instructions import Turns
from ..models import Decoder
from . import losses
from .best_of_n import divergence, expected_best, pass_at_k
from .diversity import distinct_n, self_bleu, unique_share
from .overoptimization import Form, OverOptimization, fit
from .reward_model import RewardModel
from .rewards import GoldConfig
from .rollouts import Answer, Reference, as_sequences, compare, sample_answers

if TYPE_CHECKING:
    from ..tokenizers import Tokenizer

_SELF_BLEU_ANSWERS = 200
_KL_ESTIMATORS: tuple[losses.Estimator, ...] = ("k1", "k2", "k3")


class LimitsConfig(Config):
    """How much is measured, on policies trained with the recipe's own settings but for these."""

    coefficients: tuple[float, ...] = Field((0.0, 0.03, 0.3), description="prices of divergence that PPO is run at")
    iterations: int = Field(30, ge=4, description="of PPO and GRPO: enough for a proxy to be over-optimised")
    steps: int = Field(80, ge=4, description="of learning from pairs")
    learning_rate: float = Field(1e-3, gt=0, description="of PPO and GRPO")
    prompts: int = Field(64, ge=2, description="held-out questions")
    samples: int = Field(64, ge=4, description="answers of the fine-tuned model to each: the largest n of best of n")
    policy_samples: int = Field(16, ge=2, description="answers of a trained policy to each")
    shares: tuple[float, ...] = Field(
        (0.0625, 0.25, 1.0), description="of the preferences that reward models learn from"
    )
    ensemble: int = Field(3, ge=2, description="reward models of other seeds whose disagreement is a penalty")
    disagreement: float = Field(1.0, ge=0, description="the penalty in deviations")
    target: float = Field(5.0, gt=0, description="nats per answer that a following price of divergence aims at")
    entropy_weight: float = Field(0.01, ge=0, description="the bonus that is tried as a remedy")
    right: float = Field(0.9, gt=0, le=1, description="gold reward from which an answer counts as right, for pass@k")
    temperature: float = Field(1.0, gt=0)
    max_new_tokens: int = Field(48, ge=1)
    seed: int = 0


@dataclass(frozen=True)
class Curve:
    """Proxy and gold along one way of optimising.

    Attributes:
        points: `d`, `proxy`, `gold`, and where they are known `n` (best of n), `iteration` or `step`.
        fitted: the over-optimisation form, where there are points enough.
    """

    name: str
    points: list[dict[str, float]]
    fitted: OverOptimization | None


def curve(name: str, points: Sequence[Mapping[str, float]], form: Form, start: float | None = None) -> Curve:
    """The points in order of d with the form fitted to them, if there are enough; see `overoptimization.fit`."""
    placed = sorted((dict(one) for one in points), key=lambda one: one["d"])
    try:
        fitted = fit([one["d"] for one in placed], [one["gold"] for one in placed], form, start=start)
    except DataError:
        fitted = None
    return Curve(name, placed, fitted)


def best_of_n_points(proxy_PS: np.ndarray, gold_PS: np.ndarray) -> list[dict[str, float]]:
    """Expected proxy and gold of the best of 1, 2, 4, ... answers, with the standard error over prompts."""
    counts = [1 << power for power in range(int(math.log2(proxy_PS.shape[1])) + 1)]
    points = []
    for n in counts:
        gold = expected_best(proxy_PS, gold_PS, n)
        points.append({
            "n": n, "d": divergence(n) ** 0.5, "gold": float(gold.mean()),
            "proxy": float(expected_best(proxy_PS, proxy_PS, n).mean()),
            "error": float(gold.std(ddof=1) / len(gold) ** 0.5),
        })  # fmt: skip
    return points


def online_points(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """One point per iteration from a policy's `metrics.jsonl`."""
    return [
        {
            "iteration": row["iteration"],
            "d": max(row["kl_exact"], 0.0) ** 0.5,
            "proxy": row["proxy"],
            "gold": row["gold"],
        }
        for row in rows
        if "kl_exact" in row
    ]


def preference_points(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """One point per examination on the way of learning from pairs."""
    return [
        {"step": row["step"], "d": max(row["divergence"], 0.0) ** 0.5, "proxy": row["proxy"], "gold": row["gold"]}
        for row in rows
        if "divergence" in row
    ]


@dataclass(frozen=True)
class Samples:
    """S answers to each of P prompts and what they are worth."""

    answers: list[Answer]  # side by side for each prompt
    gold_PS: np.ndarray
    proxy_PS: np.ndarray


def sample(
    model: Decoder, tokenizer: Tokenizer, asked: Sequence[str | Turns], samples: int, judge: RewardModel,
    gold: GoldConfig, config: LimitsConfig,
) -> Samples:  # fmt: skip
    """`samples` answers to each of the questions `asked`, with what they are worth."""
    answers = sample_answers(
        model, tokenizer, asked, temperature=config.temperature, max_new_tokens=config.max_new_tokens,
        seed=derive_seed(config.seed, "limits"), samples=samples,
    )  # fmt: skip
    worth = np.array([one.gold(gold)["gold"] for one in answers])
    return Samples(answers, worth.reshape(-1, samples), judge.reward(answers).reshape(-1, samples))


def diversity_row(
    name: str, samples: Samples, policy: Decoder, reference: Reference, config: LimitsConfig
) -> dict[str, Any]:
    """How different the answers of one policy are, how many questions it gets right at first and in many tries."""
    right_PS = samples.gold_PS >= config.right
    texts = [one.text for one in samples.answers]
    most = min(config.policy_samples, right_PS.shape[1])
    ids_BS, mask_BT = as_sequences(samples.answers, _pad_id(policy))
    with torch.no_grad():
        found = compare(policy, reference, ids_BS, mask_BT, config.temperature)
    within = [unique_share([one.text for one in group]) for group in _grouped(samples.answers, len(right_PS), most)]
    return {
        "policy": name,
        "gold": float(samples.gold_PS.mean()),
        "proxy": float(samples.proxy_PS.mean()),
        "divergence": float(found["kl"].sum()) / len(ids_BS),
        "entropy": float(losses.masked_mean(found["entropy"], mask_BT)),
        "distinct_2": distinct_n(texts[: len(right_PS) * most], 2),
        "self_bleu": self_bleu(texts[:_SELF_BLEU_ANSWERS]),
        "unique": float(np.mean(within)),
        "pass_1": float(pass_at_k(right_PS, 1).mean()),
        "pass_k": float(pass_at_k(right_PS, most).mean()),
        "k": most,
    }


def _grouped(answers: Sequence[Answer], prompts: int, most: int) -> list[Sequence[Answer]]:
    samples = len(answers) // prompts
    return [answers[start : start + most] for start in range(0, len(answers), samples)]


@torch.no_grad()
def estimator_rows(
    name: str, policy: Decoder, reference: Reference, answers: Sequence[Answer], temperature: float
) -> list[dict[str, Any]]:
    """Estimates of the divergence per token beside the exact one: mean, deviation, and the share below zero."""
    ids_BS, mask_BT = as_sequences(answers, _pad_id(policy))
    found = compare(policy, reference, ids_BS, mask_BT, temperature)
    exact = found["kl"][mask_BT]
    rows = [{"policy": name, "estimator": "exact", "mean": float(exact.mean()), "deviation": float(exact.std()),
             "negative": 0.0}]  # fmt: skip
    for estimator in _KL_ESTIMATORS:
        values = losses.kl(found["logprobs"], found["reference_logprobs"], estimator)[mask_BT]
        rows.append({
            "policy": name, "estimator": estimator, "mean": float(values.mean()), "deviation": float(values.std()),
            "negative": float((values < 0).float().mean()),
        })  # fmt: skip
    return rows


# Flaws that people have found in rewards, planted on purpose: what each adds to the score of an answer, in deviations.
FLAWS: dict[str, Callable[[Answer], float]] = {
    "length": lambda answer: 0.1 * len(answer.text.split()),
    "repeats the question": lambda answer: 2.0 * _overlap(answer),
    "exclaims": lambda answer: 1.0 * min(answer.text.count("!") + answer.text.count("?"), 3),
}
# What the search for flaws looks at: anybody can count these.
FEATURES: dict[str, Callable[[Answer], float]] = {
    "length": lambda answer: float(len(answer.text.split())),
    "repeats the question": lambda answer: _overlap(answer),
    "exclaims": lambda answer: float(answer.text.count("!") + answer.text.count("?")),
    "digits": lambda answer: sum(one.isdigit() for one in answer.text) / max(len(answer.text), 1),
    "back-ticks": lambda answer: float(answer.text.count("`")),
    "capitals": lambda answer: sum(one.isupper() for one in answer.text) / max(len(answer.text), 1),
}


def _overlap(answer: Answer) -> float:
    asked, said = set(answer.question.lower().split()), set(answer.text.lower().split())
    return len(asked & said) / max(len(asked), 1)


def planted_hack(name: str, flaw: Callable[[Answer], float], base: Samples) -> dict[str, Any]:
    """What best of n makes of a reward with a flaw, and whether looking at the reward's residual finds it.

    The residual is what the gold reward does not explain of the proxy; the feature that correlates with it most beyond
    what it did without the flaw is the suspect.
    """
    added = np.array([flaw(one) for one in base.answers]).reshape(base.gold_PS.shape)
    flawed_PS = base.proxy_PS + added
    feature = np.array([FEATURES[name](one) for one in base.answers]).reshape(base.gold_PS.shape)
    honest, misled = (best_of_n_points(proxy, base.gold_PS)[-1] for proxy in (base.proxy_PS, flawed_PS))
    suspects = {key: _residual_correlation(flawed_PS, base, key) for key in FEATURES}
    clean = {key: _residual_correlation(base.proxy_PS, base, key) for key in FEATURES}
    found = max(suspects, key=lambda key: suspects[key] - clean[key])
    return {
        "flaw": name, "found": found, "correlation": suspects[found], "correlation_without": clean[found],
        "n": honest["n"], "gold_honest": honest["gold"], "gold_misled": misled["gold"],
        "proxy_misled": misled["proxy"], "feature_first": float(feature.mean()),
        "feature_misled": float(expected_best(flawed_PS, feature, int(misled["n"])).mean()),
    }  # fmt: skip


def _residual_correlation(proxy_PS: np.ndarray, base: Samples, feature: str) -> float:
    values = np.array([FEATURES[feature](one) for one in base.answers])
    if values.std() == 0:
        return 0.0
    gold, proxy = base.gold_PS.ravel(), proxy_PS.ravel()
    design = np.stack([gold, np.ones_like(gold)], axis=1)
    residual = proxy - design @ np.linalg.lstsq(design, proxy, rcond=None)[0]
    return float(np.corrcoef(residual, values)[0, 1])


def _pad_id(policy: Decoder) -> int:
    assert policy.config.pad_token_id is not None
    return policy.config.pad_token_id
