"""`fit.json`: a fitted law with its runs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from ..core.artifacts import write_atomically
from ..core.errors import FormatError
from .fit import ChinchillaFit, Fitted, law_parameters
from .kaplan import KaplanFit
from .repetition import DataConstrainedFit, OverfitFit
from .runs import RunTable

_KINDS: dict[str, type[Fitted]] = {
    kind.law: kind for kind in (ChinchillaFit, DataConstrainedFit, OverfitFit, KaplanFit)
}
AnyFit = ChinchillaFit | DataConstrainedFit | OverfitFit | KaplanFit


def write_fit(path: Path, fit: Fitted) -> None:
    write_atomically(path, (json.dumps(fit.to_json(), indent=2) + "\n").encode())


def read_fit(path: Path) -> AnyFit:
    """The fit that `write_fit` wrote.

    Raises:
        FormatError: this is no fitted law.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        kind = _KINDS[values["law"]]
        runs = RunTable.checked(**values["runs"])
        law = {name: _number(values[name]) for name in law_parameters(kind)}
        errors = {name: float(values["standard_errors"][name]) for name in law}
        fit = kind(
            **law, objective=float(values["objective"]), standard_errors=errors, replicates=np.empty((0, len(law))),
            runs=runs, seed=0,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(
            f"this is no fitted law ({error})", where=path, hint="Make one with `seedbed scaling fit RUNS.csv --out`."
        ) from None
    assert isinstance(fit, AnyFit)
    return fit


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{value} is no parameter of a law")
    return number
