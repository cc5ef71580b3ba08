"""Time to a validation loss: our recipe against nanoGPT's published one, both run by our trainer.

    python -m benchmarks.training_loss [--task shakespeare|english] [--seeds 0 1 2] [--minutes M] [--scratch FOLDER]
                                       [--steps N] [--share S] [--choose] [--threads 1] [--clock processor] [--save]

`shakespeare`: nanoGPT's recipe for a CPU, as its README gives it: characters of tinyshakespeare, the first 90% to train
on, 4 layers of width 128, context 64, batch 12, 2,000 steps of AdamW (1e-3 falling by a cosine to 1e-4 after 100 steps
of warm-up, betas 0.9 and 0.99, weight decay 0.1, clipped at 1, no dropout). `english`: 19 MB of English in a BPE of
8,192 tokens, a 10M decoder of GPT-2's shape, context 256, batch 8, the same with the recipe's defaults for GPT-2 (6e-4
falling to 6e-5, beta2 0.95), scaled to what a CPU does in ten minutes: 300 steps, 0.6 of the text's 4.5 million
tokens. float32, as nanoGPT's script takes it on a CPU.

Our recipe: a decoder of Qwen3's shape with no more parameters, Muon, warm-up-stable-decay, products in bfloat16 where
that pays, and `--share` of the steps. What it is made of was chosen on other text (`--choose`: speeches in place of
Shakespeare, Python's own sources in place of English), where no figure is taken; but for the share on English: 0.3,
which is more than enough on those sources, fell just short of the recipe's last loss, so 0.4 was taken after that. Two
clocks stand still while a model is evaluated: of this process's own seconds of processor, which other work on the
machine does not change, and on the wall. How much sooner is the recipe's time to its last loss over our time to that
loss, by `--clock`; infinite time where ours never reached it.

With `--scratch` a run that was stopped or killed goes on at its last checkpoint, and runs that are done are read from
there; after `--minutes` it stops at the next checkpoint, and says what it has.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from seedbed.core.config import parse_overrides
from seedbed.core.randomness import torch_generator
from seedbed.datasets.loader import Batch, PackedBatches
from seedbed.datasets.shards import TokenShards, write_token_shards
from seedbed.models import Decoder, ModelConfig
from seedbed.training import NextToken, Trainer, TrainerConfig
from seedbed.training.objectives import token_nats

import torch  # isort: skip
from torch import nn  # isort: skip

from benchmarks.measuring import CLOCKS, circumstances, write_results
from benchmarks.texts import SHARED, code, english, zipped

_RESULTS = Path(__file__).parent / "results"
_HELD_OUT = 16_384  # tokens that are scored
_NANOGPT: dict[str, Any] = {
    "optimizer": "adamw", "schedule": "cosine", "final_factor": 0.1, "weight_decay": 0.1, "clip_norm": 1.0,
    "warmup_fraction": 0.05,
}  # fmt: skip
_OURS: dict[str, Any] = {
    "optimizer": "muon", "schedule": "wsd", "learning_rate": 0.01, "embedding_factor": 5.0, "momentum": 0.9,
    "beta2": 0.99, "decay_fraction": 0.6, "precision": "bfloat16",
}  # fmt: skip
_GPT2: dict[str, Any] = {
    "norm": "layer", "norm_bias": False, "activation": "gelu", "positions": "learned", "qk_norm": False
}  # fmt: skip
_TASKS: dict[str, dict[str, Any]] = {
    "shakespeare": {
        "shape": {"hidden_size": 128, "layers": 4, "heads": 4, "context_length": 64}, "batch_size": 12, "steps": 2000,
        "nanogpt": {"learning_rate": 1e-3, "beta2": 0.99}, "share": 0.3, "points": 20,
    },
    "english": {
        "shape": {"hidden_size": 320, "layers": 6, "heads": 5, "context_length": 256}, "batch_size": 8, "steps": 300,
        "nanogpt": {"learning_rate": 6e-4, "beta2": 0.95}, "share": 0.4, "points": 10,
    },
}  # fmt: skip

Point = dict[str, float]  # step, seconds by each clock, loss


class _TimeIsUp(Exception):
    pass


def main() -> None:
    parser = argparse.ArgumentParser(description="Time to a validation loss against nanoGPT's recipe.")
    parser.add_argument("--task", choices=list(_TASKS), default="shakespeare")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=0, help="of nanoGPT's recipe")
    parser.add_argument("--share", type=float, default=0.0, help="of these steps, that ours takes")
    parser.add_argument("--choose", action="store_true", help="read other text, on which to choose ours")
    parser.add_argument("--ours", nargs="+", default=[], metavar="KEY=VALUE", help="of our trainer's config")
    parser.add_argument("--only", choices=["nanogpt", "ours"], help="run one recipe alone")
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--scratch", type=Path, help="folder to go on from")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=list(CLOCKS), default="processor")
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        rows = _rows(options, options.scratch or Path(folder))
    ratios = [row["sooner"] for row in rows if "sooner" in row]
    if ratios:
        print(f"{options.task}: {statistics.median(ratios):.2f} times sooner (median of {len(ratios)})")
    if options.save and ratios:
        about = circumstances(["torch"]) | {"threads": options.threads, "clock": options.clock}
        write_results(_RESULTS / f"training-loss-{options.task}.json", {"about": about, "rows": rows})


def _rows(options: argparse.Namespace, scratch: Path) -> list[dict[str, Any]]:
    task, until = _TASKS[options.task], time.monotonic() + 60 * options.minutes
    steps = options.steps or task["steps"]
    lengths = {"nanogpt": steps, "ours": round(steps * (options.share or task["share"]))}
    text = f"{options.task}-other" if options.choose else options.task
    train, held_out = _shards(text, scratch / text)
    rows: list[dict[str, Any]] = []
    for seed in options.seeds:
        row: dict[str, Any] = {"seed": seed, "steps": lengths}
        rows.append(row)
        for name, length in lengths.items():
            if options.only in (None, name):
                config, model = _start(task, name, length, seed, train.vocab_size, parse_overrides(options.ours))
                place = scratch / "-".join([text, name, str(length), str(seed), *(options.ours * (name == "ours"))])
                try:
                    row[name] = _curve(config, model, train, held_out, place, until)
                except _TimeIsUp:
                    print(f"seed {seed}, {name}: not done yet")
                    return rows
        _compare(row, options.clock)
    return rows


def _compare(row: dict[str, Any], clock: str) -> None:
    """Print how a seed's two runs ended, and how much sooner ours was."""
    for name in ("nanogpt", "ours"):
        for end in row.get(name, [])[-1:]:
            spent = f"{end['processor']:.1f} s of processor, {end['wall']:.1f} s"
            print(f"seed {row['seed']}, {name}: {end['loss']:.4f} after {end['step']} steps, {spent}", flush=True)
    if "nanogpt" in row and "ours" in row:
        end, never = row["nanogpt"][-1], {"step": math.inf, clock: math.inf}
        reached = next((point for point in row["ours"] if point["loss"] <= end["loss"]), never)
        row["sooner"], row["fewer_tokens"] = end[clock] / reached[clock], end["step"] / reached["step"]
        print(f"seed {row['seed']}: {row['sooner']:.2f} times sooner, by {row['fewer_tokens']:.2f} times fewer tokens")


