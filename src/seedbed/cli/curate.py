"""`seedbed curate`: the road's first stage by itself, and the room's own commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from .road import OverridesOption, PythonDocsOption, SourcesArgument, gather_sources, print_keys

_DEFAULT = "sources"
OutOption = Annotated[Path, typer.Option(help="Where the corpus goes: Parquet by split, rejected/, scores/.")]
PresetOption = Annotated[str, typer.Option(help="Quality rules: none, prose, gopher, c4, fineweb or dclm.")]


class _Group(TyperGroup):
    """Without one of its commands the arguments are sources."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in self.commands:
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)


class _Curate(TyperCommand):
    """Its help ends with the recipe's keys for the stage."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        print_keys("curate")


app = typer.Typer(
    cls=_Group, help="Read, filter, deduplicate and split documents into a corpus; redecide and ablate it."
)


def _options(preset: str | None, overrides: list[str] | None) -> dict[str, Any]:
    from ..core.config import merge_overrides, parse_overrides

    given = {key.removeprefix("curation."): value for key, value in parse_overrides(overrides or []).items()}
    return merge_overrides({} if preset is None else {"preset": preset}, given)


def _write_page(corpus: Path) -> None:
    from ..core.console import show
    from ..core.errors import disk_errors
    from ..reports.curation_page import write_curation_report

    page = corpus.with_name(f"{corpus.name}-report.html")
    with disk_errors(page):
        write_curation_report(corpus, page)
    show(f"Report: {page}", style="bold")


@app.command(_DEFAULT, cls=_Curate, hidden=True)
def sources(
    sources: SourcesArgument = None,
    python_docs: PythonDocsOption = False,
    out: OutOption = Path("corpus"),
    preset: PresetOption = "prose",
    engine: Annotated[str, typer.Option(help="local, or ray for a cluster.")] = "local",
    workers: Annotated[int | None, typer.Option(help="Processes of this machine [default: one a processor].")] = None,
    overrides: OverridesOption = None,
) -> None:
    """Read, normalise, filter, deduplicate and split documents into a corpus that accounts for every one.

    A page of what was kept and dropped, and why, is written beside it: OUT-report.html.
    `seedbed curate redecide` changes the rules of a corpus, `seedbed curate ablate` trains with and without a step.
    """
    from ..curation import curate

    curate(
        gather_sources(sources, python_docs), out, engine=engine, workers=workers, **_options(preset, overrides)
    ).show()
    _write_page(out)


@app.command()
def redecide(
    corpus: Annotated[Path, typer.Argument(help="A corpus that `seedbed curate` made.")],
    out: OutOption = Path("redecided"),
    preset: Annotated[str | None, typer.Option(help="Other rules [default: the corpus's own].")] = None,
    overrides: OverridesOption = None,
) -> None:
    """Decide a corpus anew, by other rules, lists or near-duplicates, without reading its sources again."""
    from ..curation import redecide_corpus
    from ..curation.report import show_metrics

    show_metrics(redecide_corpus(corpus, out, **_options(preset, overrides)).metrics)
    _write_page(out)


@app.command()
def quality(
    good: Annotated[list[str], typer.Option(help="Files or folders of text that is good; give it often.")],
    bad: Annotated[list[str], typer.Option(help="Files or folders of text that is not.")],
    out: Annotated[Path, typer.Option(help="Where the model goes.")] = Path("quality.model"),
) -> None:
    """Train a quality classifier on examples, for `-o quality_model=FILE -o min_quality=0.5`."""
    from ..core.console import show, table
    from ..curation.quality import QualityModel, texts_of

    model = QualityModel.train(list(texts_of(good)), list(texts_of(bad)))
    model.save(out)
    table(("of held-out examples", "value"), list(model.figures.items()))
    show(f"Model: {out}", style="bold")


@app.command()
def perplexity(
    good: Annotated[list[str], typer.Option(help="Files or folders of text that is good; give it often.")],
    out: Annotated[Path, typer.Option(help="Where the model goes.")] = Path("perplexity.model"),
) -> None:
    """Train an n-gram model of good text, for `-o perplexity_model=FILE -o rules.max_perplexity=8`."""
    import numpy as np

    from ..core.console import show
    from ..curation.perplexity import PerplexityModel
    from ..curation.quality import texts_of

    texts = list(texts_of(good))
    PerplexityModel.train(texts).save(out)
    # Every fifth text once more, scored by a model of the others: what good text costs that the model has not seen.
    held = [text for number, text in enumerate(texts) if number % 5 == 0]
    rest = [text for number, text in enumerate(texts) if number % 5]
    values = PerplexityModel.train(rest).perplexities(held) if len(rest) > 4 else np.zeros(0)
    if len(values):
        low, middle, high = np.nanpercentile(values, [5, 50, 95])
        show(f"Perplexity of good text that was held out: {middle:.2f}, nine in ten from {low:.2f} to {high:.2f}")
    show(f"Model: {out}", style="bold")


@app.command()
def ablate(
    sources: SourcesArgument = None,
    python_docs: PythonDocsOption = False,
    good: Annotated[list[str] | None, typer.Option(help="Files of text known to be good, to score on.")] = None,
    without: Annotated[list[str] | None, typer.Option(help="A step to leave out; give it often.")] = None,
    out: Annotated[Path, typer.Option(help="Where corpora, shards and ablation.json go.")] = Path("ablation"),
    preset: PresetOption = "prose",
    steps: Annotated[int, typer.Option(help="Training steps of each small model.")] = 300,
    overrides: OverridesOption = None,
) -> None:
    """Train the same small model with all steps and without each of some; score both on good text."""
    import json

    from ..core.config import build
    from ..core.console import table
    from ..core.errors import ConfigError
    from ..core.files import write_atomically
    from ..curation import CurationConfig
    from ..lab.curation_ablation import ablate as run
    from ..recipes import load_recipe

    if not good or not without:
        raise ConfigError(
            "nothing to compare", hint="Give --good FILE and --without STEP (rules, near-duplicates ...)."
        )
    pretraining = load_recipe("demo", {"pretraining.training.steps": steps}).pretraining
    config = build(CurationConfig, _options(preset, overrides))
    found = run(config, gather_sources(sources, python_docs), good, without, pretraining, out)
    write_atomically(out / "ablation.json", (json.dumps([one.to_json() for one in found], indent=2) + "\n").encode())
    rows = [(one.without or "nothing", one.documents, one.tokens, one.epochs, one.bits_per_byte) for one in found]
    table(("without", "documents", "tokens", "epochs", "bits per byte of good text"), rows)
