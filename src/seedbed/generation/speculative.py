"""Speculative decoding: cheap guesses at the next tokens, which the model reads all at once and keeps as far as they
are what it would have said (Leviathan et al. 2023; Chen et al. 2023).

B rows, K drafted tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..core.errors import ConfigError
from ..models import Decoder, KeyValueCache
from .requests import Request
from .sampling import Sampler, draw
from .steps import Step, choose_step


class Draft(NamedTuple):
    """Guesses at a row's next tokens.

    weights_KV: the distribution that each was drawn from; None where they were not drawn. Tokens that were not drawn
        need no test of their own: the model chooses as ever, and a guess was right if that is what it chose.
    """

    tokens: list[int]
    weights_KV: Tensor | None = None


NOTHING = Draft([])


class Drafter(Protocol):
    """Guesses for the rows of a scheduler."""

    def put(self, row: int) -> None:
        """A new request has come into `row`."""

    def move(self, source: int, target: int) -> None:
        """Row `target` goes on as row `source`."""

    def propose(self, rows: Sequence[int], requests: Sequence[Request], room: int) -> list[Draft]:
        """At most `room` tokens for each row."""


@dataclass(frozen=True)
class Lookup:
    """Prompt lookup (Saxena 2023): what followed the last time that the latest tokens stood in prompt or answer.

    tokens: guesses at a time. longest, shortest: how many latest tokens have to agree; more of them are tried first.
    """

    tokens: int = 8
    longest: int = 4
    shortest: int = 2

    def drafter(self, rows: int, device: torch.device) -> Drafter:
        return _LookupDrafter(self, rows)


@dataclass(frozen=True, eq=False)
class DraftModel:
    """A smaller model with the same vocabulary guesses; sampled requests stay distributed as the larger one's."""

    model: Decoder
    tokens: int = 4

    def drafter(self, rows: int, device: torch.device) -> Drafter:
        return _ModelDrafter(self, rows, device)


class _LookupDrafter:
    def __init__(self, lookup: Lookup, rows: int) -> None:
        self._lookup = lookup
        # Per row the place behind the latest occurrence of each run of tokens, and how far the row is entered.
        self._places: list[dict[tuple[int, ...], int]] = [{} for _ in range(rows)]
        self._text: list[list[int]] = [[] for _ in range(rows)]
        self._entered = [0] * rows

    def put(self, row: int) -> None:
        self._places[row], self._text[row], self._entered[row] = {}, [], 0

    def move(self, source: int, target: int) -> None:
        self._places[target], self._text[target] = self._places[source], self._text[source]
        self._entered[target] = self._entered[source]
        self.put(source)

    def propose(self, rows: Sequence[int], requests: Sequence[Request], room: int) -> list[Draft]:
        count = min(room, self._lookup.tokens)
        return [Draft(self._after(row, request)[:count]) for row, request in zip(rows, requests, strict=True)]

    def _after(self, row: int, request: Request) -> list[int]:
        text, places = self._text[row], self._places[row]
        if not text:
            text += request.prompt.ids.tolist()
        text += request.ids[len(text) - len(request.prompt.ids) :]
        sizes = range(self._lookup.shortest, self._lookup.longest + 1)
        # The run at the very end is what is looked for, and not entered yet.
        for end in range(max(self._entered[row], 1), len(text)):
            for size in sizes:
                if size <= end:
                    places[tuple(text[end - size : end])] = end
        self._entered[row] = len(text)
        for size in reversed(sizes):
            if size <= len(text) and (place := places.get(tuple(text[-size:]))) is not None:
                return text[place : place + self._lookup.tokens]
        return []


