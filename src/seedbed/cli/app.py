"""The commands, in the order of the road, and how their errors end."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from .. import __version__
from ..core.console import error_console
from ..core.errors import SeedbedError
from ..core.processes import is_first, rank
from . import (
    align,
    curate,
    doctor,
    embed,
    encoder,
    handover,
    index,
    inspect,
    lab,
    plan,
    road,
    scaling,
    serve,
    speak,
    tokenizer,
    train,
    use,
)


class _Commands(TyperGroup):
    """Errors meant for users end as one sentence and a non-zero exit, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SeedbedError as error:
            _fail(error.sentence(), 1)
        except KeyboardInterrupt:
            _fail("Interrupted. Nothing finished is lost: the same command again goes on where this one stopped.", 130)
        except MemoryError:
            _fail("Not enough memory. Choose a smaller batch_size or model in the recipe.", 1)


def _fail(sentence: str, code: int) -> None:
    who = "" if is_first() else f"worker {rank()}: "
    error_console.print(who + sentence, style="red", markup=False, soft_wrap=True)
    sys.exit(code)


app = typer.Typer(
    cls=_Commands,
    name="seedbed",
    help="Grow a language model and a search engine from your own text, and measure their limits before you pay.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _top(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
) -> None:
    pass


road.register(app)
app.add_typer(curate.app, name="curate", rich_help_panel="The road")
app.add_typer(tokenizer.app, name="tokenizer", rich_help_panel="The road")
app.add_typer(encoder.app, name="encoder", rich_help_panel="The road")
app.add_typer(index.app, name="index", rich_help_panel="The road")
train.register(app)
align.register(app)
speak.register(app)
use.register(app)
serve.register(app)
handover.register(app)
app.command(rich_help_panel="Plan")(plan.plan)
app.add_typer(scaling.app, name="scaling", rich_help_panel="Plan")
app.add_typer(inspect.app, name="inspect", rich_help_panel="Look")
app.add_typer(embed.app, name="embed", rich_help_panel="Look")
app.add_typer(lab.app, name="lab", rich_help_panel="Look")
app.command(rich_help_panel="Look")(doctor.doctor)
