"""Tables of finished runs: what a law is fitted to."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ..core.errors import DataError, FormatError


@dataclass(frozen=True)
class Run:
    """One finished run, its learning rate decayed to the end: a checkpoint within a schedule is no run."""

    name: str
    params: int  # with the embedding, which the head shares
    tokens: int
    unique_tokens: int
    loss: float  # validation, nats per token
    bits_per_byte: float


def write_runs(path: Path, runs: Iterable[Run]) -> None:
    """Write the CSV table that `seedbed scaling fit` reads."""
    with open(path, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, [field.name for field in fields(Run)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(run) for run in runs)


def read_columns(path: Path, names: Sequence[str] = ("params", "tokens", "loss")) -> dict[str, list[float]]:
    """Columns of numbers of a CSV table, whoever wrote it.

    Raises:
        FormatError: it cannot be read, or a column is missing.
        DataError: a value is not a number (with its line).
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
    columns: dict[str, list[float]] = {name: [] for name in names}
    for line, row in rows:
        for name in names:
            try:
                columns[name].append(float(row[name] or ""))
            except ValueError:
                raise DataError(f"'{row[name]}' in column '{name}' is not a number", where=f"{path}:{line}") from None
    return columns
