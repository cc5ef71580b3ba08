"""What a run tells: exact figures for equal runs, what the clock saw, and a display of both.

`metrics.jsonl` holds what follows from the config and the data, and is the same for equal runs, however interrupted.
Beside it `measurements.jsonl` holds, once a second at most, what this machine made of it: tokens per second, the share
of the machine's matrix throughput that the model's FLOPs are (MFU), and memory.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import torch

from ..core.console import Task
from ..core.devices import peak_memory_bytes
from ..core.errors import ConfigError
from ..core.processes import is_first

MEASUREMENTS, TENSORBOARD = "measurements.jsonl", "tensorboard"
_SECONDS_BETWEEN = 1.0
_BARS = "▁▂▃▄▅▆▇█"
_PIECES = 24  # bars of the display's curve
_PRODUCTS = 3  # at a time

Row = dict[str, Any]


class Records:
    """The rows of a run up to where it is, in files that the first process writes.

    Args:
        path: of `metrics.jsonl`.
        flops_per_token: of training; 0 where nobody knows.
        dtype: of the matrix products.
    """

    def __init__(
        self, path: Path, device: torch.device, flops_per_token: float, tensorboard: bool, dtype: torch.dtype
    ) -> None:
        self.rows: list[Row] = []
        self._path, self._device, self._flops = path, device, flops_per_token
        self._peak = MatrixPeak(device, dtype)
        self._board = _board(path.parent / TENSORBOARD) if tensorboard and is_first() else None
        self._open = ExitStack()
        self._file: IO[str] | None = None
        self._clock: IO[str] | None = None
        self._tokens, self._since = 0, time.perf_counter()
        self.measured: dict[str, float] = {}

    def open_at(self, step: int) -> None:
        """Take up the rows that the checkpoint at `step` knows; a kill may have left later ones, the last cut off."""
        self.rows = _rows_up_to(self._path, step)
        if is_first():
            self._path.write_text("".join(json.dumps(row) + "\n" for row in self.rows), encoding="utf-8")
            clock = self._path.with_name(MEASUREMENTS)
            self._file = self._open.enter_context(open(self._path, "a", encoding="utf-8"))  # noqa: SIM115
            self._clock = self._open.enter_context(open(clock, "a", encoding="utf-8"))  # noqa: SIM115
            self._open.callback(self._board.close if self._board else lambda: None)
        self._tokens, self._since = 0, time.perf_counter()

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        if not values:
            return
        row = {"step": step, **values}
        self.rows.append(row)
        self._write(self._file, row)

    def count(self, step: int, tokens: int) -> None:
        """Note that a step is done; once a second, what its tokens took."""
        self._tokens += tokens
        seconds = time.perf_counter() - self._since
        if seconds < _SECONDS_BETWEEN:
            return
        rate = self._tokens / seconds
        self.measured = {"tokens_per_second": rate, "memory_bytes": float(_memory(self._device))}
        if self._flops:
            self.measured["mfu"] = self._peak.share(rate * self._flops)
        self._write(self._clock, {"step": step, **self.measured})
        self._tokens, self._since = 0, time.perf_counter()

    def show(self, task: Task, row: Row) -> None:
        """Advance the display by one step."""
        fields: dict[str, object] = {"loss": row["loss"], "norm": row["gradient_norm"]}
        held_out = next((one for one in reversed(self.rows) if "gradient_norm" not in one), {})
        fields |= {name: held_out[name] for name in ("bits_per_byte",) if name in held_out}
        if self.measured:
            fields["tokens/s"] = round(self.measured["tokens_per_second"])
            fields["MiB"] = round(self.measured["memory_bytes"] / (1 << 20))
        if "mfu" in self.measured:
            fields["MFU"] = f"{self.measured['mfu']:.0%}"
        fields[curve([one["loss"] for one in self.rows if "gradient_norm" in one])] = ""
        task.advance(1, **fields)

    def sync(self) -> None:
        """Have what was written on the disk before a checkpoint relies on it."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._open.close()

    def _write(self, file: IO[str] | None, row: Row) -> None:
        if file is not None:
            file.write(json.dumps(row) + "\n")
            file.flush()
        if self._board is not None:
            for name, value in row.items():
                if name != "step" and isinstance(value, float | int):
                    self._board.add_scalar(name, value, row["step"])


def curve(losses: Sequence[float]) -> str:
    """The losses so far as a line of bars."""
    if len(losses) < 2:
        return ""
    pieces = min(_PIECES, len(losses))
    bounds = [len(losses) * piece // pieces for piece in range(pieces + 1)]
    means = [sum(losses[first:last]) / (last - first) for first, last in pairwise(bounds)]
    low, high = min(means), max(means)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((mean - low) * scale)] for mean in means)


class MatrixPeak:
    """The most FLOP/s that products of square matrices have reached here, with this process's threads.

    Other work on the machine slows a product down as it does a step, so each question tries a few more, and what a
    step itself reached counts too. On a machine that is never free the peak stays too low, and a share of it too high.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._size = 512 if device.type == "cpu" else 4096
        self._matrix = torch.ones(self._size, self._size, device=device, dtype=dtype)
        self._best = 0.0

    def share(self, flops_per_second: float) -> float:
        """`flops_per_second` as a share of the peak, at most 1."""
        for _ in range(_PRODUCTS):
            start = time.perf_counter()
            float((self._matrix @ self._matrix)[0, 0])  # waits for the device
            self._best = max(self._best, 2 * self._size**3 / (time.perf_counter() - start))
        self._best = max(self._best, flops_per_second)
        return flops_per_second / self._best


def _memory(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory_bytes()


def _board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError(
            "TensorBoard is not installed", where="tensorboard", hint="pip install 'seedbed[tensorboard]'"
        ) from None
    return SummaryWriter(str(folder))


def _rows_up_to(path: Path, step: int) -> list[Row]:
    rows: list[Row] = []
    if step and path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                break
            if row["step"] <= step:
                rows.append(row)
    return rows
