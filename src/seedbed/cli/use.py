"""Commands that use a finished run: search, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.console import show, table
from ..core.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    from ..embeddings import MultiVectorEncoder, SentenceEncoder, SparseEncoder
    from ..embeddings.search import Hit, Searcher
    from ..run import Run

RunOption = Annotated[
    Path | None, typer.Option("--run", help="The run to use.", show_default="the newest one below runs/")
]

_REASONS = {"bm25": "words", "sparse": "learned words", "tokens": "tokens"}


def register(app: typer.Typer) -> None:
    for command in (search, report):
        app.command(rich_help_panel="Use a run")(command)


def newest_run(path: Path | None) -> Run:
    """The run at `path`, or the one below runs/ that was written to last."""
    from ..run import RUN_FILE, open_run

    if path is None:
        found = sorted(Path("runs").glob(f"*/{RUN_FILE}"), key=lambda file: file.stat().st_mtime)
        if not found:
            raise ArtifactError(
                "there is no run below runs/ here", hint="Grow one: seedbed grow --python-docs, or name it with --run."
            )
        path = found[-1].parent
    return open_run(path)


def search(
    query: Annotated[str, typer.Argument(help="What to look for.")],
    run: RunOption = None,
    index: Annotated[
        Path | None,
        typer.Option("--index", help="A folder of `seedbed index update`, not a run.", show_default=False),
    ] = None,
    encoder: Annotated[
        Path | None, typer.Option(help="With --index: the encoder's folder, for vectors.", show_default=False)
    ] = None,
    sparse: Annotated[
        Path | None, typer.Option(help="With --index: the sparse encoder's folder.", show_default=False)
    ] = None,
    multivector: Annotated[
        Path | None, typer.Option(help="With --index: the late-interaction encoder's folder.", show_default=False)
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many results.")] = 5,
    mode: Annotated[
        str | None,
        typer.Option(help="hybrid, dense, bm25, sparse or multivector.",
                     show_default="hybrid; without an encoder bm25"),
    ] = None,
    filter: Annotated[
        str | None,
        typer.Option(help="Which documents may be found: 'source ~ docs/* and year >= 2020'.", show_default=False),
    ] = None,
    rerank: Annotated[
        str | None,
        typer.Option(help="Rank again: maxsim (the encoder's own tokens), or the folder of a cross-encoder or a "
                     "late-interaction encoder.", show_default=False),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say why each was found.")] = False,
    width: Annotated[int, typer.Option(min=40, help="Characters of each text to show.")] = 240,
) -> None:  # fmt: skip
    """Search the run's documents, or those of an index folder."""
    if index is None:
        if encoder or sparse or multivector:
            raise ConfigError("--encoder, --sparse and --multivector belong to --index")
        opened = newest_run(run)
        hits = opened.search(query, k, mode or "hybrid", filter=filter, rerank=rerank, explain=explain)
    else:
        if run is not None:
            raise ConfigError("--run and --index are two places to search", hint="Give one of them.")
        searcher = open_searcher(index, encoder, sparse, multivector, mode)
        mode = mode or ("hybrid" if encoder else "bm25")
        hits = searcher.search(query, k, mode, filter=filter, rerank=rerank, explain=explain)
    if not hits:
        show("Nothing found.")
    for rank, hit in enumerate(hits, 1):
        show_hit(rank, hit, width)


def open_searcher(
    index: Path, encoder: Path | None, sparse: Path | None, multivector: Path | None, mode: str | None
) -> Searcher:
    """The search engine of an index folder with the encoders in these folders."""
    from ..embeddings.search import Searcher

    dense, learned, many = load_encoders(encoder, sparse, multivector)
    modes = (mode,) if mode else None if dense or learned or many else ("bm25",)
    return Searcher.open(index, dense, sparse_encoder=learned, multivector_encoder=many, modes=modes)


def load_encoders(
    dense: Path | None, sparse: Path | None, multivector: Path | None
) -> tuple[SentenceEncoder | None, SparseEncoder | None, MultiVectorEncoder | None]:
    """The encoders in these folders. PyTorch is imported where there is one."""
    if not (dense or sparse or multivector):
        return None, None, None
    from ..embeddings import MultiVectorEncoder, SentenceEncoder, SparseEncoder

    return (
        SentenceEncoder.load(dense) if dense else None,
        SparseEncoder.load(sparse) if sparse else None,
        MultiVectorEncoder.load(multivector) if multivector else None,
    )


def show_hit(rank: int, hit: Hit, width: int) -> None:
    gone = ", no longer there" if hit.missing else ""
    show(f"{rank}. {hit.title or hit.source}  ({hit.score:.4f}, {hit.source}{gone})", style="bold")
    text = " ".join(hit.text.split())
    show(f"   {text[: width - 1] + '…' if len(text) > width else text}")
    if hit.why is None:
        return
    ranks = ", ".join(f"{mode} {place} ({score:.3f})" for mode, (place, score) in hit.why.ranks.items())
    show(f"   ranks: {ranks}", style="dim")
    for by, title in _REASONS.items():
        told: dict[str, tuple[str, float]] = {}
        for match in hit.why.matches:
            if match.by == by:
                told.setdefault(match.query, (match.text, match.weight))
        if told:
            pieces = [
                f"{query if query.lower() == text.lower() else f'{query} → {text}'} {weight:.2f}"
                for query, (text, weight) in told.items()
            ]
            show(f"   {title}: {', '.join(pieces)}", style="dim")


def report(run: RunOption = None) -> None:
    """Say where the run's report is and show its key figures."""
    opened = newest_run(run)
    show(f"{opened.report}")
    table(("figure", "value"), opened.key_figures())
