"""A server of the tiny run, listening on a port of its own, and OpenAI's client of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import openai
import pytest

from seedbed.core.config import build
from seedbed.run import Run
from seedbed.serving.config import ServeConfig
from seedbed.serving.server import Server, make_server
from seedbed.serving.service import Service


@dataclass
class Running:
    server: Server
    url: str

    @property
    def service(self) -> Service:
        return self.server.service

    def client(self, key: str = "none") -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=30)


Serve = Callable[..., Running]


@contextmanager
def serving(run: Run, **options: Any) -> Iterator[Running]:
    """A server in a thread of its own, until the context ends."""
    server, bound = make_server(run, build(ServeConfig, {"port": 0, "threads": 1, **options}))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.005)
    try:
        yield Running(server, f"http://127.0.0.1:{bound.getsockname()[1]}")
    finally:
        server.handle_exit(2, None)
        thread.join()


@pytest.fixture(scope="session")
def running(tiny_run: Run) -> Iterator[Running]:
    """One for all tests that leave it as it is."""
    with serving(tiny_run) as found:
        yield found


@pytest.fixture
def serve(tiny_run: Run) -> Iterator[Serve]:
    """`serve(queue=1)` is a server with other settings."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(serving(tiny_run, **options))
