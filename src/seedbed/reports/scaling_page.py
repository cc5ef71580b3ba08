"""A fitted law and what is planned with it, as a page with its charts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.artifacts import write_atomically
from ..core.errors import DataError, disk_errors
from ..scaling.frontier import fit_isoflop
from ..scaling.plan import Plan
from ..scaling.storage import AnyFit
from . import numbers
from . import scaling_charts as charts
from .charts import Chart
from .images import write_image
from .page import Card, Figure, Page, Section, Table


def write_scaling_page(
    out: Path, fit: AnyFit, plan: Plan | None = None, unique_tokens: float | None = None, bets: Sequence[Any] = ()
) -> None:
    """Write index.html and every chart as SVG and PNG into the folder `out`."""
    pictures = scaling_pictures(fit, plan, unique_tokens, bets)
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / "index.html", scaling_page(fit, plan, pictures).html().encode())
        for name, chart in pictures.items():
            for suffix in (".svg", ".png"):
                write_image(chart, out / f"{name}{suffix}")


def scaling_pictures(
    fit: AnyFit, plan: Plan | None, unique_tokens: float | None, bets: Sequence[Any]
) -> dict[str, Chart]:
    pictures: dict[str, Chart] = {"ladder": charts.ladder(fit.runs, fit)}
    try:
        _, parabolas = fit_isoflop(fit.runs.params, fit.runs.tokens, fit.runs.loss)
        pictures["isoflop"] = charts.isoflop(fit.runs, parabolas)
    except DataError:
        pass  # these runs are no sweeps of one budget
    if plan is not None:
        pictures["returns"] = charts.returns(plan.law, plan.flops, unique_tokens=unique_tokens)
        if unique_tokens is not None:
            pictures["wall"] = charts.data_wall(plan.law, plan.flops, unique_tokens, plan.exhausted_at)
    if bets:
        pictures["bets"] = charts.bets(bets)
    return pictures


_FIGURES = {
    "ladder": (
        "The ladder and its envelope",
        "Points are runs, darker where models are larger, and lines the law at their sizes, where these are few; the "
        "broken line is the least loss that the law gives a budget.",
    ),
    "isoflop": ("Equal budgets", "Runs of equal FLOPs and the parabola through each; diamonds are the best sizes."),
    "returns": ("Diminishing returns", "How far each doubling of the budget lowers the loss."),
    "wall": ("The data wall", "The least loss with this much text, and if there were always fresh text."),
    "bets": (
        "Forecast against fact",
        "Bars are intervals written down beforehand, diamonds what the runs reached, relative to each forecast.",
    ),
}  # fmt: skip


def scaling_page(fit: AnyFit, plan: Plan | None, pictures: dict[str, Chart]) -> Page:
    def figure(name: str) -> Figure:
        title, caption = _FIGURES[name]
        return Figure(title, [("", pictures[name])], caption, wide=name in ("ladder", "isoflop"))

    constants = [
        (name, numbers.value(value), numbers.value(fit.standard_errors[name]))
        for name, value in fit.parameters().items()
    ]
    law = Section(
        "law", "The law", f"{numbers.count(len(fit.runs), 'run')} and the {fit.law} law fitted to them.",
        [figure("ladder"), *([figure("isoflop")] if "isoflop" in pictures else []),
         Table("Constants", ("Constant", "Value", "Standard error"), constants)],
    )  # fmt: skip
    sections = [law]
    cards = [Card("Runs", numbers.count(len(fit.runs)), f"{fit.law} law")]
    if plan is not None:
        rows = plan_rows(plan)
        sections.append(
            Section(
                "plan",
                "The plan",
                f"What {plan.flops:.3g} FLOPs buy.",
                [
                    Table("Plan", ("What", "Value"), rows),
                    *(figure(one) for one in ("returns", "wall") if one in pictures),
                ],
            )
        )
        cards += [Card("Parameters", numbers.short(plan.params)), Card("Tokens", numbers.short(plan.tokens)),
                  Card("Loss", numbers.fixed(plan.loss, 3), "nats per token")]  # fmt: skip
    if "bets" in pictures:
        sections.append(
            Section("bets", "Bets", "Forecasts that were written down before their runs.", [figure("bets")])
        )
    return Page(
        "Scaling laws", "What runs tell of runs that cost more.", cards, sections,
        "Losses in nats per token; FLOPs are 6 per parameter and token.",
    )  # fmt: skip


def plan_rows(plan: Plan) -> list[tuple[str, str]]:
    """A plan as a table for people."""
    low, high = plan.params_range
    interval = (
        f"{plan.interval.low:.4g} to {plan.interval.high:.4g}" if plan.interval else f"none: {plan.interval_refused}"
    )
    rows = [
        ("budget, FLOPs", f"{plan.flops:.3g}"),
        ("parameters", f"{plan.params:.3g}"),
        ("as good within 0.5%", f"{low:.3g} to {high:.3g}"),
        ("tokens", f"{plan.tokens:.3g}"),
        ("tokens per parameter", f"{plan.tokens / plan.params:.3g}"),
        ("epochs", f"{plan.epochs:.3g}"),
        ("loss", f"{plan.loss:.4g}"),
        ("interval", interval),
        ("gain of the next doubling", f"{plan.marginal_gain:.3g}"),
        ("learning rate (AdamW)", f"{plan.learning_rate:.2g}"),
        ("batch, tokens", f"{plan.batch_tokens:.2g}"),
    ]
    if plan.exhausted_at is not None:
        rows.append(("text is read more than once from", f"{plan.exhausted_at:.3g} FLOPs"))
    if plan.exhausted:
        worth = f"{plan.token_worth:.0%} of a fresh one" + (" (assumed)" if plan.assumed_repetition else "")
        rows += [
            ("one more token read is worth", worth),
            ("next doubling, if text were fresh", f"{plan.fresh_gain:.3g}"),
        ]
    return rows
