"""What this machine has and what this process uses of it."""

from __future__ import annotations

import functools
import os
import platform
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def cpu_count() -> int:
    """Processors that this process may use (containers and taskset lower it)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads(threads: int | None) -> int:
    """Fix PyTorch's thread count (None or 0: this process's share of the processors); results are reproducible for one
    count."""
    import torch

    count = threads or max(cpu_count() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1)
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)
    return count


def best_device() -> torch.device:
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def memory_bytes() -> tuple[int, int]:
    """(total, available) physical memory, in bytes."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    available = pages * size
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                available = int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux: the total is the best guess
    return pages * size, available


def reset_peak_memory() -> None:
    """Start the peak-memory count anew (Linux; elsewhere the peak is the whole process's)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory_bytes() -> int:
    """Peak resident memory since the last reset, in bytes."""
    if (found := _status_bytes("VmHWM")) is not None:
        return found
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_bytes() -> int:
    """Resident memory now; where the system does not tell, the peak so far."""
    found = _status_bytes("VmRSS")
    return peak_memory_bytes() if found is None else found


def _status_bytes(name: str) -> int | None:
    """A figure that Linux tells of this process, None elsewhere."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    figures = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(figures[name].split()[0]) * 1024 if name in figures else None


@functools.cache
def machine() -> dict[str, Any]:
    """A description for manifests and benchmark results. It names no host and no path."""
    return {
        "processor": _processor_name(),
        "cpus": cpu_count(),
        "memory_bytes": memory_bytes()[0],
        "simd": _simd_level(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _simd_level() -> str:
    from .. import _native

    return _native.simd_level()


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()
