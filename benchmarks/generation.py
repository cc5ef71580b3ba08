"""Prompts and decoding beside transformers and llama.cpp: one checkpoint, equal logits first, then tokens per second.

    python -m benchmarks.generation [--models 10M] [--batches 1 8 32] [--precisions float32 bfloat16 int8] [--compiled]

The checkpoint has random weights of Qwen3's shape and is read by all: transformers from its folder, llama.cpp from GGUF
in the same precision (its float32 with a float32 cache, else its own half precision). Transformers has no 8-bit weights
here, so those stand beside its float32. Prompts have 512 tokens, answers 128, on two threads. The time to the first
token is that of generating one; decoding is what 129 tokens take longer than one. Rounds are interleaved, ratios are
taken within a round. Bandwidth is the best of a sum, a dot product and a matrix times a vector over as many bytes as
the matrices have; its share is what decoding reads of the matrices alone. Memory is what a process of its own grows by
when it loads the model and generates.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import seedbed  # noqa: F401  (how threads wait is settled before torch comes)

# isort: split
import torch

from benchmarks.generation_peers import GGUF_TYPES, Generate, LlamaCpp, ours, transformers
from benchmarks.measuring import circumstances, grown_by, interleaved, ratios, seconds, spread, write_results
from seedbed.core.console import table
from seedbed.generation.export import export_gguf
from seedbed.generation.native import NativeStep
from seedbed.models import Decoder, KeyValueCache, ModelConfig, save_model

THREADS = 2
LENGTH = 1024
MODELS = {
    "1M": {"vocab_size": 2048, "hidden_size": 128, "layers": 4, "heads": 4, "kv_heads": 2, "intermediate_size": 384},
    "10M": {"vocab_size": 8192, "hidden_size": 320, "layers": 6, "heads": 6, "kv_heads": 2, "head_dim": 64,
            "intermediate_size": 960},
    "30M": {"vocab_size": 16384, "hidden_size": 512, "layers": 8, "heads": 8, "kv_heads": 4, "head_dim": 64,
            "intermediate_size": 1408},
    "125M": {"vocab_size": 32000, "hidden_size": 768, "layers": 12, "heads": 12, "kv_heads": 4,
             "intermediate_size": 3072},
}  # fmt: skip


def bandwidth(nbytes: int, rounds: int = 7) -> float:
    """Bytes per second that two threads read of so many."""
    matrix = torch.ones(nbytes // 4 // 256, 256)
    flat, vector = matrix.view(-1), torch.ones(256)
    left, right = flat[: len(flat) // 2], flat[len(flat) // 2 : len(flat) // 2 * 2]
    readers: list[Callable[[], object]] = [
        flat.sum,
        partial(torch.mv, matrix, vector),
        partial(torch.dot, left, right),
    ]
    times = [seconds(read) for read in readers for _ in range(rounds)]
    return matrix.nbytes / min(times)


def differences(folder: Path, file: Path, prompt_BT: np.ndarray) -> dict[str, float]:
    """How far the peers' last logits lie from ours, as a part of the largest."""
    from transformers import AutoModelForCausalLM

    from seedbed.models import load_model

    model = load_model(folder)
    assert isinstance(model, Decoder)
    ids = torch.from_numpy(prompt_BT)
    cache = KeyValueCache(model.config, 1, LENGTH)
    mine = NativeStep(model).last(ids, torch.tensor([ids.shape[1] - 1]), cache)[0].numpy()
    with torch.inference_mode():
        theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()(ids).logits[0, -1].numpy()
    llama = LlamaCpp(file, "float32", 1, LENGTH, THREADS)
    other = llama.prompt(prompt_BT)[0]
    llama.close()
    largest = np.abs(mine).max()
    return {
        "transformers": float(np.abs(mine - theirs).max() / largest),
        "llama.cpp": float(np.abs(mine - other).max() / largest),
    }


def contenders(folder: Path, precision: str, rows: int, compiled: bool) -> dict[str, Callable[[], Generate]]:
    theirs = precision if precision in ("float32", "bfloat16") else "float32"
    file = folder / f"{GGUF_TYPES[precision]}.gguf"
    found: dict[str, Callable[[], Generate]] = {
        "seedbed": partial(ours, folder, precision, rows, LENGTH),
        "transformers": partial(transformers, folder, theirs, rows, LENGTH),
        "llama.cpp": partial(LlamaCpp, file, precision, rows, LENGTH, THREADS),
    }
    if compiled:
        found["transformers compiled"] = partial(transformers, folder, theirs, rows, LENGTH, True)
    return found


