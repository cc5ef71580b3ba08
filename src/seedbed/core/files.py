"""Writing files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def write_atomically(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a file, given whole or in parts, so that it is complete or not there, also after a power cut."""
    temporary = path.with_name(f".{path.name}.writing")
    with open(temporary, "wb") as handle:
        handle.writelines([data] if isinstance(data, bytes) else data)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.rename(path)
