"""`seedbed encoder`: the road's stage, and training an encoder of any kind on one's own data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table as RichTable
from typer.core import TyperCommand

from ..core.config import describe, parse_overrides
from ..core.console import console, show
from .road import (
    OverridesOption,
    PythonDocsOption,
    StageGroup,
    StageRecipeOption,
    StageRunOption,
    gather_sources,
    run_group_stage,
)


class _Training(TyperCommand):
    """Its help ends with the keys of its config."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from ..embeddings.training import EncoderTrainingConfig

        super().format_help(ctx, formatter)
        drawn = RichTable(title="Keys (-o KEY=VALUE)", title_justify="left", header_style="bold")
        for column in ("key", "default", "what it is"):
            drawn.add_column(column, overflow="fold")
        for row in describe(EncoderTrainingConfig):
            drawn.add_row(*(cell.replace("[", r"\[") for cell in row))
        console.print(drawn)


app = typer.Typer(cls=StageGroup, invoke_without_command=True, no_args_is_help=True)


@app.callback()
def encoder(
    ctx: typer.Context,
    run: StageRunOption = None,
    recipe: StageRecipeOption = None,
    overrides: OverridesOption = None,
) -> None:
    """Train a run's sentence encoder on pairs made from its corpus (--run), or one of the commands below."""
    run_group_stage(ctx, "encoder", run, recipe, overrides)


@app.command(cls=_Training)
def train(
    out: Annotated[Path, typer.Option(help="Where the encoder goes.", show_default=False)],
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE]...", help="Documents of your own: learn from them without labels.", show_default=False
        ),
    ] = None,
    python_docs: PythonDocsOption = False,
    data: Annotated[
        Path | None,
        typer.Option(
            help='Instead: JSONL, {"query", "text"} a row, with "negatives", "score" or "scores" if there are any.',
            show_default=False,
        ),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            help="A directory to begin from: of sentence-transformers, PyLate or transformers, or a base model.",
            show_default="from scratch",
        ),
    ] = None,
    kind: Annotated[str, typer.Option(help="bi-encoder, cross-encoder, sparse or multi-vector.")] = "bi-encoder",
    test: Annotated[
        Path | None,
        typer.Option(help="A folder in BEIR's layout to ask before and after.", show_default="held-out data"),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            help="A cross-encoder's folder: its scores of right and mined wrong texts are learned from.",
            show_default=False,
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="Processors to use; 0: all.")] = 0,
    overrides: OverridesOption = None,
) -> None:
    """Fit an encoder to your own text, and say whether it helped.

    A part of the data is held out and asked before and after training. Interrupted or killed, the same command goes on.
    """
    from ..evaluation.encoder_training import train_encoder

    listed = gather_sources(sources, python_docs) if sources or python_docs or data is None else []
    values = {"kind": kind, **parse_overrides(overrides or [])}
    artifact = train_encoder(
        out, start=start, data=data, sources=listed, test=test, teacher=teacher, overrides=values, threads=threads
    )
    show(artifact.metrics["held_out"]["sentence"], style="bold")
    show(f"The encoder is in {artifact.path}")
