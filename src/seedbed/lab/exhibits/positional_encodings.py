"""What order is without positions, and how far each kind reaches past the length that it was trained with: small
decoders on the bytes of the run's own text, alike but for their positions.

N texts, T tokens, C trained context.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ...core.randomness import numpy_generator, torch_generator
from ...datasets.loader import Batch
from ...generation.long_context import stretches
from ...models import Decoder, Encoder, ModelConfig
from ...reports import charts, index_charts, numbers
from ...training import NextToken, TrainerConfig
from ...training.objectives import token_nats
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict
from ..training import Drawn, train

KINDS = {"none": "none", "learned": "learned", "sinusoidal": "sinusoidal", "rotary": "rotary", "alibi": "ALiBi"}
_BLIND, _SEES = 1e-4, 1e-2  # of an output's length: what moves when the other tokens are shuffled


class PositionalEncodingsSettings(Settings):
    steps: int = Field(400, ge=1, description="of training, for each kind")
    context: int = Field(64, ge=8, multiple_of=4, description="bytes that the models are trained with")
    hidden_size: int = Field(64, ge=16, multiple_of=16, description="of the models; 2 layers of 4 heads")
    batch_size: int = Field(16, ge=1, description="windows in a step")
    learning_rate: float = Field(0.01, gt=0, description="peak, of Muon")
    texts: int = Field(48, ge=2, description="held-out stretches of four contexts")


class Windows(Drawn[Batch]):
    """Batches of windows from anywhere in some bytes, the same for every kind of positions."""

    def __init__(self, data: np.ndarray, settings: PositionalEncodingsSettings) -> None:
        super().__init__(self._window)
        self._data, self._settings = data, settings

    def _window(self, number: int) -> Batch:
        length = self._settings.context
        random = numpy_generator(self._settings.seed, "windows", number)
        starts = random.integers(0, len(self._data) - length, self._settings.batch_size)
        rows = torch.from_numpy(np.stack([self._data[start : start + length + 1] for start in starts]).astype(np.int64))
        return Batch(rows[:, :-1], rows[:, 1:], torch.ones(rows[:, 1:].shape))


@dataclass(frozen=True)
class Learnt:
    """One kind of positions: nats of held-out texts (N,) in the second half of the trained context and beyond it by
    stretch (None: it cannot go there), and what shuffling the tokens before the last adds at the last token (N,)."""

    kind: str
    inside: np.ndarray
    beyond: dict[int, np.ndarray]
    shuffled: np.ndarray


def measure(bench: Bench, settings: PositionalEncodingsSettings) -> Finding:
    moved = {kind: order_seen(kind, settings) for kind in ("none", "learned", "sinusoidal", "rotary")}
    data, held_out = (text_bytes(bench, split) for split in ("train", "validation"))
    rows = stretches(held_out, 4 * settings.context + 1, settings.texts)
    found = {kind: _learnt(bench, kind, data, rows, settings) for kind in KINDS}
    last = max(found["alibi"].beyond)
    rises = {kind: _rise(one, last) for kind, one in found.items() if one.beyond}
    least = min(one for kind, one in moved.items() if kind != "none")
    blind = moved["none"] < _BLIND and least > _SEES
    alibi = rises["alibi"]
    reaches = alibi[0] <= 2 * alibi[1]
    behind = {kind: _mean(found[kind].beyond[last] - found["alibi"].beyond[last]) for kind in ("sinusoidal", "rotary")}
    ahead = all(mean > 2 * error for mean, error in behind.values())
    held = sum((blind, reaches, ahead))
    verdict: Verdict = "holds" if held == 3 else "holds in part" if held else "does not hold"
    price = {kind: _mean(one.shuffled) for kind, one in found.items()}
    sentences = (
        f"Shuffle the other bytes, and what attention makes of the last one moves by {moved['none']:.0e} of its length "
        f"without positions, by {least:.0%} or more with them; a causal model without positions pays "
        f"{_told(price['none'])} nats for shuffled context, with rotary ones {_told(price['rotary'])}.",
        f"Between {last // 2} and {last} bytes, trained on {settings.context}, the loss is "
        + ", ".join(f"{_told(rises[kind])} with {KINDS[kind]}" for kind in rises)
        + " positions against inside the trained length; learned ones end there.",
    )
    table: list[list[Any]] = [
        [KINDS[kind], numbers.fixed(float(one.inside.mean()), 3),
         *(numbers.fixed(float(one.beyond[stop].mean()), 3) if one.beyond else "" for stop in _stops(settings)),
         _told(price[kind])]
        for kind, one in found.items()
    ]  # fmt: skip
    points = [
        {"stop": stop, "nats": float(nats.mean()), "series": KINDS[kind]}
        for kind, one in found.items()
        for stop, nats in {settings.context: one.inside, **one.beyond}.items()
    ]
    order = list(KINDS.values())
    return Finding(
        verdict, sentences,
        ("Positions", f"Up to {settings.context}", *(f"Up to {stop}" for stop in _stops(settings)), "Shuffled"), table,
        [("Loss by position", index_charts.lines(
            points, "stop", "nats", order, "bytes up to", "nats per byte",
            x_values=[settings.context, *_stops(settings)])),
         ("Price of a shuffled context", charts.bars(
             [{"kind": KINDS[kind], "price": max(0.0, mean)} for kind, (mean, _) in price.items()], "kind", "price",
             "nats at the last byte", lambda value: numbers.fixed(value)))],
        {"moved_none": moved["none"], "alibi_rise": alibi[0], "rotary_rise": rises["rotary"][0],
         "sinusoidal_rise": rises["sinusoidal"][0]},
        f"Nats per byte of held-out text; {settings.steps} steps each. Shuffled: what the last of {settings.context} "
        "bytes costs more when those before the one in front of it are in disorder. ± standard errors over texts.",
    )  # fmt: skip


@torch.inference_mode()
def order_seen(kind: str, settings: PositionalEncodingsSettings) -> float:
    """How far the output at the last token moves, of its length, when the tokens before it are shuffled: a random
    encoder, whose attention sees both ways."""
    config = ModelConfig(
        kind="encoder", vocab_size=256, hidden_size=settings.hidden_size, layers=2, heads=4, norm_position="pre",
        positions=kind, context_length=settings.context,
    )  # fmt: skip
    model = Encoder(config, torch_generator(settings.seed, "order", kind)).double().eval()
    random = torch_generator(settings.seed, "order", "tokens")
    ids_T = torch.randint(0, 256, (settings.context,), generator=random)
    other_T = torch.cat((ids_T[:-1][torch.randperm(len(ids_T) - 1, generator=random)], ids_T[-1:]))
    first, second = model(torch.stack((ids_T, other_T)))[:, -1]
    return float((first - second).norm() / first.norm())


def _learnt(bench: Bench, kind: str, data: np.ndarray, rows: Tensor, settings: PositionalEncodingsSettings) -> Learnt:
    config = ModelConfig(
        vocab_size=256, hidden_size=settings.hidden_size, layers=2, heads=4, positions=kind,
        context_length=settings.context,
    )  # fmt: skip
    training = TrainerConfig(
        steps=settings.steps, batch_size=settings.batch_size, learning_rate=settings.learning_rate, embedding_factor=3,
        checkpoint_every=100, seed=settings.seed,
    )  # fmt: skip
    model = Decoder(config, torch_generator(settings.seed, "positions"))
    train(
        bench,
        f"positions of kind {KINDS[kind]}" if kind != "none" else "no positions",
        model,
        NextToken(),
        Windows(data, settings),
        training,
    )
    return learnt(kind, model, rows, settings)


@torch.inference_mode()
def learnt(kind: str, model: Decoder, rows: Tensor, settings: PositionalEncodingsSettings) -> Learnt:
    """Of held-out texts (N, 4 C + 1)."""
    context = settings.context
    reach = context if kind == "learned" else 4 * context
    nats_NT = torch.cat([
        token_nats(model, part[:, :reach], part[:, 1 : reach + 1]) for part in rows.split(8)
    ]).double().numpy()  # fmt: skip
    beyond = {} if kind == "learned" else {
        stop: nats_NT[:, stop // 2 : stop].mean(axis=1) for stop in _stops(settings)
    }  # fmt: skip
    random = torch_generator(settings.seed, "shuffled")
    disorder = torch.cat((torch.randperm(context - 1, generator=random), torch.tensor([context - 1])))
    ids, target = rows[:, :context], rows[:, context : context + 1]
    plain, shuffled = (
        torch.nn.functional.cross_entropy(model.head(model.hidden(one)[:, -1]), target[:, 0], reduction="none")
        for one in (ids, ids[:, disorder])
    )
    return Learnt(kind, nats_NT[:, context // 2 : context].mean(axis=1), beyond, (shuffled - plain).double().numpy())


def text_bytes(bench: Bench, split: str, most: int = 4_000_000) -> np.ndarray:
    """The first bytes of a split's texts, an empty line between two."""
    return np.frombuffer("\n\n".join(bench.corpus.texts(split)).encode()[:most], dtype=np.uint8)


def _stops(settings: PositionalEncodingsSettings) -> list[int]:
    return [2 * settings.context, 4 * settings.context]


def _rise(one: Learnt, stop: int) -> tuple[float, float]:
    return _mean(one.beyond[stop] - one.inside)


def _mean(values: np.ndarray) -> tuple[float, float]:
    """With its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


def _told(one: Sequence[float]) -> str:
    return f"{numbers.fixed(one[0], 2, sign=True)} ± {one[1]:.2f}"


EXHIBIT = Exhibit(
    question="What does a transformer know of order, and what at lengths that it never met?",
    claim="Without positions attention is blind to order; ALiBi carries on past the trained length, where sinusoidal "
    "and rotary positions break.",
    formula="Attention(PX) = P Attention(X) for any permutation P; ALiBi: score − m_h · distance; rotary: q and k "
    "turned by position · θ_i.",
    source="Vaswani et al. 2017, section 3.5; Press et al. 2022, section 2; Su et al. 2021; Kazemnejad et al. 2023",
    settings=PositionalEncodingsSettings,
    measure=measure,
    needs=("corpus",),
)
