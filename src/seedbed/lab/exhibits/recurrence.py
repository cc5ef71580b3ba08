"""A plain recurrent network, an LSTM and attention side by side: how much of an early token reaches the last state,
what is learned over distance, and how long a step of training takes by length.

B rows, T tokens, C width, V symbols.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.randomness import numpy_generator, torch_generator
from ...models import Decoder, ModelConfig
from ...reports import index_charts, numbers
from ...training import TrainerConfig
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict
from ..timing import interleaved
from ..training import Drawn, train

PLAIN, LSTM, ATTENTION = "plain recurrence", "LSTM", "attention"
KINDS = (PLAIN, LSTM, ATTENTION)
_LEARNED, _GONE = 0.9, 1e-3  # share recalled, and of a gradient what is as good as nothing


class RecurrenceSettings(Settings):
    width: int = Field(64, ge=8, multiple_of=8, description="of states; attention has 4 heads")
    symbols: int = Field(8, ge=2, description="kinds of them in the task of recall")
    distances: tuple[int, ...] = Field((8, 24, 64), min_length=2, description="of recall, in tokens, rising")
    steps: int = Field(250, ge=1, description="of training, for each kind and distance")
    reach: int = Field(128, ge=8, description="tokens that the gradient is followed over")
    lengths: tuple[int, ...] = Field((64, 128, 256, 512), min_length=2, description="that steps are timed at, rising")
    repeats: int = Field(5, ge=1, description="of each measurement of time, of which the median counts")


class Reader(nn.Module):
    """Reads embedded tokens (B, T, C) into states (B, T, C), each of what came before."""

    def __init__(self, kind: str, settings: RecurrenceSettings, length: int) -> None:
        super().__init__()
        width, random = settings.width, torch_generator(settings.seed, "recurrence", kind)
        self.embedding = nn.Embedding(settings.symbols, width)
        self.head = nn.Linear(width, settings.symbols)
        if kind == ATTENTION:
            config = ModelConfig(
                vocab_size=settings.symbols, hidden_size=width, layers=1, heads=4, positions="learned",
                context_length=length,
            )  # fmt: skip
            self.reader: nn.Module = Decoder(config, random)
        else:
            self.reader = {PLAIN: nn.RNN, LSTM: nn.LSTM}[kind](width, width, batch_first=True)
            for _, parameter in sorted(self.reader.named_parameters()):
                nn.init.uniform_(parameter, -(width**-0.5), width**-0.5, generator=random)
        nn.init.normal_(self.embedding.weight, generator=random)
        nn.init.normal_(self.head.weight, std=width**-0.5, generator=random)

    def states(self, x_BTC: Tensor) -> Tensor:
        if isinstance(self.reader, Decoder):
            states_BTC: Tensor = super(Decoder, self.reader).forward(x_BTC)
        else:
            states_BTC = self.reader(x_BTC)[0]
        return states_BTC

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Logits (B, V) behind the last token."""
        return self.head(self.states(self.embedding(ids_BT))[:, -1])


@dataclass(frozen=True)
class Question:
    """Random symbols, of which the first is asked for at the end."""

    ids_BT: Tensor
    first_B: Tensor

    @classmethod
    def drawn(cls, count: int, length: int, settings: RecurrenceSettings, *names: str | int) -> Question:
        random = numpy_generator(settings.seed, "recall", length, *names)
        rows = torch.from_numpy(random.integers(0, settings.symbols, (count, length)))
        return cls(rows, rows[:, 0])


class Recall:
    def loss(self, model: nn.Module, batch: Question) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
        total = F.cross_entropy(model(batch.ids_BT), batch.first_B, reduction="sum")
        return total, torch.tensor(float(len(batch.first_B))), {}


