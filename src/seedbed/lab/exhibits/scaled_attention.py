"""Why scores are divided by the root of the head's width: their spread, and what the softmax makes of it.

B heads' worth of draws, T queries, S keys, D head width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field

from ...core.randomness import torch_generator
from ...models.attention import attend_reference
from ...reports import index_charts
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict

_SERIES = ("plain", "scaled")


class ScaledAttentionSettings(Settings):
    widths: tuple[int, ...] = Field((4, 16, 64, 256, 1024), min_length=2, description="of a head")
    keys: int = Field(64, ge=2, description="that a query chooses among")
    queries: int = Field(512, ge=1, description="random ones, for each width")


@dataclass(frozen=True)
class Scores:
    """At one width: the variance of the scores, the mean of the largest weight of a query, and the size of the gradient
    that reaches the scores, of what it would be if all weights were alike."""

    width: int
    variance: float
    largest: float
    gradient: float


def measure(bench: Bench, settings: ScaledAttentionSettings) -> Finding:
    measured = {
        name: [scores(width, settings, scaled=name == "scaled") for width in settings.widths] for name in _SERIES
    }
    plain, scaled = measured["plain"], measured["scaled"]
    bench.advance(f"step by step and fused attention differ by {_difference(settings):.1e} at most")
    rows: list[list[Any]] = [
        [a.width, a.variance, b.variance, a.largest, b.largest, a.gradient, b.gradient]
        for a, b in zip(plain, scaled, strict=True)
    ]
    as_wide = [one.variance / one.width for one in plain]
    linear = all(abs(ratio - 1) < 0.2 for ratio in as_wide)
    steady = max(one.largest for one in scaled) / min(one.largest for one in scaled) < 1.5
    saturates = plain[-1].largest > 2 * scaled[-1].largest and plain[-1].gradient < scaled[-1].gradient
    verdict: Verdict = "holds" if linear and steady and saturates else "holds in part" if saturates else "does not hold"
    sentences = (
        f"Unscaled scores have {min(as_wide):.2f} to {max(as_wide):.2f} times the head's width as their variance, "
        f"and at {settings.widths[-1]} the softmax over {settings.keys} keys gives {plain[-1].largest:.0%} to one key.",
        f"Divided by the root of the width, the largest weight stays at {min(one.largest for one in scaled):.0%} to "
        f"{max(one.largest for one in scaled):.0%}, and {_times(scaled[-1].gradient, plain[-1].gradient)} the gradient "
        "reaches the scores.",
    )
    return Finding(
        verdict, sentences,
        ("Width", "Variance, plain", "Scaled", "Largest weight, plain", "Scaled", "Gradient, plain", "Scaled"), rows,
        [("Variance of the scores", _chart(measured, "variance", "variance", y_log=True)),
         ("Largest weight of a query", _chart(measured, "largest", "mean of the largest weight"))],
        {"variance_ratio": as_wide[-1], "largest_plain": plain[-1].largest, "largest_scaled": scaled[-1].largest},
        "Gradient: the trace of the softmax’s Jacobian, Σ w(1 − w), a query’s mean; 0 where one key has all.",
    )  # fmt: skip


def scores(width: int, settings: ScaledAttentionSettings, *, scaled: bool) -> Scores:
    """Scores of standard normal queries and keys."""
    random = torch_generator(settings.seed, "scaled-attention", width)
    q_TD = torch.randn(settings.queries, width, generator=random)
    k_SD = torch.randn(settings.keys, width, generator=random)
    scores_TS = q_TD @ k_SD.T * (width**-0.5 if scaled else 1.0)
    weights_TS = scores_TS.softmax(dim=-1)
    reach = float((weights_TS * (1 - weights_TS)).sum(dim=-1).mean())
    return Scores(width, float(scores_TS.var()), float(weights_TS.amax(dim=-1).mean()), reach)


def _difference(settings: ScaledAttentionSettings) -> float:
    """Between softmax(QKᵀ / √D) V written out and PyTorch's fused kernel."""
    width = settings.widths[0]
    random = torch_generator(settings.seed, "scaled-attention", "steps")
    q, k, v = (torch.randn(1, settings.keys, 1, width, generator=random) for _ in range(3))
    fused = torch.nn.functional.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    return float((attend_reference(q, k, v) - fused.transpose(1, 2)).abs().max())


def _times(more: float, less: float) -> str:
    return f"{more / less:.1f} times" if less > 0 and more / less < 1000 else "over a thousand times"


def _chart(measured: dict[str, list[Scores]], value: str, title: str, *, y_log: bool = False) -> Any:
    rows = [
        {"width": one.width, "value": getattr(one, value), "series": name} for name in _SERIES for one in measured[name]
    ]
    widths = [one.width for one in measured["plain"]]
    return index_charts.lines(rows, "width", "value", _SERIES, "width of a head", title, x_values=widths, y_log=y_log)


EXHIBIT = Exhibit(
    question="Why are attention's scores divided by the root of the head's width?",
    claim="Without the division the scores' variance grows as the width, the softmax saturates and its gradient "
    "vanishes.",
    formula="Attention(Q, K, V) = softmax(QKᵀ / √d) V; Var(q·k) = d for independent entries of variance 1.",
    source="Vaswani et al. 2017, section 3.2.1",
    settings=ScaledAttentionSettings,
    measure=measure,
)