def measure(folder: Path, precision: str, rows: int, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds to the first token and per decoded step of each contender, by round."""
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    prompts_BT = np.random.default_rng(rows).integers(0, vocabulary, (rows, options.prompt))
    results: dict[str, Any] = {}
    ready, works = {}, {}
    for name, build in contenders(folder, precision, rows, options.compiled).items():
        ready[name] = build()
        started = time.perf_counter()
        ready[name](prompts_BT, 2)  # warm, and compiled where that is asked for
        results[name] = {"first_call_seconds": time.perf_counter() - started}
        works[f"{name} 1"] = partial(ready[name], prompts_BT, 1)
        works[f"{name} n"] = partial(ready[name], prompts_BT, options.new + 1)
    times = interleaved(works, options.rounds)
    for name, generate in ready.items():
        first, whole = times[f"{name} 1"], times[f"{name} n"]
        results[name]["first_token_seconds"] = first
        results[name]["step_seconds"] = [(a - b) / options.new for a, b in zip(whole, first, strict=True)]
        if isinstance(generate, LlamaCpp):
            generate.close()
    return results


def memory(folder: Path, precision: str, name: str) -> float:
    """Megabytes that a process of its own grows by."""
    command = [sys.executable, "-m", "benchmarks.generation", "--grow", str(folder), precision, name]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def grow(folder: Path, precision: str, name: str) -> None:
    import transformers  # noqa: F401  (libraries are not counted)

    work = contenders(folder, precision, 1, False)[name]
    print(grown_by(lambda: work()(np.zeros((1, 512), dtype=np.int64), 16)))


def report(
    name: str, precision: str, rows: int, found: dict[str, Any], model_bytes: int, speed: float, options: Any
) -> None:
    mine, lines = found["seedbed"], []
    for who, one in found.items():
        first, step = one["first_token_seconds"], one["step_seconds"]
        share = model_bytes / statistics.median(step) / speed
        lines.append((
            who,
            spread([rows * options.prompt / second for second in first], 0),
            spread([rows / second for second in step], 0),
            "" if who == "seedbed" else spread(ratios(mine["first_token_seconds"], first), 2),
            "" if who == "seedbed" else spread(ratios(mine["step_seconds"], step), 2),
            f"{share:.0%}" if who == "seedbed" and rows == 1 else "",
            f"{one['megabytes']:,.0f}" if "megabytes" in one else "",
        ))  # fmt: skip
    title = f"{name}, {precision}, batch {rows}: prompt of {options.prompt} and {options.new} new tokens"
    table(("", "prompt tok/s", "decode tok/s", "prompt ×", "decode ×", "of bandwidth", "MB"), lines, title=title)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16", "int8"], choices=list(GGUF_TYPES))
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--compiled", action="store_true", help="transformers with a static cache and torch.compile, too"
    )
    parser.add_argument("--memory", action="store_true", help="measure memory, too")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--grow", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    if options.grow:
        grow(Path(options.grow[0]), *options.grow[1:])
        return
    results: dict[str, Any] = {
        "circumstances": circumstances(("torch", "transformers", "llama-cpp-python")),
        "models": {},
    }
    for name in options.models:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            config = ModelConfig(context_length=LENGTH, rope_theta=1e6, **MODELS[name])
            model = Decoder(config)
            save_model(model, folder)
            for precision in {*options.precisions, "float32"}:
                export_gguf(model, None, folder / f"{GGUF_TYPES[precision]}.gguf", GGUF_TYPES[precision])
            prompt_BT = np.random.default_rng(0).integers(0, config.vocab_size, (1, options.prompt))
            far = differences(folder, folder / "f32.gguf", prompt_BT)
            print(f"{name}: {config.parameter_count():,} parameters; last logits differ by", far, flush=True)
            assert max(far.values()) < 1e-3, "the contenders do not compute the same"
            entry: dict[str, Any] = {"parameters": config.parameter_count(), "differences": far, "runs": []}
            results["models"][name] = entry
            for precision in options.precisions:
                nbytes = NativeStep(model, precision).nbytes
                speed = bandwidth(nbytes)
                for rows in options.batches:
                    found = measure(folder, precision, rows, options)
                    if options.memory and rows == 1:
                        for who, one in found.items():
                            if who != "transformers compiled":
                                one["megabytes"] = memory(folder, precision, who)
                    report(name, precision, rows, found, nbytes, speed, options)
                    run = {"precision": precision, "rows": rows, "matrix_bytes": nbytes, "bandwidth": speed}
                    entry["runs"].append(run | {"found": found})
                    if options.json:
                        write_results(options.json, results)


if __name__ == "__main__":
    main()
