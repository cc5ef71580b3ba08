"""Commands that serve a run to clients and in a browser, and the keys that open it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.config import build
from ..core.console import show, table
from ..core.errors import ConfigError
from .use import newest_run

KEYS = Path("keys.json")

keys_app = typer.Typer(no_args_is_help=True, help="Make, list and take away the API keys of `seedbed serve --keys`.")
FileOption = Annotated[Path, typer.Option("--file", help="The file of keys; only hashes of them lie in it.")]


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Use a run")(serve)
    app.add_typer(keys_app, name="keys", rich_help_panel="Use a run")


def serve(
    run: Annotated[
        Path | None, typer.Argument(help="The run to serve.", show_default="the newest one below runs/")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; beyond this machine it takes --keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    keys: Annotated[
        Path | None, typer.Option(help="A file of `seedbed keys new`: who has none of them, is refused.",
                                  show_default=False),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="Another page that may call the API, say https://example.org; may be given again."),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Another name of this server in addresses; may be given again.")
    ] = None,
    stage: Annotated[
        list[str] | None,
        typer.Option(help="Serve this model: base, sft or policy; may be given again.", show_default="all there are"),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Weights as they are read: float32, bfloat16, int8 or int4.", show_default=False)
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Generations of one model that run together.")] = 32,
    queue: Annotated[int, typer.Option(min=1, help="Requests that may wait; more are answered 503.")] = 256,
    deadline: Annotated[float, typer.Option(min=0.1, help="Seconds that a request may take.")] = 120,
    rate: Annotated[float, typer.Option(min=0.01, help="Requests a second of one key or address.")] = 50,
    threads: Annotated[int, typer.Option(min=0, help="Of computing; 0: one per processor.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Write no line for each request.")] = False,
) -> None:  # fmt: skip
    """Serve a run: a page for the browser, and the API that OpenAI's clients speak.

    Chat, completions, embeddings, reranking, search and tokens lie below /v1, metrics for Prometheus at /metrics, and
    the API's description at /openapi.json. Requests of all clients run together. Logs hold neither texts nor keys.
    """
    try:
        from ..serving.config import ServeConfig
        from ..serving.server import serve_run
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"serving needs a package that is not here ({error.name})", hint="pip install 'seedbed[serve]'"
        ) from None
    wishes: dict[str, Any] = {
        "host": host, "port": port, "keys": keys, "allow_origins": tuple(allow_origin or ()),
        "allow_hosts": tuple(allow_host or ()), "dtype": dtype, "rows": rows, "queue": queue, "deadline": deadline,
        "requests_per_second": rate, "threads": threads,
    } | ({"stages": tuple(stage)} if stage else {})  # fmt: skip
    config = build(ServeConfig, wishes)
    if not quiet:
        _log_requests()
    serve_run(newest_run(run), config, listening=lambda address: show(f"Serving at {address} (Ctrl-C ends it)"))


def _log_requests() -> None:
    import logging

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("seedbed.serving").setLevel(logging.INFO)


@keys_app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Whose it is, for your own books.")] = "",
    file: FileOption = KEYS,
) -> None:
    """Make a key. It is shown once and kept nowhere."""
    from ..serving.keys import new_key

    typer.echo(new_key(file, name))


@keys_app.command("list")
def listing(file: FileOption = KEYS) -> None:
    """Show what is known of the keys."""
    from ..serving.keys import read_keys

    table(("id", "name", "made"), [(key.id, key.name, key.created) for key in read_keys(file)])


@keys_app.command("revoke")
def revoke(
    key: Annotated[str, typer.Argument(help="Its id, as `seedbed keys list` shows it.")], file: FileOption = KEYS
) -> None:
    """Take a key away; a server that runs heeds it from the next request on."""
    from ..serving.keys import read_keys, write_keys

    keys = read_keys(file)
    left = [one for one in keys if one.id != key]
    if len(left) == len(keys):
        raise ConfigError(f"there is no key '{key}'", where=file, hint="Show them: seedbed keys list.")
    write_keys(file, left)
