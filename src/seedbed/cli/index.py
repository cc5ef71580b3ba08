"""`seedbed index`: the road's stage, the choice of an index by measurement, and `seedbed index explain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from ..core.console import show, table
from ..core.errors import ConfigError
from .road import OverridesOption, print_keys
from .tokenizer_training import parse_memory

if TYPE_CHECKING:
    from ..evaluation.autotune import Candidate, Choice
    from ..evaluation.index_explanation import Explanation


class _Group(TyperGroup):
    """Its help ends with the recipe's keys for the stage."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        print_keys("index")


app = typer.Typer(cls=_Group, invoke_without_command=True, no_args_is_help=True)

QueriesOption = Annotated[
    Path | None,
    typer.Option(help="A .npy file of queries.",
                 show_default="a run's held-out ones, else held-out vectors"),
]  # fmt: skip
MetricOption = Annotated[
    str | None, typer.Option(help="cosine, dot or l2.", show_default="the index's own, else cosine")
]
NearestOption = Annotated[int, typer.Option("-k", min=1, help="How many neighbours are asked for.")]
SampleOption = Annotated[int, typer.Option(min=100, help="Vectors that indexes are measured on, at most.")]
ThreadsOption = Annotated[
    int | None,
    typer.Option(min=1, help="That build. With 1, recalls repeat to the last digit.",
                 show_default="all"),
]  # fmt: skip
SeedOption = Annotated[int, typer.Option(min=0, help="Of samples, held-out queries and indexes.")]


@app.callback()
def index(
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
    recall: Annotated[
        float | None,
        typer.Option(help="Choose an index that finds this share of the true neighbours.", show_default=False),
    ] = None,
    vectors: Annotated[
        Path | None,
        typer.Option(
            help="With --recall: a .npy file (n, dim) or an index file, instead of a run.", show_default=False
        ),
    ] = None,
    queries: QueriesOption = None,
    metric: MetricOption = None,
    k: NearestOption = 10,
    memory: Annotated[
        str | None, typer.Option(help="With --recall: the most that the index may take, as 500MB.", show_default=False)
    ] = None,
    speed: Annotated[
        float, typer.Option(min=0, help="Queries per second at which an exact scan is taken whatever else is faster.")
    ] = 1000.0,
    sample: SampleOption = 20_000,
    threads: ThreadsOption = None,
    seed: SeedOption = 0,
    out: Annotated[
        Path | None, typer.Option(help="With --recall: build the chosen index and save it here.", show_default=False)
    ] = None,
) -> None:
    """Build a run's search engine (--run), or choose an index for vectors by measuring (--recall)."""
    if ctx.invoked_subcommand is not None:
        return
    if recall is None:
        if vectors is not None or out is not None or memory is not None:
            raise ConfigError("--vectors, --memory and --out belong to --recall", hint="Give --recall 0.95.")
        if run is None:
            raise ConfigError("no run was named", hint="Give --run, or --recall with --vectors.")
        from ..core.config import parse_overrides
        from ..pipeline import run_stage

        run_stage("index", run, recipe=recipe, overrides=parse_overrides(overrides or []))
        return
    if (run is None) == (vectors is None):
        raise ConfigError("--recall needs vectors to measure", hint="Give either --run or --vectors.")
    if recipe is not None or overrides:
        raise ConfigError("--recall reads no recipe", hint="Leave --recipe and --override out.")
    from ..evaluation.autotune import autotune, build_chosen
    from ..evaluation.vector_sources import read_vector_set

    source = read_vector_set(vectors or run or Path(), queries=queries, metric=metric, seed=seed)
    limit = None if memory is None else parse_memory(memory)
    choice = autotune(
        source, recall, k=k, memory_limit=limit, enough_speed=speed, sample=sample, seed=seed, threads=threads
    )
    _show_choice(choice)
    if out is not None:
        built = build_chosen(choice, source, seed=seed, threads=threads)
        built.index.save(out)
        width = "" if built.setup.dial is None else f", {built.setup.dial}={built.point.value}"
        show(
            f"Saved {out}: {len(built.index):,} vectors, {out.stat().st_size:,} bytes. Measured on all of them:"
            f" recall {built.point.recall:.4f} at {built.point.queries_per_second:,.0f} queries per second{width}.",
            style="bold",
        )
        if built.point.recall < recall:
            show(f"This falls short of {recall:g}: no width that was tried finds more.", style="red")


@app.command()
def explain(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A run, an index file, or vectors (n, dim) in a .npy file.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Write explain.json, index.html and charts here.", show_default=False)
    ] = None,
    queries: QueriesOption = None,
    metric: MetricOption = None,
    k: NearestOption = 10,
    sample: SampleOption = 20_000,
    threads: ThreadsOption = None,
    seed: SeedOption = 0,
) -> None:
    """Say how hard vectors are to search, what every index finds, loses and costs on them, and why."""
    from ..evaluation.index_explanation import explain_indexes
    from ..evaluation.vector_sources import read_vector_set

    found = read_vector_set(source, queries=queries, metric=metric, seed=seed)
    result = explain_indexes(found, k=k, sample=sample, seed=seed, threads=threads)
    _show_explanation(result)
    if out is not None:
        from ..reports.index_pages import write_explanation

        write_explanation(result, out)
        show(f"Report: {out / 'index.html'}", style="bold")


