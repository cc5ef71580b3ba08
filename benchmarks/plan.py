"""What `seedbed plan` foretells, beside what a run then takes: peak memory and seconds a step.

    python -m benchmarks.plan [--only full lora ...] [--threads 2] [--seconds 3] [--steps 4] [--save]

For each row a fresh process trains as told and says its highest resident memory and its fastest step; before that,
another one calibrates, as the command does. Foretold is the peak of the whole process. Time is foretold for all weights
alone: an adapter's step is not calibrated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.measuring import circumstances, seconds, write_results
from seedbed.core.config import build
from seedbed.core.devices import peak_memory_bytes, reset_peak_memory, set_threads
from seedbed.finetuning import LoRAConfig, add_adapter, estimate_memory, quantize_nf4
from seedbed.models import Decoder, ModelConfig
from seedbed.training import NextToken, Trainer, TrainerConfig
from seedbed.training.calibration import RandomBatches, calibrate

from torch import nn  # isort: skip

_RESULTS = Path(__file__).parent / "results" / "plan.json"
_SMALL = {"vocab_size": 8192, "hidden_size": 320, "layers": 6, "heads": 5, "context_length": 256}
_LARGE = {"vocab_size": 8192, "hidden_size": 512, "layers": 8, "heads": 8, "context_length": 256}
_LONG = {"vocab_size": 2048, "hidden_size": 256, "layers": 6, "heads": 4, "context_length": 1024}
_ROWS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "full": (_SMALL, {"batch_size": 8}, "full"),
    "adamw": (_SMALL, {"batch_size": 8, "optimizer": "adamw"}, "full"),
    "bfloat16": (_SMALL, {"batch_size": 8, "precision": "bfloat16"}, "full"),
    "recompute": (_SMALL, {"batch_size": 16, "recompute": True}, "full"),
    "accumulation": (_SMALL, {"batch_size": 16, "accumulation": 4}, "full"),
    "eight bits": (_SMALL, {"batch_size": 8, "optimizer": "adamw8bit"}, "full"),
    "30m": (_LARGE, {"batch_size": 4}, "full"),
    "long": (_LONG, {"batch_size": 2}, "full"),
    "lora": (_SMALL, {"batch_size": 8, "optimizer": "adamw"}, "lora"),
    "qlora": (_LARGE, {"batch_size": 4, "optimizer": "adamw"}, "qlora"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory and time foretold and measured.")
    parser.add_argument("--only", nargs="+", choices=list(_ROWS), default=list(_ROWS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0, help="of calibration for each row")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        print(json.dumps(_measure(*json.loads(options.job))))
        return
    found = []
    for name in options.only:
        shape, training, method = _ROWS[name]
        model, config = build(ModelConfig, shape), build(TrainerConfig, training)
        calibration = calibrate(model, config, seconds=options.seconds, threads=options.threads)
        foretold = estimate_memory(model, config, method, calibration=calibration)  # type: ignore[arg-type]
        job = json.dumps([shape, training, method, options.steps, options.threads])
        command = [sys.executable, "-m", "benchmarks.plan", "--job", job]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        row = {"name": name, "foretold_bytes": foretold.peak, **json.loads(done.stdout.splitlines()[-1])}
        if method == "full":
            row["foretold_seconds"] = calibration.seconds_per_step
        found.append(row)
        print(_shown(row), flush=True)
    if options.save:
        write_results(_RESULTS, {"about": circumstances(["torch"]) | {"threads": options.threads}, "rows": found})


def _measure(shape: Any, training: Any, method: str, steps: int, threads: int) -> dict[str, float]:
    set_threads(threads)
    config = build(TrainerConfig, training)
    model: nn.Module = Decoder(build(ModelConfig, shape))
    if method != "full":
        model = quantize_nf4(model) if method == "qlora" else model
        model = add_adapter(model, LoRAConfig())
    reset_peak_memory()  # whole weights that were quantised do not count
    rows = RandomBatches(shape["vocab_size"], config.batch_size, shape["context_length"])
    nowhere = Path("nowhere")  # nothing is written: `run` is not called
    trainer = Trainer(config, model, NextToken(), rows, scratch=nowhere, metrics_path=nowhere)
    times = [seconds(trainer.train_step) for _ in range(steps)]
    return {"bytes": peak_memory_bytes(), "seconds": min(times[1:])}


def _shown(row: dict[str, Any]) -> str:
    memory = f"{row['foretold_bytes'] / 1e6:6,.0f} MB foretold, {row['bytes'] / 1e6:6,.0f} measured"
    line = f"{row['name']:<14} {memory} ({row['foretold_bytes'] / row['bytes'] - 1:+.1%})"
    if "foretold_seconds" not in row:
        return line
    time = f"{row['foretold_seconds']:.2f} s a step foretold, {row['seconds']:.2f} measured"
    return f"{line}, {time} ({row['foretold_seconds'] / row['seconds'] - 1:+.1%})"


if __name__ == "__main__":
    main()
