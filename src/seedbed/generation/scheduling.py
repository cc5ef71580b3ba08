"""Continuous batching: requests join and leave the running batch between two tokens (Orca, Yu et al. 2022).

Every running request has a row of one cache. A step of the scheduler lets requests in, reads one chunk of the prompts
that are not read yet (Sarathi-Serve, Agrawal et al. 2024), and gives every other row its next token.

B rows of a step, T new tokens, V vocabulary.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..core.errors import DataError
from ..models import CacheConfig, KeyValueCache, ModelConfig
from .requests import Request
from .sampling import Sampler
from .speculative import NOTHING, Draft, Drafter, keep_or_replace
from .steps import Step


@dataclass(eq=False)
class _Group:
    """Requests that go on from the same prompt, which is read once, in the first one's row."""

    requests: list[Request]
    read: int = 0

    @property
    def prompt(self) -> np.ndarray:
        return self.requests[0].prompt.ids


@dataclass
class Statistics:
    """What a scheduler has done so far."""

    steps: int = 0
    prompt_tokens: int = 0  # read
    shared_tokens: int = 0  # of prompts that were read for another sample
    new_tokens: int = 0
    drafted: int = 0
    accepted: int = 0


class Load(NamedTuple):
    """Requests that wait for a row and that have one, and the bytes of the cache that the rows are of."""

    waiting: int
    running: int
    cache_bytes: int


@dataclass(eq=False)
class _Row:
    request: Request
    group: _Group
    waiting: bool = field(default=True)  # for its prompt to be read


