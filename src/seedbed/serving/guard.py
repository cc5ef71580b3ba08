"""What every request passes on its way in: who may ask, from where, how often and how much; and what every answer
carries on its way out. Plain ASGI, so that a client that hangs up is noticed behind it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .config import ServeConfig
from .driver import where_it_arose
from .errors import RETRY_AFTER, ApiError
from .limits import TokenBuckets, too_deep
from .service import Service

log = logging.getLogger("seedbed.serving")

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_OPEN = ("/", "/health", "/favicon.ico")  # without a key: the page itself holds nothing of the run
_OPEN_BELOW = "/web/"
_WITH_BODY = ("POST", "PUT", "PATCH")
_LARGE = 1 << 18  # bytes of a body that is looked through by a worker

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "content-security-policy": POLICY,
    "x-frame-options": "DENY",
}


class Guard:
    """Middleware around the whole application.

    A path that sets one of the security headers itself (a page that may stand in a frame of ours, say) keeps its own.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service, self.config = app, service, service.config
        self._buckets = TokenBuckets(self.config.requests_per_second, self.config.burst)
        self._hosts = _hosts(self.config)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(send, self._origin_allowed(Headers(scope=scope)))
        started = time.perf_counter()
        try:
            await self._answer(scope, receive, answer)
        except ApiError as error:
            if not answer.status:
                await error.response()(scope, receive, answer)
        except Exception as error:  # the last resort: nothing of it reaches the client
            log.error(
                "%s %s failed: %s\n%s", scope["method"], _path(scope), type(error).__name__, where_it_arose(error)
            )
            if answer.status:
                raise ConnectionAbortedError("the answer cannot be completed") from None
            await ApiError(500, "an error inside the server").response()(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - started
            self.service.metrics.answered(_path(scope), scope["method"], answer.status, seconds)
            log.info("%s %s %d %.0f ms", scope["method"], _path(scope), answer.status, seconds * 1000)

    async def _answer(self, scope: Scope, receive: Receive, send: _Answer) -> None:
        headers = Headers(scope=scope)
        self._check_host(headers)
        if scope["method"] == "OPTIONS" and send.origin and "access-control-request-method" in headers:
            await _preflight(send)
            return
        self._check_origin(headers)
        client = self._client(scope, headers)
        if wait := self._buckets.wait(client):
            raise ApiError(429, "too many requests", code="rate_limit_exceeded", retry_after=max(1, math.ceil(wait)))
        if scope["method"] in _WITH_BODY:
            if self.service.draining:
                raise ApiError(503, "the server is stopping", code="stopping", retry_after=RETRY_AFTER)
            receive = _Replay(await self._body(headers, receive), receive)
        await self.app(scope, receive, send)

    def _check_host(self, headers: Headers) -> None:
        """A page of another site that lets its own name point here (DNS rebinding) is told by the name it asks for."""
        if self._hosts is not None and _name(headers.get("host", "")) not in self._hosts:
            raise ApiError(403, "this server is not known by that host", code="host_not_allowed")

    def _check_origin(self, headers: Headers) -> None:
        """Browsers send some requests across sites without asking; they name the page that they come from."""
        origin = headers.get("origin")
        if origin is None or origin in self.config.allow_origins:
            return
        if urlsplit(origin).netloc != headers.get("host"):
            raise ApiError(403, "requests from pages of other sites are not allowed", code="origin_not_allowed")

    def _origin_allowed(self, headers: Headers) -> str | None:
        origin = headers.get("origin")
        return origin if origin in self.config.allow_origins else None

    def _client(self, scope: Scope, headers: Headers) -> str:
        """Who asks: the id of a key, else an address."""
        address = str((scope.get("client") or ("unknown",))[0])
        path = scope["path"]
        if (
            self.service.keys is None
            or path in _OPEN
            or (path.startswith(_OPEN_BELOW) and scope["method"] in ("GET", "HEAD"))
        ):
            return address
        kind, _, secret = headers.get("authorization", "").partition(" ")
        owner = self.service.keys.owner(secret.strip()) if kind.lower() == "bearer" else None
        if owner is None:
            if self._buckets.wait(address):
                raise ApiError(429, "too many requests", code="rate_limit_exceeded", retry_after=RETRY_AFTER)
            raise ApiError(401, "this server takes an API key", code="invalid_api_key")
        return f"key {owner}"

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        """The whole body, within its bounds."""
        most = self.config.max_body_bytes
        too_large = ApiError(413, f"the body is larger than {most} bytes", code="body_too_large", close=True)
        told = headers.get("content-length", "")
        if told.isdecimal() and int(told) > most:
            raise too_large
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise ApiError(415, "the body has to be application/json", code="not_json")
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.config.patience):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ApiError(400, "the client hung up", close=True)
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > most:
                        raise too_large
                    if not message.get("more_body"):
                        break
        except TimeoutError:
            raise ApiError(408, "the body did not come", code="body_timeout", close=True) from None
        body = b"".join(parts)
        depth = self.config.max_depth
        deep = too_deep(body, depth) if size < _LARGE else await self.service.work(too_deep, body, depth)
        if deep:
            raise ApiError(
                400, f"brackets do not match, or are nested more than {depth} deep", code="nested_too_deeply"
            )
        return body


class _Replay:
    """Gives a body that was read already, and then what else comes."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._message: Message | None = {"type": "http.request", "body": body, "more_body": False}
        self._receive = receive

    async def __call__(self) -> Message:
        message, self._message = self._message, None
        return message if message is not None else await self._receive()


class _Answer:
    """Sends, with the headers that every answer carries, and remembers the status (0: none was sent)."""

    def __init__(self, send: Send, origin: str | None) -> None:
        self._send, self.origin, self.status = send, origin, 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(raw=list(message["headers"]))
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            if self.origin is not None:
                headers["access-control-allow-origin"] = self.origin
                headers.add_vary_header("origin")
            message = {**message, "headers": headers.raw}
        await self._send(message)


async def _preflight(send: _Answer) -> None:
    headers = {
        "access-control-allow-methods": "GET, POST",
        "access-control-allow-headers": "authorization, content-type",
        "access-control-max-age": "600",
    }
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 204, "headers": raw})
    await send({"type": "http.response.body", "body": b""})


def _hosts(config: ServeConfig) -> frozenset[str] | None:
    """Names under which clients may address the server; None: any, as beyond loopback a key decides."""
    if not config.loopback and not config.allow_hosts:
        return None
    return frozenset(_lowered((config.host, *config.allow_hosts, *(_LOOPBACK if config.loopback else ()))))


def _lowered(names: Iterable[str]) -> Iterable[str]:
    return (name.lower().strip("[]") for name in names)


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _path(scope: Scope) -> str:
    """The path as the application knows it, so that nothing of what clients write stands in logs and metrics."""
    return getattr(scope.get("route"), "path", None) or "-"
