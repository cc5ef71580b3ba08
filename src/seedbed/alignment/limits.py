"""The limits of learning from a reward, measured on one's own model: what optimising a proxy buys and costs.

Gold is the reward that nobody trains on, proxy the reward model; d is the root of the divergence from the start, in
nats per answer. The curves' forms are in `overoptimization`. P prompts, S samples of each.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import Field

from ..core.config import Config
from ..core.errors import DataError
from ..core.randomness import derive_seed, numpy_generator
from ..datasets.instructions import Turns
from ..datasets.jsonl import Row
from ..datasets.preferences import EncodedPreferences, encode_preferences
from ..finetuning.instruct import load_decoder
from ..models import Decoder
from . import losses
from .best_of_n import divergence, expected_best, pass_at_k
from .diversity import distinct_n, self_bleu, unique_share
from .overoptimization import Form, OverOptimization, fit
from .questions import drawn
from .reward_model import Ensemble, RewardModel, preference_metrics
from .reward_stage import RewardConfig, fit_reward_model, pair_margins
from .rewards import GoldConfig
from .rollouts import Answer, Reference, as_sequences, compare, freeze, rewards_of, sample_answers

if TYPE_CHECKING:
    from ..tokenizers import Tokenizer

_SELF_BLEU_ANSWERS = 200
_KL_ESTIMATORS: tuple[losses.Estimator, ...] = ("k1", "k2", "k3")
Advance = Callable[[str], None]


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


@dataclass
class AlignmentStudy:
    """All that was measured; `to_json` gives it as plain values."""

    curves: list[Curve] = field(default_factory=list)
    reward_models: list[dict[str, Any]] = field(default_factory=list)  # by size, preferences, and the ensemble
    diversity: list[dict[str, Any]] = field(default_factory=list)  # by policy
    estimators: list[dict[str, Any]] = field(default_factory=list)  # by policy and estimator
    hacks: list[dict[str, Any]] = field(default_factory=list)  # by planted flaw

    def to_json(self) -> dict[str, Any]:
        values = asdict(self)
        for curve, one in zip(values["curves"], self.curves, strict=True):
            if one.fitted is not None:
                curve["fitted"] |= {"peak": one.fitted.peak, "bends": one.fitted.bends}
        return values


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


def study_limits(
    config: LimitsConfig,
    reward_config: RewardConfig,
    sft: Path,
    reward: Path,
    questions: Sequence[str | Turns],
    preferences: tuple[Sequence[Row], Sequence[Row]],
    policies: Mapping[str, Path],
    trajectories: Mapping[str, Sequence[Mapping[str, Any]]],
    scratch: Path,
    advance: Advance = lambda what: None,
) -> AlignmentStudy:
    """Measure on the fine-tuned model in `sft`, its reward model, and policies trained against that.

    Args:
        questions: held out from all training.
        preferences: training and held-out rows that the reward model learned from.
        policies: folders of trained policies by name.
        trajectories: rows of their `metrics.jsonl`.
        scratch: where reward models of other sizes are trained.
    """
    from ..tokenizers import Tokenizer

    tokenizer, start, judge = Tokenizer.load(sft), freeze(load_decoder(sft)), freeze(RewardModel.load(reward))
    asked = drawn(questions, config.prompts, numpy_generator(config.seed, "limits"))

    def sampled(model: Decoder, samples: int) -> Samples:
        return sample(model, tokenizer, asked, samples, judge, reward_config.gold, config)

    study = AlignmentStudy()
    advance(f"{len(asked)} questions, {config.samples} answers each")
    base = sampled(start, config.samples)
    before = float(base.gold_PS.mean())
    study.curves.append(curve("best of n", best_of_n_points(base.proxy_PS, base.gold_PS), "best-of-n", before))
    study.curves += [
        curve(name, online_points(rows) + preference_points(rows), "rl") for name, rows in trajectories.items()
    ]
    study.diversity.append(diversity_row("fine-tuned", base, start, Reference(start), config))
    for name, path in policies.items():
        advance(f"policy {name}")
        policy = freeze(load_decoder(path))
        reference = Reference(start)
        found = sampled(policy, config.policy_samples)
        study.diversity.append(diversity_row(name, found, policy, reference, config))
        study.estimators += estimator_rows(name, policy, reference, found.answers, config.temperature)
    study.reward_models = reward_model_rows(
        config, reward_config, start, tokenizer, base, preferences, scratch, advance
    )
    study.hacks = [planted_hack(name, flaw, base) for name, flaw in FLAWS.items()]
    return study


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


def reward_model_rows(
    config: LimitsConfig,
    reward_config: RewardConfig,
    start: Decoder,
    tokenizer: Tokenizer,
    base: Samples,
    preferences: tuple[Sequence[Row], Sequence[Row]],
    scratch: Path,
    advance: Advance,
) -> list[dict[str, Any]]:
    """Reward models of several sizes (the first blocks of the body), numbers of preferences and seeds: how well each
    tells held-out pairs apart, and what best of n makes of it."""
    context, end_id = start.config.context_length, start.config.eos_token_id
    assert end_id is not None
    train, held_out = (encode_preferences(rows, tokenizer, context, end_id) for rows in preferences)
    layers = start.config.layers
    depths = sorted({max(1, layers // 4), max(1, layers // 2), layers})
    wanted = [(depth, 1.0, 0) for depth in depths[:-1]] + [(layers, share, 0) for share in sorted(config.shares)]
    wanted += [(layers, 1.0, seed) for seed in range(1, config.ensemble)]
    models: dict[tuple[int, float, int], RewardModel] = {}
    rows = []
    for depth, share, seed in wanted:
        advance(f"reward model of {depth} blocks on {share:.0%} of the preferences, seed {seed}")
        folder = scratch / f"reward-{depth}-{share:g}-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        part = _some(train, share, config.seed)
        own = reward_config.replace(seed=derive_seed(reward_config.seed, seed) if seed else reward_config.seed)
        model = freeze(fit_reward_model(own, shallower(start, depth), part, folder, folder / "metrics.jsonl")[0])
        model.normalise([one.sequence for one in base.answers])
        models[depth, share, seed] = model
        if not seed:
            rows.append(_reward_row(f"{depth} blocks, {len(part)} pairs", model, base, held_out, depth, len(part)))
    members = [models[layers, 1.0, seed] for seed in range(config.ensemble)]
    for weight in (0.0, config.disagreement):
        ensemble = Ensemble(members, weight)
        name = f"{len(members)} seeds, mean" + (f" - {weight:g} deviations" if weight else "")
        rows.append(_reward_row(name, ensemble, base, held_out, layers, len(train)))
    return rows


def shallower(decoder: Decoder, layers: int) -> Decoder:
    """A copy with the first `layers` blocks alone."""
    model = copy.deepcopy(decoder).requires_grad_(True)
    model.blocks = model.blocks[:layers]
    model.config = model.config.replace(layers=layers)
    return model


def _reward_row(
    name: str, model: RewardModel | Ensemble, base: Samples, held_out: EncodedPreferences, layers: int, pairs: int
) -> dict[str, Any]:
    proxy_PS = rewards_of(model.reward, base.answers).reshape(base.gold_PS.shape)
    points = best_of_n_points(proxy_PS, base.gold_PS)
    best = max(points, key=lambda point: point["gold"])
    found = preference_metrics(pair_margins(model.score, held_out))
    return {
        "name": name, "layers": layers, "pairs": pairs, "accuracy": found["accuracy"],
        "calibration_error": found["calibration_error"],
        "correlation": float(np.corrcoef(proxy_PS.ravel(), base.gold_PS.ravel())[0, 1]),
        "gold_first": points[0]["gold"], "gold_last": points[-1]["gold"], "gold_best": best["gold"],
        "best_n": best["n"], "last_n": points[-1]["n"], "points": points,
    }  # fmt: skip


def _some(pairs: EncodedPreferences, share: float, seed: int) -> EncodedPreferences:
    wanted = max(2, round(len(pairs) * share))
    rows = numpy_generator(seed, "preferences").permutation(len(pairs))[:wanted]
    return pairs if wanted >= len(pairs) else pairs.select(rows)


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
