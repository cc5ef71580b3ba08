"""The stages that make a policy: by PPO or GRPO against a reward, or from pairs by DPO and its kin."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ..core.artifacts import Workspace, write_atomically
from ..core.console import show
from ..core.errors import DataError
from ..core.randomness import derive_seed, numpy_generator, torch_generator
from ..datasets.instructions import Turns
from ..datasets.jsonl import Row, say_left_out
from ..datasets.preferences import encode_labelled, encode_preferences, prompt_of
from ..datasets.shared_prompts import SharedPromptBatches
from ..finetuning import LoRAConfig, add_adapter, save_adapter
from ..finetuning.instruct import HELD_OUT_ROWS, TRAIN_ROWS, load_decoder
from ..models import Decoder, save_model
from ..training import Trainer
from .alarms import NOTES, online_alarms, preference_alarms
from .diversity import distinct_n, self_bleu
from .dpo import DPOConfig, DPOObjective, LabelledBatches, dpo_metrics, reference_logprobs, require_shareable
from .grpo import GroupBatches, GRPOConfig, GRPOObjective
from .online import OnlineBatches
from .ppo import ActorCritic, PPOConfig, PPOObjective, RolloutBatches
from .questions import drawn, questions_of, rows_of, split_by_prompt
from .reward_model import RewardModel
from .rollouts import (
    Answer,
    Reference,
    Reward,
    as_sampled,
    as_sequences,
    compare,
    describe_answers,
    freeze,
    rewards_of,
    sample_answers,
)

if TYPE_CHECKING:
    from ..tokenizers import Tokenizer

_SELF_BLEU_ANSWERS = 200  # its time grows with every n-gram of every text


@dataclass(frozen=True)
class Judge:
    """What answers are worth, and the reward model that says so where it is one: a value model begins as it."""

    reward: Reward
    model: RewardModel | None = None

    @classmethod
    def load(cls, directory: Path) -> Judge:
        model = freeze(RewardModel.load(directory))
        return cls(model.reward, model)


@dataclass(frozen=True)
class Questions:
    """What the policy is asked while it learns, and what it is judged by."""

    train: Sequence[str | Turns]
    held_out: Sequence[str | Turns]

    @classmethod
    def of_finetuning(cls, sft: Path) -> Questions:
        """The questions of the rows that fine-tuning left beside its model."""
        return cls(questions_of(rows_of(sft, TRAIN_ROWS)), questions_of(rows_of(sft, HELD_OUT_ROWS)))

    @classmethod
    def of_rows(cls, rows: Sequence[Row], held_out_share: float, seed: int) -> Questions:
        """The prompts of a user's own rows, a share of them held out.

        Raises:
            DataError: one side is empty.
        """
        return cls.of_sides(*split_by_prompt(rows, held_out_share, seed).values())

    @classmethod
    def of_sides(cls, *sides: Sequence[Row]) -> Questions:
        """The different prompts of rows to learn from and of rows to judge by."""
        train, held_out = (list(dict.fromkeys(map(prompt_of, side))) for side in sides)
        if not train or not held_out:
            raise DataError(f"{len(train)} prompts to learn from and {len(held_out)} to judge by: more are needed")
        return cls(train, held_out)


def align_ppo(config: PPOConfig, sft: Path, reward: Path, workspace: Workspace) -> dict[str, Any]:
    """`align_online` by PPO with a reward model, on the questions of fine-tuning: the road's stage."""
    return align_online(config, sft, Judge.load(reward), Questions.of_finetuning(sft), workspace)


