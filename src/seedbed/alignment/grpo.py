"""Group-relative policy optimisation and its kin: no value model; an answer is measured against the other answers to
the same prompt (GRPO, Dr. GRPO, DAPO, GSPO, RLOO), or against all of the batch (REINFORCE++).

Legend as in `rollouts`: B sequences, S tokens, T = S - 1 predictions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ..datasets.instructions import Turns
from ..models import Decoder
from . import losses
from .advantages import Scale, group_relative, leave_one_out, rewards_to_go, whiten
from .online import OnlineBatches, OnlineConfig, add_at_the_end
from .rollouts import Answer, Reference, Reward, Rollout, answer_logits, token_logprobs

if TYPE_CHECKING:
    from ..tokenizers import Tokenizer


class GRPOConfig(OnlineConfig):
    """How the policy is trained.

    The methods by their names: GRPO is the default with `reduction: grpo`; DAPO `reduction: dapo`, `clip_high: 0.28`,
    `mask_cut_off: true`; Dr. GRPO `reduction: dr_grpo`, `scale: none`; GSPO `level: sequence`, `reduction: grpo`; RLOO
    and REINFORCE++ are advantages of their own, with the price of divergence in the reward.
    """

    group: int = Field(8, ge=2, description="answers to each prompt")
    advantage: Literal["grpo", "rloo", "reinforce++"] = Field("grpo", description="what an answer is measured against")
    scale: Scale = Field("group", description="grpo: deviation that rewards are divided by")
    reduction: losses.Reduction = Field("dapo", description="what a token's share in the loss is")
    level: losses.Level = Field("token", description="a ratio per token, or one per answer (GSPO)")
    clip_high: float | None = Field(None, gt=0, description="how far above 1 a ratio may go; none: as far as below")
    dual_clip: float | None = Field(None, gt=1, description="where large ratios of bad answers stop counting")
    mask_cut_off: bool = Field(False, description="answers that do not end teach nothing")
    kl_coefficient: float = Field(0.0, ge=0, description="price of one nat of divergence from the reference")
    cut_off_penalty: float = Field(0.0, ge=0, description="taken from the score of an answer that does not end")

    @model_validator(mode="after")
    def _whole_groups(self) -> Self:
        if self.rollouts % self.group:
            raise ValueError(f"rollouts is no multiple of group ({self.rollouts} and {self.group})")
        if self.kl_target is not None and self.advantage == "grpo":
            raise ValueError("kl_target adapts a price in the reward, which advantage 'grpo' does not have")
        return self


class GRPOObjective:
    """The clipped surrogate under the config's reduction. `tokens` says of how many tokens the statistics are."""

    def __init__(self, config: GRPOConfig) -> None:
        self._config = config

    def loss(self, model: nn.Module, batch: Rollout) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
        assert isinstance(model, Decoder)
        config, mask = self._config, batch.mask_BT
        logits = answer_logits(model, batch.ids_BS, mask, config.temperature)
        logprobs = token_logprobs(logits, batch.ids_BS, mask)
        policy = losses.grpo(
            logprobs, batch.logprobs_BT, batch.advantages_BT, mask, config.clip, config.clip_high,
            reduction=config.reduction, level=config.level, dual_clip=config.dual_clip,
            beta=config.kl_coefficient if config.advantage == "grpo" else 0.0,
            reference_logprobs_BT=batch.reference_logprobs_BT, denominator=1,
        )  # fmt: skip
        count = losses.grpo_count(mask, config.reduction, config.max_new_tokens)
        total = policy
        if config.entropy_weight:
            # A mean over tokens whatever the reduction: so many tokens' worth of it as the loss is divided by.
            mean = losses.entropy(logits).sum() / max(len(logits), 1)
            total = total - config.entropy_weight * mean * count
        extra = losses.ppo_statistics(logprobs, batch.logprobs_BT, mask, config.clip, config.clip_high)
        return total, count, extra | {"policy_loss": policy.detach(), "tokens": mask.sum()}


class GroupBatches(OnlineBatches):
    """`group` answers per prompt, whose prompt is read once."""

    def __init__(
        self, config: GRPOConfig, policy: Decoder, reference: Reference, reward: Reward, tokenizer: Tokenizer,
        prompts: Sequence[str | Turns],
    ) -> None:  # fmt: skip
        super().__init__(config, policy, reference, reward, tokenizer, prompts, samples=config.group)
        self._grpo = config

    def _with_advantages(
        self, answers: Sequence[Answer], ids_BS: Tensor, mask_BT: Tensor, found: Mapping[str, Tensor], final_B: Tensor
    ) -> tuple[Rollout, dict[str, float]]:
        config = self._grpo
        in_reward = config.advantage != "grpo" and config.kl_coefficient > 0
        penalty_BT = self._kl_penalty(found) if in_reward else torch.zeros_like(found["logprobs"])
        rewards_BT = add_at_the_end(penalty_BT, mask_BT, final_B)
        if config.advantage == "reinforce++":
            advantages_BT = whiten(rewards_to_go(rewards_BT, mask_BT), mask_BT)
        else:
            totals_B = rewards_BT.sum(dim=1)
            advantages_B = (
                leave_one_out(totals_B, config.group) if config.advantage == "rloo"
                else group_relative(totals_B, config.group, config.scale)
            )  # fmt: skip
            advantages_BT = advantages_B[:, None] * mask_BT
        alike = final_B.view(-1, config.group).std(dim=1) == 0
        if config.mask_cut_off:
            mask_BT = mask_BT & torch.tensor([one.ended for one in answers], device=mask_BT.device)[:, None]
        rollout = Rollout(ids_BS, mask_BT, found["logprobs"], found["reference_logprobs"], rewards_BT, advantages_BT)
        return rollout, {
            "reward_deviation": float(final_B.view(-1, config.group).std(dim=1).mean()),
            "groups_alike": float(alike.float().mean()),
        }
