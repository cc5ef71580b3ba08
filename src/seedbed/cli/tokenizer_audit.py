"""`seedbed tokenizer audit` and `seedbed tokenizer compare`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.console import show, table

if TYPE_CHECKING:
    from ..evaluation.tokenizer_audit import TokenizerAudit

_LISTED = 12  # rows of each end of a ranking


def register(app: typer.Typer) -> None:
    app.command()(audit)
    app.command()(compare)


def audit(
    source: Annotated[Path, typer.Argument(metavar="TOKENIZER_OR_RUN", help="A tokenizer, its directory, or a run.")],
    texts: Annotated[
        list[Path] | None, typer.Option("--texts", help="Text files to measure on; give it often.", show_default=False)
    ] = None,
    parallel: Annotated[
        Path | None,
        typer.Option("--parallel", help="Folder or zip: one .txt a language, the same text.", show_default=False),
    ] = None,
    reference: Annotated[str, typer.Option(help="The language that the others are measured against.")] = "English",
    model: Annotated[
        Path | None,
        typer.Option(help="A model trained with the tokenizer.", show_default="a run's base"),
    ] = None,
    tokens: Annotated[
        Path | None,
        typer.Option(help="Shards that the model was trained on.", show_default="a run's"),
    ] = None,
    indicator: Annotated[
        str | None,
        typer.Option(help="How under-trained ids are told.", show_default="by whether the head is tied"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write audit.json, index.html and charts here.", show_default=False)
    ] = None,
) -> None:
    """Say what a tokenizer costs, by language too, which ids are good for nothing, and which a model hardly learnt."""
    from dataclasses import replace

    from ..evaluation.languages import language_name
    from ..evaluation.parallel import read_parallel
    from ..evaluation.tokenizer_audit import Materials, audit_tokenizer

    found = Materials.found(source)
    materials = replace(
        found, texts=tuple(texts or ()), model=model or found.model, tokens=tokens or found.tokens
    )  # fmt: skip
    languages = None if parallel is None else read_parallel(parallel)
    if languages is not None and reference not in languages:
        reference = language_name(reference)  # named by its code, as the files are
    result = audit_tokenizer(materials, languages, reference=reference, indicator=indicator)
    _show_audit(result)
    if out is not None:
        from ..reports.tokenizer_pages import write_audit

        write_audit(result, out)
        show(f"Report: {out / 'index.html'}", style="bold")


def compare(
    source: Annotated[Path, typer.Argument(help="A run, a corpus, or a folder or file of text.")],
    vocab_sizes: Annotated[str, typer.Option(help="Sizes, with commas between them.")] = "2000,8000,32000",
    algorithms: Annotated[str | None, typer.Option(help="With commas between them.", show_default="all")] = None,
    sentence: Annotated[str | None, typer.Option(help="To show cut.", show_default="one from the text")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write compare.json, index.html and charts here.", show_default=False)
    ] = None,
) -> None:
    """Train tokenizers of several algorithms and sizes on a text, and show side by side what they cost."""
    from ..core.errors import ConfigError
    from ..evaluation.tokenizer_comparison import TRAINERS, compare_algorithms, read_splits

    try:
        sizes = [int(size) for size in vocab_sizes.split(",")]
    except ValueError:
        raise ConfigError(f"'{vocab_sizes}' are no sizes", where="--vocab-sizes", hint="Write 2000,8000.") from None
    names = [name.strip() for name in algorithms.split(",")] if algorithms else list(TRAINERS)
    result = compare_algorithms(*read_splits(source), sizes, names, sentence=sentence)
    rows = [
        (
            one.algorithm, one.vocab_size, one.cost["bytes_per_token"],
            "—" if one.cost["tokens_per_word"] is None else one.cost["tokens_per_word"],
            f"{one.cost['unknown_share']:.2%}", f"{one.cost['renyi_efficiency']:.1%}",
            f"{one.train_seconds:.2f} s", f"{one.megabytes_per_second:,.0f} MB/s",
        )
        for one in result.trained
    ]  # fmt: skip
    columns = ("algorithm", "ids", "bytes per token", "tokens per word", "unknown", "Rényi", "training", "encoding")
    table(columns, rows, title=f"On {result.held_out_bytes:,} bytes of held-out text")
    if result.overlaps:
        shared = [(one.wanted_size, *one.algorithms, f"{one.jaccard:.1%}") for one in result.overlaps]
        table(("ids", "one", "other", "shared tokens"), shared)
    for one in result.trained:
        show(f"{one.algorithm} {one.vocab_size:,}: {'·'.join(one.pieces)}")
    if out is not None:
        from ..reports.tokenizer_comparison_page import write_comparison

        write_comparison(result, out)
        show(f"Report: {out / 'index.html'}", style="bold")


def _show_audit(result: TokenizerAudit) -> None:
    show(f"{result.tokenizer.vocab_size:,} ids")
    table(("ids", "number"), list(result.kinds.counts().items()))
    if result.fertility:
        measures = ("tokens_per_word", "bytes_per_token", "continued_words", "unknown_share", "renyi_efficiency")
        rows = [(name.replace("_", " "), *_row(result.fertility, name)) for name in measures]
        table(("measure", *result.fertility), rows, title="What text costs")
    if result.parity is not None:
        _show_parity(result.parity.languages, result.parity.reference)
        show(f"Gini over {len(result.parity.languages)} languages: {result.parity.gini:.3f}")
        for name, reason in result.parity.left_out.items():
            show(f"  left out: {name} ({reason})", style="dim")
    if result.glitches is not None:
        _show_glitches(result.glitches)


def _row(found: Mapping[str, Any], name: str) -> list[object]:
    return ["—" if one[name] is None else one[name] for one in found.values()]


def _show_parity(languages: tuple[Any, ...], reference: str) -> None:
    rows: list[tuple[object, ...]] = [
        (
            place, one.language, one.premium, one.tokens,
            "—" if one.tokens_per_word is None else one.tokens_per_word, one.bytes_per_token,
            f"{one.unknown_share:.1%}",
        )
        for place, one in enumerate(languages, 1)
    ]  # fmt: skip
    if len(rows) > 2 * _LISTED:
        rows = [*rows[:_LISTED], ("…", *[""] * 6), *rows[-_LISTED:]]
    columns = ("", "language", "premium", "tokens", "tokens per word", "bytes per token", "unknown")
    table(columns, rows, title=f"The same text in each language, {reference} = 1")


def _show_glitches(found: Any) -> None:
    rows = [
        (
            one.id, json.dumps(one.token, ensure_ascii=False), one.indicator,
            "" if one.count is None else one.count,
            "" if one.probability is None else f"{one.probability:.1e}", one.verdict or "",
        )
        for one in found.tokens[: 2 * _LISTED]
    ]  # fmt: skip
    columns = ("id", "token", found.indicator, "trained on", "probability", "verdict")
    table(columns, rows, title=f"Ids that the model hardly learnt, of {len(found.candidates):,}")
    if found.auroc:
        show(
            f"{found.never_occurred:,} ids never occurred in training; AUROC of "
            + ", ".join(f"{name} {value:.4f}" for name, value in found.auroc.items())
        )
    if found.controls:
        show(
            f"Prompts get well-trained ids a probability of {found.control_probability:.1e}; an id listed here is less "
            f"sayable than one of these with probability {found.separation:.3f}."
        )
