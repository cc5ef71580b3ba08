"""Proximal policy optimisation of a language model (Schulman et al. 2017; Ziegler et al. 2019): a value model says how
much better than expected each token was.

Legend as in `rollouts`: B sequences, S tokens, T = S - 1 predictions, N answer tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from pydantic import Field
from torch import Tensor, nn

from ..datasets.instructions import Turns
from ..models import Decoder
from . import losses
from .advantages import explained_variance, gae, whiten
from .answer_states import answer_states
from .online import OnlineBatches, OnlineConfig, add_at_the_end
from .reward_model import RewardModel
from .rollouts import Answer, Reference, Reward, Rollout, answer_logits, scatter, token_logprobs

if TYPE_CHECKING:
    from ..tokenizers import Tokenizer


class PPOConfig(OnlineConfig):
    """How the policy is trained. Rewards are in deviations of the reward model's score."""

    value_clip: float = Field(0.2, gt=0, description="how far a value may go from the old one and still count")
    value_weight: float = Field(0.1, ge=0, description="weight of the value loss")
    gamma: float = Field(1.0, gt=0, le=1, description="discount per token")
    lam: float = Field(0.95, ge=0, le=1, description="lambda of the advantage estimation")
    whiten_rewards: bool = Field(False, description="rewards of deviation 1, their mean kept, before the advantages")


class ActorCritic(nn.Module):
    """A policy and a separate value model, trained together. The value model begins as the reward model."""

    def __init__(self, policy: Decoder, reward_model: RewardModel) -> None:
        super().__init__()
        self.policy = policy
        self.body = copy.deepcopy(reward_model.classifier.decoder).requires_grad_(True)
        head = reward_model.classifier.score
        self.head = nn.Linear(head.in_features, 1, device="meta").to_empty(device=head.weight.device)
        with torch.no_grad():
            self.head.weight.copy_(head.weight)
            self.head.bias.fill_(reward_model.offset)
        if self.body.lm_head is not None:
            self.body.lm_head.requires_grad_(False)

    def values(self, ids_BS: Tensor, mask_BT: Tensor) -> Tensor:
        """Values (B, T) of the states in which answer tokens are chosen; 0 elsewhere."""
        return scatter(self.head(answer_states(self.body, ids_BS, mask_BT))[:, 0], mask_BT)


class PPOObjective:
    """Clipped policy and value losses, summed over answer tokens."""

    def __init__(self, config: PPOConfig) -> None:
        self._config = config

    def loss(self, model: nn.Module, batch: Rollout) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
        assert isinstance(model, ActorCritic)
        assert batch.values_BT is not None
        assert batch.returns_BT is not None
        config, mask = self._config, batch.mask_BT
        logits = answer_logits(model.policy, batch.ids_BS, mask, config.temperature)
        logprobs = token_logprobs(logits, batch.ids_BS, mask)
        policy = losses.ppo_policy(logprobs, batch.logprobs_BT, batch.advantages_BT, mask, config.clip, denominator=1)
        values = model.values(batch.ids_BS, mask)
        value = losses.ppo_value(values, batch.values_BT, batch.returns_BT, mask, config.value_clip, denominator=1)
        with torch.set_grad_enabled(config.entropy_weight > 0):
            entropy = losses.entropy(logits).sum()
        total = policy + config.value_weight * value - config.entropy_weight * entropy
        extra = losses.ppo_statistics(logprobs, batch.logprobs_BT, mask, config.clip)
        extra |= {"policy_loss": policy.detach(), "value_loss": value.detach()}
        return total, mask.sum(), extra


class RolloutBatches(OnlineBatches):
    """One answer per prompt; a token's reward is its KL penalty, and at the last token the answer's score."""

    def __init__(
        self, config: PPOConfig, model: ActorCritic, reference: Reference, reward: Reward, tokenizer: Tokenizer,
        prompts: Sequence[str | Turns],
    ) -> None:  # fmt: skip
        super().__init__(config, model.policy, reference, reward, tokenizer, prompts)
        self._ppo, self._model = config, model

    def _with_advantages(
        self, answers: Sequence[Answer], ids_BS: Tensor, mask_BT: Tensor, found: Mapping[str, Tensor], final_B: Tensor
    ) -> tuple[Rollout, dict[str, float]]:
        config = self._ppo
        self._model.eval()
        rewards_BT = add_at_the_end(self._kl_penalty(found), mask_BT, final_B)
        if config.whiten_rewards:
            rewards_BT = whiten(rewards_BT, mask_BT, centre=False)
        values_BT = self._model.values(ids_BS, mask_BT)
        advantages_BT, returns_BT = gae(rewards_BT, values_BT, mask_BT, config.gamma, config.lam)
        rollout = Rollout(
            ids_BS, mask_BT, found["logprobs"], found["reference_logprobs"], rewards_BT,
            whiten(advantages_BT, mask_BT), values_BT, returns_BT,
        )  # fmt: skip
        return rollout, {"value_explained_variance": float(explained_variance(values_BT, returns_BT, mask_BT))}
