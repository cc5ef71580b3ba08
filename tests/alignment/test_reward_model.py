"""The reward model: where it reads, what it learns, how it is kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from seedbed.alignment.questions import split_by_prompt
from seedbed.alignment.reward_model import BradleyTerry, RewardModel, preference_metrics
from seedbed.alignment.reward_stage import RewardConfig, train_reward_model
from seedbed.core.artifacts import Workspace
from seedbed.core.errors import DataError
from seedbed.core.randomness import torch_generator
from seedbed.datasets.preferences import PairBatch
from seedbed.finetuning.instruct import load_decoder

_TINY = RewardConfig.model_validate({
    "prompts": 12, "held_out_prompts": 6, "samples": 3, "max_new_tokens": 8, "minimum_gap": 0.0,
    "training": {"steps": 3, "batch_size": 4, "optimizer": "adamw", "checkpoint_every": 2},
})  # fmt: skip


def _reward_model(sft: Path) -> RewardModel:
    return RewardModel.from_decoder(load_decoder(sft), torch_generator(0, "head")).eval()


def test_scores_are_read_at_the_last_real_token(sft: Path) -> None:
    model, rows = _reward_model(sft), [np.array([5, 6, 7, 8, 3]), np.array([9, 10])]
    together = model.score(rows)
    np.testing.assert_allclose(together, [model.score([row])[0] for row in rows], atol=1e-6)
    assert abs(together[0] - model.score([rows[0][:-1]])[0]) > 1e-4  # the end token is seen


def test_objective_counts_pairs(sft: Path) -> None:
    model = _reward_model(sft)
    batch = PairBatch(
        torch.tensor([[5, 6, 3], [7, 3, 1]]), torch.tensor([[8, 9, 10], [11, 1, 1]]), torch.tensor([0.0, 0.7])
    )
    total, count, extra = BradleyTerry().loss(model, batch)
    margins = (model(batch.chosen_BT) - model(batch.rejected_BT)).detach().numpy()
    assert float(total.detach()) == pytest.approx(np.logaddexp(0, [0.0, 0.7] - margins).sum(), rel=1e-5)
    assert float(count) == 2
    assert float(extra["accuracy"]) == (margins > 0).sum()


def test_normalised_scores_survive_saving_and_transformers_agrees_up_to_the_offset(sft: Path, tmp_path: Path) -> None:
    model = _reward_model(sft)
    samples = [np.random.default_rng(seed).integers(4, 300, 5 + seed) for seed in range(8)]
    model.normalise(samples)
    scores = model.score(samples)
    assert abs(scores.mean()) < 1e-4
    assert scores.std() == pytest.approx(1, abs=1e-4)
    model.save(tmp_path)
    loaded = RewardModel.load(tmp_path)
    np.testing.assert_array_equal(loaded.score(samples), scores)
    transformers = pytest.importorskip("transformers")
    peer = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    logits = [float(peer(input_ids=torch.from_numpy(row)[None]).logits[0, 0].detach()) for row in samples]
    np.testing.assert_allclose(np.array(logits) + loaded.offset, scores, atol=1e-4)


def test_preference_metrics_by_hand() -> None:
    found = preference_metrics(np.array([4.0, 4.0, -4.0, 0.1]))
    assert found["accuracy"] == 0.75
    assert found["loss"] == pytest.approx(np.mean([np.log1p(np.exp(-m)) for m in (4, 4, -4, 0.1)]))
    belief, near = 1 / (1 + np.exp(-4)), 1 / (1 + np.exp(-0.1))
    assert found["calibration_error"] == pytest.approx((3 * abs(belief - 2 / 3) + abs(near - 1)) / 4)
    assert sum(one["pairs"] for one in found["calibration"]) == 4


def test_split_keeps_a_prompt_on_one_side() -> None:
    rows = [{"prompt": f"q{n % 50}", "chosen": str(n), "rejected": ""} for n in range(200)]
    sides = split_by_prompt(rows, 0.3, seed=0)
    prompts = {name: {row["prompt"] for row in side} for name, side in sides.items()}
    assert not prompts["train"] & prompts["validation"]
    assert 5 <= len(prompts["validation"]) <= 25


def test_stage_writes_model_pairs_and_metrics(sft: Path, tmp_path: Path) -> None:
    metrics = train_reward_model(_TINY, sft, Workspace(tmp_path))
    assert json.loads(json.dumps(metrics)) == metrics
    assert 0 <= metrics["accuracy"] <= 1
    rows = [json.loads(line) for line in (tmp_path / "preferences" / "train.jsonl").read_text().splitlines()]
    assert len(rows) == metrics["train_pairs"]
    assert all(row["chosen_score"] > row["rejected_score"] for row in rows)
    assert RewardModel.load(tmp_path).offset != 0
    assert (tmp_path / "tokenizer.json").exists()


def test_a_users_preferences_can_be_used(sft: Path, tmp_path: Path) -> None:
    one = {"chosen": "Yes, it is.", "rejected": "No", "chosen_ended": True, "rejected_ended": False}
    rows = [{"prompt": f"Is {n}?", **one} for n in range(30)]
    metrics = train_reward_model(_TINY, sft, Workspace(tmp_path), preferences=rows)
    assert metrics["train_pairs"] + metrics["held_out_pairs"] == 30
    long = [row | {"chosen": "word " * 200} for row in rows]
    with pytest.raises(DataError, match="longer than the context"):
        train_reward_model(_TINY, sft, Workspace(tmp_path), preferences=long)
