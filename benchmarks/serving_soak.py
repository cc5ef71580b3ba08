"""A soak: clients that ask properly among others that vanish, send garbage, hang up in the middle of a stream or do not
read. Nothing may be lost, no answer may be wrong, and the server's memory has to stay flat.

Answers to the proper clients are greedy and compared with the engine's own. Garbage has to be refused (4xx), or its
connection closed; a 5xx other than 503 is counted as a failure.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving_load import Connection, request_bytes
from benchmarks.serving_servers import english_pieces, served
from seedbed.core.console import show
from seedbed.generation import Sampling
from seedbed.generation.voice import Voice

_PROPER, _RUDE = 16, 12  # clients
_TEXTS = 40
_LONGEST = 48  # tokens of an answer
_PATH = "/v1/chat/completions"


def soak(run: Path, minutes: float, threads: int, logs: Path) -> dict[str, Any]:
    logs.mkdir(exist_ok=True)
    expected = _expected(run)
    counts: Counter[str] = Counter()
    with served("seedbed", run, "float32", threads, logs / "soak.log", ("--deadline", "60")) as one:
        memory = asyncio.run(_run(one.port, one.process.pid, expected, minutes * 60, counts))
        left = asyncio.run(_idle(one.port))
    first, last = (
        float(np.median(part)) for part in (memory[len(memory) // 4 : len(memory) // 2], memory[-len(memory) // 4 :])
    )
    found = {
        **counts, "left running": left, "memory MB, second quarter": round(first, 1),
        "memory MB, last quarter": round(last, 1),
    }  # fmt: skip
    for name, value in found.items():
        show(f"{name}: {value}")
    clean = not (counts["lost"] or counts["wrong"] or counts["failures"] or left) and last < first * 1.05 + 5
    show("clean" if clean else "NOT clean", style="green" if clean else "red")
    return found | {"clean": clean}


def _expected(run: Path) -> list[tuple[str, int, str]]:
    """Questions, lengths of answers, and the engine's own greedy ones."""
    voice, random_lengths = Voice.load(run / "policy", chats=True), random.Random(0)
    asked = [(text, random_lengths.randint(1, _LONGEST)) for text in english_pieces(_TEXTS)]
    own = voice.engine.generate(
        [voice.encode(text)[0] for text, _ in asked],
        [Sampling(temperature=0, max_new_tokens=length) for _, length in asked],
    )
    return [(*one, answer.text) for one, answer in zip(asked, own, strict=True)]


async def _run(
    port: int, process: int, expected: list[tuple[str, int, str]], seconds: float, counts: Counter[str]
) -> list[float]:
    end = time.monotonic() + seconds
    clients = [_proper(port, expected, end, counts, random.Random(number)) for number in range(_PROPER)]
    clients += [_rude(port, expected, end, counts, random.Random(1000 + number)) for number in range(_RUDE)]
    memory: list[float] = []

    async def watch() -> None:
        while time.monotonic() < end:
            memory.append(_resident(process))
            await asyncio.sleep(min(1.0, seconds / 100))

    await asyncio.gather(watch(), *clients)
    return memory


