"""Requests that end otherwise than by themselves: cancelled, vanished, too late, too many, or when the server stops."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from seedbed.generation import Engine
from seedbed.run import Run
from seedbed.serving.driver import Answers, Piece

from .conftest import Running, Serve


class Paced:
    """Lets an engine do only the steps that it is given."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engine, self._step, self._given = engine, engine.step, threading.Semaphore(0)
        self.open = False
        monkeypatch.setattr(engine, "step", self.step)

    def step(self) -> Any:
        while not self.open and not self._given.acquire(timeout=0.01):
            pass
        return self._step()

    def give(self, steps: int) -> None:
        self._given.release(steps)


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.005)


@pytest.fixture
def paced(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Running], Paced]]:
    made: list[Paced] = []

    def pace(running: Running) -> Paced:
        made.append(Paced(running.service.voices["policy"].engine, monkeypatch))
        return made[-1]

    yield pace
    for one in made:
        one.open = True


_BODY: dict[str, Any] = {"model": "policy", "prompt": "The csv", "max_tokens": 100, "temperature": 0, "stream": True}


def _url(running: Running) -> str:
    return f"{running.url}/v1/completions"


def _post(running: Running, **changes: Any) -> httpx.Response:
    return httpx.post(_url(running), json=_BODY | changes, timeout=30)


def _events(answer: httpx.Response) -> list[Any]:
    """Of a stream; None stands for its end."""
    told = [event.removeprefix("data: ") for event in answer.text.split("\n\n") if event]
    return [None if event == "[DONE]" else json.loads(event) for event in told]


def _pending(running: Running) -> int:
    load = running.service.voices["policy"].engine.load
    return load.running + load.waiting


def test_clients_that_vanish_free_their_rows(serve: Serve, paced: Callable[[Running], Paced]) -> None:
    running = serve()
    steps = paced(running)
    steps.give(3)
    host, port = running.url.removeprefix("http://").split(":")
    body = json.dumps(_BODY | {"stream": False}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    with (
        httpx.stream("POST", _url(running), json=_BODY | {"n": 3}) as answer,
        socket.create_connection((host, int(port))) as plain,
    ):
        lines = answer.iter_lines()  # if it went, it would hang up
        next(lines)
        # The same without a stream: nothing was ever sent, so only the connection tells.
        plain.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        until(lambda: len(running.service.drivers["policy"].followers) == 4)
    until(lambda: all(one.cancelled for one in running.service.drivers["policy"].followers))
    steps.give(1)
    until(lambda: _pending(running) == 0)
    steps.open = True
    assert _post(running).text.endswith("data: [DONE]\n\n")


def test_a_full_queue_answers_503_and_nobody_is_lost(serve: Serve, paced: Callable[[Running], Paced]) -> None:
    running = serve(queue=2, rows=1)
    steps = paced(running)
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(_post, running, max_tokens=4) for _ in range(2)]
        until(lambda: _pending(running) == 2)
        refused = _post(running)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "overloaded"
        assert int(refused.headers["retry-after"]) >= 1
        steps.open = True
        assert [one.result().status_code for one in waiting] == [200, 200]


def test_deadlines_end_requests(serve: Serve, paced: Callable[[Running], Paced]) -> None:
    running = serve(deadline=0.6)
    steps = paced(running)
    with ThreadPoolExecutor(2) as pool:
        whole, stream = (pool.submit(_post, running, stream=kind) for kind in (False, True))
        until(lambda: _pending(running) == 2)
        steps.give(2)
        until(lambda: all(one.ids for one in running.service.drivers["policy"].followers))
        late = [one.deadline or 0.0 for one in running.service.drivers["policy"].followers]
        until(lambda: time.monotonic() > max(late))
        steps.open = True
    assert whole.result().status_code == 504
    assert whole.result().json()["error"]["code"] == "deadline_exceeded"
    *_, failed, last = _events(stream.result())
    assert (failed["error"]["code"], last) == ("deadline_exceeded", None)


def test_what_nobody_reads_is_bounded(tiny_run: Run) -> None:
    (request,) = tiny_run.voice("policy").engine.prepare("The csv")
    answers = Answers([request], every_step=True, most_unread=8)
    answers.put(0, Piece("read", 0, 4, False))
    assert [(index, piece.text) for index, piece in asyncio.run(answers.take())] == [(0, "read")]
    for start in range(4, 13):
        assert not answers.overrun
        answers.put(0, Piece("x", start, start + 1, False))
    assert answers.overrun
    assert request.cancelled


def test_an_engine_that_fails_answers_and_goes_on(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    running = serve()
    engine = running.service.voices["policy"].engine
    with monkeypatch.context() as broken:
        broken.setattr(engine, "step", lambda: 1 / 0)
        answer = _post(running)
        assert (answer.status_code, answer.json()["error"]["message"]) == (503, "the engine failed (ZeroDivisionError)")
    assert _post(running).status_code == 200


def test_stopping_finishes_what_runs_and_cancels_the_rest(serve: Serve, paced: Callable[[Running], Paced]) -> None:
    running = serve(grace=1)
    steps = paced(running)
    with ThreadPoolExecutor(2) as pool:
        soon, late = (pool.submit(_post, running, max_tokens=count) for count in (4, 100))
        until(lambda: _pending(running) == 2)
        steps.give(2)
        assert httpx.get(f"{running.url}/health").json()["status"] == "ok"
        running.server.handle_exit(15, None)
        assert not running.service.ready
        steps.give(5)
        assert _events(soon.result())[-1] is None
        until(lambda: all(one.cancelled for one in running.service.drivers["policy"].followers))
        assert not late.done()
        steps.open = True
    *_, failed, last = _events(late.result())
    assert (failed["error"]["code"], last) == ("stopping", None)
    until(lambda: not running.service.drivers["policy"].alive)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{running.url}/health")
