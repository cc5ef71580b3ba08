"""Commands that serve a run to clients and in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..core.config import build
from ..core.console import show
from ..core.errors import ConfigError
from .use import newest_run


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Use a run")(serve)


def serve(
    run: Annotated[
        Path | None, typer.Argument(help="The run to serve.", show_default="the newest one below runs/")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; beyond this machine it takes --keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
) -> None:
    """Serve a run: a page in the browser, and the API that OpenAI's clients speak."""
    try:
        from ..serving.config import ServeConfig
        from ..serving.server import serve_run
    except ImportError as error:
        raise ConfigError(
            f"serving needs packages that are not here ({error.name})", hint="pip install 'seedbed[serve]'"
        ) from None
    config = build(ServeConfig, {"host": host, "port": port})
    serve_run(newest_run(run), config, listening=lambda address: show(f"Serving at {address} (Ctrl-C ends it)"))