class _ModelDrafter:
    def __init__(self, draft: DraftModel, rows: int, device: torch.device) -> None:
        self._config, self._tokens, self._device = draft.model.config, draft.tokens, device
        self._step: Step = choose_step(draft.model)
        self._cache: KeyValueCache | None = None
        self._rows = rows
        self._sampler = Sampler(rows, self._config.vocab_size, device)
        # Tokens of each row that the cache holds, and the guesses behind them that it holds, too.
        self._known = [0] * rows
        self._guessed: list[list[int]] = [[] for _ in range(rows)]
        self._new = [True] * rows

    def put(self, row: int) -> None:
        self._known[row], self._guessed[row], self._new[row] = 0, [], True

    def move(self, source: int, target: int) -> None:
        if self._cache is not None:
            self._cache.share(source, [target])
        self._sampler.move(source, target)
        self._known[target], self._guessed[target] = self._known[source], self._guessed[source]
        self._new[target] = self._new[source]

    def propose(self, rows: Sequence[int], requests: Sequence[Request], room: int) -> list[Draft]:
        longest = max((request.length for request in requests), default=0)
        room = min(room, self._tokens, self._config.context_length - longest)
        # A draft has to come from a known distribution; penalties and constraints change it with every token.
        able = [
            place
            for place, one in enumerate(requests)
            if not (one.sampling.penalised or one.sampling.constrained) and room > 0
        ]
        drafts = [NOTHING] * len(rows)
        if not able:
            return drafts
        some = [rows[place] for place in able]
        for place, row in zip(able, some, strict=True):
            if self._new[row]:
                request = requests[place]
                self._sampler.put(row, request.sampling, (*request.stream, "draft"))
                self._new[row] = False
        guesses, weights = self._run(some, [requests[place] for place in able], room)
        for index, place in enumerate(able):
            drawn = requests[place].sampling.temperature > 0
            drafts[place] = Draft(guesses[index], weights[index] if drawn else None)
        return drafts

    def _run(self, rows: list[int], requests: list[Request], room: int) -> tuple[list[list[int]], Tensor]:
        """Guesses of all rows, and the distributions that they come from (B, K, V)."""
        cache = self._grown(max(request.length for request in requests) + room)
        logits_BV = self._catch_up(cache, rows, requests)
        view = cache.view(rows)
        tokens, weights = [], []
        for guess in range(room):
            weights_BV, _ = self._sampler.distribution(rows, logits_BV)
            tokens.append(draw(weights_BV, self._sampler.uniforms(rows)))
            weights.append(weights_BV)
            if guess + 1 < room:
                logits_BV = self._step(tokens[-1][:, None], view)[:, 0]
        guesses: list[list[int]] = torch.stack(tokens, dim=1).tolist()
        for row, request, guessed in zip(rows, requests, guesses, strict=True):
            self._known[row], self._guessed[row] = request.length, guessed[:-1]  # the last one was not read
        return guesses, torch.stack(weights, dim=1)

    def _catch_up(self, cache: KeyValueCache, rows: list[int], requests: list[Request]) -> Tensor:
        """Read what the rows have got since; the logits (B, V) behind their newest tokens."""
        missing: dict[int, list[int]] = {}  # places by how many tokens they lack: without padding all have room
        texts = []
        for place, (row, request) in enumerate(zip(rows, requests, strict=True)):
            since, prompt = self._known[row], request.prompt.ids
            text = [*prompt[since:].tolist(), *request.ids[max(0, since - len(prompt)) :]]
            right = 0
            for guessed, said in zip(self._guessed[row], text[:-1], strict=False):
                if guessed != said:
                    break
                right += 1
            self._known[row] += right
            texts.append(text[right:])
            missing.setdefault(len(texts[-1]), []).append(place)
        logits_BV = torch.empty(len(rows), self._config.vocab_size, device=self._device)
        for count, places in missing.items():
            view = cache.view([rows[place] for place in places])
            view.set_lengths([self._known[rows[place]] for place in places])
            ids_BT = torch.tensor([texts[place] for place in places], device=self._device)
            columns = torch.full((len(places),), count - 1, device=self._device)
            logits_BV[places] = self._step.last(ids_BT, columns, view).float()
        return logits_BV

    def _grown(self, needed: int) -> KeyValueCache:
        context = self._config.context_length
        if self._cache is None:
            self._cache = KeyValueCache(
                self._config, self._rows, min(context, needed), device=self._device, dtype=self._step.cache_dtype
            )
        elif needed > self._cache.capacity:
            self._cache.grow(self._rows, min(context, max(needed, 2 * self._cache.capacity)))
        return self._cache


def keep_or_replace(token: int, target_V: Tensor, draft_V: Tensor, uniforms: tuple[float, float]) -> int:
    """Keep a token drawn from `draft_V` with probability min(1, target / draft), else draw one from what the target has
    more of: the outcome is distributed as the target (Leviathan et al. 2023, section 2.3 and appendix A.1).

    Args:
        uniforms: two independent random numbers from 0 to 1.
    """
    if uniforms[0] * float(draft_V[token]) < float(target_V[token]):
        return token
    rest_V = (target_V - draft_V).clamp(min=0)
    return int(draw(rest_V[None], torch.tensor([uniforms[1]], device=rest_V.device)))


def require_same_vocabulary(model: Decoder, draft: DraftModel) -> None:
    ours, theirs = model.config.vocab_size, draft.model.config.vocab_size
    if ours != theirs:
        raise ConfigError(f"its vocabulary has {theirs} tokens, the model's {ours}", where="draft")