def align_online(
    config: PPOConfig | GRPOConfig, sft: Path, judge: Judge, questions: Questions, workspace: Workspace
) -> dict[str, Any]:
    """Train the fine-tuned model in `sft` on its own answers to `questions`; write policy and metrics.

    `metrics.jsonl` has one row per iteration: of its rollout `gold` (never trained on) and its parts, `proxy` (what is
    trained on), `reward`, `kl` (nats per answer, estimated), `kl_exact`, `kl_coefficient`, `entropy` (nats per token),
    `tokens`, `ended`, `distinct`, `sampler_gap` and what the method adds (PPO `value_explained_variance`; GRPO
    `reward_deviation` and `groups_alike`); of its updates `ratio`, `clipped`, `approximate_kl`, `policy_loss`,
    `gradient_norm` (means), and `first_ratio`, `first_clipped` of the first one; and `alarms`, in words. With
    `compare_every` what takes a whole comparison with the reference (`kl_exact`, `entropy`, `sampler_gap`, and `kl`
    where it has no price) is in some rows only, the first and the last among them.

    Returns:
        `before` and `after`: means over held-out questions of `gold`, its parts, `proxy`, `tokens`, `ended`,
        `distinct`, `distinct_2`, `self_bleu`, `divergence` (nats per answer from the start); `gold_gain` and
        `gold_gain_error` (standard error over questions); `proxy_gain`; `kl`, `entropy` and `alarms` of the last
        iteration; `iterations`.
    """
    from ..tokenizers import Tokenizer

    tokenizer, policy = Tokenizer.load(sft), _policy(sft, config.adapter, config.seed)
    reference = Reference(policy)
    model, objective, batches = _method(config, sft, policy, reference, judge, tokenizer, questions.train)
    examination = _Examination(config, tokenizer, judge.reward, questions.held_out)
    before, gold_before = examination(policy, reference)
    steps = workspace.scratch / "steps.jsonl"
    watch = _Watch(steps)
    name = "ppo" if isinstance(config, PPOConfig) else "grpo"
    if name in NOTES:
        show(NOTES[name])
    result = Trainer(
        config.trainer(), model, objective, batches, scratch=workspace.scratch, metrics_path=steps,
        evaluate=lambda _: watch.told(batches.statistics), name=name, accept_changes=workspace.accept_changes,
    ).run()  # fmt: skip
    workspace.measurements.update(result.measurements)
    rows = iteration_rows([json.loads(line) for line in steps.read_text().splitlines()])
    write_atomically(workspace.path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    _save(policy, workspace, tokenizer, config.adapter)
    after, gold_after = examination(policy, reference)
    return {
        "before": before, "after": after, **_gain(gold_before, gold_after),
        "proxy_gain": after["proxy"] - before["proxy"],
        "iterations": config.iterations, "kl": rows[-1]["kl"], "entropy": rows[-1]["entropy"],
        "first_ratio": rows[0]["first_ratio"], "first_clipped": rows[0]["first_clipped"], "alarms": rows[-1]["alarms"],
    }  # fmt: skip


def align_dpo(
    config: DPOConfig,
    sft: Path,
    rows: Sequence[Row],
    judge: Judge | None,
    workspace: Workspace,
    *,
    held_out_rows: Sequence[Row] | None = None,
) -> dict[str, Any]:
    """Train the fine-tuned model in `sft` on preference rows (`kto`: on labelled rows); write policy and metrics.

    With `training.evaluate_every`, `metrics.jsonl` has rows of the held-out answers on the way, too.

    Args:
        judge: scores the held-out answers before and after; without one `proxy` is 0.
        held_out_rows: pairs to judge by; without them a share of `rows`, by prompt.

    Returns:
        As `align_online`, without iterations; and `held_out`: `accuracy`, `margin`, `chosen_gain` of held-out pairs.
    """
    from ..tokenizers import Tokenizer

    tokenizer, policy = Tokenizer.load(sft), _policy(sft, config.adapter, config.seed)
    require_shareable(policy)
    end_id, pad_id, context = policy.config.eos_token_id, policy.config.pad_token_id, policy.config.context_length
    if end_id is None or pad_id is None:
        raise DataError("the model does not say how an answer ends or what padding is", where=sft)
    encode = encode_labelled if config.loss == "kto" else encode_preferences
    if held_out_rows is None:
        rows, held_out_rows = split_by_prompt(rows, config.held_out_share, config.seed).values()
    asked = Questions.of_sides(rows, held_out_rows).held_out
    train, held_out = (encode(side, tokenizer, context, end_id) for side in (rows, held_out_rows))
    say_left_out(train.left_out + held_out.left_out)
    reference = Reference(policy)
    with reference.model() as start:
        references = [reference_logprobs(start, pairs, pad_id) for pairs in (train, held_out)]
    examination = _Examination(config, tokenizer, _no_reward if judge is None else judge.reward, asked)
    before, gold_before = examination(policy, reference)
    training = config.training
    batches = SharedPromptBatches(
        train, training.batch_size, pad_id, training.seed, references[0] if config.needs_reference else None
    )
    result = Trainer(
        training, policy, DPOObjective(config), LabelledBatches(batches, policy) if config.loss == "kto" else batches,
        scratch=workspace.scratch,
        metrics_path=workspace.path / "metrics.jsonl", name=config.loss,
        evaluate=(lambda _: _numbers(examination(policy, reference)[0])) if training.evaluate_every else None,
        accept_changes=workspace.accept_changes,
    ).run()  # fmt: skip
    workspace.measurements.update(result.measurements)
    steps = [json.loads(line) for line in (workspace.path / "metrics.jsonl").read_text().splitlines()]
    alarms = _told(preference_alarms(next(row for row in reversed(steps) if "learning_rate" in row)))
    _save(policy, workspace, tokenizer, config.adapter)
    after, gold_after = examination(policy, reference)
    return {
        **result.metrics, "train_pairs": len(train), "too_long": train.too_long + held_out.too_long,
        "held_out": dpo_metrics(policy, held_out, references[1], config.beta, pad_id),
        "before": before, "after": after, **_gain(gold_before, gold_after),
        "proxy_gain": after["proxy"] - before["proxy"], "alarms": alarms,
    }  # fmt: skip


def _policy(sft: Path, adapter: LoRAConfig | None, seed: int) -> Decoder:
    policy = load_decoder(sft)
    return policy if adapter is None else add_adapter(policy, adapter, torch_generator(seed, "adapter"))


def _save(policy: Decoder, workspace: Workspace, tokenizer: Tokenizer, adapter: LoRAConfig | None) -> None:
    """The policy as a whole model, and its adapter beside it if it has one."""
    policy.eval()
    if adapter is not None:
        save_adapter(policy, workspace.path / "lora")
    save_model(as_sampled(policy), workspace.path, tokenizer)


def _method(
    config: PPOConfig | GRPOConfig, sft: Path, policy: Decoder, reference: Reference, judge: Judge,
    tokenizer: Tokenizer, prompts: Sequence[str | Turns],
) -> tuple[nn.Module, Any, OnlineBatches]:  # fmt: skip
    """Model, objective and batches."""
    if isinstance(config, GRPOConfig):
        return policy, GRPOObjective(config), GroupBatches(config, policy, reference, judge.reward, tokenizer, prompts)
    # Without a reward model the value model begins as the fine-tuned model with a new head.
    critic = judge.model or RewardModel.from_decoder(load_decoder(sft), torch_generator(config.seed, "value"))
    model = ActorCritic(policy, critic)
    return model, PPOObjective(config), RolloutBatches(config, model, reference, judge.reward, tokenizer, prompts)


class _Watch:
    """Says what is alarming about an iteration as soon as it is over, each thing once."""

    def __init__(self, steps: Path) -> None:
        self._steps, self._said = steps, set[str]()

    def told(self, statistics: Mapping[str, float]) -> Mapping[str, float]:
        rows = [json.loads(line) for line in self._steps.read_text().splitlines()]
        alarms = iteration_rows([*rows, dict(statistics)])[-1]["alarms"]
        for alarm in alarms:
            kind = alarm.split("(")[0][:30]
            if kind not in self._said:
                self._said.add(kind)
                show(f"iteration {statistics['iteration']:.0f}: {alarm}", style="yellow")
        return statistics


def _told(alarms: list[str]) -> list[str]:
    for alarm in alarms:
        show(alarm, style="yellow")
    return alarms


_PER_TOKEN = ("ratio", "clipped", "approximate_kl")
_PER_UPDATE = ("policy_loss", "value_loss", "gradient_norm")


def iteration_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per iteration from the trainer's rows: a row per update, and after the last one the rollout's."""
    updates: list[dict[str, Any]] = []
    merged: list[dict[str, Any]] = []
    for row in rows:
        if "iteration" not in row:
            # Where a loss is not a mean over tokens, `tokens` says what statistics of tokens are to be divided by.
            tokens = row.get("tokens", 1.0) or 1.0
            updates.append({**row, **{name: row[name] / tokens for name in _PER_TOKEN}})
            continue
        names = [name for name in (*_PER_TOKEN, *_PER_UPDATE) if name in updates[0]]
        means = {name: float(np.mean([one[name] for one in updates])) for name in names}
        first = {"first_ratio": updates[0]["ratio"], "first_clipped": updates[0]["clipped"]}
        whole = {**row, **means, **first, "learning_rate": updates[0]["learning_rate"]}
        merged.append(whole | {"alarms": online_alarms(whole, merged[0] if merged else whole)})
        updates = []
    return merged


class _Examination:
    """Held-out questions, answered by a policy `evaluation_samples` times each."""

    def __init__(
        self, config: PPOConfig | GRPOConfig | DPOConfig, tokenizer: Tokenizer, reward: Reward,
        held_out: Sequence[str | Turns],
    ) -> None:  # fmt: skip
        self._config, self._tokenizer, self._reward = config, tokenizer, reward
        self._asked = drawn(held_out, config.evaluation_prompts, numpy_generator(config.seed, "evaluation"))

    @torch.no_grad()
    def __call__(self, policy: Decoder, reference: Reference) -> tuple[dict[str, Any], np.ndarray]:
        """Means over the answers, and the mean gold reward of each question."""
        config = self._config
        policy.eval()
        answers = sample_answers(
            policy, self._tokenizer, [question for question in self._asked for _ in range(config.evaluation_samples)],
            temperature=config.temperature, max_new_tokens=config.max_new_tokens,
            seed=derive_seed(config.seed, "evaluation"),
        )  # fmt: skip
        scores = rewards_of(self._reward, answers)
        gold = np.array([answer.gold(config.gold)["gold"] for answer in answers])
        texts = [answer.text for answer in answers]
        found = describe_answers(answers, scores, config.gold) | {
            "distinct_2": distinct_n(texts, 2),
            "self_bleu": self_bleu(texts[:_SELF_BLEU_ANSWERS]),
            "divergence": divergence_from(policy, reference, answers, config.temperature),
        }
        return found, gold.reshape(len(self._asked), -1).mean(axis=1)


def divergence_from(policy: Decoder, reference: Reference, answers: Sequence[Answer], temperature: float) -> float:
    """Nats per answer from the reference: the exact divergence at each token, summed over answers of the policy."""
    pad_id = policy.config.pad_token_id
    assert pad_id is not None
    ids_BS, mask_BT = as_sequences(answers, pad_id)
    return float(compare(policy, reference, ids_BS, mask_BT, temperature)["kl"].sum()) / len(answers)


def _numbers(found: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in found.items()}


def _gain(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    gain = after - before
    error = float(gain.std(ddof=1) / len(gain) ** 0.5) if len(gain) > 1 else 0.0
    return {"gold_gain": float(gain.mean()), "gold_gain_error": error}


def _no_reward(answers: Sequence[Answer]) -> np.ndarray:
    return np.zeros(len(answers), np.float32)
