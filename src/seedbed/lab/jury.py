"""Held-out questions of a run, and what its models' answers to them are worth: by the gold reward, which nobody trains
on, and by the run's reward model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ..alignment.limits import LimitsConfig, Samples, sample
from ..alignment.policy_stage import Judge, Questions, align_online
from ..alignment.ppo import PPOConfig
from ..alignment.questions import drawn
from ..alignment.reward_model import RewardModel
from ..alignment.rewards import GoldConfig
from ..alignment.rollouts import freeze
from ..core.artifacts import Workspace, build_artifact, open_artifact
from ..core.randomness import numpy_generator
from ..datasets.jsonl import Row, read_rows
from ..models import Decoder
from .bench import Bench

if TYPE_CHECKING:
    from ..tokenizers import Tokenizer


@dataclass(frozen=True)
class Jury:
    """
    Attributes:
        questions: held out from all training.
        config: temperature, length and seed of the answers.
    """

    tokenizer: Tokenizer
    questions: Sequence[Any]
    reward: RewardModel
    gold: GoldConfig
    config: LimitsConfig

    @classmethod
    def of(cls, bench: Bench, prompts: int, samples: int, seed: int) -> Self:
        """A jury of the run, for at most so many questions."""
        from ..tokenizers import Tokenizer

        sft, recipe = bench.run / "sft", bench.recipe
        config = LimitsConfig(
            prompts=prompts, policy_samples=samples, max_new_tokens=recipe.ppo.max_new_tokens, seed=seed
        )
        asked = drawn(Questions.of_finetuning(sft).held_out, prompts, numpy_generator(seed, "limits"))
        judge = freeze(RewardModel.load(bench.run / "reward"))
        return cls(Tokenizer.load(sft), asked, judge, recipe.reward.gold, config)

    def hear(self, model: Decoder, samples: int) -> Samples:
        """So many answers of a model to each question."""
        return sample(model, self.tokenizer, self.questions, samples, self.reward, self.gold, self.config)


def trained_policy(bench: Bench, name: str, config: PPOConfig) -> tuple[Path, Mapping[str, Any], list[Row]]:
    """A policy that went on from the run's fine-tuned model against its reward model: its folder, its metrics and its
    rows by iteration. It is kept in the scratch folder."""
    sft, reward = bench.run / "sft", bench.run / "reward"

    def produce(work: Workspace) -> Mapping[str, Any]:
        bench.advance(f"{config.iterations} iterations of PPO, {name}")
        return align_online(config, sft, Judge.load(reward), Questions.of_finetuning(sft), work)

    inputs = {stage: open_artifact(bench.run / stage, stage) for stage in ("sft", "reward")}
    artifact = build_artifact(
        bench.scratch / name.replace(" ", "-"), "policy", config, inputs, produce, changed="restart"
    )
    rows = read_rows(artifact.path / "metrics.jsonl", lambda row: row).rows
    return artifact.path, artifact.metrics, rows
