"""The language model: forecast against fact, pre-training, fine-tuning."""

from __future__ import annotations

from typing import Any

from ..core.errors import FormatError
from ..scaling.ledger import read_ledger
from . import charts, numbers
from .evidence import LEDGER, Evidence, evaluation_rows, training_rows
from .page import Block, Figure, Section, Table

_NATS = "nats per token"
_METHODS = {"full": "full", "lora": "LoRA"}


def forecast(run: Evidence) -> Section | None:
    if "forecast" not in run.artifacts:
        return None
    metrics = run.metrics["forecast"]
    expected, rungs = metrics["forecast"], metrics["runs"]
    base = run.metrics.get("base", {})
    measured = base.get("validation_loss")
    smallest, largest = min(one["params"] for one in rungs), max(one["params"] for one in rungs)
    lead = (
        f"Before the main run began, {numbers.count(len(rungs), 'small model')} of {numbers.short(smallest)} to "
        f"{numbers.short(largest)} parameters were trained, and a scaling law fitted to them forecast its validation "
        f"loss: {numbers.fixed(expected['loss'], 3)} {_NATS}, with {numbers.percent(expected['level'], 0)} probability "
        f"from {numbers.fixed(expected['low'], 3)} to {numbers.fixed(expected['high'], 3)}. "
    )
    lead += _verdict(expected, measured) + " " + _ledger_words(run)
    figure = Figure(
        "The ladder, the forecast and the main run", [("", charts.forecast(rungs, expected, measured))],
        "Each line is one size of model; lower is better. The bar is the forecast’s interval, the diamond what the "
        "main run reached.",
        wide=True,
    )  # fmt: skip
    close = Figure(
        "Close up", [("", charts.interval(expected, measured))],
        f"The band is the interval that should hold the loss with {numbers.percent(expected['level'], 0)} probability, "
        "the stroke in it the forecast, the diamond the fact.",
    )  # fmt: skip
    blocks: list[Block] = [figure, close, _comparison(expected, base)]
    return Section("forecast", "Forecast against fact", lead.strip(), blocks, run.stamp("forecast"))


def forecast_error(expected: dict[str, Any], measured: float) -> tuple[float, bool]:
    """(relative error of the forecast, whether the interval held the fact)."""
    return expected["loss"] / measured - 1, expected["low"] <= measured <= expected["high"]


def _verdict(expected: dict[str, Any], measured: float | None) -> str:
    if measured is None:
        return "The main run has not finished."
    error, inside = forecast_error(expected, measured)
    side = "too high" if error > 0 else "too low"
    where = "inside the interval" if inside else "outside the interval: the forecast failed"
    return (
        f"The run reached {numbers.fixed(measured, 3)}: the forecast was {numbers.percent(abs(error))} {side}, and the "
        f"fact lies {where}."
    )


def _ledger_words(run: Evidence) -> str:
    try:
        entries = read_ledger(run.path / LEDGER)
    except FormatError as error:
        return f"The ledger cannot be trusted: {error}"
    for number, entry in enumerate(entries, start=1):
        if entry["kind"] == "forecast" and entry["body"].get("artifact") == run.artifacts["forecast"].fingerprint:
            return f"The ledger holds the forecast as entry {number}, {entry['hash'][:12]}, and its chain is unbroken."
    return ""


def _comparison(expected: dict[str, Any], base: dict[str, Any]) -> Table:
    measures = (
        ("loss", "low", "high", base.get("validation_loss")),
        ("bits_per_byte", "bits_per_byte_low", "bits_per_byte_high", base.get("bits_per_byte")),
    )
    columns = [
        (
            numbers.fixed(expected[key], 3),
            f"{numbers.fixed(expected[low], 3)} to {numbers.fixed(expected[high], 3)}",
            "" if fact is None else numbers.fixed(fact, 3),
            "" if fact is None else numbers.percent(expected[key] / fact - 1, 1, True),
        )
        for key, low, high, fact in measures
    ]
    rows = list(zip(("Forecast", "Interval", "Measured", "Error of the forecast"), *columns, strict=True))
    return Table(
        "Forecast and fact", ("Validation", "Nats per token", "Bits per byte"), rows,
        f"The forecast is of {numbers.count(expected['params'])} parameters and {numbers.count(expected['tokens'])} "
        f"tokens of training, {numbers.count(expected['unique_tokens'])} of them different. As a token read again "
        f"teaches less, they are worth {numbers.count(expected['effective_tokens'])} fresh ones. An error with a plus: "
        "the run did better than forecast.",
    )  # fmt: skip


