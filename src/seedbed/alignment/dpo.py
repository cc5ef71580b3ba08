"""Learning from pairs without a reward model: DPO (Rafailov et al. 2023) and its kin.

The reference's log-probabilities are computed once, before training; a prompt is read once for both its answers.
B pairs, T tokens, N answer tokens, C model width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..core.config import Config
from ..core.errors import ConfigError
from ..datasets.preferences import EncodedPreferences
from ..datasets.shared_prompts import AnswerBatch, SharedPromptBatches
from ..finetuning import LoRAConfig
from ..models import Decoder
from ..training import TrainerConfig
from . import losses
from .answer_states import can_share
from .rewards import GoldConfig

_LOGITS_AT_A_TIME = 1 << 24  # numbers; more are made again in the backward pass, a block at a time
_TOKENS_AT_A_TIME = 2048  # a piece of a batch: enough to keep the processor busy, few enough to be of one length
_PAIRS_AT_A_TIME = 128

Kind = Literal["dpo", "ipo", "kto", "orpo", "simpo"]


class DPOConfig(Config):
    """How a policy learns from pairs, or (kto) from labelled answers. `label_smoothing` above 0 makes dpo cDPO."""

    loss: Kind = "dpo"
    beta: float = Field(0.1, gt=0, description="strength of the pull to the reference; of simpo and orpo the scale")
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="dpo: share of wrong labels to reckon with")
    margin: float = Field(0.5, ge=0, description="simpo: what the chosen answer must be ahead by")
    desirable_weight: float = Field(1.0, gt=0, description="kto: weight of good answers")
    undesirable_weight: float = Field(1.0, gt=0, description="kto: weight of the others")
    imitation: float = Field(
        0.0, ge=0, description="weight of the chosen answer's cross-entropy per token; orpo's is 1"
    )
    training: TrainerConfig = TrainerConfig(
        steps=100, batch_size=32, learning_rate=1e-4, optimizer="adamw", weight_decay=0.0, warmup_fraction=0.1,
        decay_fraction=0.9, checkpoint_every=50,
    )  # fmt: skip
    adapter: LoRAConfig | None = Field(None, description="train a LoRA adapter")
    held_out_share: float = Field(0.1, gt=0, lt=1, description="of the pairs, by prompt")
    temperature: float = Field(1.0, gt=0, description="of the answers that the policy is judged by")
    max_new_tokens: int = Field(48, ge=1, description="longest of these answers")
    evaluation_prompts: int = Field(100, ge=1, description="held-out questions answered before and after")
    evaluation_samples: int = Field(2, ge=1, description="answers to each")
    gold: GoldConfig = GoldConfig()
    seed: int = 0

    @model_validator(mode="after")
    def _known_to_the_loss(self) -> Self:
        if self.label_smoothing and self.loss != "dpo":
            raise ValueError(f"label_smoothing is dpo's, not {self.loss}'s")
        return self

    @property
    def needs_reference(self) -> bool:
        return self.loss in ("dpo", "ipo", "kto")


def answer_logprobs(model: Decoder, batch: AnswerBatch) -> tuple[Tensor, Tensor]:
    """Summed log-probabilities (B, 2) of both answers of each row, and their numbers of tokens (B, 2)."""
    rows_N, sources_N, columns_N, sides_N = batch.predictions()
    hidden_BTC = model.hidden(batch.ids_BT, batch.positions_BT, batch.mask_B1TT)
    logprobs_N = _token_logprobs(model, hidden_BTC[rows_N, sources_N], batch.ids_BT[rows_N, columns_N])
    owner_N = rows_N * 2 + sides_N
    sums = logprobs_N.new_zeros(2 * len(batch)).index_add(0, owner_N, logprobs_N)
    counts = torch.bincount(owner_N, minlength=2 * len(batch))
    return sums.view(-1, 2), counts.view(-1, 2)


def _token_logprobs(model: Decoder, hidden_NC: Tensor, targets_N: Tensor) -> Tensor:
    def of(hidden: Tensor, targets: Tensor) -> Tensor:
        logits = model.head(hidden).float()
        return logits.gather(-1, targets[:, None])[:, 0] - logits.logsumexp(-1)

    rows = max(1, _LOGITS_AT_A_TIME // model.config.vocab_size)
    if len(hidden_NC) <= rows:
        return of(hidden_NC, targets_N)
    parts = zip(hidden_NC.split(rows), targets_N.split(rows), strict=True)
    return torch.cat([checkpoint(of, hidden, targets, use_reentrant=False) for hidden, targets in parts])


@torch.no_grad()
def reference_logprobs(reference: Decoder, pairs: EncodedPreferences, pad_id: int) -> np.ndarray:
    """What the reference makes of all answers, float32 (pairs, 2): computed once, and never again in training."""
    require_shareable(reference)
    reference.eval()
    device, found = reference.embedding.weight.device, []
    for batch in SharedPromptBatches(pairs, _PAIRS_AT_A_TIME, pad_id).once():
        sums = torch.zeros(len(batch), 2)
        for rows, piece in batch.by_length(_TOKENS_AT_A_TIME):
            sums[rows] = answer_logprobs(reference, piece.to(device))[0].cpu()
        found.append(sums.numpy())
    return np.concatenate(found)


def require_shareable(model: Decoder) -> None:
    """Raise ConfigError if `model` sees by columns, not by positions, so that answers cannot share a row."""
    config = model.config
    if not can_share(model):
        what = "a sliding window" if config.window else f"positions of kind '{config.positions}'"
        raise ConfigError(f"learning from pairs does not serve models with {what}", where="model")


class LabelledBatches:
    """Batches of labelled answers that know their reference point (Ethayarajh et al. 2024, section 4.1): how far the
    policy, as it is when a batch is drawn, is from its reference where nothing was asked for, measured on answers to
    other prompts.

    It is a mean over the batch, so it is taken before that is cut into micro-batches; those hold its own answers alone.
    """

    def __init__(self, batches: SharedPromptBatches, policy: Decoder) -> None:
        self._batches, self._policy = batches, policy

    def __iter__(self) -> Self:
        return self

    @torch.no_grad()
    def __next__(self) -> AnswerBatch:
        policy, batch = self._policy.eval(), next(self._batches)
        device = policy.embedding.weight.device
        total = torch.zeros(())
        for rows, piece in batch.of_side(1).by_length(_TOKENS_AT_A_TIME):
            found = answer_logprobs(policy, piece.to(device))[0][:, 1].cpu()
            total += (found - batch.reference_B2[rows, 1]).sum()
        divergence = (total / len(batch)).clamp(min=0)
        return replace(batch.of_side(0), divergence_B=divergence.expand(len(batch)))

    def state_dict(self) -> dict[str, Any]:
        return self._batches.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._batches.load_state_dict(state)


class DPOObjective:
    """The config's loss in sums over pairs, with what it does to either answer."""

    def __init__(self, config: DPOConfig) -> None:
        self._config = config

    def loss(self, model: nn.Module, batch: AnswerBatch) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
        assert isinstance(model, Decoder)
        config = self._config
        pieces = [(rows, *answer_logprobs(model, piece)) for rows, piece in batch.by_length(_TOKENS_AT_A_TIME)]
        order = torch.cat([rows for rows, _, _ in pieces]).argsort()
        sums_B2, counts_B2 = (torch.cat([piece[place] for piece in pieces])[order] for place in (1, 2))
        means_B2, reference_B2 = sums_B2 / counts_B2.clamp(min=1), batch.reference_B2
        total = self._pair_loss(sums_B2, means_B2, counts_B2, batch)
        imitation = config.imitation + (config.loss == "orpo")
        if imitation:
            total = total - imitation * means_B2[:, 0].sum()
        return total, torch.tensor(float(len(batch))), self._statistics(sums_B2.detach(), reference_B2, batch)

    def _pair_loss(self, sums_B2: Tensor, means_B2: Tensor, counts_B2: Tensor, batch: AnswerBatch) -> Tensor:
        config, reference_B2 = self._config, batch.reference_B2
        (chosen_B, rejected_B), (reference_chosen_B, reference_rejected_B) = sums_B2.unbind(1), reference_B2.unbind(1)
        chosen_mean_B, rejected_mean_B = means_B2.unbind(1)
        if config.loss == "dpo":
            return losses.dpo(
                chosen_B, rejected_B, reference_chosen_B, reference_rejected_B, config.beta, config.label_smoothing, 1
            )
        if config.loss == "ipo":
            references = (reference_B2 / counts_B2.clamp(min=1)).unbind(1)
            return losses.ipo(chosen_mean_B, rejected_mean_B, references[0], references[1], config.beta, 1)
        if config.loss == "orpo":
            return losses.orpo(chosen_mean_B, rejected_mean_B, config.beta, 1)
        if config.loss == "simpo":
            return losses.simpo(chosen_mean_B, rejected_mean_B, config.beta, config.margin, 1)
        return losses.kto(
            sums_B2[:, 0], reference_B2[:, 0], batch.desirable_B, batch.divergence_B, config.beta,
            config.desirable_weight, config.undesirable_weight, denominator=1,
        )  # fmt: skip

    def _statistics(self, sums_B2: Tensor, reference_B2: Tensor, batch: AnswerBatch) -> dict[str, Tensor]:
        """Implicit rewards of both sides and which is ahead, and the chosen answer's log-probability, which may fall
        although the margin grows; of labelled answers their own."""
        rewards_B2 = self._config.beta * (sums_B2 - reference_B2)
        if self._config.loss == "kto":
            signs_B = torch.where(batch.desirable_B, 1.0, -1.0)
            return {
                "reward": rewards_B2[:, 0].sum(),
                "signed_reward": (signs_B * rewards_B2[:, 0]).sum(),
                "divergence": batch.divergence_B.sum(),
            }
        margin_B = rewards_B2[:, 0] - rewards_B2[:, 1]
        return {
            "accuracy": (margin_B > 0).float().sum(),
            "margin": margin_B.sum(),
            "chosen_reward": rewards_B2[:, 0].sum(),
            "rejected_reward": rewards_B2[:, 1].sum(),
            "chosen_logprob": sums_B2[:, 0].sum(),
            "rejected_logprob": sums_B2[:, 1].sum(),
        }


def dpo_metrics(
    model: Decoder, pairs: EncodedPreferences, reference: np.ndarray, beta: float, pad_id: int
) -> dict[str, Any]:
    """`accuracy`, `margin` and `chosen_gain` (nats per answer, against the reference) of held-out pairs."""
    gains = reference_logprobs(model, pairs, pad_id) - reference
    margins = beta * (gains[:, 0] - gains[:, 1])
    return {
        "pairs": len(pairs),
        "accuracy": float((margins > 0).mean()),
        "margin": float(margins.mean()),
        "chosen_gain": float(gains[:, 0].mean()),
    }
