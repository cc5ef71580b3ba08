"""Proximal policy optimisation of a language model against a reward model (Schulman et al. 2017; Ziegler et al. 2019).

An iteration samples answers, scores them with the reward model, and makes a few minibatch updates. Rollouts are a
source of batches for the shared trainer, so checkpoints, resuming and clipping are the trainer's.

Legend as in `rollouts`: B sequences, S tokens, T = S - 1 predictions, N answer tokens.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from ..core.config import Config
from ..core.randomness import derive_seed, numpy_generator
from ..models import Decoder
from ..training import TrainerConfig
from . import losses
from .advantages import explained_variance, gae, whiten
from .reward_model import RewardModel
from .rewards import GoldConfig
from .rollouts import (
    Rollout,
    answer_logits,
    as_sequences,
    compare,
    describe_answers,
    sample_answers,
    scatter,
    token_logprobs,
)

if TYPE_CHECKING:
    from ..tokenizers import Tokenizer


class PPOConfig(Config):
    """How the policy is trained. Lengths are in tokens, rewards in deviations of the reward model's score."""

    iterations: int = Field(12, ge=1, description="rounds of sampling and updating")
    rollouts: int = Field(64, ge=2, description="answers sampled per iteration, one per prompt")
    epochs: int = Field(2, ge=1, description="passes over an iteration's answers")
    minibatches: int = Field(2, ge=1, description="updates per pass")
    accumulation: int = Field(1, ge=1, description="micro-batches that an update is cut into, to save memory")
    learning_rate: float = Field(3e-4, gt=0, description="peak learning rate, falling linearly to 0")
    clip: float = Field(0.2, gt=0, lt=1, description="how far a probability ratio may go from 1 and still count")
    value_clip: float = Field(0.2, gt=0, description="how far a value may go from the old one and still count")
    value_weight: float = Field(0.1, ge=0, description="weight of the value loss")
    entropy_weight: float = Field(0.0, ge=0, description="weight of the entropy bonus")
    clip_norm: float = Field(1.0, gt=0, description="largest norm of the gradient")
    gamma: float = Field(1.0, gt=0, le=1, description="discount per token")
    lam: float = Field(0.95, ge=0, le=1, description="lambda of the advantage estimation")
    kl_coefficient: float = Field(0.03, ge=0, description="price of one nat of divergence from the reference")
    kl_target: float | None = Field(None, gt=0, description="nats per answer that the price adapts to; none: fixed")
    kl_horizon: int = Field(1000, ge=1, description="answers over which the price adapts")
    temperature: float = Field(1.0, gt=0, description="of sampling, and so of every probability here")
    max_new_tokens: int = Field(48, ge=1, description="longest answer")
    cut_off_penalty: float = Field(1.0, ge=0, description="taken from the score of an answer that does not end")
    evaluation_prompts: int = Field(100, ge=1, description="held-out questions answered before and after")
    evaluation_samples: int = Field(2, ge=1, description="answers to each")
    checkpoint_every: int = Field(4, ge=1, description="iterations between checkpoints")
    gold: GoldConfig = GoldConfig()
    seed: int = 0

    @property
    def updates(self) -> int:
        """Optimizer steps per iteration."""
        return self.epochs * self.minibatches

    def trainer(self) -> TrainerConfig:
        return TrainerConfig(
            steps=self.iterations * self.updates, batch_size=math.ceil(self.rollouts / self.minibatches),
            accumulation=self.accumulation, optimizer="adamw", learning_rate=self.learning_rate, weight_decay=0.0,
            schedule="wsd", warmup_fraction=0.0, decay_fraction=1.0, clip_norm=self.clip_norm,
            evaluate_every=self.updates, checkpoint_every=self.checkpoint_every * self.updates, seed=self.seed,
        )  # fmt: skip


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
        return scatter(self.head(self.body.hidden(ids_BS[:, :-1])[mask_BT])[:, 0], mask_BT)


class PPOObjective:
    """Clipped policy and value losses, summed over answer tokens."""

    def __init__(self, config: PPOConfig) -> None:
        self._config = config

    def loss(self, model: nn.Module, batch: Rollout) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
        assert isinstance(model, ActorCritic)
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


class KLControl:
    """The price of divergence: fixed, or following a target (Ziegler et al. 2019, section 2.2)."""

    def __init__(self, coefficient: float, target: float | None, horizon: int) -> None:
        self.coefficient, self._target, self._horizon = coefficient, target, horizon

    def update(self, kl: float, answers: int) -> None:
        """After an iteration of `answers` whose KL, summed over each and averaged, was `kl` nats."""
        if self._target is not None:
            error = min(max(kl / self._target - 1, -0.2), 0.2)
            self.coefficient *= 1 + error * answers / self._horizon


