"""A run of seconds that exhibits are measured on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import seedbed
from seedbed.core.errors import ConfigError
from seedbed.lab import catalogue
from seedbed.lab.bench import Bench
from seedbed.lab.exhibit import Finding

from ..tiny import RECIPE, write_documents

Measure = Callable[..., Finding]


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every stage of a run, of a tiny corpus."""
    folder = tmp_path_factory.mktemp("lab")
    return seedbed.grow([str(write_documents(folder / "docs"))], RECIPE, folder / "run").path


@pytest.fixture
def bench(tiny_run: Path, tmp_path: Path) -> Bench:
    return Bench(tiny_run, tmp_path, lambda what: None)


@pytest.fixture
def measure(bench: Bench) -> Measure:
    """`measure("kv-cache", lengths=(8,))` is the finding on the tiny run, of which its charts could be drawn."""

    def found(name: str, **settings: object) -> Finding:
        exhibit = catalogue.find(name)
        if unread := [stage for stage in exhibit.needs if not (bench.run / stage).exists()]:
            raise ConfigError(f"the tiny run has no {unread}")
        finding = exhibit.measure(bench, exhibit.settings(**settings))
        assert all(len(row) == len(finding.columns) for row in finding.rows)
        return Finding.from_json(finding.to_json())

    return found
