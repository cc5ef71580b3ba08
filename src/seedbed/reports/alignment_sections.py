"""Alignment: the reward model, and PPO against it with the gold reward looking on."""

from __future__ import annotations

from typing import Any

from . import charts, numbers
from .evidence import Evidence, training_rows
from .page import Block, Figure, Quotes, Section, Table

_PARTS = {
    "gold": "gold reward",
    "ends": "ends by itself",
    "sentence": "is a complete sentence",
    "names": "names what was asked",
    "length": "has a fitting length",
    "fresh": "repeats nothing",
    "proxy": "reward model’s score",
    "tokens": "tokens of an answer",
    "distinct": "share of different answers",
}
_GOLD_PARTS = ("ends", "sentence", "names", "length", "fresh")
_PANELS = (
    ("gold", "Gold reward", "gold reward, 0 to 1"),
    ("proxy", "Proxy: the reward model’s score", "deviations"),
    ("kl", "Divergence from the reference", "KL, nats per answer"),
    ("entropy", "Entropy", "nats per token"),
    ("tokens", "Length", "tokens per answer"),
    ("distinct", "Different answers", "share"),
)


def reward(run: Evidence) -> Section | None:
    if "reward" not in run.artifacts:
        return None
    metrics = run.metrics["reward"]
    lead = (
        f"The fine-tuned model answered questions, a program (the gold reward) preferred some answers to others, and a "
        f"reward model learned from {numbers.count(metrics['train_pairs'])} such pairs which one was preferred. On "
        f"{numbers.count(metrics['held_out_pairs'], 'pair')} about other questions it agrees in "
        f"{numbers.percent(metrics['accuracy'])} (chance: 50%); its belief in its choice is off by "
        f"{numbers.fixed(100 * metrics['calibration_error'], 1)} points on average."
    )
    rows = [
        {"step": row["step"], "loss": row["loss"], "split": "training"} for row in training_rows(run.rows("reward"))
    ]
    curve = charts.loss_curves(rows, "step", "loss", "split", ["training"], "step", "loss, nats per pair")
    blocks: list[Block] = [
        Figure(
            "Is it right as often as it believes?", [("", charts.calibration(metrics["calibration"]))],
            "On the dashed line belief and truth agree; below it the model is too sure. Area: number of pairs.",
        ),
        Figure("Loss while training", [("", curve)], "A coin pays 0.69 nats per pair. Lower is better."),
    ]  # fmt: skip
    pairs = list({row["prompt"]: row for row in run.rows("reward", "preferences/validation.jsonl")}.values())[:2]
    if pairs:
        items = [
            item
            for pair in pairs
            for item in ((f"✓ preferred · {pair['prompt']}", pair["chosen"]), ("✗ not preferred", pair["rejected"]))
        ]
        blocks.append(Quotes(
            "What a preference looks like", items, "Answers of the small model itself, held out from training.",
            wide=True,
        ))  # fmt: skip
    return Section("reward", "Reward model", lead, blocks, run.stamp("reward"))


def policy(run: Evidence) -> Section | None:
    if "policy" not in run.artifacts:
        return None
    metrics, rows = run.metrics["policy"], run.rows("policy")
    before, after = metrics["before"], metrics["after"]
    lead = (
        f"PPO trained the model against the reward model for {numbers.count(metrics['iterations'], 'iteration')} and "
        "never saw the gold reward. On held-out questions the gold reward went from "
        f"{numbers.fixed(before['gold'], 3)} to {numbers.fixed(after['gold'], 3)} "
        f"({numbers.fixed(metrics['gold_gain'], 3, True)}, standard error "
        f"{numbers.fixed(metrics['gold_gain_error'], 3)}) and the reward model’s score from "
        f"{numbers.fixed(before['proxy'])} to {numbers.fixed(after['proxy'])}, at a divergence of "
        f"{numbers.fixed(metrics['kl'], 1)} nats per answer. {over_optimisation(metrics, rows)}"
    )
    panels = [
        (title, charts.curve([row for row in rows if key in row], "iteration", key, "iteration", axis))
        for key, title, axis in _PANELS
        if key in rows[0]
    ]
    blocks: list[Block] = [
        Figure(
            "While training", panels,
            "Means over the answers of each iteration. Over-optimisation would show as the gold reward falling while "
            "the proxy still rises; a collapse as falling entropy and few different answers.",
            wide=True,
        ),
        _parts(before, after),
        _before_after(before, after),
    ]  # fmt: skip
    return Section("alignment", "Alignment by PPO", lead, blocks, run.stamp("policy"))


def over_optimisation(metrics: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """What proxy and gold say together, in a sentence."""
    gain, error = metrics["gold_gain"], metrics["gold_gain_error"]
    if metrics["proxy_gain"] > 0 and gain < -2 * error:
        return "The proxy rose while the gold reward fell: the policy was over-optimised."
    if abs(gain) <= 2 * error:
        return "The change in gold reward is within twice its error: it may be none."
    if gain < 0:
        return "Both fell: the training did harm."
    peak = max(rows, key=lambda row: row["gold"])
    late = peak["gold"] - rows[-1]["gold"]
    if late > 0.05:
        return (
            f"The gold reward was highest in iteration {peak['iteration']} and {numbers.fixed(late, 2)} lower in the "
            "last one: a shorter training would have been better."
        )
    return "Both rose together: no over-optimisation shows."


def _parts(before: dict[str, Any], after: dict[str, Any]) -> Figure:
    rows = [
        {"part": _PARTS[key], "before": before[key], "after": after[key]}
        for key in ("gold", *_GOLD_PARTS)
        if key in before and key in after
    ]
    chart = charts.change(rows, "part", "mean over answers", label=numbers.fixed, highest=1.0)
    return Figure(
        "Held-out answers, before and after", [("", chart)],
        "Hollow: the fine-tuned model. Filled: after PPO. The gold reward is the mean of its parts; 1 is best.",
    )  # fmt: skip


def _shown(key: str, before: float, after: float) -> tuple[str, str, str]:
    digits = {"tokens": 1, "proxy": 2}.get(key, 3)
    return numbers.fixed(before, digits), numbers.fixed(after, digits), numbers.fixed(after - before, digits, True)


def _before_after(before: dict[str, Any], after: dict[str, Any]) -> Table:
    rows = [
        (title, *_shown(key, before[key], after[key]))
        for key, title in _PARTS.items()
        if key in before and key in after
    ]
    return Table(
        "The same in numbers", ("Mean over answers", "Before", "After", "Change"), rows,
        "The reward model’s score is in deviations from its mean over the fine-tuned model’s answers. Few different "
        "answers mean that the policy says the same whatever it is asked.",
    )  # fmt: skip
