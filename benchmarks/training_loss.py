"""Time to a validation loss: our recipe against nanoGPT's published one, both run by our trainer.

    python -m benchmarks.training_loss [--task shakespeare|english] [--seeds 3] [--steps N] [--threads 1] [--save]

`shakespeare`: nanoGPT's recipe for a CPU, as its README gives it: characters of tinyshakespeare, the first 90% to train
on, 4 layers of width 128, context 64, batch 12, 2,000 steps of AdamW (1e-3 falling by a cosine to 1e-4 after 100 steps
of warm-up, betas 0.9 and 0.99, weight decay 0.1, clipped at 1, no dropout). `english`: 19 MB of English in a BPE of
8,192 tokens, a 10M decoder of GPT-2's shape, context 256, batch 8, the same with the recipe's defaults for GPT-2 (6e-4
falling to 6e-5, beta2 0.95), over as many steps as are asked for: fewer than a whole run needs.

Our recipe: a decoder of Qwen3's shape with no more parameters, Muon, warm-up-stable-decay, `1 / 2.5` of the steps. The
clock is this process's own seconds of processor, so that other work on the machine does not count, and stands still
while a model is evaluated. How much sooner is the recipe's time to its last loss over our time to that loss; infinite
time where ours never reached it.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from seedbed.core.randomness import torch_generator
from seedbed.datasets.loader import PackedBatches
from seedbed.datasets.shards import TokenShards, write_token_shards
from seedbed.models import Decoder, ModelConfig
from seedbed.training import NextToken, Trainer, TrainerConfig
from seedbed.training.objectives import token_nats

import torch  # isort: skip
from torch import nn  # isort: skip

from benchmarks.measuring import circumstances, write_results
from benchmarks.texts import SHARED, english

_RESULTS = Path(__file__).parent / "results"
_HELD_OUT = 32_768  # tokens that are scored
_SOONER = 2.5
_NANOGPT: dict[str, Any] = {
    "optimizer": "adamw", "schedule": "cosine", "final_factor": 0.1, "weight_decay": 0.1, "clip_norm": 1.0,
    "warmup_fraction": 0.05,
}  # fmt: skip
_OURS: dict[str, Any] = {
    "optimizer": "muon", "schedule": "wsd", "learning_rate": 0.01, "embedding_factor": 5.0, "momentum": 0.9,
    "beta2": 0.99, "decay_fraction": 0.6,
}  # fmt: skip
_GPT2: dict[str, Any] = {
    "norm": "layer", "norm_bias": False, "activation": "gelu", "positions": "learned", "qk_norm": False
}  # fmt: skip
_TASKS: dict[str, dict[str, Any]] = {
    "shakespeare": {
        "shape": {"hidden_size": 128, "layers": 4, "heads": 4, "context_length": 64}, "batch_size": 12, "steps": 2000,
        "nanogpt": {"learning_rate": 1e-3, "beta2": 0.99},
    },
    "english": {
        "shape": {"hidden_size": 320, "layers": 6, "heads": 5, "context_length": 256}, "batch_size": 8, "steps": 400,
        "nanogpt": {"learning_rate": 6e-4, "beta2": 0.95},
    },
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Time to a validation loss against nanoGPT's recipe.")
    parser.add_argument("--task", choices=list(_TASKS), default="shakespeare")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=0, help="of nanoGPT's recipe")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    task = _TASKS[options.task]
    steps = options.steps or task["steps"]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        train, held_out = _shards(options.task, Path(folder))
        for seed in range(options.seeds):
            theirs = _run(task, train, held_out, steps, seed, plain=True)
            ours = _run(task, train, held_out, round(steps / _SOONER), seed, plain=False)
            target = theirs[-1][1]
            reached = next((seconds for seconds, loss in ours if loss <= target), math.inf)
            rows.append({"seed": seed, "nanogpt": theirs, "ours": ours, "sooner": theirs[-1][0] / reached})
            print(
                f"seed {seed}: nanoGPT's recipe {target:.4f} in {theirs[-1][0]:.1f} s; ours {ours[-1][1]:.4f} in "
                f"{ours[-1][0]:.1f} s, that loss {rows[-1]['sooner']:.2f} times sooner", flush=True,
            )  # fmt: skip
    print(f"{options.task}, {steps} steps: {statistics.median(row['sooner'] for row in rows):.2f} times sooner")
    if options.save:
        about = circumstances(["torch"]) | {"threads": options.threads, "steps": steps}
        write_results(_RESULTS / f"training-loss-{options.task}.json", {"about": about, "rows": rows})


def _run(
    task: dict[str, Any], train: TokenShards, held_out: TokenShards, steps: int, seed: int, *, plain: bool
) -> list[tuple[float, float]]:
    """(seconds, validation loss) at every evaluation."""
    shape = ModelConfig(vocab_size=train.vocab_size, **task["shape"], **(_GPT2 if plain else {}))
    model = Decoder(shape, torch_generator(seed, "weights"))
    if plain:
        _draw_as_gpt2(model, seed)
    recipe = _NANOGPT | task["nanogpt"] if plain else _OURS
    config = TrainerConfig(
        steps=steps, batch_size=task["batch_size"], seed=seed, evaluate_every=max(steps // 20, 1),
        checkpoint_every=steps, **recipe,
    )  # fmt: skip
    found: list[tuple[float, float]] = []
    watch = _Watch()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        Trainer(
            config, model, NextToken(), PackedBatches(train, config.batch_size, shape.context_length, seed),
            scratch=place, metrics_path=place / "metrics.jsonl",
            evaluate=lambda trained: watch.stopped(lambda: _score(trained, held_out, found, watch)),
        ).run()  # fmt: skip
    return found


class _Watch:
    """Seconds of processor so far, less those in which it was stopped."""

    def __init__(self) -> None:
        self._lost, self._start = 0.0, time.process_time()

    def seconds(self) -> float:
        return time.process_time() - self._start - self._lost

    def stopped(self, work: Callable[[], dict[str, float]]) -> dict[str, float]:
        before = self.seconds()
        found = work()
        self._lost += self.seconds() - before
        return found


def _score(model: Any, held_out: TokenShards, found: list[tuple[float, float]], watch: _Watch) -> dict[str, float]:
    seconds = watch.seconds()
    length = model.config.context_length
    count = min(_HELD_OUT, len(held_out) - 1) // length * length
    tokens = torch.from_numpy(held_out.tokens[: count + 1].astype(np.int64))
    ids, targets = tokens[:-1].view(-1, length), tokens[1:].view(-1, length)
    parts = zip(ids.split(32), targets.split(32), strict=True)
    loss = sum(float(token_nats(model, *part).sum()) for part in parts) / count
    found.append((seconds, loss))
    return {"validation_loss": loss}


def _draw_as_gpt2(model: Decoder, seed: int) -> None:
    generator = torch_generator(seed, "gpt2")
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02, generator=generator)
    for block in model.blocks:
        for writer in block.residual_writers():  # type: ignore[operator]
            nn.init.normal_(writer.weight, std=0.02 * (2 * len(model.blocks)) ** -0.5, generator=generator)


class _Characters:
    """A tokenizer of a text's characters, with an end of text before them."""

    def __init__(self, text: str) -> None:
        letters = sorted(set(text))
        self._ids = {letter: place + 1 for place, letter in enumerate(letters)}
        self.vocab_size, self.fingerprint = len(letters) + 1, "".join(letters)

    def token_to_id(self, token: str) -> int:
        return 0

    def encode_batch(self, texts: list[str], threads: int | None = None, *, parse_special: bool = True) -> Any:
        from seedbed.core.ragged import Ragged

        return Ragged.from_rows([np.array([self._ids[letter] for letter in text], np.uint32) for text in texts])


def _shards(task: str, folder: Path) -> tuple[TokenShards, TokenShards]:
    if task == "shakespeare":
        text = (SHARED / "text" / "tinyshakespeare.txt").read_text()
        cut = int(0.9 * len(text))
        characters = _Characters(text)
        return tuple(  # type: ignore[return-value]
            write_token_shards([part], characters, folder / name)
            for name, part in (("train", text[:cut]), ("held-out", text[cut:]))
        )
    from seedbed.tokenizers import train_bpe

    texts = english()
    kept, rest = [one for place, one in enumerate(texts) if place % 20], texts[::20]
    tokenizer = train_bpe(kept, vocab_size=8192, pattern="llama3", special_tokens=("<|endoftext|>",))
    return write_token_shards(kept, tokenizer, folder / "train"), write_token_shards(rest, tokenizer, folder / "rest")


if __name__ == "__main__":
    main()
