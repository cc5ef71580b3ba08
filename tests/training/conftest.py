from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session")
def tiny() -> SimpleNamespace:
    """The functions of tiny_run.py."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "tiny_run.py")))
