"""Answers sampled from a policy, and what an update has to know about them: one record for PPO, GRPO and their kin.

Legend: B sequences, S tokens of the longest one, T = S - 1 predictions: column t is about token t + 1. N answer tokens
of all sequences in row order, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..core.errors import DataError
from ..datasets.instructions import Turns, encode_prompt
from ..datasets.preferences import pad_right
from ..finetuning.adapters import disable_adapter, has_adapter, merge_adapter
from ..generation import Engine, Sampling
from ..models import Decoder
from . import losses
from .answer_states import answer_states
from .rewards import GoldConfig, gold_parts, gold_reward

if TYPE_CHECKING:
    from ..tokenizers import Tokenizer

M = TypeVar("M", bound=nn.Module)

_PROMPTS_AT_A_TIME = 128
_ROWS_AT_A_TIME = 64


@dataclass(frozen=True)
class Answer:
    """One sampled answer. `ids` end with the end-of-turn token if the answer `ended` by itself."""

    prompt: str | Turns
    prompt_ids: np.ndarray
    ids: np.ndarray
    text: str
    ended: bool
    logprobs: np.ndarray  # of `ids`, as the sampler saw them

    @property
    def sequence(self) -> np.ndarray:
        return np.concatenate([self.prompt_ids, self.ids])

    @property
    def question(self) -> str:
        """The last thing that the user said."""
        return self.prompt if isinstance(self.prompt, str) else self.prompt[-1][1]

    def gold(self, config: GoldConfig) -> dict[str, float]:
        """The gold reward's parts and `gold`, their mean."""
        parts = gold_parts(self.question, self.text, self.ended, config)
        return parts | {"gold": gold_reward(parts)}


# What an answer is worth: float (n,) of n answers. See `rewards_of`.
Reward = Callable[[Sequence[Answer]], np.ndarray]


def rewards_of(reward: Reward, answers: Sequence[Answer]) -> np.ndarray:
    """The reward of each answer, float32 (n,), checked.

    Raises:
        DataError: the reward raised, or gave something else than one finite number per answer; names the answer.
    """
    name = getattr(reward, "__name__", type(reward).__name__)
    try:
        values = np.asarray(reward(answers), dtype=np.float32)
    except DataError:
        raise
    except Exception as error:  # a user's own function may raise anything
        raise DataError(f"the reward '{name}' raised {type(error).__name__}: {error}") from error
    if values.shape != (len(answers),):
        raise DataError(f"the reward '{name}' gave shape {values.shape} for {len(answers)} answers")
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise DataError(
            f"the reward '{name}' is {values[row]} for answer {row}, {answers[row].text[:60]!r}",
            hint="A reward is a finite number.",
        )
    return values


def sample_answers(
    model: Decoder,
    tokenizer: Tokenizer,
    prompts: Sequence[str | Turns],
    *,
    temperature: float,
    max_new_tokens: int,
    seed: int,
    samples: int = 1,
) -> list[Answer]:
    """`samples` answers per prompt, side by side, from the whole distribution at `temperature` (no top-k or top-p: an
    update needs its density).

    Prompts that leave no room for an answer are cut on the left; one that comes several times is read once. The same
    seed gives the same answers.
    """
    end_id, room = model.config.eos_token_id, model.config.context_length - max_new_tokens
    if end_id is None or room < 1:
        raise DataError(
            "the model does not say how an answer ends" if end_id is None
            else f"answers of {max_new_tokens} tokens leave no room for a prompt in {model.config.context_length}",
            where="eos_token_id" if end_id is None else "max_new_tokens",
        )  # fmt: skip
    encoded = {prompt: encode_prompt(tokenizer, prompt)[-room:] for prompt in prompts}
    engine = Engine(as_sampled(model), tokenizer, eos_token_ids=(end_id,), batch_size=_PROMPTS_AT_A_TIME)
    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens, seed=seed)
    generations = engine.generate([encoded[prompt] for prompt in prompts], sampling, samples=samples)
    asked = (prompt for prompt in prompts for _ in range(samples))
    return [
        Answer(prompt, encoded[prompt], one.ids, one.text, one.finish_reason == "stop", one.logprobs)
        for prompt, one in zip(asked, generations, strict=True)
    ]


def as_sampled(model: Decoder) -> Decoder:
    """The model itself, or with an adapter a plain copy with the adapter merged in: that is what decodes fast."""
    return merge_adapter(copy.deepcopy(model), dequantize=True) if has_adapter(model) else model


class Reference:
    """Where a policy began: itself with the adapter off, or without an adapter a frozen copy of it as it is now."""

    def __init__(self, policy: Decoder) -> None:
        self._policy = policy
        self._frozen = None if has_adapter(policy) else freeze(copy.deepcopy(policy))

    @contextmanager
    def model(self) -> Iterator[Decoder]:
        """The reference, for as long as one is within."""
        if self._frozen is not None:
            yield self._frozen
            return
        with disable_adapter(self._policy):
            yield self._policy


