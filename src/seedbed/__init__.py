"""Seedbed grows a language model and a search engine from your own text, and measures their limits first.

>>> import seedbed
>>> run = seedbed.grow(sources=["docs/"], recipe="demo", out="runs/docs")
>>> run.search("read a csv file", k=5)
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# Before torch loads its OpenMP: threads that wait for each other soon sleep instead of spinning, which costs little on
# an idle machine and is many times faster on a shared one (docs/log.md, 2026-11-22).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

if TYPE_CHECKING:
    from .pipeline import grow
    from .run import Run, open_run

__version__ = "0.1.0"
__all__ = ["Run", "__version__", "grow", "open_run"]


def __getattr__(name: str) -> Any:
    # On demand, so that using one room (an index, a tokenizer) does not import them all.
    if name == "grow":
        from .pipeline import grow

        return grow
    if name in ("Run", "open_run"):
        from . import run

        return getattr(run, name)
    raise AttributeError(f"module 'seedbed' has no attribute '{name}'")
