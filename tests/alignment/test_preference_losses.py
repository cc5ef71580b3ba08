"""Losses of pairs and of groups against formulas in plain Python, enumeration, and TRL's own code."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from torch import Tensor

from seedbed.alignment import losses
from seedbed.alignment.advantages import group_relative, leave_one_out, rewards_to_go


def _random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_losses_of_pairs_are_their_formulas() -> None:
    chosen, rejected, ref_chosen, ref_rejected = (-_random(seed, 5).abs() for seed in range(4))
    rows = list(zip(*(x.tolist() for x in (chosen, rejected, ref_chosen, ref_rejected)), strict=True))
    d = [(c - rc) - (r - rr) for c, r, rc, rr in rows]
    found = losses.dpo(chosen, rejected, ref_chosen, ref_rejected, beta=0.3, label_smoothing=0.1)
    expected = [-0.9 * math.log(_sigmoid(0.3 * x)) - 0.1 * math.log(_sigmoid(-0.3 * x)) for x in d]
    assert float(found) == pytest.approx(np.mean(expected))
    found = losses.ipo(chosen, rejected, ref_chosen, ref_rejected, beta=0.3)
    assert float(found) == pytest.approx(np.mean([(x - 1 / 0.6) ** 2 for x in d]))
    odds = [(c - math.log(1 - math.exp(c))) - (r - math.log(1 - math.exp(r))) for c, r, _, _ in rows]
    assert float(losses.orpo(chosen, rejected, 0.2)) == pytest.approx(
        np.mean([-0.2 * math.log(_sigmoid(x)) for x in odds])
    )
    assert math.isfinite(float(losses.orpo(torch.zeros(1), torch.full((1,), -50.0))))  # a certain answer
    found = losses.simpo(chosen, rejected, 2.0, 0.5)
    assert float(found) == pytest.approx(np.mean([-math.log(_sigmoid(2 * (c - r) - 0.5)) for c, r, _, _ in rows]))
    good = torch.tensor([True, False, True, False, False])
    found = losses.kto(chosen, ref_chosen, good, 0.4, 0.3, desirable_weight=1.5)
    each = [
        1.5 * (1 - _sigmoid(0.3 * (c - rc - 0.4))) if one else 1 - _sigmoid(-0.3 * (c - rc - 0.4))
        for (c, _, rc, _), one in zip(rows, good.tolist(), strict=True)
    ]
    assert float(found) == pytest.approx(np.mean(each))


def test_dpo_gradient_by_enumeration_over_three_tokens() -> None:
    """Trained on every pair as often as a Bradley-Terry judge of reward r prefers it, DPO's optimum is the policy
    proportional to reference * exp(r / beta) (Rafailov et al. 2023, equation 4): there its gradient is zero."""
    reward, reference, beta = _random(0, 3), _random(1, 3).log_softmax(-1), 0.5
    logits = (reference + reward / beta).requires_grad_(True)
    policy = logits.log_softmax(-1)
    total = torch.zeros((), dtype=torch.float64)
    for better, worse in itertools.permutations(range(3), 2):
        pair = losses.dpo(
            policy[better, None], policy[worse, None], reference[better, None], reference[worse, None], beta
        )
        total = total + torch.sigmoid(reward[better] - reward[worse]) * pair
    (gradient,) = torch.autograd.grad(total, logits)
    assert float(gradient.abs().max()) < 1e-12


REDUCTIONS: tuple[losses.Reduction, ...] = ("grpo", "bnpo", "dapo", "dr_grpo")


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_grpo_equals_a_loop_and_pads_never_count(reduction: losses.Reduction, level: losses.Level) -> None:
    new, old, reference, advantages = (_random(seed, 3, 6) * 0.5 for seed in range(4))
    advantages_B, mask = advantages[:, 0], _random(9, 3, 6) > -0.5
    total, tokens = 0.0, int(mask.sum())
    for b in range(3):
        kept = [t for t in range(6) if mask[b, t]]
        mean = sum(float(new[b, t] - old[b, t]) for t in kept) / len(kept)
        for t in kept:
            ratio, advantage = math.exp(mean if level == "sequence" else new[b, t] - old[b, t]), float(advantages_B[b])
            loss = -min(ratio * advantage, min(max(ratio, 0.8), 1.28) * advantage)
            r = float(reference[b, t] - new[b, t])
            loss += 0.1 * (math.exp(r) - 1 - r)
            total += loss / {"grpo": 3 * len(kept), "bnpo": tokens, "dapo": tokens, "dr_grpo": 3 * 8}[reduction]
    poison = torch.where(mask, 0.0, torch.inf)
    new.requires_grad_(True)
    found = losses.grpo(
        new + poison, old - poison, advantages_B, mask, 0.2, 0.28, reduction=reduction, level=level, beta=0.1,
        reference_logprobs_BT=reference - poison, max_length=8,
    )  # fmt: skip
    found.backward()
    assert float(found.detach()) == pytest.approx(total)
    assert new.grad is not None
    assert torch.isfinite(new.grad).all()
    assert not new.grad[~mask].any()


def test_dual_clip_bounds_what_a_bad_answer_can_cost() -> None:
    new, old, mask = torch.tensor([[3.0]]), torch.zeros(1, 1), torch.ones(1, 1)
    for advantage, expected in ((-1.0, 3.0), (1.0, -1.2)):
        found = losses.grpo(new, old, torch.tensor([advantage]), mask, dual_clip=3.0)
        assert float(found) == pytest.approx(expected)


def test_advantages_of_groups() -> None:
    rewards = torch.tensor([1.0, 0.0, 0.0, 1.0, 2.0, 2.0, 2.0, 2.0])
    first = rewards[:4]
    grouped = group_relative(rewards, 4)
    torch.testing.assert_close(grouped[:4], (first - 0.5) / (first.std() + 1e-4))
    assert not grouped[4:].any()
    torch.testing.assert_close(group_relative(rewards, 4, "none")[:4], first - 0.5)
    torch.testing.assert_close(leave_one_out(rewards, 4)[:4], torch.tensor([2.0, -2.0, -2.0, 2.0]) / 3)
    with pytest.raises(ValueError, match="groups of 3"):
        group_relative(rewards, 3)
    tokens = torch.tensor([[1.0, 2.0, torch.nan], [torch.nan, 4.0, 5.0]])
    mask = ~tokens.isnan()
    torch.testing.assert_close(rewards_to_go(tokens, mask), torch.tensor([[3.0, 2.0, 0.0], [0.0, 9.0, 5.0]]))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_grpo_equals_trl(reduction: losses.Reduction) -> None:
    trainer = pytest.importorskip("trl.trainer.grpo_trainer").GRPOTrainer
    new, old, reference = (_random(seed, 4, 7) * 0.3 for seed in range(3))
    advantages, mask = _random(3, 4), (_random(4, 4, 7) > -0.5).long()
    us = MagicMock(
        beta=0.05, epsilon_low=0.2, epsilon_high=0.28, loss_type=reduction, importance_sampling_level="token",
        top_entropy_quantile=1.0, off_policy_mask_threshold=None, max_completion_length=9, use_vllm=False,
        current_gradient_accumulation_steps=1, _entropy_bonus_enabled=False, aux_loss_enabled=False,
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
    )  # fmt: skip
    us._get_per_token_logps_and_entropies.return_value = (new, torch.zeros_like(new), None)
    us.accelerator.num_processes = 1
    us.accelerator.gather.side_effect = lambda tensor: tensor
    inputs = {
        "prompt_ids": torch.zeros(4, 2, dtype=torch.long), "prompt_mask": torch.ones(4, 2, dtype=torch.long),
        "completion_ids": torch.zeros(4, 7, dtype=torch.long), "completion_mask": mask, "advantages": advantages,
        "old_per_token_logps": old, "ref_per_token_logps": reference, "num_items_in_batch": mask.sum(),
    }  # fmt: skip
    theirs = trainer._compute_loss(us, MagicMock(), inputs)
    ours = losses.grpo(
        new, old, advantages, mask, 0.2, 0.28, reduction=reduction, beta=0.05, reference_logprobs_BT=reference,
        max_length=9,
    )  # fmt: skip
    assert float(ours) == pytest.approx(float(theirs), abs=1e-9)


@pytest.mark.parametrize(("kind", "smoothing"), [("sigmoid", 0.0), ("ipo", 0.0)])
def test_dpo_equals_trl(kind: str, smoothing: float) -> None:
    trainer = pytest.importorskip("trl.trainer.dpo_trainer").DPOTrainer
    pairs, width = 3, 6
    ids = torch.randint(5, 50, (2 * pairs, width), generator=torch.Generator().manual_seed(1))
    completion = torch.zeros(2 * pairs, width, dtype=torch.long)
    for row, start in enumerate((2, 3, 1, 2, 3, 1)):
        completion[row, start : start + 2 + row % 2] = 1
    logits, reference_logits = _random(0, 2 * pairs, width, 50), _random(1, 2 * pairs, width, 50)
    policy_TRL, reference_TRL = _Scripted(logits), _Scripted(reference_logits)
    us = MagicMock(
        beta=0.2, label_smoothing=smoothing, loss_types=[kind], loss_weights=[1.0], f_divergence_type="reverse_kl",
        ld_alpha=None, use_weighting=False, precompute_ref_logps=False, ref_model=reference_TRL, aux_loss_enabled=False,
    )  # fmt: skip
    us.accelerator.gather_for_metrics.side_effect = us.accelerator.gather.side_effect = lambda tensor: tensor
    us.accelerator.unwrap_model.side_effect = lambda model: model
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "completion_mask": completion}
    theirs = trainer._compute_loss(us, policy_TRL, inputs, False)
    sums, counts = _sums(logits, ids, completion), completion[:, 1:].sum(1)
    references = _sums(reference_logits, ids, completion)
    if kind == "ipo":
        sums, references = sums / counts, references / counts
    loss = losses.dpo if kind == "sigmoid" else losses.ipo
    ours = loss(*sums.chunk(2), *references.chunk(2), beta=0.2)
    assert float(ours) == pytest.approx(float(theirs), abs=1e-6)


def test_kto_equals_trl() -> None:
    trainer = pytest.importorskip("trl.trainer.kto_trainer").KTOTrainer
    answers, width = 5, 6
    ids = torch.randint(5, 50, (answers, width), generator=torch.Generator().manual_seed(1))
    other_ids = torch.randint(5, 50, (answers, width), generator=torch.Generator().manual_seed(2))
    completion = torch.zeros(answers, width, dtype=torch.long)
    for row, start in enumerate((2, 3, 1, 2, 3)):
        completion[row, start : start + 2 + row % 2] = 1
    logits, reference_logits = _random(0, answers, width, 50), _random(1, answers, width, 50)
    us = MagicMock(
        beta=0.2, loss_type="kto", calculate_KL=True, precompute_ref_logps=False, ref_model=_Scripted(reference_logits),
        aux_loss_enabled=False, desirable_weight=1.5, undesirable_weight=0.75,
    )  # fmt: skip
    us._compute_kl_logps.side_effect = lambda model, batch: trainer._compute_kl_logps(us, model, batch)
    us.accelerator.gather_for_metrics.side_effect = lambda tensor: tensor
    us.accelerator.device = "cpu"
    good = torch.tensor([True, False, True, False, False])
    inputs = {
        "input_ids": ids, "attention_mask": torch.ones_like(ids), "completion_mask": completion, "label": good,
        "KL_input_ids": other_ids, "KL_attention_mask": torch.ones_like(ids), "KL_completion_mask": completion,
    }  # fmt: skip
    theirs = trainer._compute_loss(us, _Scripted(logits), inputs, False)
    divergence = (_sums(logits, other_ids, completion) - _sums(reference_logits, other_ids, completion)).mean()
    ours = losses.kto(
        _sums(logits, ids, completion), _sums(reference_logits, ids, completion), good, divergence.clamp(min=0), 0.2,
        1.5, 0.75,
    )  # fmt: skip
    assert float(divergence) > 0
    assert float(ours) == pytest.approx(float(theirs), abs=1e-6)


@pytest.mark.parametrize("centring", [0.0, 0.01])
def test_bradley_terry_equals_trl(centring: float) -> None:
    trainer = pytest.importorskip("trl.trainer.reward_trainer").RewardTrainer
    scores, margins = _random(0, 8, 1), _random(1, 4).abs()
    us = MagicMock(args=SimpleNamespace(center_rewards_coefficient=centring or None))
    us.accelerator.gather_for_metrics.side_effect = us.accelerator.gather.side_effect = lambda tensor: tensor
    inputs = {"attention_mask": torch.ones(8, 3), "margin": margins}
    theirs = trainer.compute_loss(us, lambda **_: SimpleNamespace(logits=scores), inputs)
    ours = losses.bradley_terry(*scores[:, 0].chunk(2), margins, centring)
    assert float(ours) == pytest.approx(float(theirs), abs=1e-6)


class _Scripted:
    """A model that says the same logits to whatever it is asked, in what TRL reads of a model's output."""

    def __init__(self, logits: Tensor) -> None:
        self._logits = logits
        self.training = True

    def __call__(self, input_ids: Tensor, labels: Tensor | None = None, **_: Any) -> Any:
        assert labels is not None
        shifted = labels[:, 1:]
        taken = self._logits[:, :-1].log_softmax(-1).gather(-1, shifted.clamp(min=0)[..., None])[..., 0]
        log_probs = torch.where(shifted != -100, taken, 0.0)
        zeros = torch.zeros_like(log_probs)
        return MagicMock(
            log_probs=log_probs, logits=self._logits, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool()
        )


def _sums(logits: Tensor, ids: Tensor, completion: Tensor) -> Tensor:
    taken = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    return (taken * completion[:, 1:]).sum(1)
