"""`seedbed grow`, and each stage of the road as a command of its own."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table as RichTable
from typer.core import TyperCommand, TyperGroup

from ..core.config import describe, parse_overrides
from ..core.console import console, show
from ..core.errors import ConfigError

PYTHON_DOCS = "--python-docs"

SourcesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE...",
        help="Folders, files, URLs or saved sitemaps: txt, md, rst, html, json, jsonl, csv, parquet, arrow, warc, pdf, "
        "also as .gz or .zst, or in zip and tar.",
        show_default=False,
    ),
]
PythonDocsOption = Annotated[
    bool, typer.Option(PYTHON_DOCS, help="Take the documentation inside this Python as a source (no download).")
]
RecipeOption = Annotated[str, typer.Option(help="demo, laptop, gpu, or the path of a YAML file.")]
OverridesOption = Annotated[
    list[str] | None,
    typer.Option(
        "-o", "--override", metavar="KEY=VALUE", help="Set one key of the recipe; give it often.", show_default=False
    ),
]
ChangedOption = Annotated[
    Literal["refuse", "restart", "continue"],
    typer.Option(help="What to do with checkpoints that an interrupted run of other settings left."),
]

# Of a stage that is also a group of commands.
StageRunOption = Annotated[
    Path | None, typer.Option("--run", help="The run's folder; earlier stages must be there.", show_default=False)
]
StageRecipeOption = Annotated[
    str | None, typer.Option(help="demo, laptop, gpu or a YAML file.", show_default="the run's own")
]


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="The road", cls=_RecipeCommand)(grow)
    for name, text in _STAGE_HELP.items():
        app.command(name, help=text, rich_help_panel="The road", cls=StageCommand)(_stage(name))


# Command to the parts of the recipe that its stage reads, where they are not all.
_KEYS = {
    "curate": ("curation",),
    "tokenizer": ("tokenizer",),
    "tokens": ("threads",),
    "forecast": ("forecast", "pretraining"),
    "pretrain": ("pretraining", "parallel"),
    "finetune": ("finetuning",),
    "reward": ("reward",),
    "ppo": ("ppo",),
    "grpo": ("grpo",),
    "dpo": ("dpo",),
    "measure": ("limits",),
    "encoder": ("encoder",),
    "index": ("index",),
}
_STAGE_OF = {"pretrain": "base"}  # commands whose artifact has another name
_STAGE_HELP = {
    "tokens": "Cut the corpus into memory-mapped token shards.",
    "forecast": "Train a ladder of small models, fit a scaling law and write the main run's forecast to the ledger.",
    "pretrain": "Train the base model.",
}


class StageCommand(TyperCommand):
    """A command whose help ends with the recipe's keys for its stage."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        print_keys(str(ctx.info_name))


class StageGroup(TyperGroup):
    """A stage with commands of its own: its help ends with the recipe's keys for the stage."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        print_keys(str(ctx.info_name))


def run_group_stage(
    ctx: typer.Context, stage: str, run: Path | None, recipe: str | None, overrides: list[str] | None
) -> None:
    """The stage itself, unless one of the group's commands was named."""
    if ctx.invoked_subcommand is not None:
        return
    from ..pipeline import run_stage

    if run is None:
        raise ConfigError("no run was named", hint="Give --run, or one of the commands in --help.")
    run_stage(stage, run, recipe=recipe, overrides=parse_overrides(overrides or []))


class _RecipeCommand(TyperCommand):
    """`grow`: its help ends with the keys of the whole recipe."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        print_keys(None)


def print_keys(command: str | None) -> None:
    """The recipe's keys that `command` reads; without a command, all keys."""
    from ..recipes import Recipe

    keys = _KEYS.get(command) if command else None
    drawn = RichTable(title="Keys of the recipe (-o KEY=VALUE)", title_justify="left", header_style="bold")
    for column in ("key", "default", "what it is"):
        drawn.add_column(column, overflow="fold")
    for key, default, text in describe(Recipe):
        if keys is None or key.split(".")[0] in keys:
            drawn.add_row(key, default.replace("[", r"\["), text.replace("[", r"\["))
    console.print(drawn)


def grow(
    sources: SourcesArgument = None,
    python_docs: PythonDocsOption = False,
    recipe: RecipeOption = "demo",
    out: Annotated[
        Path | None, typer.Option(help="The run's folder.", show_default="runs/ and the source's name")
    ] = None,
    overrides: OverridesOption = None,
    changed: ChangedOption = "refuse",
) -> None:
    """Grow a language model and a search engine from text: the whole road, from files to the report.

    Stages whose inputs and keys have not changed are skipped; interrupted or killed, the same command goes on.
    """
    from ..pipeline import grow as run_the_road

    listed = gather_sources(sources, python_docs)
    out = out or Path("runs") / default_name(listed)
    values = parse_overrides(overrides or [])
    run = run_the_road(listed, recipe=recipe, out=out, overrides=values, changed=changed)
    drawn = RichTable(title="Key figures", title_justify="left", header_style="bold")
    drawn.add_column("figure")
    drawn.add_column("value", justify="right")
    for name, value in run.key_figures():
        drawn.add_row(name, value)
    console.print(drawn)
    show(f"Report: {run.report}", style="bold")
    show("Try next:")
    for line in (
        'search "how do I read a csv file"',
        "chat",
        'generate "The quick brown fox" --stage base',
        "doctor",
    ):
        show(f"  {_program()} {line}" + ("" if line == "doctor" else f" --run {run.path}"))


def _program() -> str:
    """How to call this program from here: by name where the shell finds it, else as it was called."""
    called = sys.argv[0]
    if Path(called).name == "__main__.py":
        return "python -m seedbed"
    found = shutil.which("seedbed")
    return "seedbed" if found and os.path.samefile(found, called) else os.path.relpath(called)


def gather_sources(sources: list[str] | None, python_docs: bool) -> list[str]:
    listed = list(sources or []) + ([PYTHON_DOCS] if python_docs else [])
    if not listed:
        raise ConfigError("no source was named", hint="Name a folder or file, or give --python-docs.")
    return listed


def default_name(sources: list[str]) -> str:
    first = sources[0]
    return "python-docs" if first == PYTHON_DOCS else Path(first).resolve().name.split(".")[0] or "run"


def _stage(name: str) -> Any:
    def command(
        run: Annotated[Path, typer.Option("--run", "-r", help="The run's folder; earlier stages must be there.")],
        recipe: Annotated[
            str | None,
            typer.Option(help="demo, laptop, gpu or a YAML file.", show_default="the run's own"),
        ] = None,
        overrides: OverridesOption = None,
        changed: ChangedOption = "refuse",
    ) -> None:
        from ..pipeline import run_stage

        run_stage(
            _STAGE_OF.get(name, name), run, recipe=recipe, overrides=parse_overrides(overrides or []), changed=changed
        )

    return command
