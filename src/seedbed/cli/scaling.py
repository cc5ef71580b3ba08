"""`seedbed scaling`: fit a law to a table of runs, plan a budget with it, and keep forecasts to their word."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ..core.console import show, table
from ..core.errors import ConfigError
from .road import OverridesOption, PythonDocsOption, RecipeOption, SourcesArgument, gather_sources

app = typer.Typer(help="Scaling laws: fit one to finished runs, and plan with it.", no_args_is_help=True)

LawName = Literal["chinchilla", "data-constrained", "overfit", "kaplan", "isoflop", "envelope", "precision"]
FitOption = Annotated[Path, typer.Option("--fit", help="A law that `seedbed scaling fit --out` wrote.")]
ReportOption = Annotated[
    Path | None, typer.Option(help="Write a page and its charts into this folder.", show_default=False)
]


@app.command()
def fit(
    runs: Annotated[
        Path, typer.Argument(help="CSV with columns params, tokens, loss (nats per token), maybe unique_tokens, flops.")
    ],
    law: Annotated[
        LawName,
        typer.Option(
            help="chinchilla (approach 3), isoflop (approach 2), envelope (approach 1), kaplan, for repeated text "
            "data-constrained or overfit, for weights in few bits precision (a column bits)."
        ),
    ] = "chinchilla",
    params: Annotated[
        str, typer.Option(help="The column that counts parameters; the law then holds for that count alone.")
    ] = "params",
    bootstrap: Annotated[int, typer.Option(min=0, help="Refits on resampled runs, for the standard errors.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resampling.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the law here, for `plan`.", show_default=False)] = None,
    report: ReportOption = None,
) -> None:
    """Fit a law to finished runs, with standard errors."""
    from ..scaling import fit_chinchilla, fit_data_constrained, fit_kaplan
    from ..scaling.repetition import RepetitionForm
    from ..scaling.runs import read_columns
    from ..scaling.storage import AnyFit, write_fit

    repeated = law in ("data-constrained", "overfit")
    names = (params, "tokens", "loss", *(("unique_tokens",) if repeated else ()))
    names = (*names, "bits") if law == "precision" else names
    columns = read_columns(runs, names, optional=("flops",))
    size, tokens, loss = columns[params], columns["tokens"], columns["loss"]
    too_much = out is not None or report is not None or (bootstrap and law != "precision")
    if law in ("isoflop", "envelope", "precision") and too_much:
        raise ConfigError(f"--law {law} gives nothing to plan with", hint="Leave the other options out.")
    if law == "precision":
        _show_precision(size, tokens, columns["bits"], loss, bootstrap, seed)
        return
    if law in ("isoflop", "envelope"):
        _show_frontier(law, size, tokens, loss, columns.get("flops"))
        return
    found: AnyFit
    if repeated:
        form: RepetitionForm = "overfit" if law == "overfit" else "effective-data"
        found = fit_data_constrained(
            size, tokens, columns["unique_tokens"], loss, form=form, bootstrap=bootstrap, seed=seed
        )
    elif law == "kaplan":
        found = fit_kaplan(size, tokens, loss, bootstrap, seed)
    else:
        found = fit_chinchilla(size, tokens, loss, bootstrap, seed)
    rows = [(name, value, found.standard_errors[name]) for name, value in found.parameters().items()]
    table(("constant", "value", "standard error"), rows)
    show(f"{len(found.runs)} runs, summed Huber loss {found.objective:.6g}")
    if out is not None:
        write_fit(out, found)
        show(f"Written to {out}. Plan with it: seedbed scaling plan --fit {out} --flops 1e18")
    if report is not None:
        from ..reports.scaling_page import write_scaling_page

        write_scaling_page(report, found)
        show(f"Report: {report / 'index.html'}")


def _show_precision(
    params: list[float], tokens: list[float], bits: list[float], loss: list[float], bootstrap: int, seed: int
) -> None:
    from dataclasses import asdict

    from ..scaling import fit_precision

    found = fit_precision(params, tokens, bits, loss, bootstrap, seed)
    table(("constant", "value"), [*asdict(found.law).items(), ("gamma", found.gamma)])
    if bootstrap > 1:
        show(f"gamma has a standard error of {found.gamma_error:.3g} bits.")
    for one in sorted({*bits}):
        show(f"A parameter in {one:g} bits is worth {float(found.effective_params(1.0, one)):.1%} of a full one.")


def _show_frontier(
    law: str, params: list[float], tokens: list[float], loss: list[float], flops: list[float] | None
) -> None:
    import numpy as np

    from ..scaling.frontier import Curve, fit_envelope, fit_isoflop

    if law == "isoflop":
        frontier, _ = fit_isoflop(params, tokens, loss, flops)
    else:
        size, data, losses = (np.array(one) for one in (params, tokens, loss))
        frontier = fit_envelope([Curve(one, data[size == one], losses[size == one]) for one in np.unique(size)])
    table(
        ("FLOPs", "best parameters", "tokens", "loss"),
        [(f"{one.flops:.3g}", f"{one.params:.3g}", f"{one.tokens:.3g}", one.loss) for one in frontier.optima],
    )
    for name, found in (("parameters", frontier.params), ("tokens", frontier.tokens)):
        show(f"best {name} ~ FLOPs^{found.exponents[0]:.3f} (standard error {found.standard_errors[1]:.3f})")


@app.command()
def plan(
    fit: FitOption,
    flops: Annotated[
        float | None, typer.Option(min=1.0, help="Budget in FLOPs (6 per parameter and token).", show_default=False)
    ] = None,
    hours: Annotated[float | None, typer.Option(min=0.0, help="Or in hours of a machine.", show_default=False)] = None,
    money: Annotated[
        float | None, typer.Option(min=0.0, help="Or in money, with --price-per-hour.", show_default=False)
    ] = None,
    price_per_hour: Annotated[
        float | None, typer.Option(min=0.0, help="What an hour of the machine costs.", show_default=False)
    ] = None,
    flops_per_second: Annotated[
        float | None,
        typer.Option(min=1.0, help="What the machine does in training [default: measured here].", show_default=False),
    ] = None,
    unique_tokens: Annotated[
        float | None, typer.Option(min=1.0, help="How many tokens of text there are.", show_default=False)
    ] = None,
    inference_tokens: Annotated[
        float, typer.Option(min=0.0, help="Tokens to be served, which the budget pays for too.")
    ] = 0.0,
    tokens_per_parameter: Annotated[
        float | None, typer.Option(min=0.0, help="Train a model of this ratio instead.", show_default=False)
    ] = None,
    level: Annotated[float, typer.Option(min=0.01, max=0.999, help="Probability that the interval promises.")] = 0.9,
    report: ReportOption = None,
) -> None:
    """Say how many parameters and tokens spend a budget best, what loss to expect, and what more would buy."""
    from ..reports.scaling_page import plan_rows, write_scaling_page
    from ..scaling.plan import plan as make
    from ..scaling.storage import read_fit

    law = read_fit(fit)
    seconds = _seconds(flops, hours, money, price_per_hour)
    if seconds is not None and flops_per_second is None:
        from ..training.calibration import calibrate

        flops_per_second = calibrate().flops_per_second
        show(f"This machine trains at about {flops_per_second:.3g} FLOPs per second (measured).")
    found = make(
        law, flops, seconds, flops_per_second if seconds is not None else None, unique_tokens,
        inference_tokens=inference_tokens, tokens_per_parameter=tokens_per_parameter, level=level,
    )  # fmt: skip
    table(("what", "value"), plan_rows(found))
    if report is not None:
        write_scaling_page(report, law, found, unique_tokens)
        show(f"Report: {report / 'index.html'}")


def _seconds(
    flops: float | None, hours: float | None, money: float | None, price_per_hour: float | None
) -> float | None:
    """The budget's seconds, where it is one of time or money."""
    if sum(one is not None for one in (flops, hours, money)) != 1:
        raise ConfigError("a plan needs one budget", hint="Give one of --flops, --hours or --money.")
    if (money is not None) != (price_per_hour is not None):
        raise ConfigError("--money and --price-per-hour belong together")
    if money is not None and price_per_hour is not None:
        if price_per_hour == 0:
            raise ConfigError("an hour that costs nothing buys without end", hint="Give --hours instead.")
        hours = money / price_per_hour
    return None if hours is None else hours * 3600


