"""Ways to fine-tune one model on one set of rows, side by side: what each learns, forgets and costs; and of the
advised way how it overfits when there are fewer rows, and what it holds of secrets that it saw a few times.

Learning is the loss on held-out answers; forgetting is how much worse the tuned model foretells plain texts: those of
the base model's own distribution, and others.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator
from torch import nn

from ..core.config import Config
from ..core.console import show
from ..core.errors import DataError
from ..core.ragged import Ragged
from ..core.randomness import numpy_generator, torch_generator
from ..datasets.instructions import EncodedInstructions
from ..models import Decoder
from ..training import Trainer, TrainerConfig
from .adapters import add_adapter
from .lora import LoRAConfig
from .memorization import Canaries, Exposure
from .memory import estimate_memory
from .packing import AnswerTokens, ExampleBatches, example_nats
from .quantization import quantize_nf4
from .regularizers import Anchored, fisher_diagonal

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..tokenizers import Tokenizer

TuningMethod = Literal["full", "lora", "dora", "qlora"]
Remedy = Literal["none", "replay", "l2", "ewc"]
_WINDOWS = 64  # of each text that losses are measured on
_FISHER_EXAMPLES = 64


class Way(Config):
    """One way to fine-tune. Full: no rank. Remedies beside replay are for full fine-tuning."""

    method: TuningMethod
    rank: int = Field(0, ge=0, le=1 << 14)
    learning_rate: float = Field(gt=0)
    remedy: Remedy = "none"
    strength: float = Field(0.0, ge=0)  # share of replayed examples, or the penalty's factor

    @model_validator(mode="after")
    def _fits(self) -> Way:
        if (self.method == "full") != (self.rank == 0):
            raise ValueError("adapters have a rank, full fine-tuning has none")
        if self.remedy in ("l2", "ewc") and self.method != "full":
            raise ValueError("l2 and ewc are for full fine-tuning")
        if self.remedy == "replay" and not self.strength < 1:
            raise ValueError("a share of replayed examples is below one")
        return self

    @property
    def name(self) -> str:
        titles = {"full": "full", "lora": "LoRA", "dora": "DoRA", "qlora": "QLoRA"}
        remedies = {"none": "", "replay": f" + {self.strength:.0%} replay", "l2": " + L2", "ewc": " + EWC"}
        rank = f" r{self.rank}" if self.rank else ""
        return f"{titles[self.method]}{rank}{remedies[self.remedy]}, {self.learning_rate:g}"


def default_ways() -> tuple[Way, ...]:
    adapters = [
        Way(method=method, rank=rank, learning_rate=rate)
        for method, ranks in (("lora", (4, 16)), ("dora", (16,)), ("qlora", (16,)))
        for rank in ranks
        for rate in ((2e-3, 8e-3) if (method, rank) == ("lora", 16) else (4e-3,))
    ]
    full = [Way(method="full", learning_rate=rate) for rate in (3e-4, 1e-3, 3e-3)]
    remedies = [
        Way(method="full", learning_rate=1e-3, remedy=remedy, strength=strength)
        for remedy, strength in (("replay", 0.25), ("l2", 0.1), ("ewc", 10.0))
    ]
    return (*full, *adapters, *remedies)


class ComparisonConfig(Config):
    """What is compared, and for how long each is trained."""

    ways: tuple[Way, ...] = Field(default_ways(), min_length=1)
    steps: int = Field(100, ge=1)
    batch_size: int = Field(16, ge=1)
    evaluations: int = Field(4, ge=1, description="of each run, evenly over its steps")
    sizes: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.125, 0.25, 0.5), description="shares of the rows that the advised way is also trained on, for as many steps"
    )
    canaries: tuple[Annotated[int, Field(ge=0, le=1024)], ...] = Field(
        (0, 1, 4, 16), max_length=26, description="how often secrets are planted among the rows of the advised way"
    )
    candidates: int = Field(256, ge=2, le=1 << 16, description="secrets that a planted one is ranked among")
    seed: int = 0


@dataclass(frozen=True)
class Point:
    """Of a run after `step` steps, nats a token: on rows trained on, on rows held out, on each of the texts."""

    step: int
    train: float
    held_out: float
    texts: dict[str, float]


@dataclass(frozen=True)
class Tuned:
    """What one way came to."""

    way: Way
    points: list[Point]  # the first is the base model, the last the tuned one
    seconds: float
    trained: int  # parameters
    memory: int  # bytes foretold for a step at full length

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Tuned:
        """Of what `Comparison.to_json` makes of one."""
        return cls(**{**values, "way": Way(**values["way"]), "points": [Point(**one) for one in values["points"]]})

    @property
    def learned(self) -> float:
        """Nats an answer token that the held-out loss fell by."""
        return self.points[0].held_out - self.points[-1].held_out

    def forgotten(self, text: str) -> float:
        """Nats a token that the loss on a text rose by."""
        return self.points[-1].texts[text] - self.points[0].texts[text]

    @property
    def gap(self) -> float:
        """How much worse held-out answers are than trained ones: overfitting."""
        return self.points[-1].held_out - self.points[-1].train


@dataclass(frozen=True)
class Sized:
    """The advised way on some of the rows, for as many steps: nats an answer token at the end."""

    rows: int
    epochs: float
    train: float
    held_out: float


@dataclass(frozen=True)
class Comparison:
    """`sizes` (all rows are the last) and `exposures` (of secrets planted among `canary_rows` rows, each read
    `canary_epochs` times) are of the advised way."""

    tuned: list[Tuned]
    sizes: list[Sized]
    exposures: list[Exposure]
    texts: list[str]  # the first is the base model's own
    rows: int
    parameters: int
    steps: int
    epochs: float
    canary_rows: int = 0
    canary_epochs: float = 0.0

    def front(self) -> list[Tuned]:
        """Those that no other beats both in learning and in forgetting the base's own text, by what they learned."""
        own = self.texts[0]
        best = [
            one for one in self.tuned
            if not any(
                other.learned >= one.learned and other.forgotten(own) <= one.forgotten(own)
                and (other.learned, other.forgotten(own)) != (one.learned, one.forgotten(own))
                for other in self.tuned
            )
        ]  # fmt: skip
        return sorted(best, key=lambda one: one.learned)

    def advised(self) -> Tuned:
        """Of the front, what learned most after what it forgot is taken off, nat for nat."""
        return max(self.front(), key=lambda one: one.learned - max(one.forgotten(self.texts[0]), 0.0))

    def to_json(self) -> dict[str, Any]:
        tuned = [
            {**dataclasses.asdict(dataclasses.replace(one, way=None)), "way": one.way.model_dump()}  # type: ignore[arg-type]
            for one in self.tuned
        ]
        return {**dataclasses.asdict(dataclasses.replace(self, tuned=[])), "tuned": tuned}


