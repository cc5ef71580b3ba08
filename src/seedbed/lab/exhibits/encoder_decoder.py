"""Copying sequences of random symbols through one vector, and with attention: what is right by length.

Random symbols say nothing of each other, so that a vector has to hold them all. B rows, S source and T target symbols.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from ...core.randomness import numpy_generator, torch_generator
from ...models import RecurrentEncoderDecoder
from ...models.recurrent import RecurrentConfig
from ...reports import index_charts, numbers
from ...training import TrainerConfig
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict
from ..training import Drawn, train

FIXED, ATTENTION = "one vector", "attention"
_KINDS = {FIXED: "none", ATTENTION: "multiplicative"}
_START = 0  # the symbol that a target begins with


class EncoderDecoderSettings(Settings):
    symbols: int = Field(24, ge=2, description="kinds of them")
    longest: int = Field(16, ge=2, description="length that is trained, from 2")
    lengths: tuple[int, ...] = Field((2, 4, 8, 12, 16, 24, 32), min_length=2, description="that are tested, rising")
    steps: int = Field(600, ge=1, description="of training, for each kind")
    batch_size: int = Field(64, ge=1, description="sequences in a step, all of one length")
    hidden_size: int = Field(64, ge=2, multiple_of=2, description="of the LSTMs")
    learning_rate: float = Field(5e-3, gt=0, description="peak, of AdamW")
    tested: int = Field(200, ge=2, description="sequences of each length")


@dataclass(frozen=True)
class Sequences:
    source_BS: Tensor  # int64
    inputs_BT: Tensor  # the target moved by one, after the start
    targets_BT: Tensor

    @classmethod
    def drawn(cls, count: int, length: int, settings: EncoderDecoderSettings, *names: str | int) -> Sequences:
        random = numpy_generator(settings.seed, "copies", *names)
        rows = torch.from_numpy(random.integers(1, settings.symbols + 1, (count, length)))
        return cls(rows, F.pad(rows[:, :-1], (1, 0), value=_START), rows)


class Copies:
    """Cross-entropy of each symbol of the copy."""

    def loss(self, model: Any, batch: Sequences) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
        logits_BTV = model(batch.source_BS, batch.inputs_BT)
        total = F.cross_entropy(logits_BTV.flatten(0, 1), batch.targets_BT.flatten(), reduction="sum")
        return total, torch.tensor(float(batch.targets_BT.numel())), {}


def measure(bench: Bench, settings: EncoderDecoderSettings) -> Finding:
    right = {kind: accuracies(_trained(bench, kind, settings), settings) for kind in _KINDS}
    chance = 1 / settings.symbols
    trained = [length for length in settings.lengths if length <= settings.longest] or [settings.lengths[0]]
    short, long = trained[0], trained[-1]
    fall = {kind: right[kind][short][0] - right[kind][long][0] for kind in _KINDS}
    ahead, error = _ahead(right, long)
    falls = fall[FIXED] > 0.1 and fall[FIXED] > 2 * fall[ATTENTION]
    wins = ahead > max(0.05, 2 * error)
    verdict: Verdict = "holds" if falls and wins else "holds in part" if falls or wins else "does not hold"
    furthest = settings.lengths[-1]
    sentences = (
        f"From {short} to {long} symbols the share that is copied rightly goes from {right[FIXED][short][0]:.0%} to "
        f"{right[FIXED][long][0]:.0%} through one vector and from {right[ATTENTION][short][0]:.0%} to "
        f"{right[ATTENTION][long][0]:.0%} with attention (the difference ± {error:.1%}; a guess: {chance:.0%}).",
        f"At {furthest} symbols, where training went up to {settings.longest}, it is {right[FIXED][furthest][0]:.0%} "
        f"and {right[ATTENTION][furthest][0]:.0%}; whole sequences of {long} are right in {right[FIXED][long][2]:.0%} "
        f"and {right[ATTENTION][long][2]:.0%} of cases.",
    )
    rows: list[list[Any]] = [
        [length, *(numbers.percent(right[kind][length][place], 0) for place in (0, 2) for kind in _KINDS)]
        for length in settings.lengths
    ]
    points = [
        {"length": length, "right": share[0], "series": kind}
        for kind in _KINDS
        for length, share in right[kind].items()
    ]
    points += [{"length": length, "right": chance, "series": "a guess"} for length in settings.lengths]
    chart = index_charts.lines(
        points, "length", "right", (FIXED, ATTENTION, "a guess"), "symbols", "copied rightly", dashed=("a guess",),
        x_values=settings.lengths, y_axis=".0%", y_domain=(0, 1.02),
    )  # fmt: skip
    return Finding(
        verdict, sentences,
        ("Symbols", "One vector, right", "Attention, right", "One vector, whole", "Attention, whole"), rows,
        [("", chart)],
        {"fixed_short": right[FIXED][short][0], "fixed_long": right[FIXED][long][0],
         "attention_short": right[ATTENTION][short][0], "attention_long": right[ATTENTION][long][0]},
        f"LSTMs of width {settings.hidden_size}, {settings.steps} steps each on lengths from 2 to {settings.longest}; "
        "each symbol is foretold with the right ones before it. Whole: all symbols of a sequence.",
    )  # fmt: skip


def _trained(bench: Bench, kind: str, settings: EncoderDecoderSettings) -> RecurrentEncoderDecoder:
    def draw(number: int) -> Sequences:
        length = int(numpy_generator(settings.seed, "length", number).integers(2, settings.longest + 1))
        return Sequences.drawn(settings.batch_size, length, settings, "train", number)

    config = RecurrentConfig.model_validate({
        "vocab_size": settings.symbols + 1, "hidden_size": settings.hidden_size, "attention": _KINDS[kind]
    })  # fmt: skip
    training = TrainerConfig(
        steps=settings.steps, batch_size=settings.batch_size, optimizer="adamw", learning_rate=settings.learning_rate,
        weight_decay=0.0, checkpoint_every=200, seed=settings.seed,
    )  # fmt: skip
    model = RecurrentEncoderDecoder(config, torch_generator(settings.seed, "encoder-decoder"))
    return train(bench, f"copying by {kind}", model, Copies(), Drawn(draw), training)


Right = dict[int, tuple[float, float, float]]


@torch.inference_mode()
def accuracies(model: RecurrentEncoderDecoder, settings: EncoderDecoderSettings) -> Right:
    """By length: the share of symbols that are right, its standard error over sequences, and of whole sequences."""
    found: Right = {}
    for length in settings.lengths:
        batch = Sequences.drawn(settings.tested, length, settings, "test", length)
        right_BT = (model(batch.source_BS, batch.inputs_BT).argmax(dim=-1) == batch.targets_BT).double().numpy()
        each = right_BT.mean(axis=1)
        error = float(each.std(ddof=1) / np.sqrt(len(each)))
        found[length] = (float(each.mean()), error, float(right_BT.all(axis=1).mean()))
    return found


def _ahead(right: dict[str, Right], length: int) -> tuple[float, float]:
    """By how much attention is ahead at a length, with its standard error."""
    fixed, attention = right[FIXED][length], right[ATTENTION][length]
    return attention[0] - fixed[0], float(np.hypot(fixed[1], attention[1]))


EXHIBIT = Exhibit(
    question="Why did encoder–decoders get attention?",
    claim="One vector cannot hold a long source: copies through it get worse with length, and stay right with "
    "attention.",
    formula="without: y_t = f(y_<t, h_S); with: c_t = Σ_s softmax_s(score(h_t, h_s)) h_s.",
    source="Bahdanau et al. 2015, sections 1 and 5.2; Luong et al. 2015, section 3; Sutskever et al. 2014",
    settings=EncoderDecoderSettings,
    measure=measure,
)
