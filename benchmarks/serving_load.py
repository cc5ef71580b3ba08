"""Closed-loop clients: each sends its next request when the last one is answered. Raw sockets and as little Python as
goes, as clients and server share the machine."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_LIMIT = 1 << 22  # bytes of a line that a client reads


Ask = Callable[["Connection", bytes], Awaitable[tuple[float, float]]]


@dataclass
class Load:
    """What clients saw. first, whole: seconds to the first piece and to the end of each answer that came."""

    seconds: float = 0.0
    tokens: int = 0
    lost: int = 0
    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)


def milliseconds(seconds: list[float], percentile: float) -> float:
    return round(float(np.percentile(seconds, percentile)) * 1000, 1) if seconds else float("nan")


def request_bytes(path: str, body: dict[str, Any] | bytes) -> bytes:
    """A whole request; a body that is bytes is sent as it is."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


class Connection:
    """One client's connection, kept open between requests."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is None or self._writer is None or self._writer.is_closing():
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port, limit=_LIMIT)
        return self._reader, self._writer

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def send(self, request: bytes) -> tuple[int, asyncio.StreamReader, dict[str, str]]:
        """Send a request; the status, what the body is read from, and the headers."""
        reader, writer = await self.open()
        writer.write(request)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        return int(head[0].split()[1]), reader, headers

    async def whole(self, request: bytes) -> tuple[int, bytes]:
        """Status and body."""
        status, reader, headers = await self.send(request)
        if "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
        else:
            body = b"".join([piece async for piece in chunks(reader)])
        if headers.get("connection") == "close":
            self.close()
        return status, body

    async def stream(self, request: bytes) -> tuple[float, float]:
        """Seconds to the first piece with text, and to the end.

        Raises:
            RuntimeError: the answer is no stream, or ends early.
        """
        started = time.perf_counter()
        status, reader, _ = await self.send(request)
        if status != 200:
            self.close()
            raise RuntimeError(f"status {status}")
        first, last = 0.0, b""
        async for piece in chunks(reader):
            if not first and (b'"content":"' in piece or b'"content": "' in piece):
                first = time.perf_counter() - started
            last = (last + piece)[-500:]
        if b"[DONE]" not in last and b'"finish_reason":"length"' not in last:
            raise RuntimeError("a stream without an end")
        return first or time.perf_counter() - started, time.perf_counter() - started


async def chunks(reader: asyncio.StreamReader) -> Any:
    """The chunks of a body in chunked encoding."""
    while size := int(await reader.readline(), 16):
        piece = await reader.readexactly(size + 2)
        yield piece[:-2]
    await reader.readline()


def closed_loop(port: int, clients: int, seconds: float, requests: Iterator[bytes], ask: Ask, tokens: int = 0) -> Load:
    """`clients` that ask one after the other for so long; what was begun is waited for.

    Args:
        tokens: of each answer.
    """

    async def client(load: Load, end: float) -> None:
        connection = Connection(port)
        while time.perf_counter() < end:
            try:
                first, whole = await ask(connection, next(requests))
            except (OSError, RuntimeError, asyncio.IncompleteReadError):
                load.lost += 1
                connection.close()
                continue
            load.first.append(first)
            load.whole.append(whole)
            load.tokens += tokens
        connection.close()

    async def run() -> Load:
        load, started = Load(), time.perf_counter()
        await asyncio.gather(*(client(load, started + seconds) for _ in range(clients)))
        load.seconds = time.perf_counter() - started
        return load

    return asyncio.run(run())
