"""`seedbed tokenizer`: the road's stage, and the room's own commands."""

from __future__ import annotations

import typer

from . import tokenizer_audit, tokenizer_training
from .road import OverridesOption, StageGroup, StageRecipeOption, StageRunOption, run_group_stage

app = typer.Typer(cls=StageGroup, invoke_without_command=True, no_args_is_help=True)


@app.callback()
def tokenizer(
    ctx: typer.Context,
    run: StageRunOption = None,
    recipe: StageRecipeOption = None,
    overrides: OverridesOption = None,
) -> None:
    """Train a tokenizer on a run's corpus (--run), or one of the commands below."""
    run_group_stage(ctx, "tokenizer", run, recipe, overrides)


tokenizer_training.register(app)
tokenizer_audit.register(app)
