"""Answers sampled from a policy, and what PPO has to know about them.

Legend: B sequences, S tokens of the longest one, T = S - 1 predictions: column t is about token t + 1. N answer tokens
of all sequences in row order, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..datasets.instructions import encode_prompt
from ..datasets.preferences import pad_right
from ..generation import Engine, Sampling
from ..models import Decoder
from . import losses
from .rewards import GoldConfig, gold_parts, gold_reward

if TYPE_CHECKING:
    from ..tokenizers import Tokenizer

_PROMPTS_AT_A_TIME = 128
_ROWS_AT_A_TIME = 64


@dataclass(frozen=True)
class Answer:
    """One sampled answer. `ids` end with the end-of-turn token if the answer `ended` by itself."""

    prompt: str
    prompt_ids: np.ndarray
    ids: np.ndarray
    text: str
    ended: bool
    logprobs: np.ndarray  # of `ids`, as the sampler saw them

    @property
    def sequence(self) -> np.ndarray:
        return np.concatenate([self.prompt_ids, self.ids])

    def gold(self, config: GoldConfig) -> dict[str, float]:
        """The gold reward's parts and `gold`, their mean."""
        parts = gold_parts(self.prompt, self.text, self.ended, config)
        return parts | {"gold": gold_reward(parts)}


def sample_answers(
    model: Decoder,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    *,
    temperature: float,
    max_new_tokens: int,
    seed: int,
) -> list[Answer]:
    """One answer per prompt from the whole distribution at `temperature` (no top-k or top-p: PPO needs its density).

    Prompts that leave no room for an answer are cut on the left; one that comes several times is read once. The same
    seed gives the same answers.
    """
    end_id, room = model.config.eos_token_id, model.config.context_length - max_new_tokens
    assert end_id is not None
    encoded = {prompt: encode_prompt(tokenizer, prompt)[-room:] for prompt in prompts}
    engine = Engine(model, tokenizer, eos_token_ids=(end_id,), batch_size=_PROMPTS_AT_A_TIME)
    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens, seed=seed)
    generations = engine.generate([encoded[prompt] for prompt in prompts], sampling)
    return [
        Answer(prompt, encoded[prompt], one.ids, one.text, one.finish_reason == "stop", one.logprobs)
        for prompt, one in zip(prompts, generations, strict=True)
    ]


@dataclass(frozen=True)
class Rollout:
    """One record for the whole of reinforcement learning: everything an update needs, (B, ...) tensors."""

    ids_BS: Tensor  # int64, prompt and answer, right-padded
    mask_BT: Tensor  # bool: the predicted token belongs to the answer
    logprobs_BT: Tensor
    reference_logprobs_BT: Tensor
    values_BT: Tensor
    rewards_BT: Tensor  # the KL penalty at each token, and the score at the last
    advantages_BT: Tensor
    returns_BT: Tensor

    def __len__(self) -> int:
        return len(self.ids_BS)

    def select(self, rows: Tensor) -> Rollout:
        """Some rows, without the columns that only longer rows use."""
        width = int(self.mask_BT[rows].any(dim=0).nonzero().max()) + 1
        return Rollout(**{
            name: tensor[rows, : width + (name == "ids_BS")] for name, tensor in self.state_dict().items()
        })  # fmt: skip

    def split(self, parts: int) -> list[Rollout]:
        return [self.select(rows) for rows in torch.arange(len(self)).chunk(parts)]

    def to(self, device: torch.device | str) -> Rollout:
        return Rollout(**{name: tensor.to(device) for name, tensor in self.state_dict().items()})

    def state_dict(self) -> dict[str, Tensor]:
        return {one.name: getattr(self, one.name) for one in fields(self)}


def as_sequences(answers: Sequence[Answer], pad_id: int) -> tuple[Tensor, Tensor]:
    """Ids (B, S) and the mask (B, T) of the predictions that are answer tokens."""
    ids_BS = pad_right([one.sequence for one in answers], pad_id)
    starts = torch.tensor([len(one.prompt_ids) for one in answers])[:, None] - 1
    ends = starts + torch.tensor([len(one.ids) for one in answers])[:, None]
    columns = torch.arange(ids_BS.shape[1] - 1)[None]
    return ids_BS, (columns >= starts) & (columns < ends)


def answer_logits(model: Decoder, ids_BS: Tensor, mask_BT: Tensor, temperature: float) -> Tensor:
    """Logits (N, V), divided by the sampling temperature, of the answer tokens alone: the head is not run elsewhere."""
    return model.head(model.hidden(ids_BS[:, :-1])[mask_BT]).float() / temperature


def token_logprobs(logits_NV: Tensor, ids_BS: Tensor, mask_BT: Tensor) -> Tensor:
    """Log-probabilities (B, T) of the answer tokens; 0 elsewhere."""
    taken_N = logits_NV.log_softmax(-1).gather(-1, ids_BS[:, 1:][mask_BT][:, None])[:, 0]
    return scatter(taken_N, mask_BT)


def scatter(values_N: Tensor, mask_BT: Tensor) -> Tensor:
    """Values of the unmasked positions put in their places in (B, T); 0 elsewhere."""
    return values_N.new_zeros(mask_BT.shape).masked_scatter(mask_BT, values_N)


@torch.no_grad()
def compare(
    policy: Decoder, reference: Decoder, ids_BS: Tensor, mask_BT: Tensor, temperature: float
) -> dict[str, Tensor]:
    """`logprobs`, `reference_logprobs`, exact `kl` and `entropy` of the policy at each answer token, all (B, T)."""
    found: dict[str, list[Tensor]] = {name: [] for name in ("logprobs", "reference_logprobs", "kl", "entropy")}
    for ids, mask in zip(ids_BS.split(_ROWS_AT_A_TIME), mask_BT.split(_ROWS_AT_A_TIME), strict=True):
        logits, reference_logits = (answer_logits(model, ids, mask, temperature) for model in (policy, reference))
        found["logprobs"].append(token_logprobs(logits, ids, mask))
        found["reference_logprobs"].append(token_logprobs(reference_logits, ids, mask))
        found["kl"].append(scatter(losses.kl_exact(logits, reference_logits), mask))
        found["entropy"].append(scatter(losses.entropy(logits), mask))
    return {name: torch.cat(parts) for name, parts in found.items()}


def mean_of(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Column means of rows with the same keys."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def describe_answers(answers: Sequence[Answer], scores: np.ndarray, gold: GoldConfig) -> dict[str, Any]:
    """Means over answers: the gold reward and its parts, `proxy` (the reward model), `tokens` of an answer, `distinct`.

    `distinct` is the share of different texts when what was asked is blanked out: it falls when a policy has found one
    answer for everything.
    """
    blanked = {answer.text.replace(_subject(answer.prompt), "") for answer in answers}
    return {
        **mean_of([answer.gold(gold) for answer in answers]),
        "proxy": float(scores.mean()),
        "tokens": float(np.mean([len(answer.ids) for answer in answers])),
        "distinct": len(blanked) / len(answers),
    }


def _subject(prompt: str) -> str:
    return prompt.split("`")[1] if prompt.count("`") >= 2 else prompt


def freeze(model: nn.Module) -> nn.Module:
    """The model in evaluation mode, without gradients."""
    return model.eval().requires_grad_(False)
