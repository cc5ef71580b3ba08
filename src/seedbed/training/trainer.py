"""The trainer: it owns time (steps, accumulation, evaluation, checkpoints, metrics); the objective owns a step.

A run is a function of its config, model, objective and batches. Killed at any moment and started again with the same
arguments, it goes on from its last checkpoint and ends with the same weights, bit for bit (on the same machine, with
the same number of threads).
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from pydantic import Field
from torch import nn

from ..core.config import Config
from ..core.console import progress
from ..core.errors import ConfigError, SeedbedError
from ..core.randomness import derive_seed
from ..datasets.loader import Batches
from .checkpoints import Checkpoints, load_optimizer_state, optimizer_state
from .objectives import Objective
from .optimizers import OptimizerName, build_optimizers
from .schedules import ScheduleName, learning_rate_factor

B = TypeVar("B")
Evaluate = Callable[[nn.Module], Mapping[str, float]]


class DivergenceError(SeedbedError):
    """The loss or its gradient is no longer a number."""


class TrainerConfig(Config):
    """How a model is trained."""

    steps: int = Field(1000, ge=1, description="optimizer steps")
    batch_size: int = Field(32, ge=1, description="sequences per step, whatever the accumulation")
    accumulation: int = Field(1, ge=1, description="micro-batches that a step's batch is cut into, to save memory")
    optimizer: OptimizerName = Field("muon", description="muon: matrices of the blocks by Muon, the rest by AdamW")
    learning_rate: float = Field(3e-3, gt=0, description="peak learning rate")
    embedding_factor: float = Field(1.0, gt=0, description="beside Muon: AdamW's learning rate as a multiple of it")
    weight_decay: float = Field(0.1, ge=0, description="decoupled weight decay of matrices")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's decay of the mean gradient")
    beta2: float = Field(0.95, ge=0, lt=1, description="AdamW's decay of the mean squared gradient")
    momentum: float = Field(0.95, ge=0, lt=1, description="Muon's momentum")
    schedule: ScheduleName = Field("wsd", description="wsd: warm-up, stable, decay; cosine; constant")
    warmup_fraction: float = Field(0.05, ge=0, le=1, description="share of the steps with rising learning rate")
    decay_fraction: float = Field(0.5, gt=0, le=1, description="share of the steps with falling learning rate (wsd)")
    final_factor: float = Field(0.0, ge=0, le=1, description="learning rate at the end, as a share of the peak")
    clip_norm: float = Field(1.0, gt=0, description="largest norm of the gradient")
    evaluate_every: int = Field(0, ge=0, description="steps between evaluations; 0: at the end alone")
    checkpoint_every: int = Field(100, ge=1, description="steps between checkpoints")
    seed: int = Field(0, description="seed of everything random within a step (dropout, sampling)")

    def learning_rate_at(self, step: int) -> float:
        factor = learning_rate_factor(
            step, self.steps, self.schedule, warmup_steps=round(self.warmup_fraction * self.steps),
            decay_fraction=self.decay_fraction, final_factor=self.final_factor,
        )  # fmt: skip
        return self.learning_rate * factor


@dataclass(frozen=True)
class TrainResult:
    """`metrics` are equal for equal runs; `measurements` are the clock's, of the steps that this process ran."""

    metrics: dict[
        str, float
    ]  # steps, loss (mean of the last tenth), counted (sum of counts), and the last evaluation's
    measurements: dict[str, float]  # seconds, counted_per_second