def base(run: Evidence) -> Section | None:
    if "base" not in run.artifacts:
        return None
    metrics, rows = run.metrics["base"], run.rows("base")
    order, ngram = metrics["ngram"]["order"], metrics["ngram"]
    ours, theirs = metrics["test"]["bits_per_byte"], ngram["test"]["bits_per_byte"]
    ahead = "fewer" if ours < theirs else "more: here counting still beats the model"
    lead = (
        f"A decoder of {numbers.short(metrics['parameters'])} parameters read {numbers.short(metrics['tokens'])} "
        f"tokens in {numbers.count(metrics['steps'], 'step')}, {numbers.fixed(metrics['epochs'], 1)} passes over its "
        f"text. On the test split it pays {numbers.fixed(ours, 3)} bits per byte; a Kneser–Ney {order}-gram of the "
        f"same tokens pays {numbers.fixed(theirs, 3)}. That is {numbers.percent(abs(1 - ours / theirs))} {ahead}."
    )
    series = [{"step": row["step"], "loss": row["loss"], "split": "training"} for row in training_rows(rows)]
    held = [{"step": row["step"], "loss": row["validation_loss"]} for row in evaluation_rows(rows, "validation_loss")]
    losses = charts.loss_curves(series, "step", "loss", "split", ["training"], "step", f"loss, {_NATS}", held)
    models = ("this model", f"{order}-gram")
    bits = [
        {"split": split, "model": model, "bits": found[split]["bits_per_byte"]}
        for split in ("validation", "test")
        for model, found in zip(models, (metrics, ngram), strict=True)
    ]
    comparison = charts.grouped_bars(
        bits, "split", "model", "bits", "bits per byte", models, label=lambda one: numbers.fixed(one, 3)
    )
    small = [
        (title, charts.curve(training_rows(rows), "step", key, "step", axis))
        for title, key, axis in (
            ("Learning rate", "learning_rate", "learning rate"),
            ("Norm of the gradient", "gradient_norm", "norm before clipping"),
        )
    ]
    blocks = [
        Figure("Loss", [("", losses)], "Faint: each step. Strong: mean of the steps around it. Lower is better."),
        Figure("Against counting words", [("", comparison)], "What a byte of held-out text costs. Lower is better."),
        Figure("How the training went", small, "The gradient is cut to the recipe’s largest norm before each step."),
    ]
    return Section("pretraining", "Pre-training", lead, blocks, run.stamp("base"))


def finetuning(run: Evidence) -> Section | None:
    if "sft" not in run.artifacts:
        return None
    metrics = run.metrics["sft"]
    methods = {name: metrics[name] for name in _METHODS if name in metrics}
    full = methods["full"]
    lead = (
        f"{numbers.count(metrics['rows'], 'question')} and answers made from the documents taught the base model to "
        f"answer. On {numbers.count(metrics['held_out_rows'])} held-out ones the loss of an answer fell from "
        f"{numbers.fixed(full['answer_loss_before'])} to {numbers.fixed(full['answer_loss'])} {_NATS}"
    )
    if "lora" in methods:
        share = methods["lora"]["trainable_parameters"] / full["trainable_parameters"]
        lead += (
            f" with all weights trained, and to {numbers.fixed(methods['lora']['answer_loss'])} by LoRA, which trains "
            f"{numbers.percent(share)} as many"
        )
    lead += "."
    if "ended_share" in full:
        lead += (
            f" {numbers.percent(full['ended_share'], 0)} of the fully trained model’s greedy answers end by themselves."
        )
    rows = [
        {"method": _METHODS[name], "before": one["answer_loss_before"], "after": one["answer_loss"]}
        for name, one in methods.items()
    ]
    label = numbers.fixed
    blocks: list[Block] = [_tuning_curves(run, list(methods))]
    blocks.append(Figure(
        "Held-out answers, before and after",
        [("", charts.change(rows, "method", f"answer loss, {_NATS}", label=label))],
        "Hollow: the base model. Filled: after fine-tuning. Only the tokens of the answer count. Lower is better.",
    ))  # fmt: skip
    blocks.append(_methods(methods))
    return Section("finetuning", "Fine-tuning", lead, blocks, run.stamp("sft"))


def _tuning_curves(run: Evidence, methods: list[str]) -> Figure:
    files = {"full": "metrics.jsonl", "lora": "metrics-lora.jsonl"}
    series = [
        {"step": row["step"], "loss": row["loss"], "method": _METHODS[name]}
        for name in methods
        for row in training_rows(run.rows("sft", files[name]))
    ]
    order = [_METHODS[name] for name in methods]
    chart = charts.loss_curves(series, "step", "loss", "method", order, "step", f"answer loss, {_NATS}")
    return Figure("Loss while training", [("", chart)], "Faint: each step. Strong: mean of the steps around it.")


def _methods(methods: dict[str, Any]) -> Table:
    measures = (
        ("Trained parameters", "trainable_parameters", numbers.count),
        ("Steps", "steps", numbers.count),
        ("Held-out answer loss before", "answer_loss_before", lambda one: numbers.fixed(one, 3)),
        ("Held-out answer loss after", "answer_loss", lambda one: numbers.fixed(one, 3)),
        ("Greedy answers that end by themselves", "ended_share", numbers.percent),
    )
    rows = [
        (title, *(show(one[key]) if key in one else "" for one in methods.values())) for title, key, show in measures
    ]
    names = [_METHODS[name] for name in methods]
    return Table("Two ways to fine-tune", ("", *names), rows, "The answers are to held-out questions.")
