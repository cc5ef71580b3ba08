"""A training step beside transformers and litgpt: tokens a second, memory, and how much of the machine is used.

    python -m benchmarks.training [--models 10m 30m] [--precisions float32 bfloat16] [--rounds 5] [--threads 2]
                                  [--batch 8] [--clock wall] [--eager] [--parts speed memory loader] [--save]

Equal weights (one checkpoint in Hugging Face layout), equal batches, equal optimizer (AdamW, clipped at norm 1). First
all must find the same loss; then steps are interleaved, and ratios are taken within rounds. Memory is what a fresh
process grows by at most from before the model is there until three steps are done. The machine's peak is measured at
the step's own shapes: the three products of every linear layer, each alone, at its best.
FLOPs are counted by PaLM's convention, which gives no discount for causal attention.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from seedbed.datasets.loader import PackedBatches
from seedbed.datasets.shards import write_token_shards
from seedbed.models import Decoder, ModelConfig, save_model

import torch  # isort: skip
from torch import Tensor  # isort: skip

from benchmarks.measuring import CLOCKS, circumstances, grown_by, interleaved, ratios, seconds, spread, write_results
from benchmarks.training_peers import CONTENDERS, SHAPES, Step

_RESULTS = Path(__file__).parent / "results" / "training.json"


def main() -> None:
    parser = argparse.ArgumentParser(description="A training step beside transformers and litgpt.")
    parser.add_argument("--models", nargs="+", choices=list(SHAPES), default=["10m", "30m"])
    parser.add_argument("--precisions", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"])
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument(
        "--parts", nargs="+", choices=["speed", "memory", "loader"], default=["speed", "memory", "loader"]
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="processor: for a busy machine")
    parser.add_argument("--eager", action="store_true", help="leave compiled steps out: compiling takes minutes")
    parser.add_argument("--save", action="store_true", help="write the results file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    about = circumstances(["torch", "transformers", "litgpt"]) | {
        "threads": options.threads, "batch": options.batch, "clock": options.clock
    }  # fmt: skip
    rows: list[dict[str, Any]] = []
    for model in options.models:
        for precision in options.precisions:
            with tempfile.TemporaryDirectory() as folder:
                save_model(Decoder(SHAPES[model]), folder)
                rows.append(measured(model, precision, Path(folder), options))
            print(shown(rows[-1]), flush=True)
            if options.save:
                write_results(_RESULTS, {"about": about, "rows": rows})
    if "loader" in options.parts:
        rate = loader_rate(options.batch)
        print(f"loader: {rate:,.0f} tokens/s")
        if options.save:
            write_results(_RESULTS, {"about": about, "rows": rows, "loader_tokens_per_second": rate})


def measured(model: str, precision: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    shape = SHAPES[model]
    row: dict[str, Any] = {"model": model, "precision": precision, "parameters": shape.parameter_count()}
    row["tokens"] = options.batch * shape.context_length
    modes = (False,) if options.eager else (False, True)
    if "speed" in options.parts:
        steps = {
            f"{name} {'compiled' if compiled else 'eager'}": CONTENDERS[name](folder, precision, compiled)
            for name in options.contenders for compiled in modes
        }  # fmt: skip
        row |= speed(steps, shape, precision, options)
    if "memory" in options.parts:
        row["megabytes"] = {
            f"{name} {'compiled' if compiled else 'eager'}": _in_fresh_process(
                _memory, folder, name, precision, compiled, options.batch, options.threads
            )
            for name in options.contenders for compiled in modes
        }  # fmt: skip
    return row


def speed(steps: dict[str, Step], shape: ModelConfig, precision: str, options: argparse.Namespace) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    first, *batches = (
        torch.randint(shape.vocab_size, (options.batch, shape.context_length + 1), generator=generator)
        for _ in range(options.rounds + 2)
    )
    losses = {name: step(first) for name, step in steps.items()}
    expected = next(iter(losses.values()))
    tolerance = 1e-4 if precision == "float32" else 1e-2
    assert all(abs(loss - expected) < tolerance * expected for loss in losses.values()), losses
    for step in steps.values():
        step(batches[-1])
    times: dict[str, list[float]] = {name: [] for name in steps}
    clock = CLOCKS[options.clock]
    for batch in batches[:-1]:
        for name, values in interleaved({name: partial(step, batch) for name, step in steps.items()}, 1, clock).items():
            times[name] += values
    tokens = options.batch * shape.context_length
    peak = peak_flops(shape, tokens, precision, clock)
    work = shape.flops_per_token() * tokens
    return {
        "losses": losses, "seconds": times, "peak_flops": peak,
        "tokens_per_second": {name: tokens / min(values) for name, values in times.items()},
        "mfu": {name: work / min(values) / peak for name, values in times.items()},
    }  # fmt: skip


def peak_flops(shape: ModelConfig, tokens: int, precision: str, clock: Callable[[], float]) -> float:
    """FLOP/s of the products of a step, forward and both of the backward pass, each at its best alone."""
    width, wide = shape.hidden_size, shape.intermediate_size
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    layers = [
        (width, queries + 2 * keys, shape.layers), (queries, width, shape.layers), (width, 2 * wide, shape.layers),
        (wide, width, shape.layers), (width, shape.vocab_size, 1),
    ]  # fmt: skip
    dtype = getattr(torch, precision)
    total, spent = 0.0, 0.0
    for inputs, outputs, times in layers:
        x, weight = torch.randn(tokens, inputs).to(dtype), torch.randn(outputs, inputs).to(dtype)
        y = torch.randn(tokens, outputs).to(dtype)
        products: list[Callable[[], Tensor]] = [
            lambda x=x, w=weight: x @ w.T, lambda y=y, w=weight: y @ w, lambda x=x, y=y: y.T @ x  # type: ignore[misc]
        ]  # fmt: skip
        for product in products:
            product()
            spent += times * min(seconds(product, clock) for _ in range(5))
            total += times * 2 * tokens * inputs * outputs
    return total / spent


def _in_fresh_process(work: Callable[..., float], *arguments: Any) -> float:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(work, *arguments).result()


def _memory(folder: Path, name: str, precision: str, compiled: bool, batch: int, threads: int) -> float:
    from benchmarks.training_peers import SHAPES

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as small:  # libraries, and the compiler, make what they need once
        save_model(Decoder(SHAPES["1m"]), small)
        step = CONTENDERS[name](Path(small), precision, compiled)
        step(torch.zeros(2, SHAPES["1m"].context_length + 1, dtype=torch.int64))
        del step
    from seedbed.models.huggingface import load_config

    shape = load_config(folder)
    ids = torch.randint(shape.vocab_size, (batch, shape.context_length + 1))

    def work() -> None:
        step = CONTENDERS[name](folder, precision, compiled)
        for _ in range(3):
            step(ids)

    return grown_by(work)


class _Numbers:
    """A tokenizer of numbers, for a shard of any tokens."""

    fingerprint, vocab_size = "numbers", 8192

    def token_to_id(self, token: str) -> int:
        return 0

    def encode_batch(self, texts: list[str], threads: int | None = None, *, parse_special: bool = True) -> Any:
        from seedbed.core.ragged import Ragged

        return Ragged.from_rows([np.frombuffer(text.encode(), np.uint8).astype(np.uint32) for text in texts])


def loader_rate(batch: int, length: int = 256) -> float:
    """Tokens a second of packed batches, alone on one thread."""
    with tempfile.TemporaryDirectory() as folder:
        shards = write_token_shards(["x" * 4_000 for _ in range(1000)], _Numbers(), folder)
        batches = PackedBatches(shards, batch, length)
        rates = []
        for _ in range(5):
            started = time.perf_counter()
            for _ in range(200):
                next(batches)
            rates.append(200 * batch * length / (time.perf_counter() - started))
    return statistics.median(rates)


def shown(row: dict[str, Any]) -> str:
    lines = [f"{row['model']} ({row['parameters']:,}), {row['precision']}, {row['tokens']:,} tokens a step"]
    if "seconds" in row:
        lines[0] += f", peak {row['peak_flops'] / 1e9:,.0f} GFLOP/s"
    best = "ours compiled" if "ours compiled" in row.get("seconds", row.get("megabytes", {})) else "ours eager"
    for name in row.get("seconds", row.get("megabytes", {})):
        line = f"  {name:<22}"
        if "seconds" in row:
            against = spread(ratios(row["seconds"][best], row["seconds"][name]), 2)
            line += f" {row['tokens_per_second'][name]:8,.0f} tok/s, MFU {row['mfu'][name]:5.1%}, {best} is {against} x"
        if "megabytes" in row:
            line += f", {row['megabytes'][name]:7,.0f} MB"
        lines.append(line)
    return "\n".join(lines)


if __name__ == "__main__":
    main()
