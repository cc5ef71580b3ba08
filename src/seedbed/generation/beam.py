"""Beam search: the few likeliest beginnings are kept at every step, for decoders and encoder-decoders.

K beams, V vocabulary, S source tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..core.errors import ConfigError, DataError
from ..models import Decoder, EncoderDecoder, KeyValueCache
from .steps import TorchStep


@dataclass(frozen=True)
class Beam:
    """One answer: its ids, int64 (n,), with the token that ended it, their summed log-probability, and the score that
    beams are ranked by: logprob / n^length_penalty (Wu et al. 2016, section 7, without its constants)."""

    ids: np.ndarray
    logprob: float
    score: float


# Logits (B, V) behind a step's tokens (B,), of the rows that are gone on from.
_Next = Callable[[Tensor, Tensor], Tensor]


@torch.inference_mode()
def beam_search(
    model: Decoder | EncoderDecoder,
    prompts: Sequence[Sequence[int] | np.ndarray],
    *,
    beams: int = 4,
    max_new_tokens: int = 64,
    length_penalty: float = 1.0,
    eos_token_ids: Sequence[int] | None = None,
) -> list[list[Beam]]:
    """The best `beams` answers to each prompt (of an encoder-decoder: source), best first.

    A search ends when `beams` answers are complete and the best unfinished one, as long as it is, scores no more than
    the worst of them; or after `max_new_tokens`, when what is unfinished counts as it is.

    Args:
        length_penalty: above 0 favours long answers, below 0 short ones.
        eos_token_ids: by default the model's.

    Raises:
        DataError: an empty prompt, ids outside the vocabulary, no room in the context, or logits that are not finite.
    """
    config = model.config
    if beams < 1 or max_new_tokens < 1:
        raise ConfigError("there must be at least one of them", where="beams" if beams < 1 else "max_new_tokens")
    if eos_token_ids is None:
        eos_token_ids = () if config.eos_token_id is None else (config.eos_token_id,)
    training = model.training
    model.eval()
    found = []
    try:
        for number, prompt in enumerate(prompts):
            ids = np.asarray(prompt)
            where = f"prompt {number}"
            if ids.ndim != 1 or not ids.size or ids.dtype.kind not in "iu":
                raise DataError("a prompt is one row of ids, and not empty", where=where)
            if int(ids.min()) < 0 or int(ids.max()) >= config.vocab_size:
                raise DataError(f"token ids must be integers from 0 to {config.vocab_size - 1}", where=where)
            start_T = torch.as_tensor(ids.astype(np.int64), device=model.head_weight.device)
            begin = _begin_decoder if isinstance(model, Decoder) else _begin_encoder_decoder
            logits_BV, go_on = begin(model, start_T, max_new_tokens, where)  # type: ignore[arg-type]
            search = _Search(beams, length_penalty, eos_token_ids)
            found.append(search.run(logits_BV, go_on, max_new_tokens, where))
    finally:
        model.train(training)
    return found


def _begin_decoder(model: Decoder, prompt_T: Tensor, tokens: int, where: str) -> tuple[Tensor, _Next]:
    config, step = model.config, TorchStep(model)
    if len(prompt_T) + tokens > config.context_length:
        raise DataError(f"{len(prompt_T)} and {tokens} new tokens exceed {config.context_length}", where=where)
    cache = KeyValueCache(config, 1, len(prompt_T) + tokens, device=prompt_T.device, dtype=step.cache_dtype)

    def go_on(rows_B: Tensor, ids_B: Tensor) -> Tensor:
        cache.select(rows_B)
        return step(ids_B[:, None], cache)[:, 0]

    return step(prompt_T[None], cache)[:, -1], go_on


def _begin_encoder_decoder(model: EncoderDecoder, source_S: Tensor, tokens: int, where: str) -> tuple[Tensor, _Next]:
    config = model.config
    if config.bos_token_id is None:
        raise ConfigError("an encoder-decoder needs a token that its answers start with", where="bos_token_id")
    memory_1SC = model.encode(source_S[None])
    cache = KeyValueCache(config, 1, tokens, device=source_S.device, dtype=memory_1SC.dtype)

    def go_on(rows_B: Tensor, ids_B: Tensor) -> Tensor:
        cache.select(rows_B)
        return model.decode(ids_B[:, None], memory_1SC.expand(len(ids_B), -1, -1), cache=cache)[:, 0]

    start = torch.tensor([[config.bos_token_id]], device=source_S.device)
    return model.decode(start, memory_1SC, cache=cache)[:, 0], go_on


class _Search:
    """The beams of one prompt."""

    def __init__(self, beams: int, length_penalty: float, eos_token_ids: Sequence[int]) -> None:
        self.beams, self.length_penalty, self.ends = beams, length_penalty, frozenset(eos_token_ids)
        self.complete: list[Beam] = []

    def run(self, logits_BV: Tensor, go_on: _Next, tokens: int, where: str) -> list[Beam]:
        running: list[list[int]] = [[]]
        scores_B = torch.zeros(1, device=logits_BV.device)
        for length in range(1, tokens + 1):
            logprobs_BV = logits_BV.float().log_softmax(dim=-1)
            if bool(logprobs_BV.isnan().any()):
                raise DataError("the model's logits are not finite", where=where)
            total_BV = scores_B[:, None] + logprobs_BV
            # Of these at least `beams` do not end here, as each beam can end in so many ways only.
            wanted = min(self.beams * max(2, 1 + len(self.ends)), total_BV.numel())
            best = total_BV.flatten().topk(wanted)
            rows, ids = best.indices // total_BV.shape[1], best.indices % total_BV.shape[1]
            last = length == tokens
            kept: list[tuple[int, int, float]] = []
            for rank, (row, token, score) in enumerate(
                zip(rows.tolist(), ids.tolist(), best.values.tolist(), strict=True)
            ):
                if token in self.ends or last:
                    if rank < self.beams:  # an end further down would crowd out better beginnings
                        self._add([*running[row], token], score)
                elif len(kept) < self.beams:
                    kept.append((row, token, score))
            if not kept or self._settled(kept[0][2], length):
                break
            running = [[*running[row], token] for row, token, _ in kept]
            device = logits_BV.device
            scores_B = torch.tensor([score for _, _, score in kept], device=device)
            logits_BV = go_on(
                torch.tensor([row for row, _, _ in kept], device=device),
                torch.tensor([token for _, token, _ in kept], device=device),
            )
        return self.complete

    def _add(self, ids: list[int], logprob: float) -> None:
        beam = Beam(np.array(ids, dtype=np.int64), logprob, logprob / len(ids) ** self.length_penalty)
        self.complete = sorted([*self.complete, beam], key=lambda one: -one.score)[: self.beams]

    def _settled(self, best: float, length: int) -> bool:
        full = len(self.complete) == self.beams
        return full and best / length**self.length_penalty <= self.complete[-1].score
