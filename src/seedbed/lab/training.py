"""Training of what an exhibit trains: resumed where it was stopped, on batches that are drawn by their number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from torch import nn

from ..datasets.loader import Batches
from ..training import Objective, Trainer, TrainerConfig
from .bench import Bench

B = TypeVar("B")
M = TypeVar("M", bound=nn.Module)


class Drawn(Generic[B]):
    """Endless batches, each a function of its number, which is all the state there is."""

    def __init__(self, draw: Callable[[int], B]) -> None:
        self._draw, self._number = draw, 0

    def __iter__(self) -> Iterator[B]:
        return self

    def __next__(self) -> B:
        self._number += 1
        return self._draw(self._number - 1)

    def state_dict(self) -> dict[str, Any]:
        return {"number": self._number}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._number = int(state["number"])


def train(
    bench: Bench, name: str, model: M, objective: Objective[B], batches: Batches[B], training: TrainerConfig
) -> M:  # fmt: skip
    """`model`, trained, in evaluation mode. Its checkpoints stay in the exhibit's scratch folder by `name`."""
    bench.advance(f"{training.steps:,} steps of {name}")
    scratch = bench.scratch / name.replace(" ", "-")
    scratch.mkdir(parents=True, exist_ok=True)
    Trainer(
        training, model, objective, batches, scratch=scratch, metrics_path=scratch / "metrics.jsonl", name=name
    ).run()
    return model.eval()
