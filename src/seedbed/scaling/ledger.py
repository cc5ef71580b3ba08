"""The ledger: forecasts written down, hashed, before the runs that they are about, and scored afterwards.

One JSON line per entry: `kind` ("forecast" or "score"), `body`, `previous` (hash of the entry before) and `hash`
(sha256 of the rest in canonical form). Changing or removing an entry breaks the chain from there on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.config import fingerprint
from ..core.errors import DataError, FormatError

Entry = dict[str, Any]
_START = "0" * 64


def read_ledger(path: Path) -> list[Entry]:
    """All entries, after checking the chain.

    Raises:
        FormatError: an entry was changed, removed or damaged (with its line).
    """
    entries: list[Entry] = []
    previous = _START
    for number, line in enumerate(_whole_lines(path), start=1):
        try:
            entry = json.loads(line)
            stated = entry.pop("hash")
            intact = entry["previous"] == previous and fingerprint(entry) == stated
        except (ValueError, KeyError, TypeError, AttributeError):
            intact = False
        if not intact:
            raise FormatError("this entry of the ledger was changed after it was written", where=f"{path}:{number}")
        entries.append({**entry, "hash": stated})
        previous = stated
    return entries


def record_forecast(path: Path, body: Mapping[str, Any]) -> str:
    """Append a forecast and return its hash. The same forecast again, as a resumed stage writes it, stays one entry."""
    return _append(path, "forecast", dict(body))


def record_score(path: Path, forecast_hash: str, loss: float) -> Entry:
    """Append what became of a forecast: `loss`, `error` (relative), `inside` (its interval). Returns the entry's body.

    Raises:
        DataError: there is no such forecast.
    """
    forecasts = [one for one in read_ledger(path) if one["kind"] == "forecast" and one["hash"] == forecast_hash]
    if not forecasts:
        raise DataError(f"no forecast {forecast_hash[:12]} in this ledger", where=path)
    expected = forecasts[0]["body"]
    body = {
        "forecast": forecast_hash,
        "loss": loss,
        "error": expected["loss"] / loss - 1,
        "inside": expected["low"] <= loss <= expected["high"],
    }
    _append(path, "score", body)
    return body


@dataclass(frozen=True)
class Bet:
    """A forecast, and the loss that its run reached (None: not yet)."""

    hash: str
    loss: float
    low: float
    high: float
    fact: float | None


def scored(entries: Sequence[Entry]) -> list[Bet]:
    """The forecasts of a ledger in the order in which they were made."""
    facts = {one["body"]["forecast"]: float(one["body"]["loss"]) for one in entries if one["kind"] == "score"}
    forecasts = [(one["hash"], one["body"]) for one in entries if one["kind"] == "forecast"]
    return [
        Bet(key, float(body["loss"]), float(body["low"]), float(body["high"]), facts.get(key))
        for key, body in forecasts
    ]


def _append(path: Path, kind: str, body: Entry) -> str:
    entries = read_ledger(path)
    body = json.loads(json.dumps(body, allow_nan=False))
    for one in entries:
        if one["kind"] == kind and one["body"] == body:
            return str(one["hash"])
    entry = {"kind": kind, "body": body, "previous": entries[-1]["hash"] if entries else _START}
    entry["hash"] = fingerprint(entry)
    whole = sum(len(line) + 1 for line in _whole_lines(path))
    with open(path, "ab") as handle:
        handle.truncate(whole)  # a kill may have left half an entry, which nobody was told the hash of
        handle.write(json.dumps(entry, sort_keys=True).encode() + b"\n")
        handle.flush()
        os.fsync(handle.fileno())
    return str(entry["hash"])


def _whole_lines(path: Path) -> list[bytes]:
    """The lines that end: a cut-off last one was never finished."""
    data = path.read_bytes() if path.exists() else b""
    return data.split(b"\n")[:-1]
