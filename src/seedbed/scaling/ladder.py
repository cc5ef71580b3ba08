"""The ladder: small models on less data, trained as the main run will be, from which its loss is forecast.

Every rung uses the main run's recipe (optimizer, learning rate, batch, schedule) with its own width, depth and number
of steps, and finishes its own schedule. Rungs see each token at most once, but for a repetition arm: one size trained
on parts of the text, again and again, from which the fit learns what a token is worth when it is read again.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field, model_validator
from torch import nn

from ..core.artifacts import write_atomically
from ..core.config import Config
from ..core.console import show
from ..core.devices import best_device
from ..core.errors import ConfigError, DataError
from ..core.randomness import torch_generator
from ..datasets.loader import PackedBatches
from ..datasets.shards import TokenShards
from ..models.config import ModelConfig
from ..models.transformer import Decoder
from ..training.objectives import NextToken
from ..training.trainer import Trainer, TrainerConfig
from .runs import Run, RunTable
from .uncertainty import Posterior

Evaluate = Callable[[nn.Module], Mapping[str, float]]


class Rung(Config):
    """The shape of one size of model; what is left out is the main model's."""

    hidden_size: int = Field(ge=2, description="width")
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    kv_heads: int = Field(0, ge=0, description="0: as many as heads")

    def shape(self, model: ModelConfig) -> ModelConfig:
        """The main model at this size."""
        return model.replace(
            hidden_size=self.hidden_size, layers=self.layers, heads=self.heads, kv_heads=self.kv_heads, head_dim=0,
            intermediate_size=0,
        )  # fmt: skip


