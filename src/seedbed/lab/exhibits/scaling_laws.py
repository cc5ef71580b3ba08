"""A power law with a floor, fitted to the ladder of small models that the run trained before its main one; how far it
misses runs that it was not fitted to, beside a straight line in the logarithms; and the main run that it foretold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from ...core.artifacts import open_artifact
from ...reports import charts, numbers
from ...scaling import fit_chinchilla
from ...scaling.runs import Run, RunTable
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict

_COLUMNS = ("params", "tokens", "loss", "unique_tokens")
_COUNTED = ("neither", "only one")
_ERRORS = 2.0  # standard errors that an exponent must be above zero
_CLOSE = 0.02  # of a loss: what a forecast may miss by


class ScalingLawsSettings(Settings):
    bootstrap: int = Field(200, ge=2, description="refits on resampled runs, for the standard errors")


def measure(bench: Bench, settings: ScalingLawsSettings) -> Finding:
    bench.advance("the ladder's law")
    forecast = open_artifact(bench.run / "forecast", "forecast").metrics
    reached = open_artifact(bench.run / "base", "base").metrics["validation_loss"]
    runs = [Run(**row) for row in forecast["runs"]]
    return judge(runs, forecast["forecast"], reached, settings)


def judge(runs: Sequence[Run], told: Mapping[str, Any], reached: float, settings: ScalingLawsSettings) -> Finding:
    """The finding of a ladder's runs, of what it `told` of the main run, and of the loss that this reached."""
    table = RunTable.checked(*([getattr(run, name) for run in runs] for name in _COLUMNS))
    fit = fit_chinchilla(table.params, table.tokens, table.loss, bootstrap=settings.bootstrap, seed=settings.seed)
    law, line = left_out(table)
    missed = reached / told["loss"] - 1
    inside = told["low"] <= reached <= told["high"]
    errors = fit.standard_errors
    certain = [name for name in ("alpha", "beta") if getattr(fit, name) > _ERRORS * errors[name]]
    verdict: Verdict = (
        "holds" if inside and abs(missed) < _CLOSE and law.mean() < line.mean() and len(certain) == 2
        else "holds in part" if inside or abs(missed) < _CLOSE
        else "does not hold"
    )  # fmt: skip
    doubt = (
        "" if len(certain) == 2 else f" ({_COUNTED[len(certain)]} of the two is told apart from none by so few runs)"
    )
    sentences = (
        f"Over {len(runs)} small runs the loss falls with the power {fit.alpha:.2f} ± {errors['alpha']:.2f} of the "
        f"parameters and {fit.beta:.2f} ± {errors['beta']:.2f} of the tokens{doubt}; a run left out is missed by "
        f"{law.mean():.1%} on average, and by {line.mean():.1%} with a straight line in the logarithms.",
        f"Of the main run, with {numbers.short(told['params'])} parameters, the ladder said {told['loss']:.3f} "
        f"({told['low']:.3f} to {told['high']:.3f} with {told['level']:.0%}) before it was trained; it reached "
        f"{reached:.3f}, {abs(missed):.1%} {'above' if missed > 0 else 'below'}.",
    )
    rows: list[list[Any]] = [
        [run.name, run.params, run.tokens, run.loss, float(fit.predict(run.params, run.tokens)), float(off)]
        for run, off in zip(runs, law, strict=True)
    ]
    rows.append(["main run", told["params"], told["tokens"], reached, told["loss"], abs(missed)])
    rungs = [{name: getattr(run, name) for name in _COLUMNS} for run in runs]
    return Finding(
        verdict, sentences, ("Run", "Parameters", "Tokens", "Loss", "By the law", "Missed when left out"), rows,
        [("", charts.forecast(rungs, told, reached))],
        {"alpha": fit.alpha, "beta": fit.beta, "left_out": float(law.mean()), "left_out_line": float(line.mean()),
         "missed": missed},
        "Losses in nats per token of held-out text. Left out: the law is fitted to the others alone. What was said of "
        "the main run also weighs repetition.",
    )  # fmt: skip


def left_out(table: RunTable) -> tuple[np.ndarray, np.ndarray]:
    """(n,) by how much of its loss each run is missed when the law, and a straight line, are fitted to the others."""
    law, line = np.empty(len(table)), np.empty(len(table))
    for place in range(len(table)):
        others = table[np.arange(len(table)) != place]
        fit = fit_chinchilla(others.params, others.tokens, others.loss)
        size, data, loss = table.params[place], table.tokens[place], table.loss[place]
        law[place] = abs(float(fit.predict(size, data)) / loss - 1)
        line[place] = abs(straight_line(others, size, data) / loss - 1)
    return law, line


def straight_line(table: RunTable, params: float, tokens: float) -> float:
    """The loss by log L = a + b log N + c log D, by least squares."""
    features = np.stack([np.ones(len(table)), np.log(table.params), np.log(table.tokens)], axis=1)
    coefficients = np.linalg.lstsq(features, np.log(table.loss), rcond=None)[0]
    return float(np.exp(coefficients @ [1.0, np.log(params), np.log(tokens)]))


EXHIBIT = Exhibit(
    question="Can the loss of a large run be foretold from small ones?",
    claim="Loss falls as a power of parameters and of tokens towards a floor, so that a law fitted to small runs "
    "foretells a larger one.",
    formula="L(N, D) = E + A / N^α + B / D^β.",
    source="Hoffmann et al. 2022, section 3.3; Kaplan et al. 2020, section 1.2",
    settings=ScalingLawsSettings,
    measure=measure,
    needs=("forecast", "base"),
)
