"""The engine: batches of prompts of different lengths, prefilled once and decoded with a key-value cache.

B rows still under way, T prompt tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from ..core.errors import ConfigError, DataError
from ..models import Decoder, KeyValueCache
from ..tokenizers.streaming import StreamDecoder
from .sampling import Sampler, Sampling

if TYPE_CHECKING:
    from ..tokenizers import Tokenizer

Prompt = str | Sequence[int] | np.ndarray


@dataclass(frozen=True)
class Generation:
    """What one request got.

    text: of `ids` without special tokens, cut before a stop string; "" where the engine has no tokenizer or was told
        not to decode.
    ids: int64 (n,), with the token that ended it.
    logprobs: float32 (n,), of each id under the model at the request's temperature, before penalties and truncation.
    finish_reason: "stop" (an end token or a stop string) or "length".
    """

    text: str
    ids: np.ndarray
    logprobs: np.ndarray
    finish_reason: Literal["stop", "length"]


class Engine:
    """Generates with a decoder. The model stays the caller's: it is read at each call, so it may train in between.

    Args:
        tokenizer: needed for prompts as text, stop strings and text results.
        cache: "full", the whole context.
        eos_token_ids: tokens that end a request; by default the tokenizer's and the model's own.
        batch_size: prompts decoded together; results do not depend on it.
    """

    def __init__(
        self,
        model: Decoder,
        tokenizer: Tokenizer | None = None,
        cache: Literal["full"] = "full",
        eos_token_ids: Sequence[int] | None = None,
        batch_size: int = 64,
    ) -> None:
        if cache != "full":
            raise ConfigError(f"'{cache}' is not a cache", where="cache", hint="Choose 'full'.")
        if eos_token_ids is None:
            known = {model.config.eos_token_id, None if tokenizer is None else tokenizer.eos_token_id}
            eos_token_ids = sorted(token for token in known if token is not None)
        self.model, self.tokenizer, self.batch_size = model, tokenizer, batch_size
        self.eos_token_ids = tuple(int(token) for token in eos_token_ids)

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling | Sequence[Sampling] | None = None,
        *,
        decode: bool = True,
        truncate: Literal["left"] | None = None,
    ) -> list[Generation]:
        """One Generation per prompt, in order.

        Args:
            prompts: texts (special tokens in them are read as such) or arrays of token ids.
            sampling: one for all, where prompt i draws from the i-th random stream of its seed; or one per prompt, each
                drawing as if it were alone. A result does not depend on the other prompts.
            decode: False leaves the texts empty (stop strings are still heeded).
            truncate: "left" drops the beginning of prompts that leave no room for `max_new_tokens`; None refuses
                prompts that fill the context, and ends generations at the context's end with reason "length".
        """
        if sampling is None or isinstance(sampling, Sampling):
            samplings = [sampling or Sampling()] * len(prompts)
            streams = list(range(len(prompts)))
        else:
            samplings, streams = list(sampling), [0] * len(prompts)
            if len(samplings) != len(prompts):
                raise DataError(f"{len(prompts)} prompts and {len(samplings)} samplings")
        self._require_tokenizer(samplings)
        ids = [self._prompt_ids(prompts[row], samplings[row], row, truncate) for row in range(len(prompts))]
        results: list[Generation] = []
        for start in range(0, len(ids), self.batch_size):
            part = slice(start, start + self.batch_size)
            batch = _Batch(self, ids[part], samplings[part], streams[part])
            for _ in batch.steps():
                pass
            results += batch.results(decode and self.tokenizer is not None)
        return results

    def stream(
        self, prompt: Prompt, sampling: Sampling | None = None, *, truncate: Literal["left"] | None = None
    ) -> Iterator[str]:
        """Pieces of text as they become certain: whole characters, never the beginning of a stop string.

        Joined they are `generate([prompt], sampling)[0].text`.
        """
        sampling = sampling or Sampling()
        if self.tokenizer is None:
            raise ConfigError("streaming text needs a tokenizer", where="tokenizer")
        batch = _Batch(self, [self._prompt_ids(prompt, sampling, 0, truncate)], [sampling], [0])
        decoder = StreamDecoder(self.tokenizer, skip_special_tokens=True)
        pending = ""
        for token in batch.steps():
            pending += decoder.push(int(token[0]))
            ready = len(_before_stop(pending, sampling.stop)) if sampling.stop else len(pending)
            if sampling.stop and ready == len(pending):
                ready -= _beginning_of_stop(pending, sampling.stop)
            if ready:
                yield pending[:ready]
            pending = pending[ready:]
        pending += decoder.finish()
        pending = _before_stop(pending, sampling.stop)
        if pending:
            yield pending

    def _prompt_ids(self, prompt: Prompt, sampling: Sampling, row: int, truncate: str | None) -> np.ndarray:
        if isinstance(prompt, str):
            if self.tokenizer is None:
                raise ConfigError("a prompt of text needs a tokenizer", where=f"prompt {row}")
            prompt = self.tokenizer.encode(prompt)
        ids = np.asarray(prompt)
        config = self.model.config
        if ids.ndim != 1 or not len(ids):
            raise DataError(
                "the prompt is empty" if not ids.size else "a prompt is one row of ids", where=f"prompt {row}"
            )
        if ids.dtype.kind not in "iu" or int(ids.min()) < 0 or int(ids.max()) >= config.vocab_size:
            raise DataError(f"token ids must be integers from 0 to {config.vocab_size - 1}", where=f"prompt {row}")
        if truncate == "left":
            ids = ids[-max(1, config.context_length - sampling.max_new_tokens) :]
        if len(ids) >= config.context_length:
            raise DataError(
                f"{len(ids)} tokens leave no room in the context of {config.context_length}",
                where=f"prompt {row}",
                hint="Shorten it, or let its beginning be cut off (truncate='left').",
            )
        return ids.astype(np.int64)

    def _require_tokenizer(self, samplings: Sequence[Sampling]) -> None:
        if self.tokenizer is None and any(sampling.stop for sampling in samplings):
            raise ConfigError("stop strings need a tokenizer", where="stop")


class _Batch:
    """Requests under way together: all have chosen the same number of tokens, and finished ones are dropped."""

    def __init__(
        self, engine: Engine, prompts: list[np.ndarray], samplings: list[Sampling], streams: list[int]
    ) -> None:
        self.engine, self.model, self.samplings = engine, engine.model, samplings
        self.device = engine.model.embedding.weight.device
        lengths = [len(prompt) for prompt in prompts]
        context = engine.model.config.context_length
        limits = [min(one.max_new_tokens, context - length) for one, length in zip(samplings, lengths, strict=True)]
        self.steps_at_most = max(limits)
        self.lengths_B = torch.tensor(lengths, device=self.device)
        self.limits_B = torch.tensor(limits, device=self.device)
        self.prompts_BT = torch.zeros(len(prompts), max(lengths), dtype=torch.int64)
        for row, prompt in enumerate(prompts):
            self.prompts_BT[row, : len(prompt)] = torch.from_numpy(prompt)
        self.prompts_BT = self.prompts_BT.to(self.device)
        self.ends = torch.tensor(engine.eos_token_ids, dtype=torch.int64, device=self.device)
        self.sampler = Sampler(samplings, streams, self.steps_at_most, self.device)
        self.stoppers = {row: _StopSearch(one.stop) for row, one in enumerate(samplings) if one.stop}
        shape = (len(prompts), self.steps_at_most)
        self.ids = torch.zeros(shape, dtype=torch.int64, device=self.device)
        self.logprobs = torch.zeros(shape, device=self.device)
        self.counts = torch.zeros(len(prompts), dtype=torch.int64, device=self.device)
        self.stopped = torch.zeros(len(prompts), dtype=torch.bool, device=self.device)

    def steps(self) -> Iterator[Tensor]:
        """Decode to the end, in evaluation mode; yields the tokens (B,) that each step chose."""
        training = self.model.training
        try:
            self.model.eval()
            yield from self._decode()
        finally:
            self.model.train(training)

    @torch.inference_mode()
    def _decode(self) -> Iterator[Tensor]:
        longest = self.prompts_BT.shape[1]
        weight = self.model.embedding.weight
        cache = KeyValueCache(
            self.model.config,
            len(self.prompts_BT),
            longest + self.steps_at_most,
            device=self.device,
            dtype=weight.dtype,
        )
        rows = torch.arange(len(self.prompts_BT), device=self.device)
        hidden_BTC = self.model.hidden(self.prompts_BT, cache=cache)
        logits_BV = self.model.head(hidden_BTC[rows, self.lengths_B - 1])
        cache.set_lengths(self.lengths_B)
        seen_BV = self._seen(logits_BV) if self.sampler.any_penalty else None
        for step in range(self.steps_at_most):
            tokens_B, logprobs_B = self.sampler.choose(logits_BV, step, seen_BV)
            self.ids[rows, step], self.logprobs[rows, step] = tokens_B, logprobs_B
            yield tokens_B
            done_B = self._settle(rows, tokens_B, step)
            left = len(rows) - int(done_B.sum())
            if not left:
                return
            # Dropping rows copies the cache, so it waits until it halves the work.
            if left * 2 <= len(rows):
                keep = (~done_B).nonzero()[:, 0]
                rows, tokens_B = rows[keep], tokens_B[keep]
                cache.select(keep)
                self.sampler.select(keep)
                seen_BV = None if seen_BV is None else seen_BV[keep]
            if seen_BV is not None:
                seen_BV.scatter_(1, tokens_B[:, None], True)
            logits_BV = self.model(tokens_B[:, None], cache=cache)[:, 0]

    def _settle(self, rows: Tensor, tokens_B: Tensor, step: int) -> Tensor:
        """Note which rows this step has ended; returns which of `rows` are done, then or before."""
        stopped_B = torch.isin(tokens_B, self.ends)
        if self.stoppers:
            stopped_B = stopped_B | self._stop_strings(rows, tokens_B)
        before_B = self.counts[rows] > 0
        ended_B = (stopped_B | (step + 1 >= self.limits_B[rows])) & ~before_B
        self.counts[rows] = torch.where(ended_B, step + 1, self.counts[rows])
        self.stopped[rows] |= stopped_B & ended_B
        return before_B | ended_B

    def _stop_strings(self, rows: Tensor, tokens_B: Tensor) -> Tensor:
        tokenizer = self.engine.tokenizer
        assert tokenizer is not None
        found = [
            row in self.stoppers and self.stoppers[row].feed(tokenizer.decode_bytes([token], skip_special_tokens=True))
            for row, token in zip(rows.tolist(), tokens_B.tolist(), strict=True)
        ]
        return torch.tensor(found, device=self.device)

    def _seen(self, logits_BV: Tensor) -> Tensor:
        seen_BV = torch.zeros(logits_BV.shape, dtype=torch.bool, device=self.device)
        # Padding repeats the row's first token, which it has seen anyway.
        columns = torch.arange(self.prompts_BT.shape[1], device=self.device)
        real = torch.where(columns < self.lengths_B[:, None], self.prompts_BT, self.prompts_BT[:, :1])
        return seen_BV.scatter_(1, real, True)

    def results(self, decode: bool) -> list[Generation]:
        ids, logprobs = self.ids.cpu().numpy(), self.logprobs.cpu().numpy()
        generations = []
        for row, (count, stopped) in enumerate(zip(self.counts.tolist(), self.stopped.tolist(), strict=True)):
            own_ids, own_logprobs = ids[row, :count].copy(), logprobs[row, :count].copy()
            if not np.isfinite(own_logprobs).all():
                raise DataError("the model's logits are not finite", hint="Its weights may have diverged in training.")
            text = ""
            if decode and self.engine.tokenizer is not None:
                ended = stopped and int(own_ids[-1]) in self.engine.eos_token_ids
                kept = own_ids[:-1] if ended else own_ids
                text = self.engine.tokenizer.decode(kept, skip_special_tokens=True)
                text = _before_stop(text, self.samplings[row].stop)
            generations.append(Generation(text, own_ids, own_logprobs, "stop" if stopped else "length"))
        return generations


class _StopSearch:
    """Looks for stop strings in bytes that come piece by piece."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = [stop.encode() for stop in stops]
        self.overlap = max(len(stop) for stop in self.stops) - 1
        self.tail = b""

    def feed(self, piece: bytes) -> bool:
        self.tail += piece
        found = any(stop in self.tail for stop in self.stops)
        self.tail = self.tail[-self.overlap :] if self.overlap else b""
        return found


def _before_stop(text: str, stops: Sequence[str]) -> str:
    """`text` up to the first stop string in it."""
    return text[: min((place for stop in stops if (place := text.find(stop)) >= 0), default=len(text))]


def _beginning_of_stop(text: str, stops: Sequence[str]) -> int:
    """Length of the longest end of `text` that a stop string may begin with."""
    return max(
        (size for stop in stops for size in range(1, min(len(stop), len(text) + 1)) if text.endswith(stop[:size])),
        default=0,
    )


def greedy(model: Decoder, tokenizer: Tokenizer, prompts: Sequence[Prompt], max_new_tokens: int) -> list[np.ndarray]:
    """The greedy continuations' ids alone: what an evaluation that knows no engine asks for."""
    results = Engine(model, tokenizer).generate(
        prompts, Sampling(temperature=0, max_new_tokens=max_new_tokens), decode=False
    )
    return [result.ids for result in results]
