"""`seedbed export qdrant` and `seedbed import qdrant`: a run's search index to Qdrant, and back; and a model to
other engines: `seedbed export gguf` (llama.cpp) and `seedbed export huggingface` (transformers, vLLM)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.console import progress, show, table
from ..core.errors import ConfigError
from .use import newest_run

if TYPE_CHECKING:
    from ..indexes.handover import Collection

UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        help="A Qdrant server, without it http://localhost:6333; its key is read from QDRANT_API_KEY.",
        show_default=False,
    ),
]
PathOption = Annotated[
    Path | None,
    typer.Option(
        "--path", help="A folder of qdrant-client's local mode, for trials: exact, and slow.", show_default=False
    ),
]
EdgeOption = Annotated[
    Path | None,
    typer.Option(
        "--edge",
        help="A folder of Qdrant's engine in this process (qdrant-edge-py): one collection.",
        show_default=False,
    ),
]

export_app = typer.Typer(help="Hand a run's search index or model over to another engine.", no_args_is_help=True)
import_app = typer.Typer(help="Take a search index back from another engine.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(export_app, name="export", rich_help_panel="Use a run")
    app.add_typer(import_app, name="import", rich_help_panel="Use a run")
    export_app.command("qdrant")(export_qdrant)
    export_app.command("gguf")(export_gguf)
    export_app.command("huggingface")(export_huggingface)
    import_app.command("qdrant")(import_qdrant)


def export_qdrant(
    run: Annotated[
        Path | None,
        typer.Option("--run", help="The run; without it the newest one below runs/.", show_default=False),
    ] = None,
    url: UrlOption = None,
    path: PathOption = None,
    edge: EdgeOption = None,
    collection: Annotated[
        str | None, typer.Option(help="Name of the collection; without it the run's.", show_default=False)
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Remove a collection of other content first.")] = False,
    queries: Annotated[int, typer.Option("--check", min=0, help="Queries to compare answers by; 0 for none.")] = 100,
) -> None:
    """Vectors, BM25 (as sparse vectors with idf) and texts of a run's passages to Qdrant; then answers are compared.

    Interrupted, the same command goes on. A collection of other content is never written over without --replace.
    """
    from ..core.artifacts import open_artifact
    from ..embeddings.handover import check_search, export_search
    from ..indexes.qdrant_edge import EdgeCollection

    opened = newest_run(run)
    directory = open_artifact(opened.path / "index", "index").path
    with _collection(url, path, edge, collection or opened.path.resolve().name) as to:
        with progress("export") as task:
            passages, written = export_search(directory, to, replace=replace, advance=task.advance)
        already = f", {passages - written:,} of them there already" if written < passages else ""
        show(f"{to.where}: {passages:,} passages{already}", style="green")
        if isinstance(to, EdgeCollection):
            to.optimize()
        if queries:
            rows = [
                (name, one.queries, f"{one.recall:.4f}", f"{one.difference:.1e}")
                for name, one in check_search(directory, to, queries).items()
            ]
            table(("vectors", "queries", "recall@10 there", "largest difference of scores"), rows)


SourceArgument = Annotated[Path, typer.Argument(metavar="RUN_OR_MODEL", help="A run, or the directory of a model.")]
StageOption = Annotated[str, typer.Option(help="Which model of a run: base, sft or policy.")]


def export_gguf(
    source: SourceArgument,
    out: Annotated[Path, typer.Option(help="The file to write.")],
    type: Annotated[str, typer.Option(help="Of the weights: f32, bf16, f16, q8_0, q5_1, q5_0, q4_1 or q4_0.")] = "q8_0",
    stage: StageOption = "policy",
    tokenizer: Annotated[
        bool, typer.Option("--tokenizer/--no-tokenizer", help="Without one, llama.cpp is given ids and gives ids.")
    ] = True,
) -> None:
    """A decoder and its tokenizer in one GGUF file, which llama.cpp loads: the same logits, the same ids."""
    from ..generation.export import export_gguf
    from ..models import Decoder, load_model
    from ..tokenizers import Tokenizer

    source = model_directory(source, stage)
    model = load_model(source)
    if not isinstance(model, Decoder):
        raise ConfigError("only decoders are written as GGUF, and this is no decoder", where=source)
    written = export_gguf(model, Tokenizer.load(source) if tokenizer else None, out, type)
    kinds = ", ".join(f"{count} in {kind}" for kind, count in sorted(written.types.items()))
    show(f"{out}: {written.bytes:,} bytes; tensors: {kinds}", style="green")
    if type.startswith("q") and "F16" in written.types:
        show("Rows that do not divide into blocks of 32 were kept in F16.", style="yellow")


def export_huggingface(
    source: SourceArgument,
    out: Annotated[Path, typer.Option(help="The directory to write.")],
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16 [default: as stored].", show_default=False)
    ] = None,
    shard_megabytes: Annotated[
        int | None, typer.Option(min=1, help="Weights in files of at most so much [default: one].", show_default=False)
    ] = None,
    stage: StageOption = "policy",
) -> None:
    """A model with its tokenizer as transformers and vLLM load it, in another dtype or in several files.

    What a run holds is of that layout already: they load runs/NAME/policy as it is.
    """
    from ..models import load_model, save_model
    from ..models.huggingface import DTYPES
    from ..tokenizers import Tokenizer
    from ..tokenizers.tokenizer import TOKENIZER_FILE

    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(f"'{dtype}' is no dtype of weights", where="--dtype", hint=f"Known: {', '.join(DTYPES)}.")
    source = model_directory(source, stage)
    if out.resolve() == source.resolve():
        raise ConfigError("this is where the model is read from", where="--out", hint="Choose another directory.")
    tokenizer = Tokenizer.load(source) if (source / TOKENIZER_FILE).exists() else None
    shard_bytes = None if shard_megabytes is None else shard_megabytes * 1_000_000
    wanted = None if dtype is None else DTYPES[dtype]
    save_model(load_model(source), out, tokenizer, dtype=wanted, shard_bytes=shard_bytes)
    files = [path for path in sorted(out.iterdir()) if path.is_file()]
    show(f"{out}: {sum(path.stat().st_size for path in files):,} bytes in {len(files)} files", style="green")


def model_directory(source: Path, stage: str) -> Path:
    """That of a run's model, or `source` itself where it is no run."""
    from ..core.artifacts import open_artifact
    from ..run import RUN_FILE

    return open_artifact(source / stage, stage).path if (source / RUN_FILE).exists() else source


