"""`seedbed plan`: what a config will take in parameters, FLOPs, memory and time, before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..core.config import parse_overrides
from ..core.console import show, table
from ..core.errors import FormatError
from .road import OverridesOption, RecipeOption


def plan(
    recipe: RecipeOption = "demo",
    model: Annotated[
        Path | None,
        typer.Option(help="A Hugging Face directory, whose shape is taken instead.", show_default=False),
    ] = None,
    memory: Annotated[
        float | None, typer.Option(min=0.0, help="GiB there are [default: what is free here].", show_default=False)
    ] = None,
    calibrate: Annotated[bool, typer.Option(help="Train for ten seconds to know this machine.")] = True,
    cache_tokens: Annotated[int, typer.Option(min=0, help="Tokens in the cache of generation beside training.")] = 0,
    overrides: OverridesOption = None,
) -> None:
    """Predict parameters, FLOPs, peak memory and time of training, and say what fits: full, LoRA, QLoRA, offload."""
    from ..core.devices import memory_bytes
    from ..finetuning import estimate_memory
    from ..finetuning.memory import METHODS
    from ..models.config import ModelConfig
    from ..models.huggingface import load_config
    from ..recipes import load_recipe
    from ..reports import numbers
    from ..training.calibration import calibrate as measure

    chosen = load_recipe(recipe, parse_overrides(overrides or []))
    shape: ModelConfig = chosen.pretraining.model(chosen.tokenizer.vocab_size) if model is None else load_config(model)
    if shape.kind != "decoder":
        raise FormatError(f"this is an {shape.kind}, and only decoders can be planned", where=model)
    training = chosen.pretraining.training
    tokens = training.steps * training.batch_size * shape.context_length
    flops = shape.flops_per_token() * tokens
    found = measure(shape, training, threads=chosen.threads or None) if calibrate else None
    rows = [
        ("parameters", numbers.count(shape.parameter_count())),
        ("without embeddings and head", numbers.count(shape.parameter_count(embeddings=False))),
        ("tokens", numbers.count(tokens)),
        ("training FLOPs", f"{flops:.3g}"),
    ]
    if found is not None:
        rows += [
            ("seconds a step", f"{found.seconds_per_step:.3g}"),
            ("time", numbers.duration(found.seconds_per_step * training.steps)),
            ("FLOPs per second", f"{found.flops_per_second:.3g}"),
        ]
    table(("what", "value"), rows)
    available = memory_bytes()[1] if memory is None else round(memory * 2**30)
    estimates = [
        estimate_memory(shape, training, method, calibration=found, cache_tokens=cache_tokens) for method in METHODS
    ]
    parts = ("weights", "gradients", "optimizer", "activations", "cache", "process", "peak", "host")
    table(
        ("method", *parts, "fits"),
        [
            (
                one.method,
                *(numbers.memory(getattr(one, part)) for part in parts),
                "yes" if one.fits(available) else "no",
            )
            for one in estimates
        ],
        title=f"Peak memory in float32, of {numbers.memory(available)}",
    )
    if found is None:
        show("Without a calibration the peak is of tensors alone, and the time is not known.")
