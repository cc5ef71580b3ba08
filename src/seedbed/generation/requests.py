"""One request on its way through the engine: its tokens, its text as it becomes certain, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..core.errors import ConfigError, SeedbedError
from ..tokenizers.streaming import StreamDecoder
from .sampling import Sampling

if TYPE_CHECKING:
    from ..tokenizers import Tokenizer
    from .constraints import Matcher

FinishReason = Literal["stop", "length", "cancelled", "deadline"]


@dataclass(frozen=True)
class Generation:
    """What one request got.

    text: of `ids` without special tokens, cut before a stop string; "" where the engine has no tokenizer or was told
        not to decode.
    ids: int64 (n,), with the token that ended it.
    logprobs: float32 (n,), of each id under the model at the request's temperature, before penalties and truncation.
    finish_reason: "stop" (an end token, a stop string, or all that a constraint asked for), "length", "cancelled" or
        "deadline".
    top_ids, top_logprobs: int64 and float32 (n, k), the k likeliest tokens of each step, likeliest first.
    dropped: tokens of the prompt that were cut off at its beginning.
    slid: tokens that a cache of fixed size had let go of in the end.
    """

    text: str
    ids: np.ndarray
    logprobs: np.ndarray
    finish_reason: FinishReason
    top_ids: np.ndarray
    top_logprobs: np.ndarray
    dropped: int = 0
    slid: int = 0


@dataclass(frozen=True)
class Prompt:
    """Ids to go on from, int64 (n,), and how many before them were cut off."""

    ids: np.ndarray
    dropped: int = 0


class Request:
    """A handle: read what has come so far, cancel it, ask for the result once it is `done`.

    Attributes:
        ids, logprobs: the tokens so far.
        error: what went wrong with this request alone, if anything.
        cancelled: whether nobody wants it any more.
        submitted, started, finished: seconds of `time.monotonic`; None before it is so. `started` is when the first
            token came.
    """

    def __init__(
        self,
        name: str,
        prompt: Prompt,
        sampling: Sampling,
        stream: Sequence[int | str],
        limit: int,
        *,
        tokenizer: Tokenizer | None = None,
        eos_token_ids: Sequence[int] = (),
        matcher: Matcher | None = None,
        seconds: float | None = None,
    ) -> None:
        self.name, self.prompt, self.sampling, self.stream, self.limit = name, prompt, sampling, tuple(stream), limit
        self.matcher = matcher
        self.ids: list[int] = []
        self.logprobs: list[float] = []
        self.top: list[tuple[np.ndarray, np.ndarray]] = []
        self.error: SeedbedError | None = None
        self.slid = 0
        self.submitted = time.monotonic()
        self.deadline = None if seconds is None else self.submitted + seconds
        self.started: float | None = None
        self.finished: float | None = None
        self._finish_reason: FinishReason | None = None
        self.cancelled = False
        self._tokenizer, self._eos = tokenizer, frozenset(eos_token_ids)
        self._stops = _StopSearch(sampling.stop) if sampling.stop else None
        self._decoder: StreamDecoder | None = None
        self._read, self._pending = 0, ""

    @property
    def done(self) -> bool:
        return self.finished is not None

    @property
    def finish_reason(self) -> FinishReason | None:
        """None before it is done, and where it failed."""
        return self._finish_reason

    @property
    def length(self) -> int:
        """Tokens of prompt and answer."""
        return len(self.prompt.ids) + len(self.ids)

    def cancel(self) -> None:
        """End it before its next token, from any thread; what it got stays."""
        self.cancelled = True

    def overdue(self, now: float) -> FinishReason | None:
        """Why it has to end whatever the model says, if it has."""
        if self.cancelled:
            return "cancelled"
        return "deadline" if self.deadline is not None and now >= self.deadline else None

    def add(self, token: int, logprob: float) -> bool:
        """Take the next token; True when it was the last."""
        if self.started is None:
            self.started = time.monotonic()
        self.ids.append(token)
        self.logprobs.append(logprob)
        complete = self.matcher is not None and token not in self._eos and self.matcher.consume(token)
        if token in self._eos or self._meets_stop(token) or complete:
            self.finish("stop")
        elif len(self.ids) >= self.limit:
            self.finish("length")
        return self.done

    def finish(self, reason: FinishReason) -> None:
        self._finish_reason, self.finished = reason, time.monotonic()

    def fail(self, error: SeedbedError) -> None:
        self.error, self.finished = error, time.monotonic()

    def result(self, decode: bool = True) -> Generation:
        """What it got.

        Raises:
            SeedbedError: `error`, if there is one.
        """
        if self.error is not None:
            raise self.error
        assert self._finish_reason is not None, "it is not done"
        text = ""
        if decode and self._tokenizer is not None:
            text = before_stop(self._tokenizer.decode(self._shown(), skip_special_tokens=True), self.sampling.stop)
        tops = np.zeros((2, len(self.ids), self.sampling.top_logprobs))
        for step, (ids, values) in enumerate(self.top):
            tops[0, step, : len(ids)], tops[1, step, : len(ids)] = ids, values
        return Generation(
            text,
            np.array(self.ids, dtype=np.int64),
            np.array(self.logprobs, dtype=np.float32),
            self._finish_reason,
            tops[0].astype(np.int64),
            tops[1].astype(np.float32),
            self.prompt.dropped,
            self.slid,
        )

    def take(self) -> str:
        """The text that has become certain since the last call: whole characters, never the beginning of a stop string.

        All that was taken once it is done is the result's text.
        """
        if self._tokenizer is None:
            raise ConfigError("streaming text needs a tokenizer", where="tokenizer")
        if self._decoder is None:
            self._decoder = StreamDecoder(self._tokenizer, skip_special_tokens=True)
        ids, stops = self._shown(), self.sampling.stop
        self._pending += self._decoder.push(ids[self._read :]) if len(ids) > self._read else ""
        self._read = max(self._read, len(ids))
        if self.done:
            text = before_stop(self._pending + self._decoder.finish(), stops)
            self._pending = ""
            return text
        ready = len(before_stop(self._pending, stops))
        if ready == len(self._pending):
            ready -= _beginning_of_stop(self._pending, stops)
        text, self._pending = self._pending[:ready], self._pending[ready:]
        return text

    def _shown(self) -> list[int]:
        """The tokens of the text: an end token is none of them."""
        ended = self.ids and self.ids[-1] in self._eos
        return self.ids[:-1] if ended else self.ids

    def _meets_stop(self, token: int) -> bool:
        if self._stops is None:
            return False
        assert self._tokenizer is not None
        return self._stops.feed(self._tokenizer.token_bytes(token, skip_special_tokens=True))


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


def before_stop(text: str, stops: Sequence[str]) -> str:
    """`text` up to the first stop string in it."""
    return text[: min((place for stop in stops if (place := text.find(stop)) >= 0), default=len(text))]


def _beginning_of_stop(text: str, stops: Sequence[str]) -> int:
    """Length of the longest end of `text` that a stop string may begin with."""
    return max(
        (size for stop in stops for size in range(1, min(len(stop), len(text) + 1)) if text.endswith(stop[:size])),
        default=0,
    )
