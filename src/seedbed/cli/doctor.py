"""`seedbed doctor`: what this machine and this installation are, and what is wrong with them."""

from __future__ import annotations

import platform
import shutil
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import typer

from .. import __version__
from ..core import devices
from ..core.console import show, table

_GIB = 1 << 30
_MINIMUM_DISK = 2 * _GIB
_MINIMUM_MEMORY = 4 * _GIB


def doctor() -> None:
    """Show Python, torch, device, threads, SIMD level, memory, disk and versions, and whether they will do."""
    import torch

    from .. import _native

    total, available = devices.memory_bytes()
    disk = shutil.disk_usage(Path.cwd())
    device = devices.best_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else devices.machine()["processor"]
    rows = [
        ("seedbed", __version__),
        ("python", f"{platform.python_version()} ({platform.system()} {platform.machine()})"),
        ("torch", torch.__version__),
        ("device", f"{device.type}: {name}"),
        ("threads", f"{torch.get_num_threads()} of {devices.cpu_count()} processors"),
        ("SIMD level", f"{_native.simd_level()} (this processor: {_native.simd_supported()})"),
        ("torch's SIMD level", torch.backends.cpu.get_cpu_capability()),
        ("memory", f"{available / _GIB:.1f} GiB free of {total / _GIB:.1f} GiB"),
        ("disk here", f"{disk.free / _GIB:.1f} GiB free of {disk.total / _GIB:.1f} GiB"),
        *((name, _version(name)) for name in _requirements()),
    ]
    table(("what", "found"), rows)
    problems = _problems(available, disk.free)
    for problem in problems:
        show(f"Problem: {problem}", style="red")
    if problems:
        raise typer.Exit(1)
    show("All is well: `seedbed grow --python-docs` should run.", style="green")


def _problems(available: int, free: int) -> list[str]:
    problems = []
    if available < _MINIMUM_MEMORY:
        problems.append(f"only {available / _GIB:.1f} GiB of memory free; the demo wants 4 GiB.")
    if free < _MINIMUM_DISK:
        problems.append(f"only {free / _GIB:.1f} GiB of disk free here; the demo wants 2 GiB.")
    problems += [f"{name} is not installed; install seedbed again." for name in _requirements() if not _version(name)]
    return problems


def _requirements() -> list[str]:
    """Names of the runtime dependencies, as this installation declares them."""
    try:
        declared = requires("seedbed") or []
    except PackageNotFoundError:
        return []
    runtime = (line for line in declared if "extra ==" not in line)
    names = ["".join(c if c.isalnum() or c in "-_." else " " for c in line).split()[0] for line in runtime]
    return sorted(name for name in names if name != "torch")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
