"""PPO: rollouts say what the update sees, the first update changes nothing by itself, and a killed run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch

from seedbed.alignment.online import KLControl
from seedbed.alignment.policy_stage import align_ppo
from seedbed.alignment.ppo import ActorCritic, PPOConfig, PPOObjective, RolloutBatches
from seedbed.alignment.reward_model import RewardModel
from seedbed.alignment.rollouts import Reference, answer_logits, as_sequences, compare, sample_answers, token_logprobs
from seedbed.core.artifacts import Workspace
from seedbed.core.randomness import torch_generator
from seedbed.finetuning.instruct import load_decoder
from seedbed.models import Decoder
from seedbed.tokenizers import Tokenizer
from seedbed.training import Trainer

_TINY = PPOConfig(
    iterations=2, rollouts=8, epochs=2, minibatches=2, max_new_tokens=8, temperature=0.7, evaluation_prompts=4,
    checkpoint_every=1, learning_rate=1e-3, kl_target=0.5,
)  # fmt: skip
_PROMPTS = ["What is `m.getone`?", "Describe `m.popall`.", "What does `m.setkey` do?"]


@pytest.fixture
def reward(sft: Path, tmp_path: Path) -> Path:
    model = RewardModel.from_decoder(load_decoder(sft), torch_generator(0, "head"))
    model.offset = 0.3
    model.save(tmp_path / "reward")
    return tmp_path / "reward"


def _batches(sft: Path, reward_model: RewardModel, config: PPOConfig) -> tuple[ActorCritic, RolloutBatches]:
    model = ActorCritic(load_decoder(sft), reward_model)
    reference = Reference(model.policy)
    return model, RolloutBatches(config, model, reference, reward_model.reward, Tokenizer.load(sft), _PROMPTS)


def test_log_probabilities_of_rollouts_are_the_models_own(sft: Path) -> None:
    model, tokenizer = load_decoder(sft), Tokenizer.load(sft)
    answers = sample_answers(model, tokenizer, _PROMPTS * 2, temperature=0.7, max_new_tokens=9, seed=1)
    ids, mask = as_sequences(answers, pad_id=1)
    with torch.no_grad():
        logprobs = token_logprobs(answer_logits(model, ids, mask, 0.7), ids, mask)
    for row, answer in enumerate(answers):
        naive = (model(torch.from_numpy(answer.sequence.astype(np.int64))[None])[0].detach() / 0.7).log_softmax(-1)
        start = len(answer.prompt_ids)
        expected = [float(naive[start - 1 + t, token]) for t, token in enumerate(answer.ids)]
        np.testing.assert_allclose(logprobs[row][mask[row]].detach().numpy(), expected, atol=1e-5)
        np.testing.assert_allclose(answer.logprobs, expected, atol=1e-5)  # the sampler's, with its cache
    assert not logprobs[~mask].any()
    same = compare(model, Reference(model), ids, mask, 0.7)
    assert float(same["kl"].abs().max()) < 1e-6
    assert same["entropy"][mask].min() > 0


def test_rewards_are_the_kl_penalty_and_the_score_at_the_last_token(sft: Path, reward: Path) -> None:
    reward_model = RewardModel.load(reward)
    config = _TINY.replace(cut_off_penalty=2.5, kl_coefficient=0.1)
    model, batches = _batches(sft, reward_model, config)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.mul_(1.05)  # away from the reference
    next(batches)
    rollout = batches._rollout
    assert rollout is not None
    for row in range(len(rollout)):
        places = rollout.mask_BT[row].nonzero()[:, 0]
        sequence = rollout.ids_BS[row, : int(places[-1]) + 2].numpy()
        penalty = -0.1 * (rollout.logprobs_BT[row] - rollout.reference_logprobs_BT[row])[places]
        score = float(reward_model.score([sequence])[0]) - 2.5 * (sequence[-1] != 3)
        expected = penalty.clone()
        expected[-1] += score
        torch.testing.assert_close(rollout.rewards_BT[row, places], expected, atol=1e-5, rtol=1e-5)
    assert not rollout.rewards_BT[~rollout.mask_BT].any()
    assert abs(float(rollout.advantages_BT[rollout.mask_BT].mean())) < 1e-5
    assert batches.statistics["sampler_gap"] < 1e-4


def test_between_whole_comparisons_a_price_asks_for_the_answers_tokens_alone(sft: Path, reward: Path) -> None:
    config = _TINY.replace(iterations=9, compare_every=9)
    model, batches = _batches(sft, RewardModel.load(reward), config)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.mul_(1.05)
    for _ in range(config.updates + 1):
        next(batches)
    rollout = batches._rollout
    assert rollout is not None
    ids, mask = rollout.ids_BS, rollout.mask_BT
    whole = compare(model.policy, batches._reference, ids, mask, config.temperature)
    for name in ("logprobs", "reference_logprobs"):
        torch.testing.assert_close(getattr(rollout, f"{name}_BT"), whole[name], atol=1e-4, rtol=1e-4)
    assert batches.statistics["kl"] > 0
    assert "kl_exact" not in batches.statistics


def test_value_model_begins_as_the_reward_model(sft: Path, reward: Path) -> None:
    reward_model = RewardModel.load(reward)
    model = ActorCritic(load_decoder(sft), reward_model)
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    values = model.values(ids, torch.ones(1, 4, dtype=torch.bool))
    assert float(values[0, 3].detach()) == pytest.approx(float(reward_model.score([ids[0, :4].numpy()])[0]), abs=1e-5)


def test_first_update_has_ratio_one_and_clips_nothing(sft: Path, reward: Path) -> None:
    model, batches = _batches(sft, RewardModel.load(reward), _TINY)
    _, count, extra = PPOObjective(_TINY).loss(model, next(batches))
    assert float(extra["ratio"] / count) == pytest.approx(1, abs=1e-6)
    assert float(extra["clipped"]) == 0
    assert abs(float(extra["approximate_kl"])) < 1e-5


def test_every_row_comes_once_an_epoch(sft: Path, reward: Path) -> None:
    _, batches = _batches(sft, RewardModel.load(reward), _TINY)
    for _ in range(_TINY.epochs):
        rows = [row for _ in range(_TINY.minibatches) for row in next(batches).returns_BT.sum(dim=1).tolist()]
        rollout = batches._rollout
        assert rollout is not None
        np.testing.assert_allclose(sorted(rows), sorted(rollout.returns_BT.sum(dim=1).tolist()), atol=1e-6)


def test_kl_control() -> None:
    fixed, adaptive = KLControl(0.1, None, 100), KLControl(0.1, 2.0, 100)
    for control in (fixed, adaptive):
        control.update(kl=8.0, answers=50)
    assert fixed.coefficient == 0.1
    assert adaptive.coefficient == pytest.approx(0.1 * (1 + 0.2 * 50 / 100))
    adaptive.update(kl=1.8, answers=50)
    assert adaptive.coefficient == pytest.approx(0.1 * 1.1 * (1 - 0.1 * 50 / 100))


def _files(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}


@pytest.mark.parametrize("checkpoint_every", [3, 4])  # within an iteration, and at its end
def test_a_killed_run_goes_on_bit_for_bit(
    sft: Path,
    reward: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    checkpoint_every: int,
    killed_after: Callable[[int], AbstractContextManager[None]],
) -> None:
    trainer = _TINY.trainer().replace(checkpoint_every=checkpoint_every)
    monkeypatch.setattr(PPOConfig, "trainer", lambda self: trainer)
    whole, killed = Workspace(tmp_path / "whole"), Workspace(tmp_path / "killed")
    whole.path.mkdir()
    killed.path.mkdir()
    metrics = align_ppo(_TINY, sft, reward, whole)
    with killed_after(6):
        align_ppo(_TINY, sft, reward, killed)
    assert align_ppo(_TINY, sft, reward, Workspace(killed.path, resumed=True)) == metrics
    assert _files(killed.path) == _files(whole.path)
    rows = [json.loads(line) for line in (whole.path / "metrics.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [1, 2]
    assert metrics["first_ratio"] == pytest.approx(1, abs=1e-6)
    assert metrics["first_clipped"] == 0
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-5)
    assert rows[1]["kl_coefficient"] != rows[0]["kl_coefficient"]


class _LikesOneToken(RewardModel):
    """A reward that anybody can check: how many of the tokens are number 100."""

    def score(self, sequences: list[np.ndarray]) -> np.ndarray:  # type: ignore[override]
        return np.array([float((ids == 100).sum()) for ids in sequences], np.float32)


def test_ppo_raises_a_trivial_reward(sft: Path, of_four_tokens: Decoder, reward: Path, tmp_path: Path) -> None:
    config = PPOConfig(
        iterations=8, rollouts=32, epochs=2, minibatches=1, max_new_tokens=6, learning_rate=1e-2, kl_coefficient=0.0,
        cut_off_penalty=0.0, checkpoint_every=100, temperature=1.0,
    )  # fmt: skip
    policy = of_four_tokens
    judge = _LikesOneToken(RewardModel.load(reward).classifier)
    model = ActorCritic(policy, judge)
    batches = RolloutBatches(config, model, Reference(policy), judge.reward, Tokenizer.load(sft), _PROMPTS)
    Trainer(
        config.trainer(), model, PPOObjective(config), batches, scratch=tmp_path, metrics_path=tmp_path / "m.jsonl",
        evaluate=lambda _: batches.statistics,
    ).run()  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    proxy = [row["proxy"] for row in rows if "iteration" in row]
    assert proxy[0] < 2.5
    assert proxy[-1] > 4, proxy
