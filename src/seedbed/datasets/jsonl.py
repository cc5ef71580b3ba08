"""JSON Lines with a verdict per row: what can be used, and what cannot with its line number and the reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.console import show
from ..core.errors import DataError, disk_errors

Row = dict[str, Any]


@dataclass(frozen=True)
class Rejected:
    """A row that cannot be used."""

    line: int
    reason: str


@dataclass
class Rows:
    """Usable rows in file order, and the rejected ones."""

    rows: list[Row] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    @property
    def reasons(self) -> dict[str, int]:
        """How many rows were rejected for what."""
        return dict(sorted(Counter(one.reason for one in self.rejected).items()))


def read_rows(path: str | Path, parse: Callable[[Row], Row], *, say_where: bool = False) -> Rows:
    """Read JSONL (or a JSON file that is one list) through `parse`, which raises ValueError(reason) on a bad row.

    Args:
        say_where: rows without a `source` get the line on which they stand.

    Raises:
        DataError: the file cannot be read, or no row of it can be used (with the first row's line and reason).
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read this file ({error.strerror})", where=path) from None
    found = Rows()
    for line, value in _values(data):
        try:
            if isinstance(value, ValueError):
                raise value
            if not isinstance(value, dict):
                raise ValueError("not a JSON object")
            row = parse(value)
            found.rows.append(row | {"source": row.get("source") or f"line {line}"} if say_where else row)
        except ValueError as error:
            found.rejected.append(Rejected(line, str(error)))
    if not found.rows:
        first = found.rejected[0] if found.rejected else Rejected(1, "the file holds no rows")
        raise DataError(f"no usable row; {first.reason}", where=f"{path}:{first.line}")
    return found


def usable_rows(read: Rows) -> list[Row]:
    """The good rows of a file; the bad ones are counted aloud."""
    say_left_out((f"line {one.line}", one.reason) for one in read.rejected)
    return read.rows


def say_left_out(left_out: Iterable[tuple[str, str]]) -> None:
    """Count rows that are not used aloud, by reason, and name the first.

    Args:
        left_out: where each row is from, and why it is not used.
    """
    places: dict[str, list[str]] = {}
    for place, reason in left_out:
        places.setdefault(reason, []).append(place)
    for reason, found in sorted(places.items()):
        first = ", ".join(one for one in found[:5] if one)
        named = f" ({first}{', ...' if len(found) > 5 else ''})" if first else ""
        show(f"{len(found)} {'row' if len(found) == 1 else 'rows'} left out: {reason}{named}", style="yellow")


def _values(data: bytes) -> Iterable[tuple[int, Any]]:
    whole = _parsed(data) if data.lstrip()[:1] == b"[" else None
    if isinstance(whole, list):
        yield from enumerate(whole, start=1)
        return
    for number, line in enumerate(data.splitlines(), start=1):
        if line.strip():
            yield number, _parsed(line)


def _parsed(data: bytes) -> Any:
    """What a JSON text says, or a ValueError that says why it says nothing."""
    try:
        return json.loads(data)
    except UnicodeDecodeError:
        return ValueError("not UTF-8")
    except (ValueError, RecursionError):
        return ValueError("not JSON")


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    with disk_errors(path), open(path, "w", encoding="utf-8") as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")
