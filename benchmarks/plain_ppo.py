"""An iteration of PPO as people write it in plain PyTorch around transformers' `generate`: what TRL's PPO trainer did
before it was removed, without its bookkeeping.

Answers are sampled from left-padded prompts, a frozen copy is the reference, a second body with a head of one output is
the value model; policy, reference and value model are run once over all answers, advantages are GAE's with the price of
divergence at each token, and one update is made in micro-batches.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_ROWS = 32  # of a micro-batch
_PRICE, _LAMBDA, _CLIP, _VALUE_WEIGHT = 0.03, 0.95, 0.2, 0.1


def plain_ppo(folder: Path, questions: Sequence[str], answers: int, new: int) -> Callable[[], object]:
    """A step: one iteration over the next `answers` questions, with rewards by length."""
    from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    policy: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    reference = copy.deepcopy(policy).eval().requires_grad_(False)
    body = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    head = torch.nn.Linear(body.config.hidden_size, 1)
    trained = [*policy.parameters(), *body.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, weight_decay=0.0)
    asked = _endless(questions)

    def step() -> None:
        texts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": next(asked)}], tokenize=False, add_generation_prompt=True
            )
            for _ in range(answers)
        ]
        prompts = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.no_grad():
            policy.eval()
            ids: Tensor = policy.generate(
                **prompts, max_new_tokens=new, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
            width = prompts["input_ids"].shape[1]
            said = ids[:, width:]
            ended = (said == tokenizer.eos_token_id).cumsum(1)
            mask = ((ended == 0) | ((said == tokenizer.eos_token_id) & (ended == 1))).float()
            attention = torch.cat([prompts["attention_mask"], mask.long()], dim=1)
            old, theirs, values = (
                torch.cat([one(*part, width) for part in zip(ids.split(_ROWS), attention.split(_ROWS), strict=True)])
                for one in (_logprobs(policy), _logprobs(reference), _values(body, head))
            )
            rewards = -_PRICE * (old - theirs) * mask
            lengths = [float(len(text)) for text in tokenizer.batch_decode(said, skip_special_tokens=True)]
            rewards[torch.arange(len(ids)), mask.sum(1).long() - 1] += torch.tensor(lengths)
            advantages, returns = _advantages(rewards, values * mask, mask)
        policy.train()
        for rows in torch.arange(len(ids)).split(_ROWS):
            new_logprobs = _logprobs(policy)(ids[rows], attention[rows], width)
            new_values, kept = _values(body, head)(ids[rows], attention[rows], width), mask[rows]
            ratio = (new_logprobs - old[rows]).exp()
            gain = torch.minimum(ratio * advantages[rows], ratio.clamp(1 - _CLIP, 1 + _CLIP) * advantages[rows])
            clipped = values[rows] + (new_values - values[rows]).clamp(-_CLIP, _CLIP)
            errors = torch.maximum((new_values - returns[rows]) ** 2, (clipped - returns[rows]) ** 2)
            loss = (-gain + _VALUE_WEIGHT * 0.5 * errors) * kept
            (loss.sum() / mask.sum()).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _endless(questions: Sequence[str]) -> Iterator[str]:
    while True:
        yield from questions


def _logprobs(model: Any) -> Callable[[Tensor, Tensor, int], Tensor]:
    def of(ids: Tensor, attention: Tensor, width: int) -> Tensor:
        kept = ids.shape[1] - width + 1  # transformers computes no logits before the answer's first
        logits = model(input_ids=ids, attention_mask=attention, position_ids=_positions(attention),
                       logits_to_keep=kept).logits[:, :-1]  # fmt: skip
        return logits.log_softmax(-1).gather(-1, ids[:, width:, None])[..., 0]

    return of


def _values(body: Any, head: torch.nn.Module) -> Callable[[Tensor, Tensor, int], Tensor]:
    def of(ids: Tensor, attention: Tensor, width: int) -> Tensor:
        found = body(input_ids=ids, attention_mask=attention, position_ids=_positions(attention)).last_hidden_state
        values: Tensor = head(found[:, width - 1 : -1])[..., 0]
        return values

    return of


def _positions(attention: Tensor) -> Tensor:
    return (attention.cumsum(1) - 1).clamp(min=0)


def _advantages(rewards: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation, whitened, and the returns."""
    last, found = torch.zeros(len(rewards)), []
    for place in reversed(range(rewards.shape[1])):
        following = values[:, place + 1] if place + 1 < rewards.shape[1] else torch.zeros(len(rewards))
        last = rewards[:, place] + following - values[:, place] + _LAMBDA * last
        found.append(last)
    advantages = torch.stack(found[::-1], dim=1) * mask
    mean = advantages.sum() / mask.sum()
    deviation = (((advantages - mean) ** 2 * mask).sum() / mask.sum()).sqrt()
    return (advantages - mean) / (deviation + 1e-8) * mask, advantages + values
