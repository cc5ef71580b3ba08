"""What optimising a reward buys and costs, measured on a run: policies of several methods, and what became of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..alignment.grpo import GRPOConfig
from ..alignment.limits import Curve, curve, online_points, preference_points
from ..alignment.policy_stage import Judge, Questions, align_dpo, align_online
from ..alignment.ppo import PPOConfig
from ..alignment.remedies import remedied, stopped_at_the_peak
from ..alignment.reward_model import Ensemble
from ..alignment.study import AlignmentStudy, Ground, fit_reward_models, study_limits
from ..core.artifacts import Changed, build_artifact, fingerprint, fingerprint_folder
from ..core.config import Config
from ..core.console import show
from ..core.devices import set_threads
from ..datasets.jsonl import Row, read_rows
from ..recipes import Recipe


def measure_alignment(run: Path, out: Path, recipe: Recipe, changed: Changed = "refuse") -> AlignmentStudy:
    """Measure the limits of learning from a reward on a run's fine-tuned model and reward model.

    Policies by PPO at several prices of divergence, by GRPO without one and by DPO, and by PPO and GRPO with remedies
    against over-optimisation, are trained in `out`, each an artifact that is not made again where nothing has changed.

    Args:
        changed: what to do with checkpoints that an interrupted measurement of other settings left.
    """
    set_threads(recipe.threads)
    limits, sft, reward = recipe.limits, run / "sft", run / "reward"
    judge, questions = Judge.load(reward), Questions.of_finetuning(sft)
    assert judge.model is not None
    preferences = tuple(_rows(reward / f"preferences/{name}.jsonl") for name in ("train", "validation"))
    say = partial(show, style="dim")
    say(f"{limits.prompts} questions, {limits.samples} answers each")
    ground = Ground.of(limits, recipe.reward.gold, sft, judge.model, questions.held_out)
    inputs = {"sft": fingerprint_folder(sft), "reward": fingerprint_folder(reward)}
    own = fingerprint({**inputs, "config": recipe.reward.model_dump(mode="json"), "seed": limits.seed})[:12]
    rows, ensemble = fit_reward_models(
        ground, recipe.reward, (preferences[0], preferences[1]), out / "reward-models" / own, say
    )
    school = _School(recipe, sft, judge, questions, out, inputs, changed)
    policies, curves = school.policies(preferences[0], preferences[1])
    return study_limits(ground, policies, school.remedies(policies, curves, ensemble), list(curves.values()), rows, say)


_Curves = dict[str, Curve]


@dataclass(frozen=True)
class _School:
    """Where policies are trained."""

    recipe: Recipe
    sft: Path
    judge: Judge
    questions: Questions
    out: Path
    inputs: Mapping[str, str]
    changed: Changed

    def policies(self, train: list[Row], held_out: list[Row]) -> tuple[dict[str, Path], _Curves]:
        """Of each method without a remedy but the price of divergence: folders, and gold on the way."""
        limits, recipe = self.recipe.limits, self.recipe
        paths = {
            f"PPO, price {price:g}": self._online(f"ppo-{price:g}", self._ppo().replace(kl_coefficient=price))
            for price in limits.coefficients
        }
        paths["GRPO, no price"] = self._online("grpo", self._grpo())
        training = recipe.dpo.training.replace(steps=limits.steps, evaluate_every=max(1, limits.steps // 8))
        dpo = recipe.dpo.replace(training=training)
        learn = partial(align_dpo, dpo, self.sft, train, self.judge, held_out_rows=held_out)
        paths["DPO"] = self._build("dpo", dpo, learn, {})
        return paths, {name: _curve(name, path) for name, path in paths.items()}

    def remedies(
        self, policies: Mapping[str, Path], curves: _Curves, ensemble: Ensemble
    ) -> dict[str, tuple[Path, str]]:
        """Policies with a remedy, and the names of those without it."""
        limits, found = self.recipe.limits, dict[str, tuple[Path, str]]()
        free = "PPO, price 0"
        if free in policies:
            found |= {name: (policies[name], free) for name in policies if name.startswith("PPO") and name != free}
            for name, ppo in remedied(limits, self._ppo()).items():
                found[name] = self._online(_folder(name), ppo), free
            name = f"PPO, {limits.ensemble} reward models less {limits.disagreement:g} deviations"
            seeds = {"ensemble": f"{limits.ensemble} of {self.recipe.reward.model_dump_json()}"}
            judge = Judge(ensemble.reward, self.judge.model)
            found[name] = self._online(_folder(name), self._ppo(), judge, seeds), free
        for name, config in ((free, self._ppo()), ("GRPO, no price", self._grpo())):
            stopped = stopped_at_the_peak(config, curves[name]) if name in curves else None
            if stopped is not None:
                title = f"{name.partition(',')[0]}, stopped at the peak"
                found[title] = self._online(_folder(title), stopped), name
        return found

    def _ppo(self) -> PPOConfig:
        """Without a price."""
        return self.recipe.ppo.replace(**self._length(), kl_coefficient=0.0, kl_target=None)

    def _grpo(self) -> GRPOConfig:
        return self.recipe.grpo.replace(**self._length(), kl_coefficient=0.0)

    def _length(self) -> dict[str, Any]:
        limits = self.recipe.limits
        return {"iterations": limits.iterations, "learning_rate": limits.learning_rate, "final_factor": 0.0}

    def _online(
        self,
        folder: str,
        config: PPOConfig | GRPOConfig,
        judge: Judge | None = None,
        more: Mapping[str, str] | None = None,
    ) -> Path:
        learn = partial(align_online, config, self.sft, judge or self.judge, self.questions)
        return self._build(folder, config, learn, more or {})

    def _build(self, folder: str, config: Config, learn: Any, more: Mapping[str, str]) -> Path:
        place, inputs = self.out / folder, {**self.inputs, **more}
        return build_artifact(place, folder, config, inputs, learn, changed=self.changed).path


def _curve(name: str, path: Path) -> Curve:
    rows = _rows(path / "metrics.jsonl")
    return curve(name, online_points(rows) + preference_points(rows), "rl")


def _folder(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower())


def _rows(path: Path) -> list[Row]:
    return read_rows(path, lambda row: row).rows
