"""`seedbed embed evaluate` and `seedbed embed words`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..core.config import build, parse_overrides
from ..core.console import show, table
from ..core.errors import ConfigError
from .road import OverridesOption, PythonDocsOption, gather_sources


def evaluate(
    encoder: Annotated[Path, typer.Argument(metavar="ENCODER", help="The folder of a sentence encoder.")],
    sts: Annotated[
        Path | None, typer.Option(help="CSV or TSV: two sentences and what people gave for their likeness.",
                                  show_default=False)
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help='JSONL of {"text", "label"}: probed by a classifier and by clusters.',
                                  show_default=False)
    ] = None,
    weights: Annotated[str, typer.Option(help="float32, bfloat16 or int8.")] = "float32",
    seed: Annotated[int, typer.Option(min=0, help="Of which third of the classes' texts is held out.")] = 0,
) -> None:  # fmt: skip
    """Say how well vectors agree with people: likeness of sentences, and classes of texts."""
    from ..embeddings import SentenceEncoder
    from ..evaluation.probes import probe_classes, read_classes
    from ..evaluation.similarity import evaluate_similarity, read_sts

    if sts is None and classes is None:
        raise ConfigError("there is nothing to evaluate", hint="Give --sts, --classes or both.")
    pairs = None if sts is None else read_sts(sts)
    labelled = None if classes is None else read_classes(classes)
    model = SentenceEncoder.load(encoder, weights=weights)
    rows: list[tuple[str, str, str]] = []
    if pairs is not None:
        rows.append(("Spearman, likeness", f"{evaluate_similarity(model, pairs):.4f}", f"{len(pairs.first):,} pairs"))
    if labelled is not None:
        probe = probe_classes(model, *labelled, seed=seed)
        rows += [
            ("accuracy, linear classifier", f"{probe.accuracy:.4f}", f"{probe.held_out:,} texts held out"),
            ("V-measure, clusters", f"{probe.v_measure:.4f}", f"{probe.classes} classes, {len(labelled[0]):,} texts"),
        ]
    table(("measure", "value", "of"), rows)


def words(
    out: Annotated[Path, typer.Option(help="The file, in word2vec's format.", show_default=False)],
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SOURCE]...", help="Folders or files of your own text.", show_default=False),
    ] = None,
    python_docs: PythonDocsOption = False,
    encoder: Annotated[
        Path | None, typer.Option(help="Instead of training: distil this encoder's vectors of the words.",
                                  show_default=False)
    ] = None,
    form: Annotated[Literal["binary", "text"], typer.Option("--format", help="Of the file.")] = "binary",
    near: Annotated[
        list[str] | None, typer.Option(help="Show the words closest to this one; give it often.", show_default=False)
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="With 1, the same text gives the same bytes.")] = 1,
    overrides: OverridesOption = None,
) -> None:  # fmt: skip
    """Learn word vectors from your text: -o algorithm=skipgram, cbow or glove; also dim, window, min_count, epochs."""
    from ..curation.blobs import ReadingConfig
    from ..curation.documents import Document
    from ..curation.sources import read_sources
    from ..embeddings.words import WordVectors, WordVectorsConfig, vocabulary

    config = build(WordVectorsConfig, parse_overrides(overrides or []))
    pieces = read_sources(gather_sources(sources, python_docs), ReadingConfig())
    texts = [piece.text for piece in pieces if isinstance(piece, Document)]
    if encoder is None:
        vectors = WordVectors.train(texts, config, threads=threads)
    else:
        from ..embeddings import SentenceEncoder

        vectors = WordVectors.distil(SentenceEncoder.load(encoder), vocabulary(texts, config.min_count).words)
    vectors.save(out, binary=form == "binary")
    show(f"{len(vectors):,} words of {vectors.dim} dimensions are in {out}", style="bold")
    rows: list[tuple[Any, ...]] = [
        (word, ", ".join(f"{other} {cosine:.2f}" for other, cosine in vectors.neighbours(word, 8)))
        for word in near or []
    ]
    if rows:
        table(("word", "closest"), rows)
