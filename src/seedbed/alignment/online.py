"""What PPO and GRPO share: an iteration samples answers and makes a few minibatch updates from them.

Rollouts are a source of batches for the shared trainer, so checkpoints, resuming and clipping are the trainer's.
Legend as in `rollouts`: B sequences, S tokens, T = S - 1 predictions.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeVar

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from ..core.config import Config
from ..core.randomness import derive_seed, numpy_generator
from ..datasets.instructions import Turns
from ..finetuning import LoRAConfig
from ..models import Decoder
from ..tokenizers import Tokenizer
from ..training import TrainerConfig
from . import losses
from .rewards import GoldConfig
from .rollouts import (
    Answer,
    Reference,
    Reward,
    Rollout,
    as_sequences,
    compare,
    describe_answers,
    logprobs_under,
    rewards_of,
    sample_answers,
    scatter,
)


class OnlineConfig(Config):
    """How a policy learns from its own answers. Lengths are in tokens, rewards in the reward's own unit."""

    iterations: int = Field(12, ge=1, description="rounds of sampling and updating")
    rollouts: int = Field(64, ge=2, description="answers sampled per iteration")
    epochs: int = Field(2, ge=1, description="passes over an iteration's answers")
    minibatches: int = Field(2, ge=1, description="updates per pass")
    accumulation: int = Field(1, ge=1, description="micro-batches that an update is cut into, to save memory")
    learning_rate: float = Field(3e-4, gt=0, description="peak learning rate, falling linearly")
    final_factor: float = Field(0.0, ge=0, le=1, description="learning rate at the end, as a share of the peak")
    clip: float = Field(0.2, gt=0, lt=1, description="how far a probability ratio may go from 1 and still count")
    entropy_weight: float = Field(0.0, ge=0, description="weight of the entropy bonus")
    clip_norm: float = Field(1.0, gt=0, description="largest norm of the gradient")
    kl_coefficient: float = Field(0.03, ge=0, description="price of one nat of divergence from the reference")
    kl_target: float | None = Field(None, gt=0, description="nats per answer that the price adapts to; none: fixed")
    kl_horizon: int = Field(1000, ge=1, description="answers over which the price adapts")
    compare_every: int = Field(
        1, ge=1, description="iterations between whole comparisons with the reference (exact divergence, entropy)"
    )
    temperature: float = Field(1.0, gt=0, description="of sampling, and so of every probability here")
    max_new_tokens: int = Field(48, ge=1, description="longest answer")
    cut_off_penalty: float = Field(1.0, ge=0, description="taken from the score of an answer that does not end")
    adapter: LoRAConfig | None = Field(None, description="train a LoRA adapter, whose absence is the reference")
    evaluation_prompts: int = Field(100, ge=1, description="held-out questions answered before and after")
    evaluation_samples: int = Field(2, ge=1, description="answers to each")
    checkpoint_every: int = Field(4, ge=1, description="iterations between checkpoints")
    gold: GoldConfig = GoldConfig()
    seed: int = 0

    @model_validator(mode="after")
    def _minibatches_hold_something(self) -> Self:
        if self.minibatches > self.rollouts:
            raise ValueError("minibatches is above rollouts")
        return self

    @property
    def updates(self) -> int:
        """Optimizer steps per iteration."""
        return self.epochs * self.minibatches

    def trainer(self) -> TrainerConfig:
        return TrainerConfig(
            steps=self.iterations * self.updates, batch_size=math.ceil(self.rollouts / self.minibatches),
            accumulation=self.accumulation, optimizer="adamw", learning_rate=self.learning_rate, weight_decay=0.0,
            schedule="wsd", warmup_fraction=0.0, decay_fraction=1.0, final_factor=self.final_factor,
            clip_norm=self.clip_norm,
            evaluate_every=self.updates, checkpoint_every=self.checkpoint_every * self.updates, seed=self.seed,
        )  # fmt: skip


OnlineT = TypeVar("OnlineT", bound=OnlineConfig)


class KLControl:
    """The price of divergence: fixed, or following a target (Ziegler et al. 2019, section 2.2)."""

    def __init__(self, coefficient: float, target: float | None, horizon: int) -> None:
        self.coefficient, self._target, self._horizon = coefficient, target, horizon

    def update(self, kl: float, answers: int) -> None:
        """After an iteration of `answers` whose KL, summed over each and averaged, was `kl` nats."""
        if self._target is not None:
            error = min(max(kl / self._target - 1, -0.2), 0.2)
            self.coefficient *= 1 + error * answers / self._horizon


