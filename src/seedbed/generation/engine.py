"""The engine: prompts in, texts out. What runs together, and how, is the scheduler's business."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from ..core.errors import ConfigError, DataError, ResourceError
from ..models import CacheConfig, Decoder
from .requests import Generation, Prompt, Request
from .sampling import Sampling
from .scheduling import Load, Scheduler, Statistics
from .speculative import DraftModel, Lookup, require_same_vocabulary
from .steps import choose_step

if TYPE_CHECKING:
    from ..tokenizers import Tokenizer
    from .constraints import Grammars

AnyPrompt = str | Sequence[int] | np.ndarray
Truncate = Literal["left", "slide"] | None

_UNLIMITED = 1 << 40


class Engine:
    """Generates with a decoder. The model stays the caller's: it is read at each step, so it may train in between.

    Args:
        tokenizer: needed for prompts as text, stop strings, constraints and text results.
        cache: "full", "window" or "sinks", or a `CacheConfig` that says more; a window is the model's own, else as wide
            as its context ("sinks": with the first tokens).
        max_length: tokens that prompt and answer may have together; by default the model's context.
        dtype, compile: how the model is run; see `steps.choose_step`.
        draft: guesses at several tokens at once, by `Lookup` or a smaller model (`DraftModel`).
        eos_token_ids: tokens that end a request; by default the tokenizer's and the model's own.
        batch_size: requests that run together; results do not depend on it.
        queue: requests that `submit` lets wait; None: any number.

    Attributes:
        statistics: of the latest `generate` or `stream` that came to its end.
    """

    def __init__(
        self,
        model: Decoder,
        tokenizer: Tokenizer | None = None,
        cache: Literal["full", "window", "sinks"] | CacheConfig = "full",
        *,
        max_length: int | None = None,
        dtype: str | None = None,
        compile: bool = False,
        draft: Lookup | DraftModel | None = None,
        eos_token_ids: Sequence[int] | None = None,
        batch_size: int = 64,
        queue: int | None = None,
    ) -> None:
        config = model.config
        if eos_token_ids is None:
            known = {config.eos_token_id, None if tokenizer is None else tokenizer.eos_token_id}
            eos_token_ids = sorted(token for token in known if token is not None)
        self.model, self.tokenizer, self.batch_size, self.queue = model, tokenizer, batch_size, queue
        self.eos_token_ids = tuple(int(token) for token in eos_token_ids)
        self.cache = cache if isinstance(cache, CacheConfig) else _cache_named(cache, model)
        self.cache.layouts(config, config.context_length)
        self.max_length = config.context_length if max_length is None else max_length
        if self.max_length > config.context_length and config.positions == "learned":
            raise ConfigError(f"the model has positions for {config.context_length} tokens", where="max_length")
        if isinstance(draft, DraftModel):
            require_same_vocabulary(model, draft)
        self.draft = draft
        self._never = _without_text(config.vocab_size, tokenizer, self.eos_token_ids)
        self._step = choose_step(model, dtype, compile)
        self._grammars: Grammars | None = None
        self._numbers = itertools.count()
        self._open: Scheduler | None = None  # of what was submitted
        self._lock = threading.Lock()  # of what comes into being at first use
        self.statistics = Statistics()

    # All at once

    def generate(
        self,
        prompts: Sequence[AnyPrompt],
        sampling: Sampling | Sequence[Sampling] | None = None,
        *,
        samples: int = 1,
        decode: bool = True,
        truncate: Truncate = None,
    ) -> list[Generation]:
        """One Generation per prompt, in order; of several `samples` those of a prompt stand side by side.

        Equal prompts are read once, whoever asks.

        Args:
            prompts: texts (special tokens in them are read as such) or arrays of token ids.
            sampling: one for all, where prompt i draws from the i-th random stream of its seed; or one per prompt, each
                drawing as if it were alone. A result does not depend on the other prompts.
            decode: False leaves the texts empty (stop strings are still heeded).
            truncate: "left" drops the beginning of prompts that leave no room for `max_new_tokens`; "slide" (with a
                cache that does) lets prompt and answer be longer than `max_length`; None refuses prompts that fill it,
                and ends generations there with reason "length".

        Raises:
            DataError: a prompt that is empty, too long or no row of ids of the vocabulary, or logits that are not
                finite; names the prompt.
        """
        if sampling is None or isinstance(sampling, Sampling):
            samplings = [sampling or Sampling()] * len(prompts)
            streams = list(range(len(prompts)))
        else:
            samplings, streams = list(sampling), [0] * len(prompts)
            if len(samplings) != len(prompts):
                raise DataError(f"{len(prompts)} prompts and {len(samplings)} samplings")
        groups: dict[bytes, list[Request]] = {}
        requests = []
        for row, (prompt, one, stream) in enumerate(zip(prompts, samplings, streams, strict=True)):
            name = f"prompt {row}"
            ready = self._prompt(prompt, one, name, truncate)
            for sample in range(samples):
                branch = (stream, sample) if sample else (stream,)
                request = self._request(name, ready, one, branch, truncate)
                groups.setdefault(ready.ids.tobytes(), []).append(request)
                requests.append(request)
        scheduler = self._scheduler(min(self.batch_size, max(1, len(requests))), truncate)
        for group in groups.values():
            scheduler.submit(group)
        for changed in self._steps(scheduler):
            for request in changed:
                if request.error is not None:
                    raise request.error
        self.statistics = scheduler.statistics
        return [request.result(decode and self.tokenizer is not None) for request in requests]

    def stream(
        self, prompt: AnyPrompt, sampling: Sampling | None = None, *, truncate: Truncate = None
    ) -> Iterator[str]:
        """Pieces of text as they become certain: whole characters, never the beginning of a stop string.

        Joined they are `generate([prompt], sampling)[0].text`.
        """
        return self._pieces(self.begin(prompt, sampling, truncate=truncate), truncate)

    def begin(
        self, prompt: AnyPrompt, sampling: Sampling | None = None, *, truncate: Truncate = None, name: str = "prompt 0"
    ) -> Request:
        """A request that nobody runs yet, for `follow`."""
        sampling = sampling or Sampling()
        return self._request(name, self._prompt(prompt, sampling, name, truncate), sampling, (0,), truncate)

    def follow(self, request: Request, *, truncate: Truncate = None) -> Iterator[str]:
        """Run one request alone, giving out its text; the request tells how long it took and how it ended."""
        return self._pieces(request, truncate)

    def _pieces(self, request: Request, truncate: Truncate) -> Iterator[str]:
        if self.tokenizer is None:
            raise ConfigError("streaming text needs a tokenizer", where="tokenizer")
        scheduler = self._scheduler(1, truncate)
        scheduler.submit([request])
        for _ in self._steps(scheduler):
            if request.error is not None:
                raise request.error
            if piece := request.take():
                yield piece
        self.statistics = scheduler.statistics

    # One by one, for a server

    def submit(
        self,
        prompt: AnyPrompt,
        sampling: Sampling | None = None,
        *,
        samples: int = 1,
        truncate: Literal["left"] | None = None,
        seconds: float | None = None,
        name: str | None = None,
    ) -> list[Request]:
        """Queue a prompt for `step`; returns the handle of each of its samples. From any thread.

        Args:
            seconds: after which it ends with what it has.
            name: by which errors call it.

        Raises:
            ResourceError: the queue is full.
            DataError: as `generate`.
        """
        self.require_room(samples)
        requests = self.prepare(prompt, sampling, samples=samples, truncate=truncate, seconds=seconds, name=name)
        self.enqueue(requests)
        return requests

    def prepare(
        self,
        prompt: AnyPrompt,
        sampling: Sampling | None = None,
        *,
        samples: int = 1,
        truncate: Literal["left"] | None = None,
        seconds: float | None = None,
        name: str | None = None,
    ) -> list[Request]:
        """The first half of `submit`: requests that nobody knows of yet, for `enqueue`."""
        sampling = sampling or Sampling()
        name = name or f"request {next(self._numbers)}"
        ready = self._prompt(prompt, sampling, name, truncate)
        return [
            self._request(name, ready, sampling, (0, sample) if sample else (0,), truncate, seconds)
            for sample in range(samples)
        ]

    def enqueue(self, requests: Sequence[Request]) -> None:
        """The second half of `submit`: queue requests that go on from the same prompt."""
        with self._lock:
            if self._open is None:
                self._open = self._scheduler(self.batch_size, None)
        self._open.submit(requests)

    def require_room(self, requests: int) -> None:
        """Raises: ResourceError: so many more may not wait."""
        waiting = self.load.waiting
        if self.queue is not None and waiting + requests > self.queue:
            raise ResourceError(f"{waiting} requests are waiting already", where="queue", hint="Try later.")

    def reset(self) -> None:
        """Forget all that was submitted, after a step that failed."""
        self._open = None

    @property
    def load(self) -> Load:
        """How much of what was submitted is under way."""
        if self._open is None:
            return Load(0, 0, 0)
        return Load(self._open.waiting, self._open.running, self._open.cache_bytes)

    def step(self) -> list[Request]:
        """Give all that was submitted its next token; returns the requests that got one or ended."""
        if self._open is None:
            return []
        return self._open.step()

    @property
    def busy(self) -> bool:
        """Whether anything that was submitted is not done."""
        return self._open is not None and self._open.busy

    # How requests are made and run

    def _scheduler(self, rows: int, truncate: Truncate) -> Scheduler:
        config, device = self.model.config, self.model.embedding.weight.device
        capacity = self.max_length
        if truncate == "slide":
            if self.cache.kept(config) is None or config.positions == "learned":
                raise ConfigError(
                    f"a cache of kind '{self.cache.kind}' keeps every token of this model and cannot slide",
                    where="truncate",
                    hint="Choose cache='sinks'.",
                )
            capacity = _UNLIMITED
        drafter = None if self.draft is None else self.draft.drafter(rows, device)
        return Scheduler(
            config, self._step, capacity, rows, cache=self.cache, device=device, drafter=drafter, never=self._never
        )

    def _steps(self, scheduler: Scheduler) -> Iterator[list[Request]]:
        while scheduler.busy:
            yield scheduler.step()

    def _request(
        self,
        name: str,
        prompt: Prompt,
        sampling: Sampling,
        stream: Sequence[int | str],
        truncate: Truncate,
        seconds: float | None = None,
    ) -> Request:
        if self.tokenizer is None and (sampling.stop or sampling.constrained):
            raise ConfigError("stop strings and constraints need a tokenizer", where="tokenizer")
        matcher = None
        if sampling.constrained:
            from .constraints import Grammars

            assert self.tokenizer is not None
            with self._lock:
                self._grammars = self._grammars or Grammars(self.tokenizer, self.eos_token_ids)
            matcher = self._grammars.matcher(sampling)
        room = _UNLIMITED if truncate == "slide" else self.max_length - len(prompt.ids)
        return Request(
            name,
            prompt,
            sampling,
            stream,
            min(sampling.max_new_tokens, room),
            tokenizer=self.tokenizer,
            eos_token_ids=self.eos_token_ids,
            matcher=matcher,
            seconds=seconds,
        )

    def _prompt(self, prompt: AnyPrompt, sampling: Sampling, name: str, truncate: Truncate) -> Prompt:
        if isinstance(prompt, str):
            if self.tokenizer is None:
                raise ConfigError("a prompt of text needs a tokenizer", where=name)
            prompt = self.tokenizer.encode(prompt)
        ids, vocabulary = np.asarray(prompt), self.model.config.vocab_size
        if ids.ndim != 1 or not len(ids):
            raise DataError("the prompt is empty" if not ids.size else "a prompt is one row of ids", where=name)
        if ids.dtype.kind not in "iu" or int(ids.min()) < 0 or int(ids.max()) >= vocabulary:
            raise DataError(f"token ids must be integers from 0 to {vocabulary - 1}", where=name)
        whole = len(ids)
        if truncate == "left":
            ids = ids[-max(1, self.max_length - sampling.max_new_tokens) :]
        if len(ids) >= self.max_length and truncate != "slide":
            raise DataError(
                f"{len(ids)} tokens leave no room in the context of {self.max_length}",
                where=name,
                hint="Shorten it, or let its beginning be cut off (truncate='left').",
            )
        return Prompt(ids.astype(np.int64), whole - len(ids))


def _without_text(vocabulary: int, tokenizer: Tokenizer | None, eos_token_ids: Sequence[int]) -> Tensor | None:
    """Ids that the tokenizer cannot write, bool (V,), None where there are none: embeddings may be padded."""
    if tokenizer is None:
        return None
    never = np.ones(vocabulary, dtype=bool)
    never[: len(tokenizer.known)] = ~tokenizer.known[:vocabulary]
    never[[token for token in eos_token_ids if 0 <= token < vocabulary]] = False
    return torch.from_numpy(never) if never.any() and not never.all() else None


def _cache_named(kind: str, model: Decoder) -> CacheConfig:
    if kind not in ("full", "window", "sinks"):
        raise ConfigError(f"'{kind}' is not a cache", where="cache", hint="Choose 'full', 'window' or 'sinks'.")
    config, sinks = model.config, CacheConfig().sinks
    if kind == "full" or config.window:
        return CacheConfig(kind=kind)
    window = max(1, config.context_length - (sinks if kind == "sinks" else 0))
    return CacheConfig(kind=kind, window=window)


def greedy(model: Decoder, tokenizer: Tokenizer, prompts: Sequence[AnyPrompt], max_new_tokens: int) -> list[np.ndarray]:
    """The greedy continuations' ids alone: what an evaluation that knows no engine asks for."""
    results = Engine(model, tokenizer).generate(
        prompts, Sampling(temperature=0, max_new_tokens=max_new_tokens), decode=False
    )
    return [result.ids for result in results]
