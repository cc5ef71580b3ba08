"""Tables of finished runs: what a law is fitted to."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ..core.errors import DataError, FormatError

_FEWEST_RUNS, _FEWEST_VALUES = 6, 3
_PROPORTIONAL = 0.9999  # correlation of log size and log data above which the two are one


@dataclass(frozen=True)
class Run:
    """One finished run, its learning rate decayed to the end: a checkpoint within a schedule is no run."""

    name: str
    params: int  # with the embedding, which the head shares
    tokens: int
    unique_tokens: int
    loss: float  # validation, nats per token
    bits_per_byte: float
    block_params: int = 0  # without embedding and head (Kaplan et al. 2020)
    flops: float = 0.0  # of training, head and attention included


@dataclass(frozen=True)
class RunTable:
    """The columns that laws are fitted to, checked: (n,) float64, finite and positive."""

    params: np.ndarray
    tokens: np.ndarray
    loss: np.ndarray
    unique_tokens: np.ndarray  # at most `tokens`

    def __len__(self) -> int:
        return len(self.params)

    def __getitem__(self, chosen: np.ndarray) -> RunTable:
        return RunTable(self.params[chosen], self.tokens[chosen], self.loss[chosen], self.unique_tokens[chosen])

    @property
    def repeats(self) -> np.ndarray:
        """(n,) how often the average token is read again: D / U - 1."""
        return self.tokens / self.unique_tokens - 1

    @classmethod
    def checked(
        cls, params: ArrayLike, tokens: ArrayLike, loss: ArrayLike, unique_tokens: ArrayLike | None = None
    ) -> RunTable:
        """The table, if a law of two exponents and an offset can be fitted to it at all.

        Raises:
            DataError: a value is missing or not positive, or the runs cannot identify the law.
        """
        given = {"params": params, "tokens": tokens, "loss": loss}
        given |= {} if unique_tokens is None else {"unique_tokens": unique_tokens}
        columns = {name: require_positive(name, values) for name, values in given.items()}
        if len({column.shape for column in columns.values()}) > 1:
            raise DataError(f"{', '.join(columns)} need one value per run")
        unique = np.minimum(columns.get("unique_tokens", columns["tokens"]), columns["tokens"])
        table = cls(columns["params"], columns["tokens"], columns["loss"], unique)
        table.require_identified()
        return table

    def require_identified(self) -> None:
        """Raise DataError where no law's exponents can be told from these runs."""
        runs, sizes, amounts = len(self), len(np.unique(self.params)), len(np.unique(self.tokens))
        if runs < _FEWEST_RUNS or min(sizes, amounts) < _FEWEST_VALUES:
            raise DataError(
                f"{runs} runs of {sizes} sizes and {amounts} data amounts cannot identify the law's five parameters",
                hint=f"It takes at least {_FEWEST_RUNS} runs with {_FEWEST_VALUES} sizes and {_FEWEST_VALUES} data "
                "amounts.",
            )
        if abs(np.corrcoef(np.log(self.params), np.log(self.tokens))[0, 1]) > _PROPORTIONAL:
            raise DataError(
                "every run has the same tokens for its size, so the effects of the two cannot be told apart",
                hint="Add runs with more or fewer tokens at the same size.",
            )


def require_positive(name: str, values: ArrayLike) -> np.ndarray:
    """A column (n,) of finite positive numbers, or a DataError that names it and the first bad run."""
    try:
        column = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise DataError(f"the column '{name}' holds something that is not a number") from None
    if column.ndim != 1:
        raise DataError(f"the column '{name}' needs one value per run")
    bad = np.flatnonzero(~(np.isfinite(column) & (column > 0)))
    if len(bad):
        raise DataError(
            f"the column '{name}' is missing or not positive in {len(bad)} runs (the first: run {bad[0] + 1})",
            hint="Remove or mend these runs.",
        )
    return column


def write_runs(path: Path, runs: Iterable[Run]) -> None:
    """Write the CSV table that `seedbed scaling fit` reads."""
    with open(path, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, [field.name for field in fields(Run)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(run) for run in runs)


def read_columns(
    path: Path, names: Sequence[str] = ("params", "tokens", "loss"), optional: Sequence[str] = ()
) -> dict[str, list[float]]:
    """Columns of positive numbers of a CSV table, whoever wrote it; of `optional` ones those that are there.

    Raises:
        FormatError: it cannot be read, or a column is missing.
        DataError: a value is not a positive number (with its line and column).
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            rows = [(reader.line_num, row) for row in reader]
            known = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"cannot read this table ({error})", where=path) from None
    missing = [name for name in names if name not in known]
    if missing:
        raise FormatError(f"no column '{missing[0]}' (there are: {', '.join(known) or 'none'})", where=path)
    wanted = [*names, *(name for name in optional if name in known)]
    return {name: [_number(row[name], name, f"{path}:{line}") for line, row in rows] for name in wanted}


def _number(text: str | None, column: str, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        raise DataError(f"'{text or ''}' in column '{column}' is not a number", where=where) from None
    if not (math.isfinite(value) and value > 0):
        raise DataError(f"{text} in column '{column}' is not a positive number", where=where)
    return value