class OnlineBatches(ABC):
    """The trainer's batches: minibatches of the current rollout; when it is used up, a new one from the policy as is.

    Sampling and shuffling are functions of (seed, iteration), so the state is the iteration, the price of KL, and the
    rollout while it is in use.

    Attributes:
        statistics: of the current iteration's rollout.
    """

    def __init__(
        self, config: OnlineConfig, policy: Decoder, reference: Reference, reward: Reward, tokenizer: Tokenizer,
        prompts: Sequence[str | Turns], *, samples: int = 1,
    ) -> None:  # fmt: skip
        self._config, self._policy, self._reference, self._reward = config, policy, reference, reward
        self._tokenizer, self._prompts, self._samples = tokenizer, prompts, samples
        self._control = KLControl(config.kl_coefficient, config.kl_target, config.kl_horizon)
        self._iteration, self._update = 0, config.updates
        self._rollout: Rollout | None = None
        self.statistics: dict[str, float] = {}

    @abstractmethod
    def _with_advantages(
        self, answers: Sequence[Answer], ids_BS: Tensor, mask_BT: Tensor, found: Mapping[str, Tensor], final_B: Tensor
    ) -> tuple[Rollout, dict[str, float]]:
        """The rollout of sampled answers with their advantages, and statistics of the method's own.

        Args:
            found: what `compare` gives.
            final_B: the score of each answer, less what being cut off costs.
        """

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Rollout:
        if self._update == self._config.updates:
            self._collect()
        assert self._rollout is not None
        epoch, place = divmod(self._update, self._config.minibatches)
        self._update += 1
        generator = numpy_generator(self._config.seed, "minibatches", self._iteration, epoch)
        order = torch.from_numpy(self._order(generator))
        return self._rollout.select(order.chunk(self._config.minibatches)[place])

    def _order(self, generator: np.random.Generator) -> np.ndarray:
        """The answers in the order of one pass; those to one prompt together, so that it is read once."""
        prompts = generator.permutation(self._config.rollouts // self._samples)
        return (prompts[:, None] * self._samples + np.arange(self._samples)).reshape(-1)

    @torch.no_grad()
    def _collect(self) -> None:
        config, policy = self._config, self._policy
        self._iteration, self._update = self._iteration + 1, 0
        policy.eval()
        answers = sample_answers(
            policy, self._tokenizer, self._draw_prompts(), temperature=config.temperature, samples=self._samples,
            max_new_tokens=config.max_new_tokens, seed=derive_seed(config.seed, "rollout", self._iteration),
        )  # fmt: skip
        pad_id, device = policy.config.pad_token_id, policy.embedding.weight.device
        assert pad_id is not None
        ids_BS, mask_BT = (tensor.to(device) for tensor in as_sequences(answers, pad_id))
        found, divergence = self._compare(answers, ids_BS, mask_BT)
        scores = rewards_of(self._reward, answers)
        cut_off = torch.tensor([not one.ended for one in answers])
        final_B = (torch.from_numpy(scores) - config.cut_off_penalty * cut_off).to(device)
        self._rollout, own = self._with_advantages(answers, ids_BS, mask_BT, found, final_B)
        self.statistics = {
            "iteration": self._iteration,
            **describe_answers(answers, scores, config.gold),
            "reward": float(self._rollout.rewards_BT.sum()) / len(answers),
            "kl_coefficient": self._control.coefficient,
            **divergence,
            **own,
        }
        if divergence:
            self._control.update(divergence["kl"], len(answers))

    def _compare(
        self, answers: Sequence[Answer], ids_BS: Tensor, mask_BT: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """What policy and reference make of the answers, and what it comes to on average.

        Between whole comparisons the sampler's log-probabilities are the policy's, and the reference is asked for those
        of the answers' tokens alone, where divergence has a price, else for nothing.
        """
        config = self._config
        whole = (self._iteration - 1) % config.compare_every == 0 or self._iteration == config.iterations
        if whole:
            found = compare(self._policy, self._reference, ids_BS, mask_BT, config.temperature)
        else:
            sampled = torch.from_numpy(np.concatenate([one.logprobs for one in answers])).to(ids_BS.device)
            logprobs_BT = scatter(sampled, mask_BT)
            if not config.kl_coefficient:
                return {"logprobs": logprobs_BT, "reference_logprobs": logprobs_BT}, {}
            expected_BT = logprobs_under(self._reference, ids_BS, mask_BT, config.temperature)
            found = {"logprobs": logprobs_BT, "reference_logprobs": expected_BT}
        estimated = losses.masked_sum(losses.kl(found["logprobs"], found["reference_logprobs"]), mask_BT)
        divergence = {"kl": float(estimated) / len(answers)}
        if not whole:
            return found, divergence
        return found, divergence | {
            "kl_exact": float(found["kl"].sum()) / len(answers),
            "entropy": float(losses.masked_mean(found["entropy"], mask_BT)),
            "sampler_gap": sampler_gap(answers, found["logprobs"], mask_BT),
        }

    def _kl_penalty(self, found: Mapping[str, Tensor]) -> Tensor:
        """The price of each token's divergence, (B, T), as a reward: at most 0 on average."""
        return -self._control.coefficient * losses.kl(found["logprobs"], found["reference_logprobs"])

    def _draw_prompts(self) -> list[str | Turns]:
        """The iteration's prompts: the next ones of an endless walk, each pass over them in an order of its own."""
        wanted = self._config.rollouts // self._samples
        first = (self._iteration - 1) * wanted
        drawn: list[str | Turns] = []
        order, epoch_now = np.zeros(0, np.int64), -1
        for index in range(first, first + wanted):
            epoch, place = divmod(index, len(self._prompts))
            if epoch != epoch_now:
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


def add_at_the_end(rewards_BT: Tensor, mask_BT: Tensor, final_B: Tensor) -> Tensor:
    """Rewards with `final_B` added at each answer's last token."""
    last_B = mask_BT.long().cumsum(dim=1).argmax(dim=1)
    return rewards_BT.index_put((torch.arange(len(final_B)), last_B), final_B.to(rewards_BT), accumulate=True)


def sampler_gap(answers: Sequence[Answer], logprobs_BT: Tensor, mask_BT: Tensor) -> float:
    """Largest difference between the sampler's log-probabilities and the update's: rounding, or something is wrong."""
    sampled = torch.cat([torch.from_numpy(one.logprobs) for one in answers])
    return float((sampled - logprobs_BT[mask_BT].cpu()).abs().max())
