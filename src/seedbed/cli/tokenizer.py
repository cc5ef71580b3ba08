"""`seedbed tokenizer`: the road's stage, and the room's own commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from . import tokenizer_audit, tokenizer_training
from .road import OverridesOption, print_keys


class _Group(TyperGroup):
    """Its help ends with the recipe's keys for the stage."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        print_keys("tokenizer")


app = typer.Typer(cls=_Group, invoke_without_command=True, no_args_is_help=True)


@app.callback()
def tokenizer(
    ctx: typer.Context,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="The run's folder; earlier stages must be there.", show_default=False),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="demo, laptop, gpu or a YAML file.", show_default="the run's own"),
    ] = None,
    overrides: OverridesOption = None,
) -> None:
    """Train a tokenizer on a run's corpus (--run), or one of the commands below."""
    if ctx.invoked_subcommand is not None:
        return
    from ..core.config import parse_overrides
    from ..core.errors import ConfigError
    from ..pipeline import run_stage

    if run is None:
        raise ConfigError("no run was named", hint="Give --run, or one of the commands in --help.")
    run_stage("tokenizer", run, recipe=recipe, overrides=parse_overrides(overrides or []))


tokenizer_training.register(app)
tokenizer_audit.register(app)
