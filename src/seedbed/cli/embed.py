"""`seedbed embed`: what encoders are worth, for search and in themselves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.console import show, table
from ..core.errors import ConfigError
from .embed_more import evaluate, words
from .road import PythonDocsOption, gather_sources

if TYPE_CHECKING:
    from ..evaluation.collections import Collection
    from ..evaluation.encoder_limits import EncoderStudy
    from ..evaluation.search_comparison import Comparison

app = typer.Typer(no_args_is_help=True)
for _command in (evaluate, words):
    app.command()(_command)


@app.callback()
def embed() -> None:
    """Compare ways to search, measure encoders and their limits, and learn word vectors."""


@app.command()
def compare(
    collection: Annotated[
        Path,
        typer.Argument(metavar="COLLECTION", help="A BEIR folder; or TREC's documents, with --queries, --judgements."),
    ],
    encoder: Annotated[Path, typer.Option(help="The folder of a sentence encoder.")],
    queries: Annotated[Path | None, typer.Option(help="TREC's topics.", show_default=False)] = None,
    judgements: Annotated[Path | None, typer.Option(help="TREC's qrels.", show_default=False)] = None,
    split: Annotated[str, typer.Option(help="The split of a BEIR folder's judgements.")] = "test",
    rerank: Annotated[
        list[str] | None,
        typer.Option(help="maxsim, or a folder of a late-interaction encoder or a cross-encoder; give it often.",
                     show_default="maxsim"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the figures as JSON here.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
) -> None:  # fmt: skip
    """Search a test collection by words, by vectors, by both, and ranked again; say which differences are certain."""
    from ..embeddings import SentenceEncoder
    from ..embeddings.rerank import open_reranker
    from ..evaluation.search_comparison import compare_ways

    read = _read(collection, queries, judgements, split)
    model = SentenceEncoder.load(encoder)
    again = None if rerank is None else [open_reranker(name, model) for name in rerank]
    found = compare_ways(read, model, rerank=again, seed=seed)
    _show_comparison(read, found)
    if out is not None:
        from ..core.artifacts import write_atomically
        from ..core.errors import disk_errors
        from ..core.json_files import json_bytes

        with disk_errors(out):
            write_atomically(out, json_bytes(found.to_json()))


@app.command()
def measure(
    encoder: Annotated[Path, typer.Argument(metavar="ENCODER", help="The folder of a sentence encoder.")],
    sources: Annotated[
        list[str] | None,
        typer.Option("--text", metavar="SOURCE", help="A folder or file of your own text; give it often.",
                     show_default=False),
    ] = None,
    python_docs: PythonDocsOption = False,
    limit: Annotated[
        Path | None,
        typer.Option(help="A BEIR folder of LIMIT's layout.", show_default="one made as LIMIT was"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write measure.json, index.html and charts here.", show_default=False)
    ] = None,
    documents: Annotated[int, typer.Option(min=20, help="Documents that are searched, at most.")] = 1000,
    queries: Annotated[int, typer.Option(min=20, help="Queries that are asked, at most.")] = 300,
    kind_steps: Annotated[
        int, typer.Option(min=0, help="Steps that small encoders of each kind are trained on the text; 0: none are.")
    ] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Of samples, fitted vectors and trained encoders.")] = 0,
) -> None:  # fmt: skip
    """Measure what an encoder's vectors cannot do on your text: space, token limit, rare words, sets, storage; and what
    recurrence, attention and transformers of one size learn from it."""
    from ..curation.blobs import ReadingConfig
    from ..curation.documents import Document, row_of_document
    from ..curation.sources import read_sources
    from ..embeddings import SentenceEncoder
    from ..evaluation.collections import read_beir
    from ..evaluation.encoder_limits import study_encoder

    listed = gather_sources(sources, python_docs)
    pieces = read_sources(listed, ReadingConfig())
    rows = [row_of_document(piece, "") for piece in pieces if isinstance(piece, Document)]
    model = SentenceEncoder.load(encoder)
    result = study_encoder(
        model, rows, limit=None if limit is None else read_beir(limit), name=encoder.resolve().name, most=documents,
        queries=queries, kind_steps=kind_steps, seed=seed, say=lambda text: show(f"  {text}", style="dim"),
    )  # fmt: skip
    _show_study(result)
    if out is not None:
        from ..reports.encoder_page import write_encoder_study

        write_encoder_study(result, out)
        show(f"Report: {out / 'index.html'}", style="bold")


def _show_study(result: EncoderStudy) -> None:
    show(f"{result.documents:,} documents, {result.queries:,} queries, {result.dim:,} dimensions")
    for title, rows in (
        ("The space", result.spaces),
        ("How vectors are compared", result.measures),
        ("The token limit", result.limits),
        ("Rare words, numbers and names", result.words),
        ("Sets of documents", result.sets),
        ("Fitted vectors", result.free),
        ("Late interaction", result.storage),
        ("Kinds of encoders, of one size and trained alike", [_short(row) for row in result.kinds]),
    ):
        if rows:
            table(
                tuple(name.replace("_", " ") for name in rows[0]),
                [tuple(f"{one:.3f}" if isinstance(one, float) else one for one in row.values()) for row in rows],
                title=title,
            )


def _short(row: dict[str, Any]) -> dict[str, Any]:
    kept = {name: row[name] for name in ("kind", "parameters", "before", "mrr")}
    return kept | {"against the transformer": f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"}


def _read(documents: Path, queries: Path | None, judgements: Path | None, split: str) -> Collection:
    from ..evaluation.collections import read_beir, read_trec

    if documents.is_dir():
        if queries or judgements:
            raise ConfigError("--queries and --judgements belong to TREC's files", where=documents)
        return read_beir(documents, split)
    if queries is None or judgements is None:
        raise ConfigError(
            "TREC's documents come with --queries and --judgements", where=documents, hint="Or name a BEIR folder."
        )
    return read_trec(documents, queries, judgements)


def _show_comparison(collection: Collection, found: Comparison) -> None:
    show(f"{len(collection.documents):,} documents, {len(collection.asked):,} queries with a relevant document")
    names = list(found.ways[0].metrics)
    rows = [(way.name, *(f"{way.metrics[name]:.3f}" for name in names)) for way in found.ways]
    table(("way", *names), rows, title="Means over queries")
    rows = [
        (f"{second} − {first}", str(one), f"{one.p_value:.4f}", "" if one.certain else "not certain")
        for (first, second), one in found.differences.items()
    ]
    table(("nDCG@10", "difference", "p", ""), rows, title="Paired bootstrap, 95% intervals")
