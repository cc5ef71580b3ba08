"""Choosing the next token: penalties, temperature, truncation, and a random stream for every request.

B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import Field, model_validator
from torch import Tensor

from ..core.config import Config
from ..core.randomness import numpy_generator


class Sampling(Config):
    """How one request's tokens are chosen. Applied in the order of the fields; the defaults sample the model as it is.

    repetition_penalty: divides positive and multiplies negative logits of tokens already in prompt or answer (CTRL,
        Keskar et al. 2019). frequency_penalty: taken from a token's logit for each time that the answer holds it;
        presence_penalty: once if it does. temperature: 0 is greedy. top_k: the k likeliest tokens, 0 for all. top_p:
        the fewest likeliest tokens that hold this much of what is left (Holtzman et al. 2020). min_p: tokens at least
        this likely relative to the likeliest.
    top_logprobs: report so many likeliest tokens at each step. stop: texts that end the request and are cut off.
    json_schema, regex: what the answer has to be, if anything: a JSON value of this schema ({} for any), or a text
        that the expression matches as a whole.
    """

    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
    frequency_penalty: Annotated[float, Field(ge=-100, le=100)] = 0.0
    presence_penalty: Annotated[float, Field(ge=-100, le=100)] = 0.0
    temperature: Annotated[float, Field(ge=0)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    max_new_tokens: Annotated[int, Field(ge=1, le=1 << 20)] = 64
    top_logprobs: Annotated[int, Field(ge=0, le=1024)] = 0
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    json_schema: dict[str, Any] | None = None
    regex: str | None = None
    seed: int = 0

    @model_validator(mode="after")
    def _check(self) -> Sampling:
        if self.json_schema is not None and self.regex is not None:
            raise ValueError("json_schema and regex exclude each other")
        return self

    @property
    def constrained(self) -> bool:
        return self.json_schema is not None or self.regex is not None

    @property
    def penalised(self) -> bool:
        return self.repetition_penalty != 1 or self.frequency_penalty != 0 or self.presence_penalty != 0


_COLUMNS = ("repetition_penalty", "frequency_penalty", "presence_penalty", "temperature", "top_k", "top_p", "min_p")
_DRAWN_AT_ONCE = 64
_NUCLEUS = 512  # tokens that top_p looks at first


class _Settings(NamedTuple):
    """What the rows of one step ask for: columns (B, 1), and which of them anybody asks for."""

    rows: Tensor
    repetition: Tensor
    frequency: Tensor
    presence: Tensor
    warmth: Tensor  # the temperature, 1 where greedy
    greedy: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    any_penalty: bool
    any_warm: bool
    any_greedy: bool
    all_greedy: bool
    largest_k: int
    any_top_p: bool
    any_min_p: bool


class Sampler:
    """Chooses for any of its rows at once; a row depends on its own logits, settings and random stream alone.

    Args:
        rows: how many requests it has room for.
        never: bool (V,), tokens that no row may choose, as no text is behind them.
    """

    def __init__(
        self, rows: int, vocabulary: int, device: torch.device | str = "cpu", never: Tensor | None = None
    ) -> None:
        self.vocabulary, self.device = vocabulary, torch.device(device)
        self._never = None if never is None else never.to(self.device)
        self._columns = {name: np.zeros(rows) for name in _COLUMNS}
        self._generators: list[np.random.Generator | None] = [None] * rows
        # Random numbers are drawn ahead, so that hardly any work per row remains between two steps.
        self._uniforms = np.zeros((rows, _DRAWN_AT_ONCE))
        self._next = np.full(rows, _DRAWN_AT_ONCE)
        self._penalised = np.zeros(rows, dtype=bool)
        # What the penalties weigh on, from the first request that has one: times in the answer, and seen anywhere.
        self._counts: Tensor | None = None
        self._seen: Tensor | None = None
        self._settings: tuple[tuple[int, ...], _Settings] | None = None

    def put(self, row: int, sampling: Sampling, stream: Sequence[int | str] = (0,), prompt: ArrayLike = ()) -> None:
        """Let `row` choose as `sampling` says, from the random stream of this name within its seed."""
        for name, column in self._columns.items():
            column[row] = getattr(sampling, name)
        warm = sampling.temperature > 0
        self._generators[row] = numpy_generator(sampling.seed, "sampling", *stream) if warm else None
        self._next[row], self._settings = _DRAWN_AT_ONCE, None
        self._penalised[row] = sampling.penalised
        if sampling.penalised:
            if self._counts is None or self._seen is None:
                shape = (len(self._next), self.vocabulary)
                self._counts = torch.zeros(shape, dtype=torch.int32, device=self.device)
                self._seen = torch.zeros(shape, dtype=torch.bool, device=self.device)
            self._counts[row] = 0
            self._seen[row] = False
            self._seen[row, torch.as_tensor(np.array(prompt, dtype=np.int64), device=self.device)] = True

    def move(self, source: int, target: int) -> None:
        """Row `target` goes on as row `source`."""
        for column in (*self._columns.values(), self._uniforms, self._next, self._penalised):
            column[target] = column[source]
        self._generators[target] = self._generators[source]
        for table in (self._counts, self._seen):
            if table is not None:
                table[target] = table[source].clone()
        self._settings = None

    def choose(self, rows: Sequence[int], logits_BV: Tensor, allowed_BV: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The next token of each of `rows`, and the log-probabilities of all tokens.

        Args:
            allowed_BV: bool, what constraints leave; None: all.
        Returns: ids (B,) int64, and log-probabilities (B, V) float32 under the model's distribution at the row's
            temperature (greedy: at 1), before penalties, constraints and truncation: what an importance ratio needs.
        """
        settings = self._settings_of(rows)
        logprobs_BV, scores_BV = self._scores(settings, logits_BV, allowed_BV)
        if settings.all_greedy:
            ids_B = scores_BV.argmax(dim=-1)
        else:
            weights_BV = logprobs_BV.exp() if scores_BV is logprobs_BV else scores_BV.softmax(dim=-1)
            ids_B = draw(self._truncate(settings, weights_BV), self.uniforms(rows))
            if settings.any_greedy:
                ids_B = torch.where(settings.greedy[:, 0], scores_BV.argmax(dim=-1), ids_B)
        if settings.any_penalty:
            self._count(settings.rows, ids_B)
        return ids_B, logprobs_BV

    def distribution(self, rows: Sequence[int], logits_BV: Tensor) -> tuple[Tensor, Tensor]:
        """What `choose` would draw from, (B, V) float32 with rows that sum to 1, and the log-probabilities that it
        would return. A greedy row's distribution is a single token."""
        settings = self._settings_of(rows)
        logprobs_BV, scores_BV = self._scores(settings, logits_BV, None)
        weights_BV = self._truncate(settings, scores_BV.softmax(dim=-1))
        if settings.any_greedy:
            single = torch.zeros_like(weights_BV).scatter_(1, scores_BV.argmax(dim=-1, keepdim=True), 1.0)
            weights_BV = torch.where(settings.greedy, single, weights_BV)
        return weights_BV / weights_BV.sum(dim=-1, keepdim=True), logprobs_BV

    def uniforms(self, rows: Sequence[int]) -> Tensor:
        """The next random number of each row's own stream (B,), float64; 0 for greedy rows."""
        where = np.asarray(rows)
        for row in where[self._next[where] == _DRAWN_AT_ONCE].tolist():
            generator = self._generators[row]
            self._uniforms[row] = 0.0 if generator is None else generator.random(_DRAWN_AT_ONCE)
            self._next[row] = 0
        numbers = self._uniforms[where, self._next[where]]
        self._next[where] += 1
        return torch.from_numpy(numbers).to(self.device)

    def _settings_of(self, rows: Sequence[int]) -> _Settings:
        key = tuple(rows)
        if self._settings is None or self._settings[0] != key:
            self._settings = key, self._gather(np.asarray(rows))
        return self._settings[1]

    def _gather(self, rows: np.ndarray) -> _Settings:
        repetition, frequency, presence, temperature, top_k, top_p, min_p = (
            self._columns[name][rows, None] for name in _COLUMNS
        )
        greedy = temperature == 0
        warmth = np.where(greedy, 1.0, temperature)

        def column(values: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.as_tensor(values).to(self.device, dtype)

        return _Settings(
            torch.as_tensor(rows, device=self.device), column(repetition), column(frequency), column(presence),
            column(warmth), column(greedy, torch.bool), column(top_k, torch.int64), column(top_p, torch.float64),
            column(min_p, torch.float64), bool(self._penalised[rows].any()), bool((warmth != 1).any()),
            bool(greedy.any()), bool(greedy.all()), int(top_k.max()), bool((top_p < 1).any()), bool((min_p > 0).any()),
        )  # fmt: skip

    def _scores(self, settings: _Settings, logits_BV: Tensor, allowed_BV: Tensor | None) -> tuple[Tensor, Tensor]:
        """The model's log-probabilities at the temperature, and what they become by penalties and constraints."""
        logits_BV = logits_BV.float()
        scaled_BV = logits_BV / settings.warmth if settings.any_warm else logits_BV
        scores_BV = logprobs_BV = scaled_BV.log_softmax(dim=-1)
        if settings.any_penalty:
            scores_BV = self._penalise(settings, scaled_BV)
        if self._never is not None:
            scores_BV = scores_BV.masked_fill(self._never, float("-inf"))
        if allowed_BV is not None:
            scores_BV = scores_BV.masked_fill(~allowed_BV, float("-inf"))
        return logprobs_BV, scores_BV

    def _penalise(self, settings: _Settings, scaled_BV: Tensor) -> Tensor:
        assert self._counts is not None
        assert self._seen is not None
        counts_BV, seen_BV = self._counts[settings.rows], self._seen[settings.rows]
        factor = torch.where(scaled_BV > 0, 1 / settings.repetition, settings.repetition)
        penalised_BV = torch.where(seen_BV & (settings.repetition != 1), scaled_BV * factor, scaled_BV)
        taken_BV = settings.frequency * counts_BV + settings.presence * (counts_BV > 0)
        return penalised_BV - taken_BV / settings.warmth

    def _count(self, rows: Tensor, ids_B: Tensor) -> None:
        assert self._counts is not None
        assert self._seen is not None
        self._counts[rows, ids_B] += 1
        self._seen[rows, ids_B] = True

    def _truncate(self, settings: _Settings, weights_BV: Tensor) -> Tensor:
        """Set the weights of tokens that are cut to zero; of tokens as likely as the last one kept, none is cut."""
        vocabulary = weights_BV.shape[-1]
        if settings.largest_k:
            likeliest = weights_BV.topk(min(settings.largest_k, vocabulary), dim=-1).values
            last = likeliest.gather(-1, (settings.top_k - 1).clamp(0, likeliest.shape[-1] - 1))
            weights_BV = weights_BV.masked_fill((weights_BV < last) & (settings.top_k > 0), 0.0)
        if settings.any_top_p:
            least = _least_of_nucleus(weights_BV, settings.top_p)
            weights_BV = weights_BV.masked_fill((weights_BV < least) & (settings.top_p < 1), 0.0)
        if settings.any_min_p:
            least = weights_BV.amax(dim=-1, keepdim=True) * settings.min_p
            weights_BV = weights_BV.masked_fill(weights_BV < least, 0.0)
        return weights_BV


def _least_of_nucleus(weights_BV: Tensor, top_p: Tensor) -> Tensor:
    """The smallest weight (B, 1) among the fewest largest ones that hold the share `top_p` (B, 1) of a row."""
    wanted = torch.where(top_p < 1, top_p, 0) * weights_BV.sum(dim=-1, keepdim=True, dtype=torch.float64)
    # Few tokens hold it nearly always, and sorting all of them would take longest of all that is done here.
    least, enough = _last_needed(weights_BV.topk(min(_NUCLEUS, weights_BV.shape[-1]), dim=-1).values, wanted)
    wide = (~enough[:, 0]).nonzero()[:, 0]
    if len(wide):
        least[wide], _ = _last_needed(weights_BV[wide].sort(dim=-1, descending=True).values, wanted[wide])
    return least


def _last_needed(largest: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Of each row's largest weights, which descend, the last that is needed to hold `wanted`, and whether they do."""
    held = largest.cumsum(dim=-1, dtype=torch.float64)
    kept = (held - largest < wanted).sum(dim=-1, keepdim=True)
    return largest.gather(-1, kept.clamp(1) - 1), held[:, -1:] >= wanted


def draw(weights_BV: Tensor, uniforms_B: Tensor) -> Tensor:
    """A token per row (B,): the cumulative distribution of weights (that need not sum to 1), inverted at a number from
    0 to 1."""
    cumulative = weights_BV.cumsum(dim=-1, dtype=torch.float64)
    target = uniforms_B[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, target, right=True)[:, 0].clamp_(max=weights_BV.shape[-1] - 1)
