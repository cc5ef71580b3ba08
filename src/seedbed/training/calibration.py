"""Ten seconds of training on this machine, from which the time and memory of a whole run follow.

A few layers of the very model are trained for a moment in a process of their own: what a layer adds there, all others
will add, in seconds and in memory. The process takes more memory than its tensors hold, for the allocator leaves
holes between them: how many depends on the tensors' sizes, and with recomputation each layer adds some.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from ..core.config import build
from ..core.devices import memory_bytes, peak_memory_bytes, reset_peak_memory, resident_bytes
from ..core.errors import ResourceError
from ..models.config import ModelConfig
from .trainer import Trainer, TrainerConfig

_MODEL = {"vocab_size": 4096, "hidden_size": 256, "layers": 4, "heads": 4, "context_length": 256}
_TINY = {"hidden_size": 32, "layers": 1, "heads": 1, "kv_heads": 0, "head_dim": 0, "intermediate_size": 0}
_FEWEST_STEPS = 3
_LONGEST_STEP = 1.0  # seconds
_MORE_ROWS = 4  # to look at memory with than at time: holes grow with tensors
_DEEPER = 4  # layers of the deeper of the two models whose memory is looked at
_SAFE = 0.5  # share of the free memory that a calibration may take
_LEAST_SHARE = 0.3  # of two layers' time that one layer takes at least: what is less is noise


@dataclass(frozen=True)
class Calibration:
    """What a short run measured."""

    seconds_per_step: float  # of the whole model, its whole batch
    flops_per_second: float  # by `ModelConfig.flops_per_token`
    process_bytes: int  # before the model is there
    overhead: float  # memory that the model would take at the rows measured, over what its tensors would hold
    threads: int


def calibrate(
    model: ModelConfig | None = None,
    training: TrainerConfig | None = None,
    *,
    seconds: float = 10.0,
    threads: int | None = None,
) -> Calibration:
    """Measure this machine; without a model, with one of some five million parameters.

    A batch too large for the time or the memory is measured by fewer of its sequences.

    Raises:
        ResourceError: even one sequence through two layers takes more memory than is free, or its process died.
    """
    model = build(ModelConfig, _MODEL) if model is None else model
    training = TrainerConfig(batch_size=8) if training is None else training
    job = {
        "model": model.model_dump(mode="json"), "training": training.model_dump(mode="json"), "seconds": seconds,
        "threads": threads,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "seedbed.training.calibration"], input=json.dumps(job), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise ResourceError(f"the calibration run failed: {words[-1]}", hint="Choose a smaller model or batch.")
    return Calibration(**json.loads(done.stdout.splitlines()[-1]))


def _measure(model: ModelConfig, training: TrainerConfig, seconds: float, threads: int | None) -> Calibration:
    from ..core.devices import set_threads

    count = set_threads(threads)
    one, two = (model.replace(layers=layers) for layers in (1, 2))
    whole_rows = -(-training.batch_size // training.accumulation)
    small = training.replace(accumulation=1, batch_size=1)
    _steps(model.replace(**_TINY), small, 0.0)  # libraries make their buffers
    process = resident_bytes()
    one_row = _steps(two, small, seconds / 6)
    # One row alone does not tell what is the same for all.
    short = _fitting(two, small, min(whole_rows, max(2, int(_LONGEST_STEP / one_row))))
    rows = short.batch_size
    overhead = _overhead(model, training, min(_MORE_ROWS * rows, whole_rows), process)
    first, second = (_steps(each, short, seconds / 3) for each in (one, two))
    layer = max(second - first, _LEAST_SHARE * second)
    # The optimizer's part is the same for any number of rows.
    fixed = max(one_row - (second - one_row) / (rows - 1), 0.0) / second if rows > 1 else 0.0
    whole = (second + (model.layers - 2) * layer) * (fixed + (1 - fixed) * training.batch_size / rows)
    flops = model.flops_per_token() * model.context_length * training.batch_size
    return Calibration(whole, flops / whole, process, overhead, count)


def _overhead(model: ModelConfig, training: TrainerConfig, rows: int, process: int) -> float:
    """Memory that all layers would take at so many rows, as the first few do, over what their tensors would hold."""
    from .memory import step_memory

    deep = model.replace(layers=min(model.layers, _DEEPER))
    training = _fitting(deep, training.replace(accumulation=min(training.accumulation, 2)), rows)
    reset_peak_memory()
    peaks = []
    for each in (model.replace(layers=1), deep):
        _steps(each, training, 0.0)
        peaks.append(peak_memory_bytes() - process)
    layer = (peaks[1] - peaks[0]) / max(deep.layers - 1, 1)
    return max((peaks[1] + (model.layers - deep.layers) * layer) / step_memory(model, training).peak, 1.0)


def _fitting(model: ModelConfig, training: TrainerConfig, rows: int) -> TrainerConfig:
    """With micro-batches of so many rows, or of as many as are safe."""
    from .memory import step_memory

    while True:
        training = training.replace(batch_size=rows * training.accumulation)
        if rows == 1 or step_memory(model, training).peak <= _SAFE * memory_bytes()[1]:
            return training
        rows //= 2


def _steps(model: ModelConfig, training: TrainerConfig, seconds: float) -> float:
    """Seconds of a step: the fastest, which others on the machine disturbed least."""
    from ..models.transformer import Decoder
    from .objectives import NextToken

    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        trainer = Trainer(
            training.replace(steps=10_000, evaluate_every=0), Decoder(model), NextToken(),
            RandomBatches(model.vocab_size, training.batch_size, model.context_length),
            scratch=place, metrics_path=place / "metrics.jsonl",
        )  # fmt: skip
        start = time.perf_counter()
        while len(times) < _FEWEST_STEPS or time.perf_counter() - start < seconds:
            began = time.perf_counter()
            trainer.train_step()
            times.append(time.perf_counter() - began)
    return min(times[1:])


class RandomBatches:
    """One batch of random tokens, again and again."""

    def __init__(self, vocab_size: int, rows: int, length: int) -> None:
        import torch

        from ..core.randomness import torch_generator
        from ..datasets.loader import Batch

        ids = torch.randint(vocab_size, (rows, length), generator=torch_generator(0, "calibration"))
        self._batch = Batch(ids, ids, torch.ones(rows, length))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return self._batch

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any) -> None:
        """There is no state."""


if __name__ == "__main__":
    job = json.load(sys.stdin)
    found = _measure(
        build(ModelConfig, job["model"]), build(TrainerConfig, job["training"]), job["seconds"], job["threads"]
    )
    print(json.dumps(asdict(found)))
