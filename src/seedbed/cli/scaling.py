"""`seedbed scaling`: fit a law to a table of runs, and plan a budget with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..core.console import show, table
from ..core.errors import FormatError

app = typer.Typer(help="Scaling laws: fit one to finished runs, and plan with it.", no_args_is_help=True)


@app.command()
def fit(
    runs: Annotated[Path, typer.Argument(help="CSV with columns params, tokens and loss (nats per token).")],
    bootstrap: Annotated[int, typer.Option(min=0, help="Refits on resampled runs, for the standard errors.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resampling.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the law here, for `plan`.", show_default=False)] = None,
) -> None:
    """Fit L = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022) to finished runs."""
    from ..scaling import fit_chinchilla
    from ..scaling.runs import read_columns

    columns = read_columns(runs)
    law = fit_chinchilla(columns["params"], columns["tokens"], columns["loss"], bootstrap, seed)
    names = ("E", "A", "B", "alpha", "beta")
    table(("constant", "value", "standard error"), [(n, getattr(law, n), law.standard_errors[n]) for n in names])
    show(f"{len(columns['loss'])} runs, summed Huber loss {law.objective:.6g}")
    if out is not None:
        out.write_text(json.dumps(law.to_json(), indent=2) + "\n", encoding="utf-8")
        show(f"Written to {out}. Plan with it: seedbed scaling plan --fit {out} --flops 1e18")


@app.command()
def plan(
    fit: Annotated[Path, typer.Option("--fit", help="A law that `seedbed scaling fit --out` wrote.")],
    flops: Annotated[float, typer.Option(min=1.0, help="Training budget in FLOPs (6 per parameter and token).")],
) -> None:
    """Say how many parameters and tokens spend a budget best, and the loss to expect."""
    from ..scaling.laws import ChinchillaLaw

    try:
        values = json.loads(fit.read_text(encoding="utf-8"))
        law = ChinchillaLaw(*(float(values[name]) for name in ("E", "A", "B", "alpha", "beta")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(
            f"this is no fitted law ({error})", where=fit, hint="Make one with `seedbed scaling fit RUNS.csv --out`."
        ) from None
    best = law.optimal(flops)
    rows = [("parameters", f"{best.params:.3g}"), ("tokens", f"{best.tokens:.3g}")]
    table(("what", "value"), [*rows, ("tokens per parameter", best.tokens / best.params), ("loss", best.loss)])
