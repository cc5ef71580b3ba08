"""The trainer: it owns time (steps, accumulation, evaluation, checkpoints, metrics); the objective owns a step.

A run is a function of its config, model, objective and batches. Killed at any moment and started again with the same
arguments, it goes on from its last checkpoint and ends with the same weights, bit for bit (on the same machine, with
the same number of threads and processes). With other numbers of micro-batches or processes the results are equal up to
rounding.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Generic, TypeVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ..core.config import Config
from ..core.console import progress, show
from ..core.errors import ConfigError, ResourceError, SeedbedError
from ..core.processes import together
from ..core.randomness import derive_seed
from ..datasets.loader import Batches
from .averaging import MovingAverage, averaged_weights, borrowed_weights, take_weights
from .checkpoints import Checkpoints, load_optimizer_state, optimizer_state
from .execution import Precision, autocast, execute_blocks, release_blocks
from .objectives import Objective
from .optimizers import OptimizerName, build_optimizers
from .parallelism import Parallel, local, split_groups
from .records import Records, Row
from .schedules import ScheduleName, learning_rate_factor

B = TypeVar("B")
Evaluate = Callable[[nn.Module], Mapping[str, float]]

_SPREADABLE = ("muon", "adamw")  # others keep states whose parts are no parts of the whole's
_WITHOUT_EFFECT = {"checkpoint_every", "tensorboard"}  # keys that a resumed run may change
_SPIKE_STEPS, _SPIKE_SPREADS = 64, 8.0  # losses before it that a loss is held against, and how far above is a spike
_SPREAD = 1.4826  # standard deviations in a median absolute deviation


class DivergenceError(SeedbedError):
    """The loss or its gradient is no longer a number."""


class TrainerConfig(Config):
    """How a model is trained."""

    steps: int = Field(1000, ge=1, description="optimizer steps")
    batch_size: int = Field(32, ge=1, description="sequences per step, whatever the accumulation")
    accumulation: int = Field(1, ge=1, description="micro-batches that a step's batch is cut into, to save memory")
    optimizer: OptimizerName = Field(
        "muon", description="muon (the blocks' matrices; AdamW the rest), adamw, adamw8bit or schedulefree"
    )
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
    ema_decay: float = Field(0.0, ge=0, lt=1, description="judge and keep the weights' moving average; 0: the weights")
    clip_norm: float = Field(1.0, gt=0, description="largest norm of the gradient")
    precision: Precision = Field("float32", description="of matrix products; bfloat16 by autocast")
    compile: bool = Field(False, description="compile the blocks by torch.compile: minutes first, faster steps then")
    recompute: bool = Field(False, description="compute the blocks' activations again instead of keeping them")
    evaluate_every: int = Field(0, ge=0, description="steps between evaluations; 0: at the end alone")
    best_by: str = Field("validation_loss", description="the evaluation's figure whose lowest marks the best model")
    patience: int = Field(0, ge=0, description="evaluations without a better one until the run stops; 0: never")
    checkpoint_every: int = Field(100, ge=1, description="steps between checkpoints")
    tensorboard: bool = Field(False, description="also write TensorBoard's events")
    seed: int = Field(0, description="seed of everything random within a step (dropout, sampling)")

    @model_validator(mode="after")
    def _check(self) -> TrainerConfig:
        if self.optimizer == "schedulefree" and (self.schedule != "constant" or self.beta1 == 0 or self.ema_decay):
            raise ValueError("optimizer schedulefree needs schedule: constant, beta1 above 0 and ema_decay: 0")
        return self

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
    ]  # steps, loss (mean of the last tenth), counted (sum of counts), last evaluation's, best's
    measurements: dict[str, float]  # seconds, counted_per_second, and the last of tokens_per_second, mfu, memory_bytes


class Trainer(Generic[B]):
    """Train `model` on `batches` by `objective`.

    Args:
        batches: endless, with `state_dict`. With accumulation or several processes, a batch has `split(parts)`. Where
            they have `documents()`, an error names those of the batch; where `largest()`, that batch is tried first.
        scratch: folder for checkpoints; one that is there is resumed.
        metrics_path: one JSON row per step (`step`, `loss`, `learning_rate`, `gradient_norm`, `counted`, what the
            objective adds) and per evaluation (`step` and what `evaluate` returns). `records` tells what else.
        evaluate: returns named numbers; called without gradients, in evaluation mode.
        name: what the progress display says.
        parallel: how `model` is spread over the processes of the run; each of them calls this with equal arguments.
        accept_changes: resume a checkpoint of another config.

    Raises:
        ConfigError: the checkpoint is of a run with another config.
        DivergenceError: the loss or the gradient is not finite; the last checkpoint stays.
        ResourceError: the largest batch does not fit into memory, or a checkpoint on the disk.
        WorkerError: another process of the run died.
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
        parallel: Parallel | None = None,
        accept_changes: bool = False,
    ) -> None:
        self._config, self._model, self._objective, self._batches = config, model, objective, batches
        self._metrics_path, self._evaluate, self._name = metrics_path, evaluate, name
        self._accept_changes = accept_changes
        self._device = next(model.parameters()).device
        self._parallel = parallel or Parallel(device=self._device.type)
        if self._parallel.is_spread and (config.optimizer not in _SPREADABLE or config.ema_decay):
            raise ConfigError(
                f"in several processes only {' and '.join(_SPREADABLE)} work, without a moving average",
                where="optimizer" if config.optimizer not in _SPREADABLE else "ema_decay",
            )
        execute_blocks(model, compiled=config.compile, recompute=config.recompute)
        self._parallel.apply(model)
        self._checkpoints = Checkpoints(scratch / "checkpoints")
        flops = getattr(getattr(model, "config", None), "flops_per_token", None)
        self._records = Records(
            metrics_path, self._device, flops() if flops else 0.0, config.tensorboard, getattr(torch, config.precision)
        )
        self._optimizers = build_optimizers(
            model, config.optimizer, weight_decay=config.weight_decay, betas=(config.beta1, config.beta2),
            momentum=config.momentum, embedding_factor=config.embedding_factor, precision=config.precision,
        )  # fmt: skip
        for one in self._optimizers:
            split_groups(one)
        self._average = MovingAverage(model, config.ema_decay) if config.ema_decay else None
        self._parameters = [one for one in model.parameters() if one.requires_grad]
        self._step, self._counted = 0, 0.0
        self._best: dict[str, float] = {}  # step, value, and how many evaluations ago
        self._last_good: int | None = None  # the checkpoint before the last loss spike

    def run(self) -> TrainResult:
        """Train to the last step, from the last checkpoint if there is one."""
        config = self._config
        with together():
            self._resume()
            first, counted_before, start = self._step, self._counted, time.perf_counter()
            devices = [self._device] if self._device.type == "cuda" else []
            try:
                with torch.random.fork_rng(devices), progress(self._name, total=config.steps) as task:
                    task.advance(first)
                    self._try_largest_batch()
                    while not self._is_over():
                        self._records.show(task, self._one_step())
                if self._best and config.patience:
                    self._take_best()
                take_weights(self._model, self._judged())
                self._checkpoints.wait()
            except BaseException:
                self._checkpoints.settle()
                raise
            finally:
                self._records.close()
                release_blocks(self._model)
        seconds = time.perf_counter() - start
        measurements = {"seconds": seconds, "counted_per_second": (self._counted - counted_before) / max(seconds, 1e-9)}
        return TrainResult(self._summary(), measurements | self._records.measured if self._step > first else {})

    def _one_step(self) -> Row:
        """A step with all that belongs to it: its row, evaluation and checkpoint."""
        config = self._config
        # A step's randomness is a function of the seed and the step: no generator's state has to be saved.
        own = (self._parallel.replica,) if self._parallel.replica else ()
        torch.manual_seed(derive_seed(config.seed, "step", self._step, *own))
        row = self.train_step()
        last, better = self._step == config.steps, False
        if last or (config.evaluate_every and self._step % config.evaluate_every == 0):
            better = self._evaluation()
        if self._is_over() or better or self._step % config.checkpoint_every == 0:
            self._save()
        return row

    def _is_over(self) -> bool:
        waited, patience = self._best.get("waited", 0), self._config.patience
        return self._step >= self._config.steps or 0 < patience <= waited

    def train_step(self) -> Row:
        """One step of the optimizers; returns its row of metrics."""
        config = self._config
        batch: Any = next(self._batches)
        learning_rate = config.learning_rate_at(self._step)
        loss, total, extras, tokens = self._accumulate(batch)
        gradients = [local(one.grad) for one in self._parameters if one.grad is not None]
        torch._foreach_div_(gradients, float(total))
        self._parallel.finish_gradients()
        norm = self._parallel.clip(self._parameters, config.clip_norm)
        self._step += 1
        row: Row = {"loss": float(loss), "learning_rate": learning_rate, "gradient_norm": norm}
        self._require_finite(row)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * group["factor"]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self._average is not None:
            self._average.update(self._model)
        self._counted += float(total)
        row |= {"counted": self._counted, **extras, **self._spike(row["loss"])}
        self._records.add(self._step, row)
        self._records.count(self._step, tokens)
        return row

    def _accumulate(self, batch: Any) -> tuple[Tensor, Tensor, dict[str, float], int]:
        """The gradient of a batch's summed loss, and: the mean loss, the count, means of what the objective adds, and
        the tokens, over all micro-batches of all processes."""
        self._model.train()
        losses, counts, extras, tokens = [], [], [], 0
        for part in self._parallel.parts(batch, self._config.accumulation):
            moved = part.to(self._device) if hasattr(part, "to") else part
            with autocast(self._config.precision, self._device):
                loss, count, extra = self._parallel.loss(self._objective, self._model, moved)
            loss.backward()
            losses.append(loss.detach())
            counts.append(torch.as_tensor(count).detach().float().cpu())
            extras.append(extra)
            tokens += part.ids_BT.numel() if hasattr(part, "ids_BT") else int(count)
        names = list(extras[0])
        sums = [torch.stack([torch.as_tensor(extra[name]).detach() for extra in extras]).sum() for name in names]
        parts = (torch.stack(losses).sum(), torch.stack(counts).sum(), *sums)
        loss, total, *added = self._parallel.total(torch.stack([one.cpu().float() for one in parts]))
        total = total.clamp(min=1e-12)
        means = {name: float(one) / float(total) for name, one in zip(names, added, strict=True)}
        return loss / total, total, means, tokens * self._parallel.replicas

    def _require_finite(self, row: Row) -> None:
        for name, what in (("loss", "loss"), ("gradient_norm", "gradient")):
            if not math.isfinite(row[name]):
                documents = self._documents()
                raise DivergenceError(
                    f"the {what} is not finite at step {self._step}" + (f", in {documents}" if documents else ""),
                    where=self._metrics_path,
                    hint="Lower the learning rate or look at this step's data; the last checkpoint is kept.",
                )

    def _spike(self, loss: float) -> dict[str, Any]:
        """What a row says of a loss far above those before it. The checkpoint before it is kept from now on."""
        before = [row["loss"] for row in self._records.rows[-2 * _SPIKE_STEPS :] if "gradient_norm" in row]
        before = before[-_SPIKE_STEPS:]
        if len(before) < _SPIKE_STEPS:
            return {}
        usual = median(before)
        spread = _SPREAD * median(abs(one - usual) for one in before)
        if loss - usual <= _SPIKE_SPREADS * spread:
            return {}
        documents = self._documents()
        where = f" ({documents})" if documents else ""
        show(f"  the loss leapt to {loss:.4g} from about {usual:.4g} at step {self._step}{where}", "yellow")
        self._checkpoints.wait()  # one that is still being written is the one to keep
        older = [step for step in self._checkpoints.steps() if step < self._step]
        self._last_good = older[-1] if older else None
        return {"usual_loss": usual, "documents": documents}

    def _documents(self) -> str:
        """The documents of the last batch."""
        return str(self._batches.documents()) if hasattr(self._batches, "documents") else ""

    def _try_largest_batch(self) -> None:
        """Find out before the first step, not in the third hour, whether the largest batch fits."""
        if not hasattr(self._batches, "largest") or self._step >= self._config.steps:
            return
        torch.manual_seed(0)
        try:
            self._accumulate(self._batches.largest())
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "alloc" not in str(error):
                raise
            raise ResourceError(
                "the largest batch does not fit into memory", where=self._name,
                hint="Raise accumulation, or lower batch_size, context_length or the model.",
            ) from error  # fmt: skip
        self._model.zero_grad(set_to_none=True)

    def _evaluation(self) -> bool:
        """Evaluate, and say whether the model is the best so far."""
        if self._evaluate is None:
            return False
        with borrowed_weights(self._model, self._judged()), self._parallel.evaluating(self._model):
            found = dict(self._evaluate(self._model))
        self._records.add(self._step, found)
        value = found.get(self._config.best_by)
        if value is None:
            if self._config.patience:
                raise ConfigError(
                    f"the evaluation has no '{self._config.best_by}' (it has: {', '.join(found)})", where="best_by"
                )
            return False
        if self._best and value >= self._best["value"]:
            self._best["waited"] += 1
            return False
        self._best = {"step": self._step, "value": value, "waited": 0}
        return True

    def _judged(self) -> dict[str, Tensor]:
        """The weights to evaluate and to end with, where they are not those that train."""
        return averaged_weights(self._model, self._average, self._optimizers)

    def _take_best(self) -> None:
        """Give the model the weights that it had when it was best."""
        self._checkpoints.wait()
        if self._best["step"] != self._step:
            self._take(self._checkpoints.load(int(self._best["step"]), self._model))

    def _summary(self) -> dict[str, float]:
        training = [row for row in self._records.rows if "gradient_norm" in row]
        others = [row for row in self._records.rows if "gradient_norm" not in row]
        tail = [row["loss"] for row in training[-max(len(training) // 10, 1) :]]
        summary = {"steps": self._step, "loss": sum(tail) / len(tail), "counted": self._counted}
        summary |= {name: value for name, value in (others[-1] if others else {}).items() if name != "step"}
        best = (
            {"best_step": self._best["step"], f"best_{self._config.best_by}": self._best["value"]} if self._best else {}
        )
        return summary | best

    def _save(self) -> None:
        state = {
            "config": self._config.model_dump(mode="json"),
            "progress": {
                "step": self._step, "counted": self._counted, "best": self._best, "last_good": self._last_good
            },
            "model": self._model.state_dict(),
            "optimizer": optimizer_state(self._model, self._optimizers),
            "batches": self._batches.state_dict(),
        }  # fmt: skip
        if self._average is not None:
            state["average"] = self._average.state_dict()
        if hasattr(self._objective, "state_dict"):
            state["objective"] = self._objective.state_dict()
        self._records.sync()
        pinned = [int(one) for one in (self._best.get("step"), self._last_good) if one is not None]
        self._checkpoints.save(self._step, state, pinned)

    def _resume(self) -> None:
        state = self._checkpoints.load_newest(self._model)
        if state is not None:
            self._compare_config(state["config"])
            self._take(state)
            self._batches.load_state_dict(state["batches"])
            if hasattr(self._objective, "load_state_dict"):
                self._objective.load_state_dict(state["objective"])
            done = state["progress"]
            self._step, self._counted = done["step"], done["counted"]
            self._best, self._last_good = done["best"], done["last_good"]
        self._records.open_at(self._step)

    def _take(self, state: Mapping[str, Any]) -> None:
        """A checkpoint's weights, with the optimizers' states and averages that belong to them."""
        self._model.load_state_dict(state["model"])
        load_optimizer_state(self._model, self._optimizers, state.get("optimizer", {}))
        if self._average is not None and "average" in state:
            self._average.load_state_dict(state["average"])

    def _compare_config(self, saved: Mapping[str, Any]) -> None:
        now = self._config.model_dump(mode="json")
        changed = sorted(key for key in {*now, *saved} - _WITHOUT_EFFECT if now.get(key) != saved.get(key))
        if changed and not self._accept_changes:
            raise ConfigError(
                f"the checkpoint is of a run with another config (differs in: {', '.join(changed)})",
                hint="Use the same config, accept the changes, or remove the checkpoints to start anew.",
            )
