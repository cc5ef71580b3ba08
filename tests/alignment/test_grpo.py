"""GRPO and its kin: groups share a prompt, the first update changes nothing, every kind learns, killed runs go on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seedbed.alignment.grpo import GroupBatches, GRPOConfig, GRPOObjective
from seedbed.alignment.policy_stage import Judge, Questions, align_online
from seedbed.alignment.rollouts import Answer, Reference, rewards_of
from seedbed.core.artifacts import Workspace
from seedbed.core.errors import DataError
from seedbed.core.randomness import torch_generator
from seedbed.finetuning import LoRAConfig, add_adapter
from seedbed.finetuning.instruct import load_decoder
from seedbed.models import Decoder
from seedbed.tokenizers import Tokenizer
from seedbed.training import Trainer

_PROMPTS = ["What is `m.getone`?", "Describe `m.popall`.", "What does `m.setkey` do?"]
_TINY = GRPOConfig(
    iterations=2, rollouts=12, group=4, epochs=2, minibatches=2, max_new_tokens=6, learning_rate=1e-3, temperature=0.9,
    evaluation_prompts=2, checkpoint_every=1,
)  # fmt: skip


def _likes(token: int) -> Any:
    return lambda answers: np.array([float((one.ids == token).sum()) for one in answers], np.float32)


def _batches(sft: Path, config: GRPOConfig, adapter: LoRAConfig | None = None) -> tuple[Decoder, GroupBatches]:
    policy = load_decoder(sft)
    if adapter is not None:
        add_adapter(policy, adapter, torch_generator(0, "adapter"))
    return policy, GroupBatches(config, policy, Reference(policy), _likes(100), Tokenizer.load(sft), _PROMPTS)


@pytest.mark.parametrize("adapter", [None, LoRAConfig(rank=4)])
def test_groups_share_a_prompt_and_the_first_update_clips_nothing(sft: Path, adapter: LoRAConfig | None) -> None:
    policy, batches = _batches(sft, _TINY, adapter)
    batch = next(batches)
    rollout = batches._rollout
    assert rollout is not None
    for start in range(0, len(rollout), 4):
        prompts = {tuple(row[: int(mask.nonzero()[0]) + 1].tolist()) for row, mask in
                   zip(rollout.ids_BS[start : start + 4], rollout.mask_BT[start : start + 4], strict=True)}  # fmt: skip
        assert len(prompts) == 1
        group = rollout.rewards_BT[start : start + 4].sum(1)
        expected = (group - group.mean()) / (group.std() + 1e-4)
        torch.testing.assert_close(rollout.advantages_BT[start : start + 4].amax(1).clamp(min=0), expected.clamp(min=0))
    _, _, extra = GRPOObjective(_TINY).loss(policy, batch)
    assert float(extra["ratio"] / extra["tokens"]) == pytest.approx(1, abs=1e-6)
    assert float(extra["clipped"]) == 0
    assert batches.statistics["kl"] == pytest.approx(0, abs=1e-5)
    assert batches.statistics["sampler_gap"] < 1e-4


def test_minibatches_hold_whole_groups_and_comparisons_can_be_rare(sft: Path) -> None:
    config = _TINY.replace(rollouts=12, minibatches=3, iterations=4, compare_every=2)
    _, batches = _batches(sft, config)
    compared = []
    for _ in range(4):
        for update in range(config.updates):
            batch = next(batches)
            assert len({tuple(row[: int(mask.nonzero()[0]) + 1].tolist()) for row, mask in
                        zip(batch.ids_BS, batch.mask_BT, strict=True)}) == 1, update  # fmt: skip
        compared.append("kl" in batches.statistics)
    assert compared == [True, False, True, True]  # the last one always


def test_the_samplers_log_probabilities_serve_between_comparisons(sft: Path) -> None:
    config = _TINY.replace(iterations=9, compare_every=9)
    policy, batches = _batches(sft, config)
    for _ in range(config.updates + 1):
        batch = next(batches)
    assert "kl" not in batches.statistics
    _, _, extra = GRPOObjective(config).loss(policy, batch)
    assert float(extra["ratio"] / extra["tokens"]) == pytest.approx(1, abs=1e-4)
    assert float(extra["clipped"]) == 0


def test_answers_that_were_cut_off_teach_nothing_where_asked(sft: Path) -> None:
    _, batches = _batches(sft, _TINY.replace(mask_cut_off=True))
    next(batches)
    rollout = batches._rollout
    assert rollout is not None
    ended = [bool((ids == 3).any()) for ids in rollout.ids_BS[:, 1:]]
    asked = [bool(mask.any()) for mask in rollout.mask_BT]
    assert [one for one, end in zip(asked, ended, strict=True) if not end] == [False] * (len(ended) - sum(ended))


@pytest.mark.parametrize("reduction", ["grpo", "dapo", "dr_grpo"])
def test_an_update_cut_into_pieces_is_the_same(sft: Path, reduction: str) -> None:
    config = GRPOConfig.model_validate(_TINY.model_dump() | {"reduction": reduction, "entropy_weight": 0.0})
    policy, batches = _batches(sft, config)
    batch, objective, gradients = next(batches), GRPOObjective(config), []
    for parts in (1, 6):
        policy.zero_grad()
        count = 0.0
        for piece in batch.split(parts):
            total, share, _ = objective.loss(policy, piece)
            total.backward()
            count += float(share)
        gradients.append(torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None]) / count)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("changes", [
    {}, {"advantage": "rloo", "kl_coefficient": 0.001}, {"advantage": "reinforce++"},
    {"level": "sequence", "reduction": "grpo"}, {"scale": "none", "reduction": "dr_grpo", "clip_high": 0.28},
])  # fmt: skip
def test_every_kind_raises_a_trivial_reward(
    sft: Path, of_four_tokens: Decoder, tmp_path: Path, changes: dict[str, Any]
) -> None:
    config = GRPOConfig.model_validate(
        {"iterations": 8, "rollouts": 32, "group": 8, "epochs": 2, "minibatches": 1, "max_new_tokens": 6,
         "learning_rate": 1e-2, "checkpoint_every": 100} | changes
    )  # fmt: skip
    policy = of_four_tokens
    batches = GroupBatches(config, policy, Reference(policy), _likes(100), Tokenizer.load(sft), _PROMPTS)
    Trainer(
        config.trainer(), policy, GRPOObjective(config), batches, scratch=tmp_path, metrics_path=tmp_path / "m.jsonl",
        evaluate=lambda _: batches.statistics,
    ).run()  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    proxy = [row["proxy"] for row in rows if "iteration" in row]
    assert proxy[0] < 2.5
    assert proxy[-1] > 3.5, proxy


def test_a_killed_run_goes_on_bit_for_bit(
    sft: Path, tmp_path: Path, killed_after: Callable[[int], AbstractContextManager[None]]
) -> None:
    config, judge = _TINY.replace(adapter=LoRAConfig(rank=4)), Judge(_likes(100))
    questions = Questions(_PROMPTS, _PROMPTS[:2])
    whole, killed = Workspace(tmp_path / "whole"), Workspace(tmp_path / "killed")
    for work in (whole, killed):
        work.path.mkdir()
    metrics = align_online(config, sft, judge, questions, whole)
    with killed_after(5):
        align_online(config, sft, judge, questions, killed)
    again = align_online(config, sft, judge, questions, Workspace(killed.path, resumed=True))
    assert again == metrics
    for name in ("model.safetensors", "metrics.jsonl", "lora/adapter_model.safetensors"):
        assert (killed.path / name).read_bytes() == (whole.path / name).read_bytes()
    assert metrics["first_ratio"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("bad", "message"), [
    (lambda answers: [1 / 0 for _ in answers], "raised ZeroDivisionError"),
    (lambda answers: [float("nan")] * len(answers), "is nan for answer 0"),
    (lambda answers: [1.0], r"shape \(1,\) for 2 answers"),
])  # fmt: skip
def test_rewards_that_fail_are_named(bad: Any, message: str) -> None:
    answers: Sequence[Answer] = [Answer("p", np.ones(1), np.ones(1), "text", True, np.zeros(1))] * 2
    with pytest.raises(DataError, match=message):
        rewards_of(bad, answers)
