"""A study of the limits of learning from a reward: a fine-tuned model, reward models of several kinds, and policies.

P prompts, S samples of each.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..core.randomness import derive_seed, numpy_generator
from ..datasets.instructions import Turns
from ..datasets.jsonl import Row
from ..datasets.preferences import EncodedPreferences, encode_preferences
from ..finetuning.instruct import load_decoder
from ..models import Decoder
from .limits import (
    FLAWS,
    Curve,
    LimitsConfig,
    Samples,
    best_of_n_points,
    curve,
    diversity_row,
    estimator_rows,
    planted_hack,
    sample,
)
from .questions import drawn
from .remedies import remedy_rows
from .reward_model import Ensemble, RewardModel, preference_metrics
from .reward_stage import RewardConfig, fit_reward_model, pair_margins
from .rewards import GoldConfig
from .rollouts import Reference, freeze, rewards_of

if TYPE_CHECKING:
    from ..tokenizers import Tokenizer

Advance = Callable[[str], None]
START = "fine-tuned"  # where all policies began


@dataclass
class AlignmentStudy:
    """All that was measured; `to_json` gives it as plain values."""

    curves: list[Curve] = field(default_factory=list)
    reward_models: list[dict[str, Any]] = field(default_factory=list)  # by size, preferences, and the ensemble
    diversity: list[dict[str, Any]] = field(default_factory=list)  # by policy
    estimators: list[dict[str, Any]] = field(default_factory=list)  # by policy and estimator
    hacks: list[dict[str, Any]] = field(default_factory=list)  # by planted flaw
    remedies: list[dict[str, Any]] = field(default_factory=list)  # by policy; see `remedies.remedy_rows`

    def to_json(self) -> dict[str, Any]:
        values = asdict(self)
        for written, one in zip(values["curves"], self.curves, strict=True):
            if one.fitted is not None:
                written["fitted"] |= {"peak": one.fitted.peak, "bends": one.fitted.bends}
        return values


@dataclass(frozen=True)
class Ground:
    """What all is measured on: a fine-tuned model, its reward model, questions, and its answers to them."""

    config: LimitsConfig
    gold: GoldConfig
    tokenizer: Tokenizer
    start: Decoder
    judge: RewardModel
    asked: list[str | Turns]
    base: Samples

    @classmethod
    def of(
        cls, config: LimitsConfig, gold: GoldConfig, sft: Path, judge: RewardModel, questions: Sequence[str | Turns]
    ) -> Self:
        """
        Args:
            questions: held out from all training.
        """
        from ..tokenizers import Tokenizer

        tokenizer, start = Tokenizer.load(sft), freeze(load_decoder(sft))
        asked = drawn(questions, config.prompts, numpy_generator(config.seed, "limits"))
        base = sample(start, tokenizer, asked, config.samples, judge, gold, config)
        return cls(config, gold, tokenizer, start, judge, asked, base)

    def sampled(self, model: Decoder) -> Samples:
        """A trained policy's answers."""
        config = self.config
        return sample(model, self.tokenizer, self.asked, config.policy_samples, self.judge, self.gold, config)


def study_limits(
    ground: Ground,
    policies: Mapping[str, Path],
    remedies: Mapping[str, tuple[Path, str]],
    curves: Sequence[Curve],
    reward_models: list[dict[str, Any]],
    advance: Advance = lambda what: None,
) -> AlignmentStudy:
    """Measure trained policies beside the fine-tuned model.

    Args:
        policies: folders of trained policies by name.
        remedies: folders of policies with a remedy, and the names of those without.
        curves: of the policies on the way.
        reward_models: as `fit_reward_models` gives them.
    """
    config, base, start = ground.config, ground.base, ground.start
    study = AlignmentStudy(curves=[ground_curve(ground), *curves], reward_models=reward_models)
    first = diversity_row(START, base, start, Reference(start), config)
    rows, golds = [first], {START: base.gold_PS.mean(axis=1)}
    for name, path in {**policies, **{name: path for name, (path, _) in remedies.items()}}.items():
        advance(f"policy {name}")
        policy, reference = freeze(load_decoder(path)), Reference(start)
        found = ground.sampled(policy)
        golds[name] = found.gold_PS.mean(axis=1)
        rows.append(diversity_row(name, found, policy, reference, config))
        if name in policies:
            study.estimators += estimator_rows(name, policy, reference, found.answers, config.temperature)
    study.diversity = [row for row in rows if row["policy"] in (START, *policies)]
    study.remedies = remedy_rows(golds, rows, {name: against for name, (_, against) in remedies.items()}, START)
    study.hacks = [planted_hack(name, flaw, base) for name, flaw in FLAWS.items()]
    return study


def ground_curve(ground: Ground) -> Curve:
    """Of best of n, which trains nothing."""
    base = ground.base
    points = best_of_n_points(base.proxy_PS, base.gold_PS)
    return curve("best of n", points, "best-of-n", float(base.gold_PS.mean()))


def fit_reward_models(
    ground: Ground,
    reward_config: RewardConfig,
    preferences: tuple[Sequence[Row], Sequence[Row]],
    scratch: Path,
    advance: Advance = lambda what: None,
) -> tuple[list[dict[str, Any]], Ensemble]:
    """Reward models of several sizes (the first blocks of the body), numbers of preferences and seeds: how well each
    tells held-out pairs apart, and what best of n makes of it; and those of several seeds, less their disagreement.

    Args:
        preferences: training and held-out rows.
        scratch: where they are trained.
    """
    config, start, base = ground.config, ground.start, ground.base
    context, end_id = start.config.context_length, start.config.eos_token_id
    assert end_id is not None
    train, held_out = (encode_preferences(rows, ground.tokenizer, context, end_id) for rows in preferences)
    layers = start.config.layers
    depths = sorted({max(1, layers // 4), max(1, layers // 2), layers})
    wanted = [(depth, 1.0, 0) for depth in depths[:-1]] + [(layers, share, 0) for share in sorted(config.shares)]
    wanted += [(layers, 1.0, seed) for seed in range(1, config.ensemble)]
    models: dict[tuple[int, float, int], RewardModel] = {}
    rows = []
    for depth, share, seed in dict.fromkeys([*wanted, (layers, 1.0, 0)]):
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
    ensembles = [Ensemble(members, weight) for weight in (0.0, config.disagreement)]
    for ensemble, weight in zip(ensembles, (0.0, config.disagreement), strict=True):
        name = f"{len(members)} seeds, mean" + (f" - {weight:g} deviations" if weight else "")
        rows.append(_reward_row(name, ensemble, base, held_out, layers, len(train)))
    return rows, ensembles[-1]


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
