"""Answers in the shapes of OpenAI's API: whole, or as the events of a stream."""

from __future__ import annotations

import json
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from ..generation import Engine
from ..generation.requests import Request
from .driver import Piece

_LEAST = -9999.0  # what stands for a logarithm of zero, which JSON has no word for
DONE = b"data: [DONE]\n\n"

dumps = partial(json.dumps, ensure_ascii=False, separators=(",", ":"))


class Shape(ABC):
    """Of one answer to a client. Subclasses say how its choices look.

    Args:
        logprobs: how many likeliest tokens are told beside each token's own log-probability; None: nothing of it.
        usage: whether a stream ends with the tokens that it took.
    """

    prefix: str
    kind: str
    chunk_kind: str

    def __init__(self, model: str, engine: Engine, fingerprint: str, logprobs: int | None, usage: bool) -> None:
        self.model, self.engine, self.logprobs, self.usage = model, engine, logprobs, usage
        self.about = {
            "id": f"{self.prefix}-{secrets.token_hex(12)}", "created": int(time.time()), "model": model,
            "system_fingerprint": fingerprint,
        }  # fmt: skip
        assert engine.tokenizer is not None
        self.tokenizer = engine.tokenizer
        # All chunks of a stream begin and end alike.
        head = dumps({"object": self.chunk_kind, **self.about})
        self._head = f'data: {head[:-1]},"choices":[{{"index":'
        self._tail = '}],"usage":null}\n\n' if usage else "}]}\n\n"

    def whole(self, requests: Sequence[Request], texts: Sequence[str]) -> bytes:
        """The answer with all of its choices."""
        choices = [
            self.choice(index, text, self._tokens(request, 0, len(request.ids)), finish_reason(request))
            for index, (request, text) in enumerate(zip(requests, texts, strict=True))
        ]
        body = {"object": self.kind, **self.about, "choices": choices, "usage": usage_of(requests)}
        return dumps(body).encode()

    def events(self, index: int, request: Request, piece: Piece) -> str:
        """What a stream says of one choice's next piece; "" if nothing."""
        found = self.opening(index) if piece.start == 0 else ""
        tokens = self._tokens(request, piece.start, piece.end)
        if piece.text or tokens:
            found += self._chunk(index, self.delta(dumps(piece.text), tokens), "null")
        if piece.done:
            found += self._chunk(index, self.delta(None, None), f'"{finish_reason(request)}"')
        return found

    def usage_event(self, requests: Sequence[Request]) -> str:
        body = {"object": self.chunk_kind, **self.about, "choices": [], "usage": usage_of(requests)}
        return f"data: {dumps(body)}\n\n"

    def opening(self, index: int) -> str:
        return ""

    @abstractmethod
    def choice(self, index: int, text: str, tokens: Any, reason: str) -> dict[str, Any]:
        """A choice of a whole answer, with its tokens if these were asked for."""

    @abstractmethod
    def delta(self, text: str | None, tokens: Any) -> str:
        """The middle of a chunk, as JSON: text (JSON) and tokens of a piece, None at the end."""

    def _chunk(self, index: int, delta: str, reason: str) -> str:
        return f'{self._head}{index},{delta},"finish_reason":{reason}{self._tail}'

    def _tokens(self, request: Request, start: int, end: int) -> list[dict[str, Any]] | None:
        """The tokens of a piece as clients see them, without one that only ends the answer."""
        if self.logprobs is None:
            return None
        if request.done and end == len(request.ids) and end and request.ids[-1] in self.engine.eos_token_ids:
            end -= 1
        found = []
        for place in range(start, end):
            entry = self._token(request.ids[place], request.logprobs[place])
            ids, values = request.top[place] if self.logprobs else ((), ())
            entry["top_logprobs"] = [
                self._token(int(one), float(value)) for one, value in zip(ids, values, strict=True)
            ]
            found.append(entry)
        return found

    def _token(self, number: int, logprob: float) -> dict[str, Any]:
        spelled = self.tokenizer.token_bytes(number)
        return {"token": spelled.decode("utf-8", "replace"), "logprob": max(logprob, _LEAST), "bytes": list(spelled)}


class ChatShape(Shape):
    prefix, kind, chunk_kind = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def opening(self, index: int) -> str:
        return self._chunk(index, '"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null', "null")

    def choice(self, index: int, text: str, tokens: Any, reason: str) -> dict[str, Any]:
        return {
            "index": index, "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": None if tokens is None else {"content": tokens, "refusal": None}, "finish_reason": reason,
        }  # fmt: skip

    def delta(self, text: str | None, tokens: Any) -> str:
        content = "" if text is None else f'"content":{text}'
        told = "null" if tokens is None else dumps({"content": tokens, "refusal": None})
        return f'"delta":{{{content}}},"logprobs":{told}'


class CompletionShape(Shape):
    prefix, kind, chunk_kind = "cmpl", "text_completion", "text_completion"

    def choice(self, index: int, text: str, tokens: Any, reason: str) -> dict[str, Any]:
        return {"index": index, "text": text, "logprobs": self._columns(tokens), "finish_reason": reason}

    def delta(self, text: str | None, tokens: Any) -> str:
        return f'"text":{text or dumps("")},"logprobs":{dumps(self._columns(tokens))}'

    def _columns(self, tokens: list[dict[str, Any]] | None) -> dict[str, Any] | None:
        if tokens is None:
            return None
        offsets, place = [], 0
        for one in tokens:
            offsets.append(place)
            place += len(one["token"])
        return {
            "tokens": [one["token"] for one in tokens],
            "token_logprobs": [one["logprob"] for one in tokens],
            "top_logprobs": [
                {other["token"]: other["logprob"] for other in one["top_logprobs"]} for one in tokens
            ] if self.logprobs else None,
            "text_offset": offsets,
        }  # fmt: skip


def finish_reason(request: Request) -> Literal["stop", "length"]:
    return "length" if request.finish_reason == "length" else "stop"


def usage_of(requests: Sequence[Request]) -> dict[str, int]:
    """Tokens; a prompt with several answers counts once."""
    prompts = {id(request.prompt): len(request.prompt.ids) for request in requests}
    read, written = sum(prompts.values()), sum(len(request.ids) for request in requests)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