class Scheduler:
    """Runs requests in the rows of one cache. `submit` and `Request.cancel` may be called from any thread, `step` from
    one.

    Args:
        config: of the model behind `step`.
        capacity: tokens that a row may have at most.
        rows: requests that run at once; others wait.
        chunk: the most tokens of one prompt that a step reads. tokens: of all prompts together; by default as many as
            the device needs to be busy.
        never: bool (V,), tokens that are never chosen.
    """

    def __init__(
        self,
        config: ModelConfig,
        step: Step,
        capacity: int,
        rows: int,
        *,
        cache: CacheConfig | None = None,
        device: torch.device | str = "cpu",
        drafter: Drafter | None = None,
        chunk: int = 512,
        tokens: int | None = None,
        never: Tensor | None = None,
    ) -> None:
        self.config, self.device, self.capacity, self.rows = config, torch.device(device), capacity, rows
        self._step, self._layout, self._drafter = step, cache or CacheConfig(), drafter
        self._ringed, self._kept = self._layout.kind != "full", self._layout.kept(config)
        self.chunk = min(chunk, self._layout.slack) if self._ringed else chunk
        self.tokens = tokens or (1 << 12 if self.device.type == "cpu" else 1 << 15)
        self._waiting: deque[_Group] = deque()
        self._running: list[_Row] = []  # by row of the cache, without gaps
        self._cache: KeyValueCache | None = None
        self._view: tuple[tuple[object, ...], KeyValueCache] | None = None
        self._sampler = Sampler(rows, config.vocab_size, self.device, never)
        self._threads = torch.get_num_threads()
        self.statistics = Statistics()

    def submit(self, requests: Sequence[Request]) -> None:
        """Queue requests that go on from the same prompt."""
        self._waiting.append(_Group(list(requests)))

    @property
    def waiting(self) -> int:
        """Requests that wait for a row."""
        return sum(len(group.requests) for group in list(self._waiting))

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def cache_bytes(self) -> int:
        cache = self._cache
        return 0 if cache is None else cache.bytes

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._running)

    @torch.inference_mode()
    def step(self) -> list[Request]:
        """One step of every running request; returns those that got a token or ended."""
        self._threads = torch.get_num_threads()
        # What happens between two passes of the model is too little to share, and threads that wait for more of it spin
        # on the cores that the pass needs.
        with _threads(1 if self.device.type == "cpu" else self._threads):
            return self._advance()

    def _advance(self) -> list[Request]:
        self.statistics.steps += 1
        changed = self._let_go()
        self._admit()
        decoding = [row for row, one in enumerate(self._running) if not one.waiting]
        changed += self._read_prompts()
        changed += self._decode(decoding)
        self._clear()
        return changed

    # Rows

    def _let_go(self) -> list[Request]:
        """End what was cancelled or is out of time, running or waiting."""
        now = time.monotonic()
        gone = []
        for group in list(self._waiting):
            for request in list(group.requests):
                if (reason := request.overdue(now)) is not None:
                    request.finish(reason)
                    group.requests.remove(request)
                    gone.append(request)
            if not group.requests:
                self._waiting.remove(group)
        for one in self._running:
            if (reason := one.request.overdue(now)) is not None:
                one.request.finish(reason)
                gone.append(one.request)
        self._clear()
        return gone

    def _admit(self) -> None:
        """Give rows to those who wait, first come, first served; samples that find none read their prompt again."""
        while self._waiting and len(self._running) < self.rows:
            group = self._waiting[0]
            free = self.rows - len(self._running)
            entering = _Group(group.requests[:free])
            del group.requests[:free]
            if not group.requests:
                self._waiting.popleft()
            first = len(self._running)
            self._running += [_Row(request, entering) for request in entering.requests]
            self._make_room(max(len(entering.prompt) + request.limit for request in entering.requests))
            cache = self._cache
            assert cache is not None
            new = range(first, len(self._running))
            cache.view(new).set_lengths([0] * len(new))
            for row in new:
                request = self._running[row].request
                self._sampler.put(row, request.sampling, request.stream, request.prompt.ids)
                if self._drafter is not None:
                    self._drafter.put(row)

    def _make_room(self, needed: int) -> None:
        """A cache with a row for everyone and `needed` tokens in each: grown in doublings, so that few requests do not
        pay for what many might need. A cache that slides costs the same for any length."""
        rows = min(self.rows, 1 << (len(self._running) - 1).bit_length())
        needed = self.capacity if self._ringed else min(self.capacity, needed)
        if self._cache is None:
            self._cache = KeyValueCache(
                self.config, rows, needed, device=self.device, dtype=self._step.cache_dtype, layout=self._layout
            )
        elif len(self._running) > self._cache.rows or needed > self._cache.capacity:
            if needed > self._cache.capacity:
                needed = min(self.capacity, max(needed, 2 * self._cache.capacity))
            self._cache.grow(max(rows, self._cache.rows), max(needed, self._cache.capacity))

    def _clear(self) -> None:
        """Take rows from those that are done: the last row moves into a gap, so that the rows stay neighbours."""
        for row in reversed(range(len(self._running))):
            one = self._running[row]
            if not one.request.done:
                continue
            if one.waiting and one.group.requests[0] is one.request:
                one.group.read = 0  # it was reading for the others: the next one begins anew
            one.group.requests.remove(one.request)
            last = len(self._running) - 1
            if row < last:
                assert self._cache is not None
                self._cache.share(last, [row])
                self._sampler.move(last, row)
                if self._drafter is not None:
                    self._drafter.move(last, row)
                self._running[row] = self._running[last]
            self._running.pop()
        if not self._running and not self._waiting:
            self._cache = self._view = None  # an idle scheduler holds no memory

    # Prompts

    def _read_prompts(self) -> list[Request]:
        """Read the next chunk of as many prompts as fit, and give those that are through their first token."""
        reading = self._next_to_read()
        if not reading:
            return []
        assert self._cache is not None
        view = self._cache.view([row for row, _ in reading])
        counts = [min(self.chunk, len(group.prompt) - group.read) for _, group in reading]
        ids = np.zeros((len(reading), max(counts)), dtype=np.int64)
        for place, ((_, group), count) in enumerate(zip(reading, counts, strict=True)):
            ids[place, :count] = group.prompt[group.read : group.read + count]
        columns = torch.tensor(counts, device=self.device) - 1
        with _threads(self._threads):
            logits_BV = self._step.last(torch.from_numpy(ids).to(self.device), columns, view)
        view.set_lengths([group.read + count for (_, group), count in zip(reading, counts, strict=True)])
        self.statistics.prompt_tokens += sum(counts)
        ready: list[int] = []
        sources: list[int] = []
        for place, ((row, group), count) in enumerate(zip(reading, counts, strict=True)):
            group.read += count
            if group.read < len(group.prompt):
                continue
            members = [other for other, one in enumerate(self._running) if one.group is group]
            if len(members) > 1:
                self._cache.share(row, [member for member in members if member != row])
                self.statistics.shared_tokens += (len(members) - 1) * len(group.prompt)
            for member in members:
                self._running[member].waiting = False
            ready += members
            sources += [place] * len(members)
        if not ready:
            return []
        return self._choose(ready, logits_BV[torch.tensor(sources, device=self.device)])

    def _next_to_read(self) -> list[tuple[int, _Group]]:
        """Rows whose prompts are read now: the oldest, and of the others those most like it in length, as padding is
        work, too."""
        found = [
            (row, one.group)
            for row, one in enumerate(self._running)
            if one.waiting and one.group.requests[0] is one.request
        ]
        if not found:
            return []
        assert self._cache is not None

        def left(group: _Group) -> int:
            return min(self.chunk, len(group.prompt) - group.read)

        oldest = min(found, key=lambda pair: pair[1].requests[0].submitted)
        chosen, width = [oldest], left(oldest[1])
        for pair in sorted(found, key=lambda pair: abs(left(pair[1]) - left(oldest[1]))):
            wider = max(width, left(pair[1]))
            fits = all(group.read + wider <= self._cache.capacity for _, group in (*chosen, pair))
            if pair is not oldest and fits and (len(chosen) + 1) * wider <= self.tokens:
                chosen.append(pair)
                width = wider
        return sorted(chosen, key=lambda pair: pair[0])

    # Tokens

    def _decode(self, rows: list[int]) -> list[Request]:
        """The next token of `rows`, or several where a draft proves right."""
        rows = [row for row in rows if not self._running[row].request.done]
        if not rows:
            return []
        assert self._cache is not None
        requests = [self._running[row].request for row in rows]
        drafts = self._draft(rows, requests)
        ids = np.zeros((len(rows), 1 + max(len(draft.tokens) for draft in drafts)), dtype=np.int64)
        for place, (request, draft) in enumerate(zip(requests, drafts, strict=True)):
            ids[place, 0] = request.ids[-1]
            ids[place, 1 : 1 + len(draft.tokens)] = draft.tokens
        view = self._view_of(rows)
        with _threads(self._threads):
            logits_BTV = self._step(torch.from_numpy(ids).to(self.device), view)
        if ids.shape[1] == 1:
            return self._choose(rows, logits_BTV[:, 0])
        self._verify(rows, drafts, logits_BTV)
        # The newest token of each row has not been read yet.
        view.set_lengths([request.length - 1 for request in requests])
        return requests

    def _view_of(self, rows: list[int]) -> KeyValueCache:
        """A view of `rows`, kept as long as the same rows decode."""
        assert self._cache is not None
        key = self._cache, self._cache.capacity, self._cache.rows, tuple(rows)
        if self._view is None or self._view[0] != key:
            self._view = key, self._cache.view(rows)
        return self._view[1]

    def _draft(self, rows: list[int], requests: list[Request]) -> list[Draft]:
        assert self._cache is not None
        room = min(
            self._cache.capacity - max(request.length for request in requests),
            max(request.limit - len(request.ids) for request in requests) - 1,
            self._layout.slack - 1 if self._ringed else self._cache.capacity,
        )
        if self._drafter is None or room < 1:
            return [NOTHING] * len(rows)
        with _threads(self._threads):
            drafts = self._drafter.propose(rows, requests, room)
        self.statistics.drafted += sum(len(draft.tokens) for draft in drafts)
        return drafts

    def _verify(self, rows: list[int], drafts: list[Draft], logits_BTV: Tensor) -> None:
        """Give each row its tokens up to the first that was guessed wrong, that one put right."""
        places = list(range(len(rows)))
        for column in range(logits_BTV.shape[1]):
            drawn = [
                place for place in places if column < len(drafts[place].tokens) and drafts[place].weights_KV is not None
            ]
            plain = [place for place in places if place not in drawn]
            if plain:
                self._choose([rows[place] for place in plain], logits_BTV[plain, column])
            for place in drawn:
                self._test(rows[place], drafts[place], column, logits_BTV[place, column])
            places = [
                place
                for place in places
                if column < len(drafts[place].tokens)
                and not (request := self._running[rows[place]].request).done
                and request.ids[-1] == drafts[place].tokens[column]
            ]
            self.statistics.accepted += len(places)
            if not places:
                return

    def _test(self, row: int, draft: Draft, column: int, logits_V: Tensor) -> None:
        """Keep a token that was drawn from a draft's distribution, or put another in its place."""
        assert draft.weights_KV is not None
        target_BV, logprobs_BV = self._sampler.distribution([row], logits_V[None])
        uniforms = float(self._sampler.uniforms([row])), float(self._sampler.uniforms([row]))
        token = keep_or_replace(draft.tokens[column], target_BV[0], draft.weights_KV[column], uniforms)
        self._take([row], torch.tensor([token], device=self.device), logprobs_BV)

    def _choose(self, rows: list[int], logits_BV: Tensor) -> list[Request]:
        """Give each row its next token."""
        allowed_BV = self._allowed(rows, logits_BV.shape[1])
        if allowed_BV is None:
            return self._pick(rows, logits_BV, None)
        # An answer that cannot go on has ended as an error, and the others go on without it.
        ended = [request for row in rows if (request := self._running[row].request).done]
        living = [place for place, row in enumerate(rows) if not self._running[row].request.done]
        if not living:
            return ended
        return ended + self._pick([rows[place] for place in living], logits_BV[living], allowed_BV[living])

    def _allowed(self, rows: list[int], vocabulary: int) -> Tensor | None:
        """What constraints leave to each row, bool (B, V); None where no row has any."""
        requests = [self._running[row].request for row in rows]
        if all(request.matcher is None for request in requests):
            return None
        allowed_BV = torch.ones(len(rows), vocabulary, dtype=torch.bool)
        for request, allowed_V in zip(requests, allowed_BV, strict=True):
            if request.matcher is not None:
                try:
                    allowed_V[:] = request.matcher.allowed(vocabulary)
                except DataError as error:
                    request.fail(DataError(error.message, where=request.name))
        return allowed_BV.to(self.device)

    def _pick(self, rows: list[int], logits_BV: Tensor, allowed_BV: Tensor | None) -> list[Request]:
        ids_B, logprobs_BV = self._sampler.choose(rows, logits_BV, allowed_BV)
        return self._take(rows, ids_B, logprobs_BV)

    def _take(self, rows: list[int], ids_B: Tensor, logprobs_BV: Tensor) -> list[Request]:
        requests = [self._running[row].request for row in rows]
        chosen = logprobs_BV.gather(1, ids_B[:, None])[:, 0].tolist()
        most = max(request.sampling.top_logprobs for request in requests)
        if most:
            best = logprobs_BV.topk(min(most, logprobs_BV.shape[1]), dim=-1)
            values, tokens = best.values.cpu().numpy(), best.indices.cpu().numpy()
        for place, (request, token, logprob) in enumerate(zip(requests, ids_B.tolist(), chosen, strict=True)):
            if math.isnan(logprob):  # log-softmax makes every infinity NaN
                hint = "The model's weights may have diverged in training."
                message = f"the model's logits are not finite at token {request.length}"
                request.fail(DataError(message, where=request.name, hint=hint))
                continue
            if count := request.sampling.top_logprobs:
                request.top.append((tokens[place, :count], values[place, :count]))
            request.add(token, logprob)
            if self._kept is not None:
                request.slid = max(0, request.length - 1 - self._kept)
        self.statistics.new_tokens += len(rows)
        return requests


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """PyTorch with so many threads, for as long."""
    before = torch.get_num_threads()
    if before != count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if before != count:
            torch.set_num_threads(before)
