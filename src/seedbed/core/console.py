"""What people see: headings, tables and progress, live on a terminal and a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from .processes import is_first

console = Console(highlight=False, quiet=not is_first())  # of several processes one speaks
error_console = Console(stderr=True, highlight=False)

_SECONDS_BETWEEN_LINES = 10.0


def show(message: str, style: str | None = None) -> None:
    """Print one line. Square brackets in `message` are text, not markup."""
    console.print(message, style=style, markup=False, soft_wrap=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """Print a table; numbers stand to the right."""
    listed = [[_cell(value) for value in row] for row in rows]
    drawn = Table(title=title, title_justify="left", header_style="bold")
    for index, name in enumerate(columns):
        numeric = bool(listed) and all(row[index][:1].lstrip("-+").isdigit() or not row[index] for row in listed)
        drawn.add_column(name, justify="right" if numeric else "left")
    for row in listed:
        drawn.add_row(*(cell.replace("[", r"\[") for cell in row))
    console.print(drawn)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


class Task:
    """Handle of one progress display: `advance(n)`, with fields to show beside the bar."""

    def __init__(self, name: str, total: int | None, live: Progress | None) -> None:
        self._name, self._total, self._live, self._done = name, total, live, 0
        self._id = live.add_task(name, total=total, fields="") if live else None
        self._last = time.monotonic()

    def advance(self, count: int = 1, **fields: object) -> None:
        self._done += count
        text = " ".join(f"{key} {_cell(value)}" for key, value in fields.items())
        if self._live is not None and self._id is not None:
            self._live.update(self._id, advance=count, fields=text)
        elif time.monotonic() - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            of_total = f" of {self._total:,}" if self._total is not None else ""
            show(f"  {self._name}: {self._done:,}{of_total} {text}".rstrip())


@contextmanager
def progress(name: str, total: int | None = None) -> Iterator[Task]:
    """Show the progress of long work.

    >>> with progress("pretrain", total=steps) as task:
    ...     task.advance(1, loss=2.31)
    """
    if not console.is_terminal:
        yield Task(name, total, None)
        return
    columns = (
        TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(), TextColumn("{task.fields[fields]}"),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as live:
        yield Task(name, total, live)