@app.command()
def update(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the documents lie.")],
    index: Annotated[Path, typer.Option("--index", help="The index's folder; begun if it is not there.")],
    encoder: Annotated[
        Path | None, typer.Option(help="A sentence encoder's folder, for vectors.", show_default=False)
    ] = None,
    sparse: Annotated[Path | None, typer.Option(help="A sparse encoder's folder.", show_default=False)] = None,
    multivector: Annotated[
        Path | None, typer.Option(help="A late-interaction encoder's folder.", show_default=False)
    ] = None,
    late_chunking: Annotated[
        bool, typer.Option("--late-chunking", help="Of a new index: vectors of passages know their whole document.")
    ] = False,
) -> None:
    """Bring an index up to date with a folder: add what is new, index anew what has changed, forget what has gone."""
    from ..embeddings.indexing import Encoders, IndexConfig
    from ..embeddings.update import update_index
    from .use import load_encoders

    given = load_encoders(encoder, sparse, multivector)
    if late_chunking and encoder is None:
        raise ConfigError("--late-chunking is about vectors", hint="Give --encoder.")
    config = IndexConfig(late_chunking=True) if late_chunking else None
    done = update_index(folder, index, Encoders(*given), config=config)
    show(
        f"{done.added:,} added, {done.changed:,} changed, {done.removed:,} removed, {done.unchanged:,} unchanged; "
        f"{done.passages:,} passages"
    )
    if done.truncated:
        show(f"  {done.truncated:,} texts were longer than an encoder reads, and cut", style="yellow")
    for one in done.rejected[:10]:
        show(f"  left out: {one.source}: {one.detail}", style="yellow")
    if len(done.rejected) > 10:
        show(f"  and {len(done.rejected) - 10:,} more", style="yellow")


def _show_choice(choice: Choice) -> None:
    if choice.measured_on < choice.count:
        show(
            f"Measured on {choice.measured_on:,} of {choice.count:,} vectors, with some recall to spare; speeds and "
            "memory are expected for all.",
            style="dim",
        )

    def row(one: Candidate) -> tuple[object, ...]:
        mark = "chosen" if one is choice.chosen else ""
        return (
            one.setup.described(one.value), f"{one.recall:.4f}", f"{one.queries_per_second:,.0f}",
            f"{one.memory_bytes / 1e6:,.1f} MB", f"{one.build_seconds:.1f} s", mark,
        )  # fmt: skip

    shown = [choice.candidates[place] for place in choice.frontier]
    shown += [] if any(one is choice.chosen for one in shown) else [choice.chosen]
    columns = ("index", "recall", "queries per second", "memory", "built in", "")
    table(columns, [row(one) for one in shown], title="The frontier: nothing else measured is better in both")
    for title, size in choice.too_large:
        show(f"  left out: {title} would take {size:,} bytes", style="dim")
    show(f"Chosen: {choice.chosen.setup.described(choice.chosen.value)}", style="bold")
    show(f"  {choice.why}.")
    show("  Queries per second are measured (processor time of one thread), so close calls may differ next time.",
         style="dim")  # fmt: skip


def _show_explanation(result: Explanation) -> None:
    source, near = result.source, result.neighbourhoods.summary()
    show(
        f"{len(source.vectors):,} vectors of {source.vectors.shape[1]} dimensions ({source.metric}); indexes built of "
        f"{len(result.sample.vectors):,}, asked {len(result.sample.queries):,} "
        f"{'held-out vectors' if result.sample.held_out else 'queries'}"
    )
    if source.copies:
        show(f"  {source.copies:,} copies of other vectors are left out", style="dim")
    table(("measure", "value"), [(name.replace("_", " "), value) for name, value in near.items()])
    rows = []
    for curve in (result.flat, *result.curves):
        point = curve.at(0.95) or max(curve.points, key=lambda one: one.recall)
        loss = point.loss
        rows.append((
            curve.setup.title, "" if point.value is None else f"{curve.setup.dial} {point.value}",
            f"{point.recall:.1%}", "" if loss is None else f"{loss.by_structure:.1%}",
            "" if loss is None else f"{loss.by_quantisation:.1%}", f"{point.queries_per_second:,.0f}",
            f"{curve.memory_bytes / 1e6:,.1f} MB",
            f"{curve.memory_bytes_predicted / curve.memory_bytes - 1:+.1%}", f"{curve.build_seconds:.1f} s",
        ))  # fmt: skip
    columns = ("index", "search", f"recall@{result.k}", "lost by structure", "lost by codes", "queries per second",
               "memory", "predicted", "built in")  # fmt: skip
    table(columns, rows, title="The fastest search that finds 95%, else the best")