class LadderConfig(Config):
    """Which small models to train before the main run."""

    rungs: tuple[Rung, ...] = Field(min_length=3, description="sizes of model, smallest first")
    steps: tuple[int, ...] = Field(min_length=3, description="training lengths, in steps of the main run's batch")
    skip_largest: bool = Field(False, description="leave out the costliest pair of size and length")
    epochs: tuple[int, ...] = Field(
        (), description="repetition arm: the middle size trained longest, on so many times less text"
    )
    level: float = Field(0.9, gt=0, lt=1, description="probability that the interval promises")

    @model_validator(mode="after")
    def _distinct(self) -> LadderConfig:
        if len(set(self.steps)) < len(self.steps) or min(self.steps) < 1:
            raise ValueError("the training lengths must be different and positive")
        if len(set(self.epochs)) < len(self.epochs) or min(self.epochs, default=2) < 2:
            raise ValueError("the epochs of the repetition arm must be different and at least 2")
        return self

    def plan(self) -> list[Training]:
        """What to train, cheapest first within a size."""
        grid = [Training(rung, steps) for rung in self.rungs for steps in self.steps]
        if self.skip_largest:
            grid.remove(Training(self.rungs[-1], max(self.steps)))
        middle = self.rungs[(len(self.rungs) - 1) // 2]
        return [*grid, *(Training(middle, max(self.steps), epochs) for epochs in self.epochs)]


class Training(NamedTuple):
    """One run of the ladder: on `epochs` times less text than its steps need."""

    rung: Rung
    steps: int
    epochs: int = 1

    @property
    def name(self) -> str:
        arm = f"-{self.epochs}x" if self.epochs > 1 else ""
        return f"{self.rung.hidden_size}x{self.rung.layers}-{self.steps}{arm}"


@dataclass(frozen=True)
class LadderForecast:
    """What the main run is expected to reach, and from what."""

    params: int
    tokens: int
    unique_tokens: int
    effective_tokens: float
    loss: float  # validation, nats per token
    low: float
    high: float
    level: float
    bits_per_byte: float
    bits_per_byte_low: float
    bits_per_byte_high: float
    runs: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def run_ladder(
    config: LadderConfig,
    model: ModelConfig,
    trainer: TrainerConfig,
    shards: TokenShards,
    evaluate: Evaluate,
    *,
    scratch: Path,
    seed: int = 0,
) -> list[Run]:
    """Train every rung and return the table. Killed and called again, it goes on where it was.

    Args:
        model, trainer: of the main run.
        evaluate: `validation_loss` (nats per token) and `bits_per_byte` of a model.
        scratch: holds finished rungs and the checkpoints of the one under way.

    Raises:
        DataError: the text is too little for the longest rung to see it only once, and there is no repetition arm to
            learn from what the repeats are worth.
    """
    windows = (len(shards) - 1) // model.context_length
    needed = max(config.steps) * trainer.batch_size
    if needed > windows and not config.epochs:
        raise DataError(
            f"the ladder's longest run needs {needed * model.context_length:,} tokens and there are {len(shards):,}",
            where=shards.path,
            hint="Use more text, or shorter training lengths for the ladder, or give it a repetition arm (epochs).",
        )
    return run_trainings(config.plan(), model, trainer, shards, evaluate, scratch=scratch, seed=seed)


def run_trainings(
    trainings: Sequence[Training],
    model: ModelConfig,
    trainer: TrainerConfig,
    shards: TokenShards,
    evaluate: Evaluate,
    *,
    scratch: Path,
    seed: int = 0,
) -> list[Run]:
    """Train one model after the other as `run_ladder` does its rungs; killed and called again, it goes on."""
    runs = []
    for number, training in enumerate(trainings):
        folder = scratch / training.name
        run = _finished(folder)
        if run is None:
            run = _train(training, model, trainer, shards, evaluate, folder, seed)
            write_atomically(folder / "run.json", json.dumps(asdict(run)).encode())
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        show(
            f"  rung {number + 1} of {len(trainings)}: {run.params:,} params, {run.tokens:,} tokens, "
            f"{run.tokens / run.unique_tokens:.2g} epochs, loss {run.loss:.3f}"
        )
        runs.append(run)
    return runs


def _finished(folder: Path) -> Run | None:
    try:
        return Run(**json.loads((folder / "run.json").read_text()))
    except FileNotFoundError:
        return None


def _train(
    training: Training,
    model: ModelConfig,
    trainer: TrainerConfig,
    shards: TokenShards,
    evaluate: Evaluate,
    folder: Path,
    seed: int,
) -> Run:
    folder.mkdir(parents=True, exist_ok=True)
    steps, name = training.steps, training.name
    shape = training.rung.shape(model)
    decoder = Decoder(shape, torch_generator(seed, "ladder", name)).to(best_device())
    tokens = steps * trainer.batch_size * model.context_length
    limit = tokens // training.epochs if training.epochs > 1 else None
    batches = PackedBatches(shards, trainer.batch_size, model.context_length, seed, limit_tokens=limit)
    settings = trainer.replace(steps=steps, evaluate_every=0, checkpoint_every=max(steps, trainer.checkpoint_every))
    result = Trainer(
        settings, decoder, NextToken(), batches, scratch=folder, metrics_path=folder / "metrics.jsonl",
        evaluate=evaluate, name=f"rung {name}",
    ).run()  # fmt: skip
    loss, bits = result.metrics["validation_loss"], result.metrics["bits_per_byte"]
    return Run(
        name, shape.parameter_count(), tokens, min(tokens, batches.tokens_per_epoch), loss, bits,
        shape.parameter_count(embeddings=False), float(tokens * shape.flops_per_token()),
    )  # fmt: skip


def forecast(
    runs: list[Run],
    params: int,
    tokens: int,
    unique_tokens: int,
    *,
    level: float = 0.9,
    seed: int = 0,
) -> LadderForecast:
    """The main run's validation loss, with an interval that holds it with probability `level`.

    The loss is the median of the posterior given the rungs (`uncertainty.Posterior`), the interval its quantiles with
    drift and noise. Bits per byte follow the loss by the rungs' own ratio of the two.

    Raises:
        DataError: the rungs cannot identify the law.
        ConfigError: a rung is larger than the main run.
    """
    if params < max(run.params for run in runs):
        raise ConfigError("the ladder holds a larger model than the main run", hint="Lower the ladder's largest rung.")
    names = ("params", "tokens", "loss", "unique_tokens")
    table = RunTable.checked(*([getattr(run, name) for run in runs] for name in names))
    posterior = Posterior(table.params, table.tokens, table.loss, table.unique_tokens, seed=seed)
    draws = posterior.forecast_distribution(params, tokens, unique_tokens)
    low, loss, high = (float(one) for one in np.quantile(draws, [(1 - level) / 2, 0.5, (1 + level) / 2]))
    ratio = math.exp(float(np.mean([math.log(run.bits_per_byte / run.loss) for run in runs])))
    worth = posterior.effective_tokens(tokens, min(unique_tokens, tokens))
    return LadderForecast(
        params, tokens, unique_tokens, worth, loss, low, high, level, loss * ratio, low * ratio, high * ratio, len(runs)
    )
