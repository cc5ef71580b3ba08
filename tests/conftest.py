"""Shared fixtures. Real data for tests lies beside the checkout; tests that need it skip where it is absent."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from .tiny import RECIPE, write_documents

if TYPE_CHECKING:
    from seedbed.run import Run

# A change is judged on the same examples each time; at home hypothesis goes on looking for new ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

_ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """`shared_data("text/abc.zip")` is the path of a real data file, or skips the test."""
    base = Path(os.environ.get("SEEDBED_SHARED_DATA", _ROOT.parent / "shared" / "data"))

    def find(name: str) -> Path:
        path = base / name
        if not path.exists():
            pytest.skip(f"shared data not here: {name} (set SEEDBED_SHARED_DATA)")
        return path

    return find


@pytest.fixture(scope="session")
def tiny_documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_documents(tmp_path_factory.mktemp("source") / "docs")


@pytest.fixture(scope="session")
def tiny_run(tiny_documents: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A whole run, grown once for all tests, which must not change it."""
    import seedbed

    return seedbed.grow([str(tiny_documents)], RECIPE, tmp_path_factory.mktemp("runs") / "first")