class RolloutBatches:
    """The trainer's batches: minibatches of the current rollout; when it is used up, a new one from the policy as is.

    Sampling and shuffling are functions of (seed, iteration), so the state is the iteration, the price of KL, and the
    rollout while it is in use.
    """

    def __init__(
        self,
        config: PPOConfig,
        model: ActorCritic,
        reference: Decoder,
        reward_model: RewardModel,
        tokenizer: Tokenizer,
        prompts: Sequence[str],
    ) -> None:
        self._config, self._model, self._reference, self._reward_model = config, model, reference, reward_model
        self._tokenizer, self._prompts = tokenizer, prompts
        self._control = KLControl(config.kl_coefficient, config.kl_target, config.kl_horizon)
        self._iteration, self._update = 0, config.updates
        self._rollout: Rollout | None = None
        self.statistics: dict[str, float] = {}  # of the current iteration's rollout

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Rollout:
        if self._update == self._config.updates:
            self._collect()
        assert self._rollout is not None
        epoch, place = divmod(self._update, self._config.minibatches)
        self._update += 1
        order = numpy_generator(self._config.seed, "minibatches", self._iteration, epoch).permutation(
            len(self._rollout)
        )
        return self._rollout.select(torch.from_numpy(order).chunk(self._config.minibatches)[place])

    @torch.no_grad()
    def _collect(self) -> None:
        config = self._config
        self._iteration, self._update = self._iteration + 1, 0
        self._model.eval()
        answers = sample_answers(
            self._model.policy, self._tokenizer, self._draw_prompts(), temperature=config.temperature,
            max_new_tokens=config.max_new_tokens, seed=derive_seed(config.seed, "rollout", self._iteration),
        )  # fmt: skip
        pad_id = self._model.policy.config.pad_token_id
        assert pad_id is not None
        ids_BS, mask_BT = as_sequences(answers, pad_id)
        found = compare(self._model.policy, self._reference, ids_BS, mask_BT, config.temperature)
        scores = self._reward_model.score([one.sequence for one in answers])
        ended = torch.tensor([one.ended for one in answers])
        final_B = torch.from_numpy(scores) - config.cut_off_penalty * (~ended)
        divergence_BT = losses.kl(found["logprobs"], found["reference_logprobs"])
        rewards_BT = -self._control.coefficient * divergence_BT
        last_B = mask_BT.long().cumsum(dim=1).argmax(dim=1)
        rewards_BT[torch.arange(len(answers)), last_B] += final_B
        values_BT = self._model.values(ids_BS, mask_BT)
        advantages_BT, returns_BT = gae(rewards_BT, values_BT, mask_BT, config.gamma, config.lam)
        self._rollout = Rollout(
            ids_BS, mask_BT, found["logprobs"], found["reference_logprobs"], values_BT, rewards_BT,
            whiten(advantages_BT, mask_BT), returns_BT,
        )  # fmt: skip
        kl = float(losses.masked_sum(divergence_BT, mask_BT)) / len(answers)
        self.statistics = {
            "iteration": self._iteration,
            **describe_answers(answers, scores, config.gold),
            "reward": float(rewards_BT.sum()) / len(answers),
            "kl": kl,
            "kl_exact": float(found["kl"].sum()) / len(answers),
            "kl_coefficient": self._control.coefficient,
            "entropy": float(losses.masked_mean(found["entropy"], mask_BT)),
            "value_explained_variance": float(explained_variance(values_BT, returns_BT, mask_BT)),
            "sampler_gap": _sampler_gap(answers, found["logprobs"], mask_BT),
        }
        self._control.update(kl, len(answers))

    def _draw_prompts(self) -> list[str]:
        """The iteration's prompts: the next ones of an endless walk, each pass over them in an order of its own."""
        first = (self._iteration - 1) * self._config.rollouts
        drawn, order, epoch_now = [], None, -1
        for index in range(first, first + self._config.rollouts):
            epoch, place = divmod(index, len(self._prompts))
            if order is None or epoch != epoch_now:
                order = numpy_generator(self._config.seed, "prompts", epoch).permutation(len(self._prompts))
                epoch_now = epoch
            drawn.append(self._prompts[int(order[place])])
        return drawn

    def state_dict(self) -> dict[str, Any]:
        in_use = self._rollout is not None and self._update < self._config.updates
        return {
            "iteration": self._iteration,
            "update": self._update,
            "kl_coefficient": self._control.coefficient,
            "statistics": self.statistics,
            "rollout": self._rollout.state_dict() if in_use and self._rollout is not None else {},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._iteration, self._update = state["iteration"], state["update"]
        self._control.coefficient, self.statistics = state["kl_coefficient"], dict(state["statistics"])
        self._rollout = Rollout(**state["rollout"]) if state.get("rollout") else None


def _sampler_gap(answers: Sequence[Any], logprobs_BT: Tensor, mask_BT: Tensor) -> float:
    """Largest difference between the sampler's log-probabilities and the update's: rounding, or something is wrong."""
    sampled = torch.cat([torch.from_numpy(one.logprobs) for one in answers])
    return float((sampled - logprobs_BT[mask_BT]).abs().max())