@app.command()
def ladder(
    sources: SourcesArgument = None,
    python_docs: PythonDocsOption = False,
    recipe: RecipeOption = "demo",
    out: Annotated[
        Path, typer.Option(help="The run's folder; `seedbed pretrain --run` then trains the main run.")
    ] = Path("runs/ladder"),
    share: Annotated[float, typer.Option(min=0.01, help="What the ladder may cost, as a share of the main run.")] = 1.0,
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="Or in minutes of this machine.", show_default=False)
    ] = None,
    report: ReportOption = None,
    overrides: OverridesOption = None,
) -> None:
    """Design and train a ladder of small models on your text, and write the main run's forecast into the ledger."""
    from ..core.config import parse_overrides
    from ..pipeline import forecast_alone
    from ..scaling import fit_chinchilla
    from ..scaling.runs import read_columns
    from ..scaling.storage import write_fit

    values = parse_overrides(overrides or [])
    if minutes is not None:
        share = _affordable(recipe, values, minutes)
    artifact = forecast_alone(gather_sources(sources, python_docs), recipe, out, share, values)
    found = artifact.metrics["forecast"]
    show(
        f"The main run ({found['params']:,} parameters, {found['tokens']:,} tokens) should reach {found['loss']:.3f} "
        f"nats per token, with {found['level']:.0%} probability from {found['low']:.3f} to {found['high']:.3f}.",
        style="bold",
    )
    show(f"Train it, and the ledger will score this forecast: seedbed pretrain --run {out}")
    columns = read_columns(artifact.path / "runs.csv")
    law = fit_chinchilla(columns["params"], columns["tokens"], columns["loss"])
    write_fit(out / "fit.json", law)
    if report is not None:
        from ..reports.scaling_page import write_scaling_page

        write_scaling_page(report, law)
        show(f"Report: {report / 'index.html'}")


