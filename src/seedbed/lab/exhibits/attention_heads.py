"""What each attention head of the run's model is worth: removed one by one, then more and more of them.

A head is removed by zeros where the output projection reads it. N texts, L layers, H heads, D head width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import Field

from ...generation.long_context import stretches
from ...models import Decoder
from ...reports import charts, index_charts, numbers
from ...training.objectives import token_nats
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict

Head = tuple[int, int]  # layer, head


class AttentionHeadsSettings(Settings):
    texts: int = Field(64, ge=2, description="stretches of the validation split, each as long as the context")
    harmless: float = Field(0.01, gt=0, description="rise of the loss, as a share of it, up to which a head is spare")


@dataclass(frozen=True)
class Removed:
    """What a head's removal adds to the loss, in nats per token, with its standard error over texts."""

    head: Head
    nats: float
    error: float

    def spare(self, limit: float) -> bool:
        return self.nats < max(limit, 2 * self.error)


def measure(bench: Bench, settings: AttentionHeadsSettings) -> Finding:
    model = bench.decoder()
    config = model.config
    rows = stretches(bench.tokens("validation").tokens, config.context_length + 1, settings.texts)
    whole_N = losses(model, rows)
    found: list[Removed] = []
    for layer in range(config.layers):
        bench.advance(f"heads of layer {layer + 1} of {config.layers}")
        for head in range(config.heads):
            with without_heads(model, [(layer, head)]):
                more_N = losses(model, rows) - whole_N
            found.append(Removed((layer, head), float(more_N.mean()), _error(more_N)))
    order = sorted(found, key=lambda one: one.nats)
    left = [float(whole_N.mean())]
    for count in range(1, len(order) + 1):
        with without_heads(model, (one.head for one in order[:count])):
            left.append(float(losses(model, rows).mean()))
    loss = left[0]
    limit = settings.harmless * loss
    spare = sum(one.spare(limit) for one in found)
    together = next(count for count in range(len(left), -1, -1) if count < len(left) and left[count] - loss <= limit)
    share = spare / len(found)
    verdict: Verdict = "holds" if share > 0.5 else "holds in part" if spare else "does not hold"
    best, worst = order[-1], order[0]
    sentences = (
        f"Of {len(found)} heads {spare} can go one at a time for at most {settings.harmless:.0%} of the loss of "
        f"{loss:.3f} nats; the dearest, {_name(best.head)}, costs {best.nats:.3f} ± {best.error:.3f}, the cheapest, "
        f"{_name(worst.head)}, {worst.nats:.3f} ± {worst.error:.3f}.",
        f"Taken away together, the cheapest first, {numbers.count(together, 'head')} can go for as little; without any "
        f"head the loss is {left[-1]:.3f}.",
    )
    grid = np.zeros((config.layers, config.heads))
    for one in found:
        grid[one.head] = one.nats
    curve = index_charts.lines(
        [{"removed": count, "nats": nats, "series": "loss"} for count, nats in enumerate(left)],
        "removed", "nats", ["loss"], "heads taken away, the cheapest first", "nats per token", x_log=False,
    )  # fmt: skip
    table: list[list[Any]] = [
        [_name(one.head), numbers.fixed(one.nats, 4, sign=True), numbers.fixed(one.error, 4),
         "yes" if one.spare(limit) else "no"]
        for one in ([*order[-6:][::-1], *order[:6][::-1]] if len(order) > 12 else order[::-1])
    ]  # fmt: skip
    return Finding(
        verdict, sentences, ("Head", "Nats per token", "Error", "Spare"), table,
        [("Alone, nats per token", charts.heat_map(
            grid, _numbers(config.layers), _numbers(config.heads), "head", "layer", "rise of the loss")),
         ("Together", curve)],
        {"loss": loss, "spare": float(spare), "heads": float(len(found)), "together": float(together),
         "none": left[-1], "dearest": best.nats},
        "Error: standard error over texts. Spare: below the limit, or not to be told from nothing."
        + (" The six dearest and the six cheapest." if len(order) > 12 else ""),
    )  # fmt: skip


@torch.inference_mode()
def losses(model: Decoder, rows: torch.Tensor) -> np.ndarray:
    """Mean nats per token of each row (N, T + 1): (N,)."""
    parts = [token_nats(model, part[:, :-1], part[:, 1:]).mean(dim=1) for part in rows.split(16)]
    return torch.cat(parts).double().numpy()


@contextmanager
def without_heads(model: Decoder, heads: Iterable[Head]) -> Iterator[None]:
    """`model` with nothing of these heads reaching the residual stream."""
    chosen, width = list(heads), model.config.head_dim
    weights = {layer: model.blocks[layer].get_submodule("attention.o_proj").weight for layer, _ in chosen}
    kept = {layer: weight.detach().clone() for layer, weight in weights.items()}  # type: ignore[operator]
    try:
        with torch.no_grad():
            for layer, head in chosen:
                weights[layer][:, head * width : (head + 1) * width] = 0  # type: ignore[operator]
        yield
    finally:
        with torch.no_grad():
            for layer, weight in kept.items():
                weights[layer].copy_(weight)  # type: ignore[operator]


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def _name(head: Head) -> str:
    return f"layer {head[0] + 1}, head {head[1] + 1}"


def _numbers(count: int) -> list[str]:
    return [str(place + 1) for place in range(count)]


EXHIBIT = Exhibit(
    question="Does a model need all of its attention heads?",
    claim="Most heads can be removed one at a time, after training, at next to no cost.",
    formula="Δ(h) = loss without head h − loss; MultiHead = Σ_h head_h W_h, so that a removed head is W_h = 0.",
    source="Michel et al. 2019, sections 3 and 4; Voita et al. 2019",
    settings=AttentionHeadsSettings,
    measure=measure,
    needs=("tokenizer", "tokens", "base"),
)
