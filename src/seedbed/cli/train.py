"""`seedbed finetune`: on a run's artifacts, or on a model and data of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..core.config import parse_overrides
from ..core.errors import ConfigError
from .road import OverridesOption, StageCommand

RunOption = Annotated[
    Path | None, typer.Option("--run", help="Take the inputs from this run and write into it.", show_default=False)
]
ModelOption = Annotated[
    Path | None, typer.Option("--model", help="A Hugging Face directory (Qwen3-shaped).", show_default=False)
]
OutOption = Annotated[Path | None, typer.Option("--out", help="Where the result goes.", show_default=False)]
RecipeOption = Annotated[str | None, typer.Option(help="demo, laptop, gpu or a YAML file.", show_default=False)]


def register(app: typer.Typer) -> None:
    app.command("finetune", rich_help_panel="The road", cls=StageCommand)(finetune)


def finetune(
    run: RunOption = None,
    model: ModelOption = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help='JSONL: {"messages": [...]} or {"instruction", "input", "output"} a row.', show_default=False
        ),
    ] = None,
    method: Annotated[str | None, typer.Option(help="full or lora; a run makes both.", show_default=False)] = None,
    out: OutOption = None,
    recipe: RecipeOption = None,
    overrides: OverridesOption = None,
) -> None:
    """Teach a base model to answer, with the loss on the answers alone: all weights, or a LoRA adapter."""
    from ..pipeline import finetune_alone, run_stage

    values = parse_overrides(overrides or [])
    if run is not None:
        refuse_beside_run(model, data, method, out)
        run_stage("sft", run, recipe, values)
    else:
        finetune_alone(*own_inputs(model, data, out), method or "full", recipe or "demo", values)


def refuse_beside_run(*others: object) -> None:
    if any(one is not None for one in others):
        raise ConfigError("--run already says where model, data and result are", hint="Leave the others out.")


def own_inputs(model: Path | None, data: Path | None, out: Path | None) -> tuple[Path, Path, Path]:
    """Model, data and place for the result, all of which a command without a run needs."""
    if model is None or data is None or out is None:
        given = {"--model": model, "--data": data, "--out": out}
        missing = ", ".join(name for name, value in given.items() if value is None)
        raise ConfigError(f"{missing} not given", hint="Give all of --model, --data and --out, or --run.")
    return model, data, out
