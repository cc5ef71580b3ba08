"""`seedbed finetune`: on a run's artifacts, or on a model and data of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..core.config import parse_overrides
from ..core.console import show
from ..core.errors import ConfigError, DataError
from .road import ChangedOption, OverridesOption, StageCommand

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
            help='JSONL or a JSON list, of {"messages": [...]}, {"instruction", "input", "output"}, '
            '{"question", "answer"}, {"prompt", "completion"} or {"conversations": [...]}.',
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="full, lora, dora or qlora; without it as the recipe says.", show_default=False),
    ] = None,
    out: OutOption = None,
    recipe: RecipeOption = None,
    overrides: OverridesOption = None,
    changed: ChangedOption = "refuse",
    measure_forgetting: Annotated[
        bool,
        typer.Option(
            "--measure-forgetting",
            help="Compare full, LoRA, DoRA and QLoRA, ranks, learning rates and remedies: what each learns, forgets "
            "and costs, as a page in --out.",
        ),
    ] = False,
    comparison: Annotated[
        Path | None,
        typer.Option(
            help='JSON of what is compared: "steps", "batch_size", "evaluations", "seed", "ways".', show_default=False
        ),
    ] = None,
    base_text: Annotated[
        list[Path] | None,
        typer.Option(
            help="Plain text that may be forgotten; the first is of what the model was trained on. Repeat for more.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Teach a base model to answer, with the loss on the answers alone: all weights, or a LoRA adapter."""
    from ..pipeline import finetune_alone, run_stage

    values = parse_overrides(overrides or [])
    if measure_forgetting:
        _refuse_beside_comparison(run, method, recipe, overrides)
        _compare(*own_inputs(model, data, out), base_text or [], comparison)
    elif run is not None:
        refuse_beside_run(model, data, method, out)
        run_stage("sft", run, recipe, values, changed=changed)
    else:
        made = finetune_alone(
            *own_inputs(model, data, out), method or "full", recipe or "demo", values, changed=changed
        )
        found = made.metrics.get("full") or made.metrics["lora"]
        show(
            f"answers held out: {found['answer_loss_before']:.3f} to {found['answer_loss']:.3f} nats a token. Model: "
            f"{made.path}" + (f", adapter: {made.path / 'lora'}" if "lora" in made.metrics else "")
        )


def _compare(model: Path, data: Path, out: Path, base_text: list[Path], comparison: Path | None) -> None:
    from ..core.config import build
    from ..core.json_files import read_json
    from ..finetuning.comparison import ComparisonConfig
    from ..finetuning.instruct import compare_on_files
    from ..reports.finetuning_page import write_finetuning

    if not base_text:
        raise ConfigError("--base-text not given", hint="Name a text file of what the model was trained on.")
    config = build(ComparisonConfig, {} if comparison is None else read_json(comparison), where=comparison)
    texts = {path.stem: _text(path) for path in base_text}
    result = compare_on_files(config, model, data, texts, out / ".scratch")
    write_finetuning(result, out)
    best, own = result.advised(), result.texts[0]
    show(f"Take {best.way.name}: learned {best.learned:.3f} nats, forgot {best.forgotten(own):.3f} of {own}.")
    show(f"Page: {out / 'index.html'}")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read as text ({error})", where=path) from None


def _refuse_beside_comparison(*others: object) -> None:
    if any(one is not None for one in others):
        raise ConfigError(
            "--measure-forgetting compares all methods on --model, --data and --base-text",
            hint="Leave --run, --method, --recipe and -o out; --comparison says what is compared.",
        )


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
