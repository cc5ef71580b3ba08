"""From requests in an engine to a response: whole or as server-sent events, and freed when the client is gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from fastapi import Request as HttpRequest
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from ..generation.requests import Request
from .driver import Answers
from .errors import ApiError, of
from .shapes import DONE, Shape, dumps

log = logging.getLogger("seedbed.serving")

T = TypeVar("T")


class ClientGone(Exception):
    """Nobody is there to be answered."""


async def unless_gone(receive: Receive, work: Awaitable[T]) -> T:
    """What `work` gives, unless the client hangs up before. Called once the request's body is read.

    Raises:
        ClientGone
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_hung_up(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        await _end(task, gone)


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _end(*tasks: asyncio.Future[T] | asyncio.Future[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def answer_whole(http: HttpRequest, answers: Answers, shape: Shape, before: Sequence[str]) -> Response:
    """All at once.

    Args:
        before: what each choice's text is put behind.
    """
    try:
        texts = await unless_gone(http.receive, _collect(answers))
    except ClientGone:
        return Response(status_code=499)
    finally:
        answers.cancel()
    for request in answers.requests:
        if (error := failure(request)) is not None:
            raise error
    whole = [start + text for start, text in zip(before, texts, strict=True)]
    return Response(shape.whole(answers.requests, whole), media_type="application/json")


async def _collect(answers: Answers) -> list[str]:
    texts = [""] * len(answers.requests)
    while found := await answers.take():
        for index, piece in found:
            texts[index] += piece.text
    return texts


class EventStream(Response):
    """Server-sent events. The first piece is awaited before anything is sent, so what fails before it has a status of
    its own; later failures are an event.

    Args:
        patience: seconds that a client may take to read a piece.
    """

    media_type = "text/event-stream"

    def __init__(self, answers: Answers, shape: Shape, before: Sequence[str], patience: float) -> None:
        super().__init__()
        del self.headers["content-length"]
        self.headers["cache-control"] = "no-store"
        self.headers["x-accel-buffering"] = "no"
        self._answers, self._shape, self._before, self._patience = answers, shape, list(before), patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await unless_gone(receive, self._run(scope, receive, send))
        except (ClientGone, TimeoutError):
            log.info("a client went away, or did not read its answer")
        finally:
            self._answers.cancel()

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        answers, started = self._answers, False
        while found := await answers.take():
            if answers.overrun:
                raise ClientGone
            failed = next((error for index, _ in found if (error := failure(answers.requests[index]))), None)
            if failed is not None and not started:
                await failed.response()(scope, receive, send)
                return
            if not started:
                started = True
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if failed is not None:
                await self._send(send, f"data: {dumps(failed.body())}\n\n")
                break
            events = []
            for index, piece in found:
                if piece.start == 0 and self._before[index]:
                    piece.text = self._before[index] + piece.text
                events.append(self._shape.events(index, answers.requests[index], piece))
            if text := "".join(events):
                await self._send(send, text)
        if self._shape.usage:
            await self._send(send, self._shape.usage_event(answers.requests))
        await send({"type": "http.response.body", "body": DONE, "more_body": False})

    async def _send(self, send: Send, text: str) -> None:
        async with asyncio.timeout(self._patience):
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


def failure(request: Request) -> ApiError | None:
    """What a client is told of a request that has ended otherwise than by itself."""
    if request.error is not None:
        return of(request.error)
    if request.finish_reason == "deadline":
        return ApiError(504, "the request took longer than this server allows", code="deadline_exceeded")
    if request.finish_reason == "cancelled":
        return ApiError(503, "the server is stopping", code="stopping")
    return None
