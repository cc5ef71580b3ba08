"""The bottleneck of a fixed context vector, measured: recurrent encoder-decoders without attention, with additive and
with multiplicative attention, and the transformer learn the same tasks with as many parameters and steps, and answer
sources of growing length (Bahdanau et al. 2015, figure 2; Luong et al. 2015, figure 6).

B batch, S source tokens, T target tokens, V vocabulary.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.config import build
from ..core.errors import ConfigError
from ..core.randomness import numpy_generator, torch_generator
from ..models import EncoderDecoder, ModelConfig, RecurrentConfig, RecurrentEncoderDecoder
from ..training import Trainer, TrainerConfig

START, END, PAD, _FIRST = 0, 1, 2, 3
MODELS = ("no attention", "additive", "multiplicative", "transformer")


def _copy(source: np.ndarray, symbols: int) -> np.ndarray:
    return source


def _reverse(source: np.ndarray, symbols: int) -> np.ndarray:
    return source[::-1]


def _translate(source: np.ndarray, symbols: int) -> np.ndarray:
    """Each word has another name, and a word of the first half of the vocabulary ("adjective") that stands before one
    of the second ("noun") comes behind it, as in French."""
    words, place = [], 0
    adjective = source < symbols // 2
    while place < len(source):
        swapped = place + 1 < len(source) and adjective[place] and not adjective[place + 1]
        words += [source[place + 1], source[place]] if swapped else [source[place]]
        place += 2 if swapped else 1
    return (np.array(words) * 5 + 3) % symbols  # 5 divides no power of two


TASKS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "copy": _copy,
    "reverse": _reverse,
    "translate": _translate,
}


@dataclass(frozen=True)
class Pairs:
    """Sources (B, S) with their mask, and targets (B, T), which begin with START and end with END."""

    source_BS: Tensor
    mask_BS: Tensor
    target_BT: Tensor

    def to(self, device: torch.device | str) -> Pairs:
        return Pairs(self.source_BS.to(device), self.mask_BS.to(device), self.target_BT.to(device))


class PairBatches:
    """Endless batches of a task, of lengths up to `longest`; what comes next follows from the seed and a count."""

    def __init__(self, task: str, symbols: int, longest: int, batch: int, seed: int) -> None:
        self.task, self.symbols, self.longest, self.batch, self.seed, self.count = (
            task,
            symbols,
            longest,
            batch,
            seed,
            0,
        )

    def __iter__(self) -> Iterator[Pairs]:
        return self

    def __next__(self) -> Pairs:
        random = numpy_generator(self.seed, "pairs", self.task, self.count)
        self.count += 1
        return pairs(self.task, self.symbols, random.integers(1, self.longest + 1, self.batch), random)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count = int(state["count"])


def pairs(task: str, symbols: int, lengths: Sequence[int] | np.ndarray, random: np.random.Generator) -> Pairs:
    """Random sources of these lengths, and what the task makes of them."""
    rows = [random.integers(0, symbols, length) for length in lengths]
    longest = max(len(row) for row in rows)
    source = np.full((len(rows), longest), PAD)
    target = np.full((len(rows), longest + 2), PAD)
    target[:, 0] = START
    for number, row in enumerate(rows):
        source[number, : len(row)] = row + _FIRST
        target[number, 1 : len(row) + 1] = TASKS[task](row, symbols) + _FIRST
        target[number, len(row) + 1] = END
    return Pairs(torch.from_numpy(source), torch.from_numpy(source != PAD), torch.from_numpy(target))


class TargetTokens:
    """Cross-entropy of each token of the target behind the ones before it."""

    def loss(self, model: nn.Module, batch: Pairs) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
        logits_BTV = model(batch.source_BS, batch.target_BT[:, :-1], batch.mask_BS)
        wanted = batch.target_BT[:, 1:]
        total = F.cross_entropy(logits_BTV.flatten(0, 1), wanted.flatten(), ignore_index=PAD, reduction="sum")
        return total, (wanted != PAD).sum(), {}


@dataclass(frozen=True)
class Accuracy:
    """Of sources of one length: the share whose whole answer is right, and the share of tokens that are."""

    task: str
    model: str
    parameters: int
    length: int
    seen: bool  # in training
    sequences: float
    tokens: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare(
    tasks: Sequence[str] = tuple(TASKS),
    models: Sequence[str] = MODELS,
    *,
    parameters: int = 60_000,
    symbols: int = 16,
    longest: int = 16,
    lengths: Sequence[int] = (2, 4, 8, 12, 16, 20),
    trainer: TrainerConfig | None = None,
    tries: int = 128,
    seed: int = 0,
) -> list[Accuracy]:
    """Train each model on each task on sources of up to `longest` tokens, and let it answer others of `lengths`.

    Args:
        parameters: of each model, as nearly as its width allows.
        symbols: words of the vocabulary; a power of two.
        trainer: the same for all.
        tries: sources of each length.

    Raises: ConfigError for an unknown task or model.
    """
    for name, known in (*((task, tuple(TASKS)) for task in tasks), *((model, MODELS) for model in models)):
        if name not in known:
            raise ConfigError(f"there is no '{name}'", hint=f"Known: {', '.join(known)}.")
    settings = trainer or TrainerConfig(
        steps=1500, batch_size=64, optimizer="adamw", learning_rate=4e-3, weight_decay=0.0, checkpoint_every=1 << 30
    )
    found = []
    for task in tasks:
        for name in models:
            model = sized(name, parameters, symbols + _FIRST, seed)
            batches = PairBatches(task, symbols, longest, settings.batch_size, seed)
            with tempfile.TemporaryDirectory() as folder:
                Trainer(
                    settings, model, TargetTokens(), batches, scratch=Path(folder),
                    metrics_path=Path(folder) / "metrics.jsonl", name=f"{task}, {name}",
                ).run()  # fmt: skip
            model.eval()
            count = sum(parameter.numel() for parameter in model.parameters())
            for length in lengths:
                asked = pairs(task, symbols, [length] * tries, numpy_generator(seed, "asked", task, length))
                right_BT = answer(model, asked) == asked.target_BT[:, 1:]
                whole, tokens = float(right_BT.all(dim=1).float().mean()), float(right_BT.float().mean())
                found.append(Accuracy(task, name, count, length, length <= longest, whole, tokens))
    return found


def sized(name: str, parameters: int, vocab_size: int, seed: int = 0) -> RecurrentEncoderDecoder | EncoderDecoder:
    """A model of a kind whose count of parameters is nearest to `parameters`."""

    def made(width: int) -> RecurrentEncoderDecoder | EncoderDecoder:
        shape = {"vocab_size": vocab_size, "hidden_size": width, "bos_token_id": START, "eos_token_id": END,
                 "pad_token_id": PAD}  # fmt: skip
        if name == "transformer":
            kind = {"kind": "encoder-decoder", "layers": 2, "heads": 4, "norm_position": "pre", "context_length": 512}
            return EncoderDecoder(build(ModelConfig, {**shape, **kind}), torch_generator(seed, "bottleneck"))
        attention = "none" if name == "no attention" else name
        config = build(RecurrentConfig, {**shape, "attention": attention})
        return RecurrentEncoderDecoder(config, torch_generator(seed, "bottleneck"))

    def distance(width: int) -> float:
        with torch.device("meta"):
            count = sum(parameter.numel() for parameter in made(width).parameters())
        return abs(math.log(count / parameters))

    return made(min(range(8, 513, 8), key=distance))


@torch.inference_mode()
def answer(model: RecurrentEncoderDecoder | EncoderDecoder, asked: Pairs) -> Tensor:
    """The likeliest tokens one by one, as many as the target has, (B, T)."""
    chosen_BT = asked.target_BT[:, :1]
    steps = asked.target_BT.shape[1] - 1
    if isinstance(model, EncoderDecoder):
        memory_BSC = model.encode(asked.source_BS, asked.mask_BS)
        for _ in range(steps):
            logits_BTV = model.decode(chosen_BT, memory_BSC, asked.mask_BS)
            chosen_BT = torch.cat((chosen_BT, logits_BTV[:, -1:].argmax(dim=-1)), dim=1)
    else:
        memory_BSC, state = model.encode(asked.source_BS, asked.mask_BS)
        for _ in range(steps):
            logits_BTV, state = model.decode(chosen_BT[:, -1:], memory_BSC, state, asked.mask_BS)
            chosen_BT = torch.cat((chosen_BT, logits_BTV[:, -1:].argmax(dim=-1)), dim=1)
    return chosen_BT[:, 1:]