@dataclass(frozen=True)
class Rollout:
    """One record for the whole of reinforcement learning: everything an update needs, (B, ...) tensors.

    Without a value model `values_BT` and `returns_BT` are None.
    """

    ids_BS: Tensor  # int64, prompt and answer, right-padded
    mask_BT: Tensor  # bool: the predicted token belongs to the answer
    logprobs_BT: Tensor
    reference_logprobs_BT: Tensor
    rewards_BT: Tensor  # the KL penalty at each token, and the score at the last
    advantages_BT: Tensor
    values_BT: Tensor | None = None
    returns_BT: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids_BS)

    def select(self, rows: Tensor) -> Rollout:
        """Some rows, without the columns that only longer rows use."""
        used = self.mask_BT[rows].any(dim=0).nonzero()
        width = int(used.max()) + 1 if len(used) else 1
        return Rollout(**{
            name: tensor[rows, : width + (name == "ids_BS")] for name, tensor in self.state_dict().items()
        })  # fmt: skip

    def split(self, parts: int) -> list[Rollout]:
        return [self.select(rows) for rows in torch.arange(len(self)).chunk(parts)]

    def to(self, device: torch.device | str) -> Rollout:
        return Rollout(**{name: tensor.to(device) for name, tensor in self.state_dict().items()})

    def state_dict(self) -> dict[str, Tensor]:
        return {one.name: value for one in fields(self) if (value := getattr(self, one.name)) is not None}


def as_sequences(answers: Sequence[Answer], pad_id: int) -> tuple[Tensor, Tensor]:
    """Ids (B, S) and the mask (B, T) of the predictions that are answer tokens."""
    ids_BS = pad_right([one.sequence for one in answers], pad_id)
    starts = torch.tensor([len(one.prompt_ids) for one in answers])[:, None] - 1
    ends = starts + torch.tensor([len(one.ids) for one in answers])[:, None]
    columns = torch.arange(ids_BS.shape[1] - 1)[None]
    return ids_BS, (columns >= starts) & (columns < ends)


def answer_logits(model: Decoder, ids_BS: Tensor, mask_BT: Tensor, temperature: float) -> Tensor:
    """Logits (N, V), divided by the sampling temperature, of the answer tokens alone: the head is not run elsewhere."""
    logits = model.head(answer_states(model, ids_BS, mask_BT)).float()
    return logits if temperature == 1 else logits / temperature


def token_logprobs(logits_NV: Tensor, ids_BS: Tensor, mask_BT: Tensor) -> Tensor:
    """Log-probabilities (B, T) of the answer tokens; 0 elsewhere."""
    taken_N = logits_NV.log_softmax(-1).gather(-1, ids_BS[:, 1:][mask_BT][:, None])[:, 0]
    return scatter(taken_N, mask_BT)


def scatter(values_N: Tensor, mask_BT: Tensor) -> Tensor:
    """Values of the unmasked positions put in their places in (B, T); 0 elsewhere."""
    return values_N.new_zeros(mask_BT.shape).masked_scatter(mask_BT, values_N)


@torch.no_grad()
def compare(
    policy: Decoder, reference: Reference, ids_BS: Tensor, mask_BT: Tensor, temperature: float
) -> dict[str, Tensor]:
    """`logprobs`, `reference_logprobs`, exact `kl` and `entropy` of the policy at each answer token, all (B, T)."""
    found: dict[str, list[Tensor]] = {name: [] for name in ("logprobs", "reference_logprobs", "kl", "entropy")}
    for ids, mask in zip(ids_BS.split(_ROWS_AT_A_TIME), mask_BT.split(_ROWS_AT_A_TIME), strict=True):
        logits = answer_logits(policy, ids, mask, temperature)
        with reference.model() as model:
            reference_logits = answer_logits(model, ids, mask, temperature)
        found["logprobs"].append(token_logprobs(logits, ids, mask))
        found["reference_logprobs"].append(token_logprobs(reference_logits, ids, mask))
        found["kl"].append(scatter(losses.kl_exact(logits, reference_logits), mask))
        found["entropy"].append(scatter(losses.entropy(logits), mask))
    return {name: torch.cat(parts) for name, parts in found.items()}


@torch.no_grad()
def logprobs_under(reference: Reference, ids_BS: Tensor, mask_BT: Tensor, temperature: float) -> Tensor:
    """Log-probabilities of the answers' tokens alone, (B, T)."""
    found = []
    for ids, mask in zip(ids_BS.split(_ROWS_AT_A_TIME), mask_BT.split(_ROWS_AT_A_TIME), strict=True):
        with reference.model() as model:
            found.append(token_logprobs(answer_logits(model, ids, mask, temperature), ids, mask))
    return torch.cat(found)


def mean_of(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Column means of rows with the same keys."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def describe_answers(answers: Sequence[Answer], scores: np.ndarray, gold: GoldConfig) -> dict[str, Any]:
    """Means over answers: the gold reward and its parts, `proxy` (what is trained on), `tokens` of an answer, `ended`,
    `distinct`.

    `distinct` is the share of different texts when what was asked is blanked out: it falls when a policy has found one
    answer for everything.
    """
    blanked = {answer.text.replace(_subject(answer.question), "") for answer in answers}
    return {
        **mean_of([answer.gold(gold) for answer in answers]),
        "proxy": float(scores.mean()),
        "tokens": float(np.mean([len(answer.ids) for answer in answers])),
        "ended": float(np.mean([answer.ended for answer in answers])),
        "distinct": len(blanked) / len(answers),
    }


def _subject(prompt: str) -> str:
    return prompt.split("`")[1] if prompt.count("`") >= 2 else prompt


def freeze(model: M) -> M:
    """The model in evaluation mode, without gradients."""
    return model.eval().requires_grad_(False)