def compare(
    config: ComparisonConfig,
    load: Callable[[], Decoder],
    tokenizer: Tokenizer,
    train: EncodedInstructions,
    held_out: EncodedInstructions,
    texts: Mapping[str, str],
    scratch: Path,
) -> Comparison:
    """Fine-tune the model that `load` gives in each of the ways, on the same rows in the same order.

    Args:
        texts: name -> plain text; the first is of what the base model was trained on. The first half of it may be
            replayed and gives the Fisher information, the second half is what losses are measured on.

    Raises:
        DataError: a text is too short for the two halves.
    """
    context = load().config.context_length
    windows = {name: text_windows(tokenizer, text, context, name) for name, text in texts.items()}
    spared, measured = windows[next(iter(texts))][0], {name: one[1] for name, one in windows.items()}
    tune = partial(_tune, config, held_out=held_out, spared=spared, measured=measured, scratch=scratch)
    tuned = []
    for number, way in enumerate(config.ways, start=1):
        show(f"  {way.name} ({number} of {len(config.ways)})")
        model = load()
        tuned.append(Tuned(way, *tune(way, model, train=train), _memory(way, model, _trainer(config, way))))
    parameters = sum(one.numel() for one in load().parameters())
    found = Comparison(tuned, [], [], list(texts), len(train), parameters, config.steps, _epochs(config, len(train)))
    advised = found.advised()
    sizes = []
    for share in sorted(config.sizes):
        some = _some(train, max(1, round(share * len(train))))
        show(f"  {advised.way.name}, {len(some)} of {len(train)} rows")
        points, *_ = tune(advised.way, load(), train=some)
        sizes.append(_sized(points, len(some), config))
    sizes.append(_sized(advised.points, len(train), config))
    found = dataclasses.replace(found, sizes=sizes)
    if not config.canaries:
        return found
    show(f"  {advised.way.name}, with canaries")
    canaries, model = Canaries(config.canaries, config.candidates, config.seed), load()
    # No more rows than the steps can read, or a secret that is planted once may never be seen.
    way = advised.way
    read = config.steps * config.batch_size * (1 - way.strength if way.remedy == "replay" else 1.0)
    room = round(read) - sum(config.canaries)
    some = _some(train, min(max(room, 1), len(train)))
    planted = canaries.plant(some, tokenizer, context)
    tune(advised.way, model, train=planted)
    return dataclasses.replace(
        found, exposures=canaries.exposures(model.eval(), tokenizer, context), canary_rows=len(some),
        canary_epochs=read / len(planted),
    )  # fmt: skip


def _epochs(config: ComparisonConfig, rows: int) -> float:
    return config.steps * config.batch_size / rows


def _sized(points: Sequence[Point], rows: int, config: ComparisonConfig) -> Sized:
    return Sized(rows, _epochs(config, rows), points[-1].train, points[-1].held_out)


def _some(rows: EncodedInstructions, count: int) -> EncodedInstructions:
    """So many rows from all over, since the first ones of a file may be alike and easier than others."""
    chosen = np.sort(numpy_generator(0, "some rows").permutation(len(rows))[:count])
    ids, answers = ([one[int(row)] for row in chosen] for one in (rows.ids, rows.answers))
    return EncodedInstructions(Ragged.from_rows(ids, np.uint32), Ragged.from_rows(answers, np.bool_), 0, 0)


