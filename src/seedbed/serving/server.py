"""Runs the application under uvicorn: listens, and stops in order when it is told to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from ..core.errors import ConfigError
from .app import create_app
from .config import ServeConfig
from .service import Service

if TYPE_CHECKING:
    from ..run import Run

_AFTER_GRACE = 5  # seconds in which cancelled requests may say so


class Server(uvicorn.Server):
    """Tells the service when it is to stop, so that clients hear of it before their connections end."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.service.drain()
        super().handle_exit(sig, frame)


class Connection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """Closes a connection on which no request has come for a while: uvicorn waits for the first one for ever.

    Attributes:
        patience: seconds, at least; up to twice as many.
    """

    patience = 30.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._look(transport, self)

    def _look(self, transport: asyncio.BaseTransport, seen: object) -> None:
        if transport.is_closing():
            return
        request: Any = self.cycle
        idle = request is None or request.response_complete
        if idle and request is seen:
            transport.close()
        else:
            asyncio.get_running_loop().call_later(self.patience, self._look, transport, request)


def listen(host: str, port: int, patience: float) -> socket.socket:
    """A socket that is bound, so that a port that is taken is told before anything else is done.

    Args:
        patience: seconds after which the system drops a connection whose client takes nothing in.

    Raises:
        ConfigError: the address is not this machine's, or the port is taken.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        # The protocol has to be named: only then does asyncio send small pieces at once (TCP_NODELAY).
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(patience * 1000))
        bound.bind(address)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}, port {port} ({error.strerror})",
            where="host, port",
            hint="Choose another --port.",
        ) from None
    return bound


def make_server(run: Run, config: ServeConfig) -> tuple[Server, socket.socket]:
    """A server, and the socket that it is to listen on.

    Raises:
        ConfigError: it cannot listen there. ArtifactError: the run has nothing to serve.
    """
    bound = listen(config.host, config.port, config.patience)
    app = create_app(run, config)
    connection = type("Connection", (Connection,), {"patience": config.patience})
    options = uvicorn.Config(
        app, http=connection, ws="none", lifespan="on", access_log=False, log_level="warning", server_header=False,
        proxy_headers=False, limit_concurrency=config.connections,
        timeout_graceful_shutdown=round(config.grace) + _AFTER_GRACE,
    )  # fmt: skip
    return Server(options, app.state.service), bound


def serve_run(run: Run, config: ServeConfig, *, listening: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        listening: called with the address, once clients can come.

    Raises: as `make_server`.
    """
    server, bound = make_server(run, config)
    name = f"[{config.host}]" if ":" in config.host else config.host
    listening(f"http://{name}:{bound.getsockname()[1]}/")
    with suppress(KeyboardInterrupt):  # it has stopped in order by then
        server.run(sockets=[bound])
