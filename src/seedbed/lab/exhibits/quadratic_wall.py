"""Time and memory of attention by length: all scores kept, and the softmax computed online.

T tokens, H heads, D head width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ...core.randomness import torch_generator
from ...models.attention import attend_reference
from ...models.flash import attend_online
from ...reports import index_charts, numbers
from ...training.memory import LiveMemory
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict
from ..timing import interleaved

NAIVE, ONLINE, FUSED = "all scores", "online softmax", "fused kernel"
_NEARER = 1.5  # the exponent between a line's and a square's


class QuadraticWallSettings(Settings):
    lengths: tuple[int, ...] = Field((256, 512, 1024, 2048, 4096), min_length=2, description="in tokens, rising")
    heads: int = Field(4, ge=1, description="of attention")
    head_dim: int = Field(32, ge=2, description="width of a head")
    repeats: int = Field(3, ge=1, description="of each measurement of time, of which the median counts")


@dataclass(frozen=True)
class Cost:
    """Of one way at one length: seconds, and the most bytes of its tensors that lived at once (None: not seen)."""

    way: str
    length: int
    seconds: float
    bytes: int | None

    @property
    def milliseconds(self) -> float:
        return 1e3 * self.seconds


def measure(bench: Bench, settings: QuadraticWallSettings) -> Finding:
    found: list[Cost] = []
    for length in settings.lengths:
        bench.advance(f"{length:,} tokens")
        q, k, v = _inputs(length, settings)
        jobs = {NAIVE: partial(attend_reference, q, k, v, causal=True), ONLINE: partial(attend_online, q, k, v,
                causal=True), FUSED: partial(_fused, q, k, v)}  # fmt: skip
        seconds = interleaved(jobs, settings.repeats)
        found += [Cost(way, length, seconds[way], None if way == FUSED else peak(job)) for way, job in jobs.items()]
    memory = {way: exponent([(one.length, float(one.bytes or 0)) for one in found if one.way == way])
              for way in (NAIVE, ONLINE)}  # fmt: skip
    times = {way: exponent([(one.length, one.seconds) for one in found if one.way == way])
             for way in (NAIVE, ONLINE, FUSED)}  # fmt: skip
    walled = memory[NAIVE] >= _NEARER > memory[ONLINE]
    quadratic = min(times.values()) >= _NEARER
    verdict: Verdict = "holds" if walled and quadratic else "holds in part" if walled or quadratic else "does not hold"
    last = {one.way: one for one in found[-3:]}
    naive, online = (last[way].bytes or 1 for way in (NAIVE, ONLINE))
    longest = settings.lengths[-1]
    sentences = (
        f"From {settings.lengths[-2]:,} to {longest:,} tokens time grows as the length to the power {times[NAIVE]:.2f} "
        f"with all scores, {times[ONLINE]:.2f} online and {times[FUSED]:.2f} in the fused kernel; there the fused one "
        f"takes {last[FUSED].seconds * 1e3:.0f} ms and the first {last[NAIVE].seconds * 1e3:.0f} ms.",
        f"Memory grows with the power {memory[NAIVE]:.2f} where all scores are kept and {memory[ONLINE]:.2f} online: "
        f"at {longest:,} tokens {numbers.memory(naive)} against {numbers.memory(online)}.",
    )
    rows: list[list[Any]] = []
    for place, length in enumerate(settings.lengths):
        naive_cost, online_cost, fused_cost = found[3 * place : 3 * place + 3]
        rows.append([length, *(numbers.fixed(one.milliseconds) for one in (naive_cost, online_cost, fused_cost)),
                     *(numbers.memory(one.bytes or 0) for one in (naive_cost, online_cost))])  # fmt: skip
    return Finding(
        verdict, sentences,
        ("Tokens", "All scores, ms", "Online, ms", "Fused, ms", "All scores, memory", "Online, memory"), rows,
        [("Time", _chart(found, "milliseconds", "milliseconds", (NAIVE, ONLINE, FUSED))),
         ("Memory", _chart([one for one in found if one.bytes], "bytes", "bytes at once", (NAIVE, ONLINE)))],
        {"time_all": times[NAIVE], "time_online": times[ONLINE], "time_fused": times[FUSED],
         "memory_all": memory[NAIVE], "memory_online": memory[ONLINE], "bytes_all": float(naive)},
        f"Causal attention, forward, {settings.heads} heads of {settings.head_dim}, float32. Memory: tensors that live "
        "at once, inputs left out. The fused kernel’s own buffers cannot be seen from outside.",
    )  # fmt: skip


def peak(job: Callable[[], object]) -> int:
    """The most bytes of tensors made by `job` that live at once."""
    with LiveMemory() as live:
        job()
    return live.peak


def exponent(points: list[tuple[int, float]]) -> float:
    """Of the last doubling: log of the growth over log of the growth in length."""
    (short, less), (long, more) = points[-2:]
    return float(np.log(more / less) / np.log(long / short))


def _inputs(length: int, settings: QuadraticWallSettings) -> list[Tensor]:
    random = torch_generator(settings.seed, "quadratic-wall", length)
    return [torch.randn(1, length, settings.heads, settings.head_dim, generator=random) for _ in range(3)]


def _fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def _chart(found: list[Cost], value: str, title: str, order: tuple[str, ...]) -> Any:
    rows = [{"length": one.length, "value": getattr(one, value), "series": one.way} for one in found]
    lengths = sorted({one.length for one in found})
    return index_charts.lines(
        rows, "length", "value", order, "tokens", title, x_values=lengths, y_log=True, y_axis=".2~s"
    )  # fmt: skip


EXHIBIT = Exhibit(
    question="How does the price of attention grow with the length of the text?",
    claim="Time grows with the square of the length however it is computed; memory does so only where all scores are "
    "kept.",
    formula="work ∝ T²D; memory ∝ T² with all scores, ∝ T online: m' = max(m, s), l' = e^(m−m') l + e^(s−m').",
    source="Vaswani et al. 2017, table 1; Milakov and Gimelshein 2018, section 3; Dao et al. 2022, theorem 1",
    settings=QuadraticWallSettings,
    measure=measure,
)