def text_windows(tokenizer: Tokenizer, text: str, context: int, name: str) -> tuple[Ragged, Ragged]:
    """Windows of a text's first half and of its second half, of at most `context` + 1 tokens, evenly spread."""
    ids = tokenizer.encode(text, parse_special=False)
    half, length = len(ids) // 2, context + 1
    if half < 2:
        raise DataError("has too few tokens to measure forgetting on", where=name)
    found = []
    for part in (ids[:half], ids[half:]):
        starts = np.linspace(0, max(len(part) - length, 0), min(_WINDOWS, max(len(part) // length, 1))).astype(int)
        found.append(Ragged.from_rows([part[start : start + length] for start in starts], np.uint32))
    return found[0], found[1]


def _tune(
    config: ComparisonConfig, way: Way, model: Decoder, *, train: EncodedInstructions, held_out: EncodedInstructions,
    spared: Ragged, measured: Mapping[str, Ragged], scratch: Path,
) -> tuple[list[Point], float, int]:  # fmt: skip
    """Train `model` where it lies: points on the way, seconds, and how many parameters were trained."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    seen = _some(train, len(held_out))
    points: list[Point] = []

    def evaluate(tuned: nn.Module) -> dict[str, float]:
        tuned.eval()
        losses = {name: mean_nats(tuned, ids, _whole(ids)) for name, ids in measured.items()}
        on_seen, on_held_out = (mean_nats(tuned, rows.ids, rows.answers) for rows in (seen, held_out))
        step = 0 if not points else -(-config.steps * len(points) // config.evaluations)
        points.append(Point(min(step, config.steps), on_seen, on_held_out, losses))
        return {"answer_loss": on_held_out}

    prepared, objective = prepare(way, model, spared)
    evaluate(prepared)
    ids, weights = train.ids, train.answers
    if way.remedy == "replay":
        ids, weights = with_windows(ids, weights, spared, way.strength)
    batches = ExampleBatches(ids, weights, config.batch_size, config.seed)
    started = time.perf_counter()
    Trainer(
        _trainer(config, way), prepared, objective, batches, scratch=scratch, metrics_path=scratch / "metrics.jsonl",
        evaluate=evaluate, name=way.name,
    ).run()  # fmt: skip
    seconds = time.perf_counter() - started
    shutil.rmtree(scratch)
    trained = sum(one.numel() for one in prepared.parameters() if one.requires_grad)
    return points, seconds, trained


def _trainer(config: ComparisonConfig, way: Way) -> TrainerConfig:
    return TrainerConfig(
        steps=config.steps, batch_size=config.batch_size, optimizer="adamw", learning_rate=way.learning_rate,
        weight_decay=0.0, schedule="cosine", final_factor=0.1, checkpoint_every=config.steps, seed=config.seed,
        evaluate_every=-(-config.steps // config.evaluations),
    )  # fmt: skip


def prepare(way: Way, model: Decoder, spared: Ragged) -> tuple[Decoder, Any]:
    """The model as the way trains it, and the objective.

    Args:
        spared: windows of the base model's own text, for the Fisher information.
    """
    if way.method == "qlora":
        quantize_nf4(model)
    if way.method != "full":
        lora = LoRAConfig(rank=way.rank, alpha=2.0 * way.rank, magnitudes=way.method == "dora")
        add_adapter(model, lora, torch_generator(0, "comparison"))
    objective: Any = AnswerTokens()
    if way.remedy == "l2":
        objective = Anchored(objective, model, way.strength)
    if way.remedy == "ewc":
        some = _first(spared, _FISHER_EXAMPLES)
        batches = ExampleBatches(some, _whole(some), 1).once()
        objective = Anchored(objective, model, way.strength, fisher_diagonal(model, objective, batches))
    return model, objective


def with_windows(ids: Ragged, weights: Ragged, windows: Ragged, share: float) -> tuple[Ragged, Ragged]:
    """Examples among which a `share` is windows of plain text, each token of them learned."""
    wanted = round(len(ids) * share / (1 - share))
    chosen = [windows[index % len(windows)] for index in range(wanted)]
    replayed = Ragged.from_rows([*ids, *chosen], np.uint32)
    return replayed, Ragged.from_rows([*weights, *(np.ones(len(one), bool) for one in chosen)], np.bool_)


def mean_nats(model: nn.Module, ids: Ragged, weights: Ragged) -> float:
    """Nats a weighted token."""
    sums, counts = example_nats(model, ExampleBatches(ids, weights, 16).once())
    return float(sums.sum() / counts.sum())


def _whole(ids: Ragged) -> Ragged:
    return Ragged(np.ones(len(ids.values), np.bool_), ids.offsets)


def _first(rows: Ragged, count: int) -> Ragged:
    return Ragged.from_rows([rows[index] for index in range(min(count, len(rows)))], rows.values.dtype)


def _memory(way: Way, model: Decoder, trainer: TrainerConfig) -> int:
    method: Literal["full", "lora", "qlora"] = "lora" if way.method == "dora" else way.method
    adapter = LoRAConfig(rank=way.rank) if way.rank else None
    return estimate_memory(model.config, trainer, method, adapter=adapter).peak