def measure(bench: Bench, settings: RecurrenceSettings) -> Finding:
    flow = {kind: gradients(Reader(kind, settings, settings.reach), settings) for kind in KINDS}
    recalled = {
        (kind, distance): _recalled(bench, kind, distance, settings)
        for kind in KINDS
        for distance in settings.distances
    }
    bench.advance("time of a step by length")
    seconds = _times(settings)
    far, longest = settings.distances[-1], settings.lengths[-1]
    faded = {kind: float(flow[kind][-1] / flow[kind][0]) for kind in KINDS}
    vanishes = faded[PLAIN] < _GONE < faded[ATTENTION]
    forgets = recalled[PLAIN, far] < _LEARNED <= recalled[ATTENTION, far]
    short = settings.lengths[0]
    quicker = seconds[LSTM, longest] > seconds[ATTENTION, longest]
    held = sum((vanishes, forgets, quicker))
    verdict: Verdict = "holds" if held == 3 else "holds in part" if held else "does not hold"
    factor = {kind: faded[kind] ** (1 / (settings.reach - 1)) for kind in (PLAIN, LSTM)}
    sentences = (
        f"Over {settings.reach - 1} tokens the gradient falls to {_power(faded[PLAIN])} of what the last one gets in a "
        f"plain recurrence ({factor[PLAIN]:.2f} times a token), {_power(faded[LSTM])} in an LSTM ({factor[LSTM]:.2f}) "
        f"and {_power(faded[ATTENTION])} with attention; after {settings.steps} steps a symbol {far} tokens back is "
        f"recalled in {recalled[PLAIN, far]:.0%}, {recalled[LSTM, far]:.0%} and {recalled[ATTENTION, far]:.0%} of "
        f"cases (a guess: {1 / settings.symbols:.0%}).",
        f"A step of training over {longest} tokens takes the LSTM {seconds[LSTM, longest] * 1e3:.0f} ms, one token "
        f"after the other, and attention {seconds[ATTENTION, longest] * 1e3:.0f} ms, all at once; over "
        f"{short} it is {seconds[LSTM, short] * 1e3:.1f} and {seconds[ATTENTION, short] * 1e3:.1f}.",
    )
    rows: list[list[Any]] = [
        [kind.capitalize() if kind != LSTM else kind, _power(faded[kind]),
         *(numbers.percent(recalled[kind, distance], 0) for distance in settings.distances),
         numbers.fixed(seconds[kind, longest] * 1e3, 1)]
        for kind in KINDS
    ]  # fmt: skip
    return Finding(
        verdict, sentences,
        ("Kind", "Gradient left", *(f"Recalled over {distance}" for distance in settings.distances),
         f"ms a step of {longest}"),
        rows,
        [("Gradient by distance", _flow_chart(flow)), ("Time of a step of training", index_charts.lines(
            [{"length": length, "ms": taken * 1e3, "series": kind} for (kind, length), taken in seconds.items()],
            "length", "ms", KINDS, "tokens", "milliseconds", x_values=settings.lengths, y_log=True))],
        {"plain": faded[PLAIN], "lstm": faded[LSTM], "attention": faded[ATTENTION],
         "recalled_plain": recalled[PLAIN, far], "recalled_attention": recalled[ATTENTION, far]},
        f"One layer of width {settings.width} each. Gradient: of the last state with respect to a token, before "
        f"training, over {settings.reach - 1} tokens; its chart ends where nothing is left. Recalled: the first "
        "symbol, at the end of so many. Time: forward and backward, 8 rows, on this machine’s cores.",
    )  # fmt: skip


def gradients(model: Reader, settings: RecurrenceSettings, rows: int = 16) -> np.ndarray:
    """The size of the last state's gradient with respect to each token, from the last token to the first: (T,)."""
    random = torch_generator(settings.seed, "gradients")
    x_BTC = torch.randn(rows, settings.reach, settings.width, generator=random, dtype=torch.float64).requires_grad_()
    model = model.double()
    last_BC = model.states(x_BTC)[:, -1]
    weights_BC = torch.randn(last_BC.shape, generator=random, dtype=torch.float64)
    (gradient_BTC,) = torch.autograd.grad((last_BC * weights_BC).sum(), x_BTC)
    sizes: np.ndarray = gradient_BTC.norm(dim=-1).mean(dim=0).flip(0).numpy()
    return sizes


def _recalled(bench: Bench, kind: str, distance: int, settings: RecurrenceSettings) -> float:
    """Share of held-out questions that are answered rightly after training."""
    training = TrainerConfig(
        steps=settings.steps, batch_size=64, optimizer="adamw", learning_rate=0.01, weight_decay=0.0,
        checkpoint_every=200, seed=settings.seed,
    )  # fmt: skip
    batches = Drawn(lambda number: Question.drawn(64, distance, settings, "train", number))
    model = train(
        bench, f"recall over {distance} by {kind}", Reader(kind, settings, distance), Recall(), batches, training
    )
    test = Question.drawn(500, distance, settings, "test")
    with torch.inference_mode():
        return float((model(test.ids_BT).argmax(dim=-1) == test.first_B).double().mean())


def _times(settings: RecurrenceSettings) -> dict[tuple[str, int], float]:
    found: dict[tuple[str, int], float] = {}
    for length in settings.lengths:
        question = Question.drawn(8, length, settings, "time")
        jobs = {(kind, length): partial(_step, Reader(kind, settings, length), question) for kind in KINDS}
        found |= interleaved(jobs, settings.repeats)
    return found


def _step(model: Reader, question: Question) -> None:
    model.zero_grad()
    F.cross_entropy(model(question.ids_BT), question.first_B).backward()


def _flow_chart(flow: dict[str, np.ndarray]) -> Any:
    far = len(next(iter(flow.values()))) - 1
    distances = sorted({0, *(2**power for power in range(far.bit_length()) if 2**power <= far), far})
    rows = [
        {"distance": distance + 1, "share": float(sizes[distance] / sizes[0]), "series": kind}
        for kind, sizes in flow.items()
        for distance in distances
        if sizes[distance] > _FLOOR * sizes[0]
    ]
    return index_charts.lines(
        rows, "distance", "share", KINDS, "tokens from the end", "gradient, of the last token’s", y_log=True,
        y_axis=".0e", x_values=[1, 2, 4, 8, 16, 32, 64, 128],
    )  # fmt: skip


_FLOOR = 1e-12  # below it a logarithmic axis would show nothing else


def _power(share: float) -> str:
    return f"{share:.0e}" if share < 0.01 else f"{share:.2f}"


EXHIBIT = Exhibit(
    question="Why did attention replace recurrence?",
    claim="Through a recurrence the gradient of early tokens vanishes and tokens take their turns; attention reaches "
    "all of them at one step's distance, at once.",
    formula="∂h_T/∂h_t = Π_{k>t} diag(1 − h_k²) W, which falls as its largest singular value to the power T − t.",
    source="Bengio et al. 1994; Hochreiter and Schmidhuber 1997; Pascanu et al. 2013, section 2; Vaswani et al. 2017, "
    "table 1",
    settings=RecurrenceSettings,
    measure=measure,
)