def _affordable(recipe: str, values: dict[str, object], minutes: float) -> float:
    """The share of the main run's cost that this machine computes in so many minutes."""
    from ..recipes import load_recipe
    from ..training.calibration import calibrate

    chosen = load_recipe(recipe, values)
    main = chosen.pretraining
    found = calibrate(main.model(chosen.tokenizer.vocab_size), main.training, threads=chosen.threads or None)
    return minutes * 60 / (found.seconds_per_step * main.training.steps)


@app.command()
def curve(
    metrics: Annotated[Path, typer.Argument(help="metrics.jsonl of the run in progress.")],
    steps: Annotated[int, typer.Option(min=1, help="Steps of the whole run.")],
    reference: Annotated[
        list[Path], typer.Option(help="metrics.jsonl of a finished run of the same recipe and length; give it often.")
    ],
    level: Annotated[float, typer.Option(min=0.01, max=0.999, help="Probability that the interval promises.")] = 0.9,
) -> None:
    """Forecast the training loss with which a run in progress will end."""
    from ..scaling.extrapolation import extrapolate, read_curve

    run, *others = (read_curve(path) for path in (metrics, *reference))
    found = extrapolate(run, steps, others, level=level)
    show(
        f"Step {len(run):,} of {steps:,}: the run should end at {found.loss:.4g} nats per token, with {level:.0%} "
        f"probability from {found.interval.low:.4g} to {found.interval.high:.4g}."
    )


@app.command()
def ledger(
    path: Annotated[Path, typer.Argument(help="ledger.jsonl of a run.")],
    report: Annotated[
        Path | None, typer.Option(help="Write the chart here, as .svg or .png.", show_default=False)
    ] = None,
) -> None:
    """Check that no forecast was changed after it was written, and show what became of each."""
    from ..scaling.ledger import read_ledger, scored

    rows = scored(read_ledger(path))
    if not rows:
        raise ConfigError("there is no forecast in this ledger", hint="Make one with `seedbed forecast`.")
    table(
        ("forecast", "loss", "interval", "fact", "error", "inside"),
        [
            (row.hash[:12], row.loss, f"{row.low:.4g} to {row.high:.4g}", "" if row.fact is None else row.fact,
             "" if row.fact is None else f"{row.loss / row.fact - 1:+.2%}",
             "" if row.fact is None else "yes" if row.low <= row.fact <= row.high else "no")
            for row in rows
        ],
    )  # fmt: skip
    show("The chain of hashes is whole.")
    if report is not None:
        from dataclasses import asdict

        from ..reports.images import write_image
        from ..reports.scaling_charts import bets

        write_image(bets([{**asdict(row), "name": row.hash[:12]} for row in rows]), report)
