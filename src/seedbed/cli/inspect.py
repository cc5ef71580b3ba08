"""`seedbed inspect context`: what a decoder does beyond the context that it was trained with; `seedbed inspect
bottleneck`: what recurrent encoder-decoders lose in their one vector, and attention gives back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.console import show, table
from ..core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from ..generation.long_context import ContextStudy

app = typer.Typer(
    help="Look into models: what they do beyond their context, and what a fixed vector loses.", no_args_is_help=True
)


@app.command()
def context(
    source: Annotated[Path, typer.Argument(metavar="RUN_OR_MODEL", help="A run, or the directory of a model.")],
    text: Annotated[Path, typer.Option(help="A text file that the model was not trained on.")],
    window: Annotated[
        int | None,
        typer.Option(min=8, help="Tokens that forgetful caches keep [default: half the context].", show_default=False),
    ] = None,
    sinks: Annotated[int, typer.Option(min=1, help="First tokens that stay.")] = 4,
    texts: Annotated[int, typer.Option(min=1, help="Stretches of the text to measure.")] = 8,
    stage: Annotated[str, typer.Option(help="Which model of a run: base, sft or policy.")] = "base",
    seed: Annotated[int, typer.Option(help="Seed of the planted look-ups.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Write context.json, index.html and charts here.", show_default=False)
    ] = None,
) -> None:
    """Loss by position under each extension of rotary positions; caches that forget side by side; what they recall."""
    from ..generation.long_context import study
    from ..models import Decoder, load_model
    from ..tokenizers import Tokenizer
    from .handover import model_directory

    source = model_directory(source, stage)
    model = load_model(source)
    if not isinstance(model, Decoder):
        raise ConfigError("only decoders have a context to go beyond, and this is no decoder", where=source)
    try:
        ids = Tokenizer.load(source).encode(text.read_text(encoding="utf-8"), parse_special=False)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read as text ({error})", where=text) from None
    result = study(
        model, ids, window=window, sinks=sinks, texts=texts, seed=seed, advance=lambda what: show(what, style="dim")
    )
    _show(result)
    if out is not None:
        from ..reports.context_page import write_context

        write_context(result, out)
        show(f"Report: {out / 'index.html'}", style="bold")


@app.command()
def bottleneck(
    tasks: Annotated[
        str, typer.Option(help="With commas between them: copy, reverse, translate.")
    ] = "copy,reverse,translate",
    steps: Annotated[int, typer.Option(min=1, help="Training steps, of every model.")] = 1500,
    parameters: Annotated[int, typer.Option(min=1000, help="Of every model, as nearly as widths allow.")] = 60_000,
    longest: Annotated[int, typer.Option(min=1, help="Longest source in training.")] = 16,
    seed: Annotated[int, typer.Option(help="Seed of weights and sources.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the table here, as JSON.", show_default=False)] = None,
) -> None:
    """Recurrent encoder-decoders without and with attention, and the transformer, on one task: accuracy by length."""
    from ..core.files import write_atomically
    from ..evaluation.bottleneck import compare
    from ..training import TrainerConfig

    trainer = TrainerConfig(
        steps=steps, batch_size=64, optimizer="adamw", learning_rate=4e-3, weight_decay=0.0, checkpoint_every=1 << 30
    )
    lengths = sorted({max(1, longest * part // 8) for part in (1, 2, 4, 6, 8, 10)})
    names = [task.strip() for task in tasks.split(",")]
    found = compare(names, parameters=parameters, longest=longest, lengths=lengths, trainer=trainer, seed=seed)
    for task in names:
        models = {one.model: one.parameters for one in found if one.task == task}
        shares = {(one.model, one.length): one.sequences for one in found if one.task == task}
        rows = [
            (model, f"{count:,}", *(f"{shares[model, length]:.0%}" for length in lengths))
            for model, count in models.items()
        ]
        columns = (
            "model",
            "parameters",
            *(f"{length}{'' if length <= longest else ' (unseen)'}" for length in lengths),
        )
        table(columns, rows, title=f"{task}: whole answers that are right, by length of the source")
    if out is not None:
        text = json.dumps([one.to_json() for one in found], indent=2) + "\n"
        write_atomically(out, text.encode())
        show(f"Written to {out}")


def _show(result: ContextStudy) -> None:
    rows: list[tuple[object, ...]] = [
        (one.method, f"{one.multiple}x", f"{one.start:,} to {one.stop:,}", f"{one.nats:.3f} ± {one.error:.3f}")
        for one in result.positions
    ]
    table(("method", "set for", "positions", "nats per token"), rows, title=f"Trained context: {result.context:,}")
    rows = [
        (one.cache, f"{one.perplexity:,.2f}", f"{one.nats:.3f} ± {one.error:.3f}", f"{one.bytes:,}",
         f"{one.tokens_per_second:,.0f}")
        for one in result.caches
    ]  # fmt: skip
    columns = ("cache", "perplexity", "nats per token", "bytes per text", "tokens per second")
    table(columns, rows, title=f"Window {result.window}, {result.sinks} first tokens kept")
    rows = [
        (one.cache, f"{one.distance:,}", f"{one.nats:+.3f} ± {one.error:.3f}", f"{one.right:.0%}")
        for one in result.recall
    ]
    table(("cache", "tokens back", "nats gained", "right"), rows, title="Recall of a planted value")
    rows = [(layer, *(f"{share:.1%}" for share in heads)) for layer, heads in enumerate(result.mass.tolist())]
    heads = (f"head {head}" for head in range(result.mass.shape[1]))
    table(("layer", *heads), rows, title=f"Attention on the first {result.sinks} tokens")