def import_qdrant(
    out: Annotated[Path, typer.Option(help="The index's folder, new.")],
    url: UrlOption = None,
    path: PathOption = None,
    edge: EdgeOption = None,
    collection: Annotated[str | None, typer.Option(help="Name of the collection.", show_default=False)] = None,
) -> None:
    """Build a run's search index again from the collection that `seedbed export qdrant` wrote."""
    from ..embeddings.handover import import_search

    if collection is None and edge is None:
        raise ConfigError("no collection was named", hint="Give --collection.")
    with _collection(url, path, edge, collection or "") as there:
        with progress("import") as task:
            passages, exported = import_search(there, out, advance=task.advance)
        show(f"{out}: {passages:,} passages", style="green")
        if passages != exported:
            show(f"The export was of {exported:,}: it was interrupted, or points came or went since.", style="yellow")


@contextmanager
def _collection(url: str | None, path: Path | None, edge: Path | None, name: str) -> Iterator[Collection]:
    from ..indexes.qdrant import LOCAL_URL, QdrantCollection
    from ..indexes.qdrant_edge import EdgeCollection

    if sum(one is not None for one in (url, path, edge)) > 1:
        raise ConfigError("--url, --path and --edge exclude each other", hint="Give one of them.")
    opened: Collection
    if edge is not None:
        opened = EdgeCollection(edge)
    elif path is not None:
        opened = QdrantCollection.in_folder(path, name)
    else:
        opened = QdrantCollection.on_server(url or LOCAL_URL, name)
    try:
        yield opened
    finally:
        opened.close()