def _start(
    task: dict[str, Any], name: str, steps: int, seed: int, vocabulary: int, changes: dict[str, Any]
) -> tuple[TrainerConfig, Decoder]:
    plain = name == "nanogpt"
    shape = ModelConfig(vocab_size=vocabulary, **task["shape"], **(_GPT2 if plain else {}))
    model = Decoder(shape, torch_generator(seed, "weights"))
    if plain:
        _draw_as_gpt2(model, seed)
    recipe = _NANOGPT | task["nanogpt"] if plain else _OURS | changes
    every = max(steps // task["points"], 1)
    about = {"steps": steps, "seed": seed, "evaluate_every": every, "checkpoint_every": 4 * every}
    config = TrainerConfig(**{"batch_size": task["batch_size"], **about, **recipe})
    return config, model


def _curve(
    config: TrainerConfig, model: Decoder, train: TokenShards, held_out: TokenShards, place: Path, until: float
) -> list[Point]:
    """What was found at every evaluation of a run, which goes on where it was stopped.

    Raises:
        _TimeIsUp: a checkpoint after `until` was not the last one.
    """
    place.mkdir(parents=True, exist_ok=True)
    points = place / "points.json"
    watch = _Watch(
        PackedBatches(train, config.batch_size, model.config.context_length, config.seed),
        config.checkpoint_every,
        until,
    )
    watch.points = json.loads(points.read_text()) if points.exists() else []

    def evaluate(trained: nn.Module) -> dict[str, float]:
        seconds = watch.stop()
        watch.points.append({"step": watch.step, **seconds, "loss": _score(trained, held_out)})
        points.write_text(json.dumps(watch.points))
        watch.start()
        return {"nats": watch.points[-1]["loss"]}  # not what marks the best model, which would be saved each time

    if not watch.points or watch.points[-1]["step"] < config.steps:
        Trainer(
            config, model, NextToken(), watch, scratch=place, metrics_path=place / "metrics.jsonl", evaluate=evaluate
        ).run()
    return watch.points


class _Watch:
    """Batches that count steps and their seconds, and end at a checkpoint after `until`."""

    def __init__(self, batches: PackedBatches, checkpoint_every: int, until: float) -> None:
        self._batches, self._checkpoint_every, self._until = batches, checkpoint_every, until
        self.points: list[Point] = []
        self.step = 0
        self._seconds, self._since = dict.fromkeys(CLOCKS, 0.0), Point()

    def start(self) -> None:
        self._since = {name: clock() for name, clock in CLOCKS.items()}

    def stop(self) -> Point:
        for name, clock in CLOCKS.items():
            self._seconds[name] += clock() - self._since[name]
        return {**self._seconds}

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if not self._since:
            self.start()
        elif time.monotonic() > self._until and self.step % self._checkpoint_every == 0:
            raise _TimeIsUp
        self.step += 1
        return next(self._batches)

    def state_dict(self) -> dict[str, Any]:
        return self._batches.state_dict() | {"step": self.step}

    def load_state_dict(self, state: Any) -> None:
        """What was measured after the checkpoint is measured anew."""
        self._batches.load_state_dict(state)
        self.step = state["step"]
        self.points = [point for point in self.points if point["step"] <= self.step]
        self._seconds = {name: self.points[-1][name] for name in CLOCKS}


def _score(model: Any, held_out: TokenShards) -> float:
    length = model.config.context_length
    count = min(_HELD_OUT, len(held_out) - 1) // length * length
    tokens = torch.from_numpy(held_out.tokens[: count + 1].astype(np.int64))
    ids, targets = tokens[:-1].view(-1, length), tokens[1:].view(-1, length)
    parts = zip(ids.split(32), targets.split(32), strict=True)
    return sum(float(token_nats(model, *part).sum()) for part in parts) / count


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


def _shards(name: str, folder: Path) -> tuple[TokenShards, TokenShards]:
    """Text to train on and text to score, as tokens."""
    kind = name.removesuffix("-other")
    if kind == "shakespeare":
        speeches = name != kind
        text = "".join(zipped("inaugural")) if speeches else (SHARED / "text" / "tinyshakespeare.txt").read_text()
        cut = int(0.9 * len(text))
        return tuple(  # type: ignore[return-value]
            write_token_shards([part], _Characters(text), folder / part_name)
            for part_name, part in (("train", text[:cut]), ("rest", text[cut:]))
        )
    from seedbed.tokenizers import train_bpe

    texts = code() if name != kind else english()
    kept, rest = [one for place, one in enumerate(texts) if place % 20], texts[::20]
    tokenizer = train_bpe(kept, vocab_size=8192, pattern="llama3", special_tokens=("<|endoftext|>",))
    return write_token_shards(kept, tokenizer, folder / "train"), write_token_shards(rest, tokenizer, folder / "rest")


if __name__ == "__main__":
    main()