class Trainer(Generic[B]):
    """Train `model` on `batches` by `objective`.

    Args:
        batches: endless, with `state_dict`. With accumulation, a batch has `split(parts)`.
        scratch: folder for checkpoints; one that is there is resumed.
        metrics_path: one JSON row per step (`step`, `loss`, `learning_rate`, `gradient_norm`, `counted`, what the
            objective adds) and per evaluation (`step` and what `evaluate` returns).
        evaluate: returns named numbers; called without gradients, in evaluation mode.
        name: what the progress display says.

    Raises:
        ConfigError: the checkpoint is of a run with another config.
        DivergenceError: the loss or the gradient is not finite; the last checkpoint stays.
    """

    def __init__(
        self,
        config: TrainerConfig,
        model: nn.Module,
        objective: Objective[B],
        batches: Batches[B],
        *,
        scratch: Path,
        metrics_path: Path,
        evaluate: Evaluate | None = None,
        name: str = "train",
    ) -> None:
        self._config, self._model, self._objective, self._batches = config, model, objective, batches
        self._checkpoints, self._metrics_path = Checkpoints(scratch / "checkpoints"), metrics_path
        self._evaluate, self._name = evaluate, name
        self._device = next(model.parameters()).device
        self._optimizers = build_optimizers(
            model, config.optimizer, weight_decay=config.weight_decay, betas=(config.beta1, config.beta2),
            momentum=config.momentum, embedding_factor=config.embedding_factor,
        )  # fmt: skip
        self._parameters = [one for one in model.parameters() if one.requires_grad]
        self._step, self._counted = 0, 0.0
        self._rows: list[dict[str, Any]] = []

    def run(self) -> TrainResult:
        """Train to the last step, from the last checkpoint if there is one."""
        config = self._config
        self._resume()
        first, counted_before, start = self._step, self._counted, time.perf_counter()
        devices = [self._device] if self._device.type == "cuda" else []
        with (
            open(self._metrics_path, "a", encoding="utf-8") as metrics,
            torch.random.fork_rng(devices),
            progress(self._name, total=config.steps) as task,
        ):
            task.advance(first)
            while self._step < config.steps:
                # A step's randomness is a function of the seed and the step: no generator's state has to be saved.
                torch.manual_seed(derive_seed(config.seed, "step", self._step))
                row = self.train_step()
                self._log(metrics, row)
                task.advance(1, loss=row["loss"])
                last = self._step == config.steps
                if last or (config.evaluate_every and self._step % config.evaluate_every == 0):
                    self._log(metrics, self._evaluation())
                if last or self._step % config.checkpoint_every == 0:
                    os.fsync(metrics.fileno())
                    self._checkpoints.save(self._step, self._state())
        seconds = time.perf_counter() - start
        measurements = {"seconds": seconds, "counted_per_second": (self._counted - counted_before) / max(seconds, 1e-9)}
        return TrainResult(self._summary(), measurements if self._step > first else {})

    def train_step(self) -> dict[str, float]:
        config = self._config
        batch: Any = next(self._batches)
        learning_rate = config.learning_rate_at(self._step)
        self._model.train()
        losses, counts, extras = [], [], []
        for part in batch.split(config.accumulation) if config.accumulation > 1 else [batch]:
            moved = part.to(self._device) if hasattr(part, "to") else part
            loss, count, extra = self._objective.loss(self._model, moved)
            loss.backward()
            losses.append(loss.detach())
            counts.append(torch.as_tensor(count).detach().float().cpu())
            extras.append(extra)
        total = torch.stack(counts).sum().clamp(min=1e-12)
        loss = torch.stack(losses).sum().cpu() / total
        gradients = [one.grad for one in self._parameters if one.grad is not None]
        torch._foreach_div_(gradients, float(total))
        norm = float(nn.utils.clip_grad_norm_(self._parameters, config.clip_norm))
        self._step += 1
        if not (math.isfinite(float(loss)) and math.isfinite(norm)):
            raise DivergenceError(
                f"the {'loss' if not math.isfinite(float(loss)) else 'gradient'} is not finite at step {self._step}",
                where=self._metrics_path,
                hint="Lower the learning rate or look at this step's data; the last checkpoint is kept.",
            )
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * group["factor"]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self._counted += float(total)
        row = {"loss": float(loss), "learning_rate": learning_rate, "gradient_norm": norm, "counted": self._counted}
        return row | {name: float(sum(extra[name] for extra in extras)) / float(total) for name in extras[0]}

    def _evaluation(self) -> dict[str, float]:
        if self._evaluate is None:
            return {}
        self._model.eval()
        with torch.no_grad():
            return dict(self._evaluate(self._model))

    def _log(self, metrics: Any, values: Mapping[str, float]) -> None:
        if values:
            row = {"step": self._step, **values}
            self._rows.append(row)
            metrics.write(json.dumps(row) + "\n")
            metrics.flush()

    def _summary(self) -> dict[str, float]:
        training = [row for row in self._rows if "gradient_norm" in row]
        others = [row for row in self._rows if "gradient_norm" not in row]
        tail = [row["loss"] for row in training[-max(len(training) // 10, 1) :]]
        summary = {"steps": self._step, "loss": sum(tail) / len(tail), "counted": self._counted}
        return summary | {name: value for name, value in (others[-1] if others else {}).items() if name != "step"}

    def _state(self) -> dict[str, Any]:
        state = {
            "config": self._config.model_dump(mode="json"),
            "progress": {"step": self._step, "counted": self._counted},
            "model": self._model.state_dict(),
            "optimizer": optimizer_state(self._model, self._optimizers),
            "batches": self._batches.state_dict(),
        }
        if hasattr(self._objective, "state_dict"):
            state["objective"] = self._objective.state_dict()
        return state

    def _resume(self) -> None:
        state = self._checkpoints.load_newest()
        if state is not None:
            self._refuse_other_config(state["config"])
            self._model.load_state_dict(state["model"])
            load_optimizer_state(self._model, self._optimizers, state.get("optimizer", {}))
            self._batches.load_state_dict(state["batches"])
            if hasattr(self._objective, "load_state_dict"):
                self._objective.load_state_dict(state["objective"])
            self._step, self._counted = state["progress"]["step"], state["progress"]["counted"]
        self._rows = _rows_up_to(self._metrics_path, self._step)
        text = "".join(json.dumps(row) + "\n" for row in self._rows)
        self._metrics_path.write_text(text, encoding="utf-8")

    def _refuse_other_config(self, saved: Mapping[str, Any]) -> None:
        now = self._config.model_dump(mode="json")
        changed = sorted(key for key in {*now, *saved} if now.get(key) != saved.get(key))
        if changed:
            raise ConfigError(
                f"the checkpoint is of a run with another config (differs in: {', '.join(changed)})",
                hint="Use the same config, or remove the checkpoints to start anew.",
            )


def _rows_up_to(path: Path, step: int) -> list[dict[str, Any]]:
    """The rows that the checkpoint at `step` knows; a kill may have left later ones, the last of them cut off."""
    rows: list[dict[str, Any]] = []
    if step and path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                break
            if row["step"] <= step:
                rows.append(row)
    return rows
