"""Full fine-tuning, LoRA and QLoRA of the run's base model on its own instructions: what each learns and forgets, what
it holds in memory and how long it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from ...finetuning.comparison import Comparison, Tuned, Way
from ...reports import charts, numbers
from ...reports.finetuning_page import front_chart
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict
from ..tuning import OWN, Workshop

_NEARLY, _PARTLY = 0.95, 0.75  # of what full fine-tuning learns


class FinetuningMethodsSettings(Settings):
    steps: int = Field(60, ge=1, description="of each way, sixteen rows each")
    rows: int = Field(4000, ge=2, description="of training, at most")
    held_out: int = Field(96, ge=2, description="rows that losses are measured on, at most")
    ranks: tuple[int, ...] = Field((4, 16), min_length=1, description="of adapters, the last one also in four bits")
    full_rates: tuple[float, ...] = Field((1e-3, 4e-3), min_length=1, description="learning rates of full fine-tuning")
    adapter_rates: tuple[float, ...] = Field((4e-3, 1.5e-2), min_length=1, description="of adapters; the best counts")


def measure(bench: Bench, settings: FinetuningMethodsSettings) -> Finding:
    rank = settings.ranks[-1]
    ways = [Way(method="full", learning_rate=rate) for rate in settings.full_rates]
    ways += [
        Way(method="lora", rank=one, learning_rate=rate) for one in settings.ranks for rate in settings.adapter_rates
    ]
    ways += [Way(method="qlora", rank=rank, learning_rate=rate) for rate in settings.adapter_rates]
    shop = Workshop(bench, settings.rows, settings.held_out, settings.steps, seed=settings.seed)
    found = shop.tuned(ways, evaluations=1)
    bench.advance("time of a step")
    seconds = shop.step_seconds([one.way for one in best_of(found).values()])
    return judge(found, {one.way.name: shop.state_bytes(one) for one in found.tuned}, seconds)


def best_of(found: Comparison) -> dict[str, Tuned]:
    """What learned most, by method."""
    return {
        method: max((one for one in found.tuned if one.way.method == method), key=lambda one: one.learned)
        for method in ("full", "lora", "qlora")
    }


def judge(found: Comparison, state: Mapping[str, int], seconds: Mapping[str, float]) -> Finding:
    """The finding of ways, of which the best of each method counts, of the bytes that each holds while training, and of
    the time that a step of the best ones takes."""
    best = best_of(found)
    full, lora, qlora = best.values()
    times = {method: seconds[one.way.name] / seconds[full.way.name] for method, one in best.items()}
    shares = {method: one.learned / full.learned if full.learned > 0 else 0.0 for method, one in best.items()}
    lighter = state[qlora.way.name] < state[lora.way.name] < state[full.way.name]
    least = min(shares["lora"], shares["qlora"])
    verdict: Verdict = (
        "holds" if full.learned > 0 and lighter and least >= _NEARLY
        else "holds in part" if full.learned > 0 and lighter and least >= _PARTLY
        else "does not hold"
    )  # fmt: skip
    start = full.points[0].held_out
    sentences = (
        f"In {found.steps} steps the loss on held-out answers falls from {start:.2f} to {full.points[-1].held_out:.2f} "
        f"by full fine-tuning, to {lora.points[-1].held_out:.2f} by {_named(lora)} and to "
        f"{qlora.points[-1].held_out:.2f} by {_named(qlora)}: "
        f"{shares['lora']:.0%} and {shares['qlora']:.0%} of what full fine-tuning learns.",
        f"They train {lora.trained / full.trained:.0%} of its numbers, hold {numbers.memory(state[lora.way.name])} and "
        f"{numbers.memory(state[qlora.way.name])} where it holds {numbers.memory(state[full.way.name])}, and a step "
        f"takes {times['lora']:.2f} and {times['qlora']:.2f} times as long.",
    )
    rows: list[list[Any]] = [
        [one.way.name, one.learned, one.forgotten(OWN), one.trained, state[one.way.name] / (1 << 20),
         1000 * seconds[one.way.name] if one.way.name in seconds else None]
        for one in found.tuned
    ]  # fmt: skip
    bars = [{"way": _named(one), "mib": state[one.way.name] / (1 << 20)} for one in best.values()]
    return Finding(
        verdict, sentences,
        ("Way, learning rate", "Learned, nats", "Forgotten, nats", "Numbers trained", "Held, MiB", "A step, ms"), rows,
        [("Learned and forgotten", front_chart(found)),
         ("Held while training", charts.bars(bars, "way", "mib", "MiB", lambda one: numbers.fixed(one, 1)))],
        {"lora": shares["lora"], "qlora": shares["qlora"], "full": full.learned},
        "Learned: what the loss on held-out answers fell by; forgotten: what the loss on held-out text of the corpus "
        "rose by. Held: weights as they are stored, gradients and Adam’s moments, without activations. A "
        "step: the median of several, in turn with the others.",
    )  # fmt: skip


def _named(one: Tuned) -> str:
    rank = f", rank {one.way.rank}" if one.way.rank else ""
    return {"full": "full", "lora": "LoRA", "qlora": "QLoRA"}[one.way.method] + rank


EXHIBIT = Exhibit(
    question="Do low-rank adapters learn as much as full fine-tuning, and what do they save?",
    claim="LoRA reaches nearly what full fine-tuning does with a small share of trained numbers, and QLoRA does so on "
    "a base of four bits.",
    formula="h = W₀x + (α/r) B A x, with A (r × d) and B (d × r) trained; QLoRA stores W₀ as NF4.",
    source="Hu et al. 2021 (LoRA), sections 4.1 and 5; Dettmers et al. 2023 (QLoRA), section 4",
    settings=FinetuningMethodsSettings,
    measure=measure,
    needs=("corpus", "tokenizer", "base", "sft"),
)
