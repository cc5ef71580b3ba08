"""`/v1/chat/completions` and `/v1/completions`."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response

from ...core.config import build
from ...generation import Sampling
from ...generation.requests import Request as EngineRequest
from ...generation.voice import Voice
from ..answering import EventStream, answer_whole
from ..errors import BODY, ApiError, responses
from ..schemas.generation import (
    ChatCompletion,
    ChatRequest,
    Completion,
    CompletionRequest,
    Drawing,
    ObjectFormat,
    SchemaFormat,
)
from ..service import Service
from ..shapes import ChatShape, CompletionShape, Shape
from .about import TheService

router = APIRouter(tags=["generation"])

_STREAM: dict[str, Any] = {"text/event-stream": {"schema": {"type": "string"}}}
_FAILURES = responses(404, 504, *BODY)


@router.post("/v1/chat/completions", response_model=ChatCompletion, responses={200: {"content": _STREAM}, **_FAILURES})
async def chat(wish: ChatRequest, http: Request, service: TheService) -> Response:
    """Answer messages."""
    voice = service.voice(wish.model)
    groups = await service.work(_chat_requests, service, voice, wish)
    told = None if not wish.logprobs else wish.top_logprobs or 0
    shape = ChatShape(wish.model, voice.engine, service.fingerprints[wish.model], told, _usage(wish))
    return await _answer(service, http, wish, groups, shape)


@router.post("/v1/completions", response_model=Completion, responses={200: {"content": _STREAM}, **_FAILURES})
async def complete(wish: CompletionRequest, http: Request, service: TheService) -> Response:
    """Go on from texts or tokens."""
    voice = service.voice(wish.model)
    if wish.echo and wish.logprobs is not None:
        raise ApiError(400, "the log-probabilities of prompts are not computed here", param="logprobs")
    groups, texts = await service.work(_completion_requests, service, voice, wish)
    shape = CompletionShape(wish.model, voice.engine, service.fingerprints[wish.model], wish.logprobs, _usage(wish))
    return await _answer(service, http, wish, groups, shape, texts if wish.echo else None)


def _usage(wish: Drawing) -> bool:
    return bool(wish.stream_options and wish.stream_options.include_usage)


async def _answer(
    service: Service,
    http: Request,
    wish: Drawing,
    groups: list[list[EngineRequest]],
    shape: Shape,
    echoed: Sequence[str] | None = None,
) -> Response:
    config = service.config
    answers = service.drivers[wish.model].submit(
        groups, every_step=bool(wish.stream), most_unread=config.max_unread_tokens
    )
    before = [text for text, group in zip(echoed or [""] * len(groups), groups, strict=True) for _ in group]
    if wish.stream:
        return EventStream(answers, shape, before, config.patience)
    return await answer_whole(http, answers, shape, before)


def _chat_requests(service: Service, voice: Voice, wish: ChatRequest) -> list[list[EngineRequest]]:
    if wish.top_logprobs and not wish.logprobs:
        raise ApiError(400, "top_logprobs needs logprobs", param="top_logprobs")
    messages = [one.as_read() for one in wish.messages]
    schema: dict[str, Any] | None = None
    if isinstance(wish.response_format, ObjectFormat):
        schema = {"type": "object"}
    elif isinstance(wish.response_format, SchemaFormat):
        schema = dict(wish.response_format.json_schema.schema_)
    wanted = wish.max_completion_tokens or wish.max_tokens
    _require_few(service, wish.n or 1, wanted)
    room = None
    if wish.truncation == "auto":
        wanted = wanted or min(service.config.max_tokens, voice.engine.max_length // 2)
        room = voice.engine.max_length - wanted
    ids, _ = voice.encode(messages, room)
    return [_requests(service, voice, wish, ids, wanted, wish.top_logprobs or 0, schema)]


def _completion_requests(
    service: Service, voice: Voice, wish: CompletionRequest
) -> tuple[list[list[EngineRequest]], list[str]]:
    prompts = _prompts(wish.prompt)
    _require_few(service, len(prompts) * (wish.n or 1), wish.max_tokens)
    groups, texts = [], []
    for prompt in prompts:
        ids = voice.tokenizer.encode(prompt, parse_special=False) if isinstance(prompt, str) else np.array(prompt)
        wanted = wish.max_tokens or 16
        groups.append(_requests(service, voice, wish, ids, wanted, wish.logprobs or 0, None))
        if wish.echo:
            texts.append(prompt if isinstance(prompt, str) else voice.tokenizer.decode(prompt))
    return groups, texts


def _prompts(prompt: Any) -> list[str | list[int]]:
    """The prompts of a request, which may hold one or several, as texts or as ids."""
    if isinstance(prompt, str) or isinstance(prompt[0], int):
        return [prompt]
    return list(prompt)


def _require_few(service: Service, choices: int, tokens: int | None) -> None:
    config = service.config
    if choices > config.max_choices:
        raise ApiError(400, f"{choices} answers are more than the {config.max_choices} of one request", param="n")
    if tokens is not None and tokens > config.max_tokens:
        raise ApiError(400, f"{tokens} tokens are more than the {config.max_tokens} of one answer", param="max_tokens")


def _requests(
    service: Service,
    voice: Voice,
    wish: Drawing,
    ids: np.ndarray,
    wanted: int | None,
    top: int,
    schema: dict[str, Any] | None,
) -> list[EngineRequest]:
    """A prompt's requests, `n` of them."""
    context = voice.engine.max_length
    if wish.truncation != "auto" and len(ids) + (wanted or 1) > context:
        raise ApiError(
            400, f"{len(ids)} tokens and {wanted or 1} new ones are more than the model's {context}", param="messages"
            if hasattr(wish, "messages") else "prompt", code="context_length_exceeded",
        )  # fmt: skip
    limit = wanted or min(service.config.max_tokens, context - len(ids))
    given = {
        name: value
        for name in (
            "temperature",
            "top_p",
            "top_k",
            "min_p",
            "repetition_penalty",
            "frequency_penalty",
            "presence_penalty",
        )
        if (value := getattr(wish, name)) is not None
    }
    sampling = build(
        Sampling,
        {
            **given, "max_new_tokens": limit, "top_logprobs": top, "stop": wish.stops, "json_schema": schema,
            "seed": secrets.randbits(31) if wish.seed is None else wish.seed % (1 << 64),
        },
    )  # fmt: skip
    return voice.engine.prepare(
        ids, sampling, samples=wish.n or 1, truncate="left" if wish.truncation == "auto" else None,
        seconds=service.config.deadline,
    )  # fmt: skip
