"""Our server beside transformers' and llama.cpp's: closed-loop clients on loopback, on the same weights.

    python -m benchmarks.serving [--clients 1 8 32] [--seconds 10] [--rounds 3] [--precision float32] [--json FILE]
    python -m benchmarks.serving --only search [--documents 100000]
    python -m benchmarks.serving --soak 30

Each client streams the answer to a chat of some 60 tokens, 64 new tokens, and asks again. Greedy answers of all servers
are compared first. Transformers' server batches continuously, llama.cpp's (of llama-cpp-python) answers one request at
a time, so llama.cpp's own batching stands beside it ("llama.cpp, no server": prompts and decoding of as many at once,
as fast as a perfect server of it could be). Search is over pieces of English with an encoder of the demo's size and
random weights. The soak is told in `serving_soak`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.generation_peers import LlamaCpp
from benchmarks.measuring import circumstances, seconds, spread, write_results
from benchmarks.serving_load import Connection, Load, closed_loop, milliseconds, request_bytes
from benchmarks.serving_servers import CONTEXT, Served, add_index, english_pieces, export, make_run, served
from benchmarks.serving_soak import soak
from seedbed.core.console import show, table

NEW = 64


def chats(one: Served, stream: bool) -> Iterator[bytes]:
    """Requests without end; each text once in thousands."""
    for text in itertools.cycle(list(english_pieces(4000))):
        message = {"role": "user", "content": text}
        body = {"model": one.model, "messages": [message], "max_tokens": NEW, "temperature": 0, "stream": stream}
        yield request_bytes("/v1/chat/completions", body | one.wishes)


def answers(one: Served, count: int = 8) -> tuple[list[str], set[int]]:
    """The first greedy answers, and how many tokens they have."""

    async def ask() -> list[Any]:
        connection, requests = Connection(one.port), chats(one, stream=False)
        return [json.loads((await connection.whole(next(requests)))[1]) for _ in range(count)]

    found = asyncio.run(ask())
    # Transformers strips texts, and llama.cpp's server leaves out what is no character where others write U+FFFD.
    texts = [body["choices"][0]["message"]["content"].replace("\ufffd", "").strip() for body in found]
    return texts, {body["usage"]["completion_tokens"] for body in found}


def bare_llama(run: Path, precision: str, rows: int, threads: int) -> float:
    """Tokens per second of llama.cpp that reads `rows` prompts of 64 tokens and decodes them in one batch."""
    prompts = np.random.default_rng(0).integers(10, 1000, size=(rows, 64))
    llama = LlamaCpp(export(run, precision), precision, rows, CONTEXT // 4, threads)
    llama(prompts, 2)
    best = min(seconds(lambda: llama(prompts, NEW)) for _ in range(3))
    llama.close()
    return rows * NEW / best


def compare(given: argparse.Namespace) -> dict[str, Any]:
    run, logs = make_run(given.models, given.size), given.models / "logs"
    logs.mkdir(exist_ok=True)
    found: dict[int, dict[str, list[Load]]] = {clients: {} for clients in given.clients}
    bare: dict[int, list[float]] = {clients: [] for clients in given.clients}
    texts: dict[str, list[str]] = {}
    for _ in range(given.rounds):
        for name in given.servers:
            with served(name, run, given.precision, given.threads, logs / f"{name}.log") as one:
                texts[name], lengths = answers(one)
                if lengths != {NEW}:
                    show(f"{name}: answers of {sorted(lengths)} tokens, not of {NEW} alone")
                for clients in given.clients:
                    load = closed_loop(
                        one.port, clients, given.seconds, chats(one, stream=True), Connection.stream, NEW
                    )
                    found[clients].setdefault(name, []).append(load)
        for clients in given.clients:
            bare[clients].append(bare_llama(run, given.precision, clients, given.threads))
    for name, said in texts.items():
        same = sum(one == other for one, other in zip(said, texts[given.servers[0]], strict=True))
        show(f"{name}: {same} of {len(said)} greedy answers equal {given.servers[0]}'s")
    rows = []
    for clients, loads in found.items():
        rates = {name: [one.tokens / one.seconds for one in many] for name, many in loads.items()}
        rates["llama.cpp, no server"] = bare[clients]
        ours = rates[given.servers[0]]
        for name, speeds in rates.items():
            many = loads.get(name, [])
            times = {kind: [value for one in many for value in getattr(one, kind)] for kind in ("first", "whole")}
            told = {
                f"{kind}, ms": f"{milliseconds(values, 50):,} / {milliseconds(values, 99):,}" if values else ""
                for kind, values in times.items()
            }
            lost = sum(one.lost for one in many)
            times_by = spread([own / one for own, one in zip(ours, speeds, strict=True)], 2)
            rows.append(
                {
                    "clients": clients, "server": name, "tokens/s": spread(speeds, 0),
                    f"times by {given.servers[0]}": times_by,
                    **told, "lost": lost,
                }
            )  # fmt: skip
    table(
        list(rows[0]), [list(row.values()) for row in rows],
        title=f"{given.size}, {given.precision}; p50 / p99 of the first token and of the whole answer",
    )  # fmt: skip
    return {"rows": rows}


def search(given: argparse.Namespace) -> dict[str, Any]:
    run, logs = make_run(given.models, given.size), given.models / "logs"
    logs.mkdir(exist_ok=True)
    add_index(run, given.documents)
    words = [piece.split()[:6] for piece in english_pieces(2000)]
    rows = []
    with served("seedbed", run, given.precision, given.threads, logs / "search.log") as one:
        for mode, clients in itertools.product(("bm25", "dense", "hybrid"), (1, 8)):
            wishes = ({"query": " ".join(query), "k": 10, "mode": mode} for query in itertools.cycle(words))
            bodies = (request_bytes("/v1/search", wish) for wish in wishes)
            load = closed_loop(one.port, clients, given.seconds, bodies, _timed)
            rows.append(
                {
                    "mode": mode, "clients": clients, "queries/s": round(len(load.whole) / load.seconds),
                    "ms p50": milliseconds(load.whole, 50), "ms p99": milliseconds(load.whole, 99), "lost": load.lost,
                }
            )  # fmt: skip
    table(list(rows[0]), [list(row.values()) for row in rows], title=f"search in {given.documents:,} documents")
    return {"rows": rows}


async def _timed(connection: Connection, request: bytes) -> tuple[float, float]:
    started = time.perf_counter()
    status, _ = await connection.whole(request)
    if status != 200:
        raise RuntimeError(f"status {status}")
    seconds = time.perf_counter() - started
    return seconds, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="Our server beside others.")
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--servers", nargs="*", default=["seedbed", "transformers", "llama.cpp"])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", default="10M", choices=("1M", "10M", "30M", "125M"))
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16", "int8"))
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--only", nargs="*", choices=("generation", "search"), default=["generation", "search"])
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="only this: clients that behave badly")
    parser.add_argument("--models", type=Path, default=Path("runs/serving"))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    results: dict[str, Any] = {name: getattr(given, name) for name in ("threads", "size", "precision", "seconds")}
    if given.soak is not None:
        results["soak"] = soak(make_run(given.models, given.size), given.soak, given.threads, given.models / "logs")
    else:
        parts = {"generation": compare, "search": search}
        results |= {name: parts[name](given) for name in given.only}
    if given.json:
        packages = ("torch", "transformers", "llama-cpp-python", "fastapi", "uvicorn", "seedbed")
        write_results(given.json, results | circumstances(packages))


if __name__ == "__main__":
    main()
