"""`seedbed lab`: what the textbooks claim, measured on a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.config import describe, parse_overrides
from ..core.console import show, table
from ..core.errors import ArtifactError, SeedbedError
from .use import RunOption, newest_run

if TYPE_CHECKING:
    from ..lab.runner import Shown

ALL = "all"

app = typer.Typer(help="Measure what the textbooks claim on a run of your own.", no_args_is_help=True)


@app.command("list")
def list_exhibits() -> None:
    """Every exhibit and the question that it asks."""
    from ..lab import catalogue

    rows = [(name, catalogue.find(name).question, ", ".join(catalogue.find(name).needs)) for name in catalogue.names()]
    table(("exhibit", "question", "reads"), rows)


@app.command("show")
def show_exhibit(name: Annotated[str, typer.Argument(help="An exhibit.")]) -> None:
    """What an exhibit claims, where from, and the keys that set it."""
    from ..lab import catalogue

    exhibit = catalogue.find(name)
    show(catalogue.title(name), style="bold")
    show(f"{exhibit.question}\nThe claim: {exhibit.claim}\n{exhibit.formula} ({exhibit.source})")
    table(("key", "default", "what it is"), [(f"{name}.{key}", *rest) for key, *rest in describe(exhibit.settings)])


@app.command()
def run(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help=f"Exhibits, or '{ALL}'.")],
    run: RunOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Where results go.", show_default="the folder lab of the run")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("-o", "--override", metavar="EXHIBIT.KEY=VALUE", help="Set a key; give it often.",
                     show_default=False),
    ] = None,
) -> None:  # fmt: skip
    """Measure exhibits, show what they found, and write the page. What is finished is not measured again."""
    from ..lab import catalogue, page, runner

    folder = newest_run(run).path
    out = out or folder / "lab"
    chosen = catalogue.names() if ALL in names else list(dict.fromkeys(names))
    for name in chosen:
        catalogue.find(name)
    settings = runner.settings_of(parse_overrides(overrides or ()), chosen)
    failed: list[str] = []
    done: list[Shown] = []
    for place, name in enumerate(chosen, start=1):
        show(f"{place} of {len(chosen)}: {catalogue.title(name)}", style="bold")
        if ALL in names and (missing := runner.missing_stages(name, folder)):
            show(f"  left out: the run has no {', '.join(missing)}", style="yellow")
            continue
        try:
            shown = runner.run_exhibit(name, folder, out, settings[name], lambda what: show(f"  {what}", style="dim"))
        except SeedbedError as error:
            if len(chosen) == 1:
                raise
            show(f"  failed: {error.sentence()}", style="red")
            failed.append(name)
            continue
        _show(shown)
        done.append(shown)
    if len(done) > 1:
        _summarise(done)
    show(f"Page: {page.write_lab_page(out)}", style="bold")
    if failed:
        raise ArtifactError(f"{len(failed)} exhibits failed: {', '.join(failed)}", hint="The reasons stand above.")


def _show(shown: Shown) -> None:
    finding = shown.finding
    show(f"  {shown.question}", style="italic")
    table(finding.columns, finding.rows)
    show(f"  The claim: {shown.claim} ({shown.source})")
    show(f"  {' '.join(finding.sentences)}")
    style = {"holds": "green", "holds in part": "yellow"}.get(finding.verdict, "red")
    show(f"  Here it {finding.verdict}. ({shown.seconds:.0f} s)", style=style)


def _summarise(done: Sequence[Shown]) -> None:
    from ..lab.exhibit import VERDICTS

    rows = [(one.name, one.title, one.finding.verdict, f"{one.seconds:.0f} s") for one in done]
    table(("exhibit", "about", "claim", "time"), rows)
    verdicts: Counter[str] = Counter(one.finding.verdict for one in done)
    counted = ", ".join(f"{name} in {verdicts[name]}" for name in VERDICTS if verdicts[name])
    show(f"The claim {counted} of {len(done)} exhibits.")
