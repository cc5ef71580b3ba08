"""Commands that use a finished run: search, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.console import show, table
from ..core.errors import ArtifactError

if TYPE_CHECKING:
    from ..run import Run

RunOption = Annotated[
    Path | None, typer.Option("--run", help="The run to use.", show_default="the newest one below runs/")
]


def register(app: typer.Typer) -> None:
    for command in (search, report):
        app.command(rich_help_panel="Use a run")(command)


def newest_run(path: Path | None) -> Run:
    """The run at `path`, or the one below runs/ that was written to last."""
    from ..run import RUN_FILE, open_run

    if path is None:
        found = sorted(Path("runs").glob(f"*/{RUN_FILE}"), key=lambda file: file.stat().st_mtime)
        if not found:
            raise ArtifactError(
                "there is no run below runs/ here", hint="Grow one: seedbed grow --python-docs, or name it with --run."
            )
        path = found[-1].parent
    return open_run(path)


def search(
    query: Annotated[str, typer.Argument(help="What to look for.")],
    run: RunOption = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many results.")] = 5,
    mode: Annotated[str, typer.Option(help="hybrid, dense or bm25.")] = "hybrid",
    width: Annotated[int, typer.Option(min=40, help="Characters of each text to show.")] = 240,
) -> None:
    """Search the run's documents."""
    hits = newest_run(run).search(query, k=k, mode=mode)
    if not hits:
        show("Nothing found.")
    for rank, hit in enumerate(hits, 1):
        text = " ".join(hit.text.split())
        show(f"{rank}. {hit.title or hit.source}  ({hit.score:.4f}, {hit.source})", style="bold")
        show(f"   {text[: width - 1] + '…' if len(text) > width else text}")


def report(run: RunOption = None) -> None:
    """Say where the run's report is and show its key figures."""
    opened = newest_run(run)
    show(f"{opened.report}")
    table(("figure", "value"), opened.key_figures())