def _resident(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


async def _idle(port: int) -> int:
    """Generations that still run once everybody has gone."""
    connection = Connection(port)
    for _ in range(100):
        _, body = await connection.whole(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        health = json.loads(body)
        left = sum(health["running"].values()) + sum(health["waiting"].values())
        if not left:
            break
        await asyncio.sleep(0.1)
    connection.close()
    return int(left)


def _body(text: str, length: int, stream: bool) -> dict[str, Any]:
    return {
        "model": "policy", "messages": [{"role": "user", "content": text}], "max_tokens": length, "temperature": 0,
        "stream": stream,
    }  # fmt: skip


async def _proper(
    port: int, expected: list[tuple[str, int, str]], end: float, counts: Counter[str], rng: random.Random
) -> None:
    connection = Connection(port)
    while time.monotonic() < end:
        text, length, answer = rng.choice(expected)
        stream = rng.random() < 0.7
        try:
            status, body = await connection.whole(request_bytes(_PATH, _body(text, length, stream)))
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            counts["lost"] += 1
            show(f"lost: {error!r}")
            connection.close()
            continue
        counts["asked"] += 1
        if status != 200:
            counts["lost"] += 1
            show(f"lost: {status} {body[:200]!r}")
        elif (_joined(body) if stream else json.loads(body)["choices"][0]["message"]["content"]) != answer:
            counts["wrong"] += 1
            show(f"wrong: {body[-300:]!r} is not {answer!r}")
    connection.close()


def _joined(body: bytes) -> str:
    """The text of a stream; None at its end would be an end without [DONE]."""
    *events, last, _ = body.decode().split("\n\n")
    if last != "data: [DONE]":
        return "a stream without an end"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


async def _rude(
    port: int, expected: list[tuple[str, int, str]], end: float, counts: Counter[str], rng: random.Random
) -> None:
    ways = (_vanish, _hang_up, _garbage, _malformed, _half, _deaf)
    while time.monotonic() < end:
        text, _, _ = rng.choice(expected)
        way, connection = rng.choice(ways), Connection(port)
        try:
            async with asyncio.timeout(20):
                status = await way(connection, text, rng)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, TimeoutError):
            status = None  # the server closed the connection, as it may
        counts[way.__name__.strip("_")] += 1
        if status is not None and status >= 500 and status != 503:
            counts["failures"] += 1
            show(f"{way.__name__}: {status}")
        connection.close()


async def _vanish(connection: Connection, text: str, rng: random.Random) -> None:
    """Ask and go before anything comes."""
    _, writer = await connection.open()
    writer.write(request_bytes(_PATH, _body(text, 400, rng.random() < 0.5)))
    await writer.drain()
    await asyncio.sleep(rng.random() * 0.05)
    writer.transport.abort()


async def _hang_up(connection: Connection, text: str, rng: random.Random) -> int:
    """Read some of a stream and go."""
    status, reader, _ = await connection.send(request_bytes(_PATH, _body(text, 400, True)))
    for _ in range(rng.randint(1, 20)):
        await reader.readline()
    return status


async def _deaf(connection: Connection, text: str, rng: random.Random) -> int:
    """Do not read for a while."""
    status, _, _ = await connection.send(
        request_bytes(_PATH, _body(text, 300, True) | {"logprobs": True, "top_logprobs": 20})
    )
    await asyncio.sleep(rng.random() * 3)
    return status


async def _garbage(connection: Connection, text: str, rng: random.Random) -> int:
    reader, writer = await connection.open()
    writer.write(rng.randbytes(rng.randint(1, 4000)) + b"\r\n\r\n")
    await writer.drain()
    head = await reader.readline()
    return int(head.split()[1])


async def _malformed(connection: Connection, text: str, rng: random.Random) -> int:
    """A request whose body is damaged in one of many ways."""
    whole = json.dumps(_body(text, 8, False)).encode()
    damaged = rng.choice(
        [
            whole[: rng.randrange(len(whole))],
            bytes(byte ^ (rng.random() < 0.02) * rng.randrange(256) for byte in whole),
            b"[" * 200 + b"]" * 200,
            whole.replace(b'"temperature": 0', b'"temperature": NaN'),
            whole.replace(b"policy", b"nobody"),
            b'{"model": "policy", "messages": [{"role": "user", "content": "\\ud800"}]}',
            whole.replace(b"8", b"1" * 5000),
        ]
    )
    status, _ = await connection.whole(request_bytes(_PATH, damaged))
    return status


async def _half(connection: Connection, text: str, rng: random.Random) -> None:
    """Begin a request and go."""
    request = request_bytes(_PATH, _body(text, 8, False))
    _, writer = await connection.open()
    writer.write(request[: rng.randrange(1, len(request))])
    await writer.drain()
    await asyncio.sleep(rng.random() * 0.2)
