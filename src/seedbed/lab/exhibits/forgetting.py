"""What fine-tuning unlearns, and what it learns by heart: the run's base model on few rows of instructions, read again
and again, with and without replayed text and a penalty on what mattered before."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from ...finetuning.comparison import Comparison, Tuned, Way
from ...reports import charts, index_charts, numbers
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict
from ..tuning import OWN, Workshop

_PLAIN, _REPLAY, _EWC, _LORA = "plain", "replay", "EWC", "LoRA"
_BOUGHT = 0.5  # of what is forgotten, that a remedy must save
_KEPT = 0.9  # of what is learned, that it must leave
_NAMES = {"none": _PLAIN, "replay": _REPLAY, "ewc": _EWC}


class ForgettingSettings(Settings):
    steps: int = Field(80, ge=2, description="of each way, sixteen rows each")
    rows: int = Field(256, ge=2, description="of training: few, so that they are learned by heart")
    held_out: int = Field(96, ge=2, description="rows that losses are measured on, at most")
    learning_rate: float = Field(3e-3, gt=0, description="of full fine-tuning")
    replay: float = Field(0.25, gt=0, lt=1, description="share of examples that are text of the corpus")
    ewc: float = Field(10.0, gt=0, description="factor of the penalty by Fisher information")
    rank: int = Field(16, ge=1, description="of the adapter beside them")
    evaluations: int = Field(5, ge=2, description="looks at each way")


def measure(bench: Bench, settings: ForgettingSettings) -> Finding:
    rate = settings.learning_rate
    ways = (
        Way(method="full", learning_rate=rate),
        Way(method="full", learning_rate=rate, remedy="replay", strength=settings.replay),
        Way(method="full", learning_rate=rate, remedy="ewc", strength=settings.ewc),
        Way(method="lora", rank=settings.rank, learning_rate=2 * rate),
    )
    shop = Workshop(bench, settings.rows, settings.held_out, settings.steps, seed=settings.seed)
    return judge(shop.tuned(ways, settings.evaluations))


def judge(found: Comparison) -> Finding:
    """The finding of ways, of which the first has no remedy and the second replays."""
    plain, replayed = found.tuned[:2]
    lost, saved = plain.forgotten(OWN), plain.forgotten(OWN) - replayed.forgotten(OWN)
    lowest = min(point.held_out for point in plain.points)
    again = plain.points[-1].held_out - lowest
    forgets, buys = lost > 0, lost > 0 and saved >= _BOUGHT * lost and replayed.learned >= _KEPT * plain.learned
    overfits = plain.gap > plain.points[0].held_out - plain.points[0].train and again > 0
    verdict: Verdict = (
        "holds" if forgets and buys and overfits else "holds in part" if forgets and (buys or overfits)
        else "does not hold"
    )  # fmt: skip
    turned = f"{again:.2f} above its lowest" if again > 0 else "at its lowest"
    sentences = (
        f"Plain fine-tuning learns {plain.learned:.2f} nats an answer token and makes a token of {OWN} dearer by "
        f"{numbers.fixed(lost, 2)}; with {replayed.way.strength:.0%} replay it learns {replayed.learned:.2f} and the "
        f"price is {numbers.fixed(replayed.forgotten(OWN), 2)}.",
        f"After reading {found.rows} rows {found.epochs:.0f} times the loss is {plain.points[-1].train:.2f} on them "
        f"and {plain.points[-1].held_out:.2f} on rows held out, {turned} on the way.",
    )
    rows: list[list[Any]] = [
        [_named(one), one.learned, one.forgotten(OWN), one.points[-1].train, one.points[-1].held_out, one.gap]
        for one in found.tuned
    ]
    bars = [
        {"way": _named(one), "what": what, "nats": max(value, 0.0)}
        for one in found.tuned for what, value in (("learned", one.learned), ("forgotten", one.forgotten(OWN)))
    ]  # fmt: skip
    points = [
        {"step": max(point.step, 1), "loss": value, "series": name}
        for point in plain.points
        for name, value in (("rows trained on", point.train), ("rows held out", point.held_out))
    ]  # fmt: skip
    return Finding(
        verdict, sentences,
        ("Way", "Learned, nats", "Forgotten, nats", "Loss on rows trained on", "On rows held out", "Gap"), rows,
        [("Learned and forgotten", charts.grouped_bars(
            bars, "way", "what", "nats", "nats a token", ("learned", "forgotten"),
            label=lambda one: numbers.fixed(one, 2),
         )),
         ("Overfitting, without a remedy", index_charts.lines(
             points, "step", "loss", ("rows trained on", "rows held out"), "step", "nats an answer token", form="~s"
         ))],
        {"learned": plain.learned, "forgotten": lost, "saved": saved, "gap": plain.gap, "again": again},
        "Learned: what the loss on held-out answers fell by; forgotten: what the loss on held-out text of the corpus "
        "rose by. EWC: a penalty on moving weights that mattered for that text. On the chart, step 0 stands at 1.",
    )  # fmt: skip


def _named(one: Tuned) -> str:
    return _LORA if one.way.method == "lora" else _NAMES[one.way.remedy]


EXHIBIT = Exhibit(
    question="What does fine-tuning forget, what does it learn by heart, and what does replay buy?",
    claim="Fine-tuning makes a model worse at its old text and, on few rows, at new ones; replaying some old text "
    "saves most of it at little cost.",
    formula="forgotten = L_old(after) − L_old(before); EWC adds ½ λ Σ F (θ − θ₀)².",
    source="McCloskey and Cohen 1989; Kirkpatrick et al. 2017, section 2; Ibrahim et al. 2024, section 6",
    settings=ForgettingSettings,
    measure=measure,
    needs=("corpus", "tokenizer", "base", "sft"),
)
