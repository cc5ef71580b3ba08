"""Ways to fine-tune a run's base model on its own instructions, each kept as soon as it is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from ..core.artifacts import write_atomically
from ..core.json_files import json_bytes, read_json
from ..core.ragged import Ragged
from ..datasets.instructions import EncodedInstructions, encode_instructions, read_instructions
from ..finetuning.comparison import Comparison, ComparisonConfig, Tuned, Way, compare, prepare, text_windows
from ..finetuning.instruct import HELD_OUT_ROWS, TRAIN_ROWS, for_chat
from ..finetuning.packing import ExampleBatches
from ..models import Decoder
from .bench import Bench
from .timing import interleaved

OWN = "the run’s own text"
_BATCH = 16
_ADAM_BYTES = 3 * 4  # of a trained number: its gradient and Adam's two moments


@dataclass(frozen=True)
class Workshop:
    """
    Attributes:
        rows: of training, at most. held_out: rows that losses are measured on, at most.
        characters: of the run's validation texts, at most: half may be replayed, half is what forgetting is told by.
    """

    bench: Bench
    rows: int
    held_out: int
    steps: int
    characters: int = 200_000
    seed: int = 0

    @cached_property
    def text(self) -> str:
        return "\n\n".join(self.bench.texts("validation"))[: self.characters]

    @cached_property
    def spared(self) -> Ragged:
        """Windows of the text that may be replayed."""
        return text_windows(self.bench.tokenizer, self.text, self.model().config.context_length, OWN)[0]

    def model(self) -> Decoder:
        """The base model, ready for a chat's answers."""
        return for_chat(self.bench.decoder("base"), self.bench.tokenizer)

    def tuned(self, ways: Sequence[Way], evaluations: int = 4) -> Comparison:
        """All ways, of the same rows in the same order."""
        train, held_out = self._encoded(TRAIN_ROWS, self.rows), self._encoded(HELD_OUT_ROWS, self.held_out)
        config = ComparisonConfig(
            ways=tuple(ways),
            steps=self.steps,
            batch_size=_BATCH,
            evaluations=evaluations,
            sizes=(),
            canaries=(),
            seed=self.seed,
        )
        found = [self._one(config.replace(ways=(way,)), train, held_out) for way in ways]
        parameters = sum(one.numel() for one in self.model().parameters())
        epochs = self.steps * config.batch_size / len(train)
        return Comparison(found, [], [], [OWN], len(train), parameters, self.steps, epochs)

    def state_bytes(self, tuned: Tuned) -> int:
        """Bytes of weights, as the way stores them, and of the gradients and moments of what it trains."""
        model, _ = prepare(tuned.way, self.model(), self.spared)
        stored = sum(one.nbytes for one in (*model.parameters(), *model.buffers()))
        return stored + _ADAM_BYTES * tuned.trained

    def step_seconds(self, ways: Sequence[Way], repeats: int = 7) -> dict[str, float]:
        """Median time of a step of each way, forward, backward and AdamW, on the same batch in turn; by name."""
        rows = self._encoded(TRAIN_ROWS, _BATCH)
        batch = next(ExampleBatches(rows.ids, rows.answers, _BATCH, self.seed))

        def step(way: Way) -> Callable[[], None]:
            model, objective = prepare(way, self.model(), self.spared)
            model.train()
            trained = [one for one in model.parameters() if one.requires_grad]
            optimizer = torch.optim.AdamW(trained, lr=way.learning_rate)

            def once() -> None:
                optimizer.zero_grad(set_to_none=True)
                total, count, _ = objective.loss(model, batch)
                (total / count).backward()
                optimizer.step()

            return once

        return interleaved({way.name: step(way) for way in ways}, repeats)

    def _encoded(self, name: str, most: int) -> EncodedInstructions:
        rows = read_instructions(self.bench.run / "sft" / name).rows[:most]
        return encode_instructions(rows, self.bench.tokenizer, self.model().config.context_length)

    def _one(self, config: ComparisonConfig, train: EncodedInstructions, held_out: EncodedInstructions) -> Tuned:
        (way,) = config.ways
        path = self.bench.scratch / f"{way.method}-{way.rank}-{way.learning_rate:g}-{way.remedy}-{way.strength:g}.json"
        if not path.exists():
            self.bench.advance(way.name)
            found = compare(
                config, self.model, self.bench.tokenizer, train, held_out, {OWN: self.text}, self.bench.scratch / "way"
            )
            write_atomically(path, json_bytes(found.to_json()["tuned"][0]))
        return Tuned.from_json(read_json(path))
