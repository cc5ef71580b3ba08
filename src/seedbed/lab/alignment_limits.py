"""What optimising a reward buys and costs, measured on a run: policies of several methods, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..alignment.limits import AlignmentStudy, study_limits
from ..alignment.policy_stage import Judge, Questions, align_dpo, align_online
from ..core.artifacts import build_artifact, fingerprint_folder
from ..core.console import show
from ..core.devices import set_threads
from ..datasets.jsonl import Row, read_rows
from ..recipes import Recipe


def measure_alignment(run: Path, out: Path, recipe: Recipe) -> AlignmentStudy:
    """Measure the limits of learning from a reward on a run's fine-tuned model and reward model.

    Policies by PPO at several prices of divergence, by GRPO without one and by DPO are trained in `out`, each an
    artifact that is not made again where nothing has changed.
    """
    set_threads(recipe.threads)
    limits, sft, reward = recipe.limits, run / "sft", run / "reward"
    judge, questions = Judge.load(reward), Questions.of_finetuning(sft)
    train, held_out = (_rows(reward / f"preferences/{name}.jsonl") for name in ("train", "validation"))
    build = partial(_build, out, {"sft": fingerprint_folder(sft), "reward": fingerprint_folder(reward)})
    online = {"iterations": limits.iterations, "learning_rate": limits.learning_rate}
    policies: dict[str, Path] = {}
    for price in limits.coefficients:
        ppo = recipe.ppo.replace(**online, kl_coefficient=price, kl_target=None)
        policies[f"PPO, price {price:g}"] = build(
            f"ppo-{price:g}", ppo, partial(align_online, ppo, sft, judge, questions)
        )
    grpo = recipe.grpo.replace(**online, kl_coefficient=0.0)
    policies["GRPO, no price"] = build("grpo", grpo, partial(align_online, grpo, sft, judge, questions))
    training = recipe.dpo.training.replace(steps=limits.steps, evaluate_every=max(1, limits.steps // 8))
    dpo = recipe.dpo.replace(training=training)
    policies["DPO"] = build("dpo", dpo, partial(align_dpo, dpo, sft, train, judge, held_out_rows=held_out))
    return study_limits(
        limits, recipe.reward, sft, reward, questions.held_out, (train, held_out), policies,
        {name: _rows(path / "metrics.jsonl") for name, path in policies.items()}, out / "reward-models",
        advance=lambda what: show(what, style="dim"),
    )  # fmt: skip


def _build(out: Path, inputs: Mapping[str, str], name: str, config: Any, produce: Any) -> Path:
    return build_artifact(out / name, name, config, inputs, produce).path


def _rows(path: Path) -> list[Row]:
    return read_rows(path, lambda row: row).rows
