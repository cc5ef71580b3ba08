"""A tiny training run: imported by the tests, and run on its own as the process that they kill.

python tiny_run.py FOLDER STEPS
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seedbed.core.ragged import Ragged
from seedbed.core.randomness import torch_generator
from seedbed.datasets.loader import PackedBatches
from seedbed.datasets.shards import TokenShards, write_token_shards
from seedbed.training import NextToken, Trainer, TrainerConfig, TrainResult

VOCABULARY, WIDTH = 17, 16


class Tokenizer:
    fingerprint, vocab_size = "t", VOCABULARY

    def token_to_id(self, token: str) -> int:
        return 0

    def encode_batch(self, texts: list[str], threads: int | None = None, *, parse_special: bool = True) -> Ragged:
        return Ragged.from_rows([np.frombuffer(text.encode(), np.uint8) % 16 + 1 for text in texts])


class Model(nn.Module):
    """A mixer of the last two tokens with dropout, so that resuming has randomness to get right."""

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        random = torch_generator(0, "model")
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(nn.Linear(2 * WIDTH, WIDTH) for _ in range(2))
        self.dropout = nn.Dropout(dropout)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=random) * 0.1)

    @property
    def head_weight(self) -> Tensor:
        return self.embedding.weight

    def hidden(self, ids_BT: Tensor) -> Tensor:
        x_BTC = self.embedding(ids_BT)
        for block in self.blocks:
            before = nn.functional.pad(x_BTC, (0, 0, 1, 0))[:, :-1]
            x_BTC = x_BTC + self.dropout(torch.tanh(block(torch.cat([x_BTC, before], -1))))
        return x_BTC

    def forward(self, ids_BT: Tensor) -> Tensor:
        return self.hidden(ids_BT) @ self.head_weight.T


def shards(folder: Path) -> TokenShards:
    if not (folder / "shards").exists():
        random = np.random.default_rng(0)
        texts = ["".join(chr(97 + (n * n) % 11) for n in range(random.integers(5, 60))) for _ in range(60)]
        write_token_shards(texts, Tokenizer(), folder / "shards")
    return TokenShards.open(folder / "shards")


def config(**changes: Any) -> TrainerConfig:
    values = {"steps": 40, "batch_size": 8, "checkpoint_every": 7, "evaluate_every": 10, "learning_rate": 0.01}
    return TrainerConfig(**{**values, **changes})


def run(folder: Path, settings: TrainerConfig, model: Model | None = None, **options: Any) -> tuple[Model, TrainResult]:
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    model = model or Model()
    batches = PackedBatches(shards(folder.parent), settings.batch_size, 12, seed=settings.seed)
    trainer = Trainer(
        settings, model, options.pop("objective", NextToken()), batches, scratch=folder,
        metrics_path=folder / "metrics.jsonl", evaluate=options.pop("evaluate", _evaluate), **options,
    )  # fmt: skip
    return model, trainer.run()


def _evaluate(model: nn.Module) -> dict[str, float]:
    return {"validation_loss": float(sum(parameter.abs().sum() for parameter in model.parameters()))}


def weights(model: nn.Module) -> bytes:
    return b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())


if __name__ == "__main__":
    place = Path(sys.argv[1])
    trained, _ = run(place, config(steps=int(sys.argv[2])))
    (place / "weights.bin").write_bytes(weights(trained))
