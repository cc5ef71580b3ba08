"""Processes that share a run reach what one process reaches, and a run outlives one of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from seedbed.core.errors import ConfigError
from seedbed.training.parallelism import ParallelConfig

_SPREAD: dict[str, tuple[int, dict[str, Any]]] = {
    "tensor": (2, {"parallel": {"tensor": 2}}),
    "context": (2, {"parallel": {"context": 2}, "config": {"accumulation": 2}}),
    "data and shard": (4, {"parallel": {"shard": 2}, "config": {"accumulation": 2}}),
    "context and tensor": (4, {"parallel": {"context": 2, "tensor": 2}}),
}
_RUNS: list[dict[str, Any]] = [
    {"name": "one", "count": 1},
    *({"name": name, "count": count, **changes} for name, (count, changes) in _SPREAD.items()),
    {"name": "adamw", "count": 1, "config": {"optimizer": "adamw"}},
    {"name": "adamw sharded", "count": 2, "parallel": {"shard": 2}, "config": {"optimizer": "adamw"}},
    {"name": "mixture", "count": 1, "model": {"experts": 4, "experts_per_token": 2}},
    {"name": "mixture spread", "count": 4, "parallel": {"expert": 2}, "model": {"experts": 4, "experts_per_token": 2}},
    {"name": "killed", "count": 2, "parallel": {"shard": 2}, "kill": [1, 5]},
    {"name": "on one", "count": 1, "resume": "killed"},
    {"name": "killed again", "count": 2, "parallel": {"tensor": 2}, "kill": [0, 5]},
    {"name": "on four", "count": 4, "parallel": {"data": 2, "shard": 2}, "resume": "killed again"},
    {"name": "averaged", "count": 2, "config": {"ema_decay": 0.9}},
    {"name": "uneven", "count": 2, "config": {"batch_size": 1}},
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[int]]]:
    folder = tmp_path_factory.mktemp("processes")
    script = Path(__file__).parent / "many_processes.py"
    done = subprocess.run(
        [sys.executable, str(script), str(folder)], input=json.dumps(_RUNS), capture_output=True, text=True, check=True
    )
    return folder, json.loads(done.stdout.splitlines()[-1])


def _require_equal(folder: Path, name: str, other: str) -> None:
    found, expected = (torch.load(folder / f"{one}.pt", weights_only=True) for one in (name, other))
    for key, value in expected.items():
        assert torch.allclose(found[key], value, atol=2e-6), key
    rows, others = (
        [json.loads(line) for line in (folder / one / "metrics.jsonl").read_text().splitlines()]
        for one in (name, other)
    )
    for row, like in zip(rows, others, strict=True):
        assert row == pytest.approx(like, rel=1e-5)


@pytest.mark.parametrize("name", _SPREAD)
def test_a_spread_model_learns_as_one_process_does(runs: tuple[Path, dict[str, list[int]]], name: str) -> None:
    folder, statuses = runs
    assert set(statuses[name]) == {0}, (folder / f"{name}.0.log").read_text()
    _require_equal(folder, name, "one")


@pytest.mark.parametrize(("name", "other"), [("adamw sharded", "adamw"), ("mixture spread", "mixture")])
def test_so_do_adamw_and_mixtures_of_experts(runs: tuple[Path, dict[str, list[int]]], name: str, other: str) -> None:
    folder, statuses = runs
    assert set(statuses[name]) == {0}, (folder / f"{name}.0.log").read_text()
    _require_equal(folder, name, other)


@pytest.mark.parametrize(("killed", "resumed", "dead"), [("killed", "on one", 1), ("killed again", "on four", 0)])
def test_a_dead_worker_is_named_and_the_run_goes_on_with_another_number(
    runs: tuple[Path, dict[str, list[int]]], killed: str, resumed: str, dead: int
) -> None:
    folder, statuses = runs
    assert statuses[killed][dead] == -9
    assert statuses[killed][1 - dead] == 1
    log = (folder / f"{killed}.{1 - dead}.log").read_text()
    assert f"WorkerError: worker {dead} (" in log
    assert set(statuses[resumed]) == {0}, (folder / f"{resumed}.0.log").read_text()
    (folder / resumed).symlink_to(folder / killed)
    _require_equal(folder, resumed, "one")


def test_what_cannot_be_is_refused(runs: tuple[Path, dict[str, list[int]]]) -> None:
    folder, statuses = runs
    assert statuses["uneven"] == [1, 1]
    assert "batch_size: a batch cannot be cut for 2 processes" in (folder / "uneven.0.log").read_text()
    assert statuses["averaged"] == [1, 1]
    assert "ema_decay: in several processes only muon and adamw work" in (folder / "averaged.0.log").read_text()
    assert ParallelConfig(shard=2).filled(8).data == 4
    with pytest.raises(ValueError, match="pipelines"):
        ParallelConfig(pipeline=2)
    with pytest.raises(ConfigError, match="8 processes do not fill a grid of shard 3"):
        ParallelConfig(shard=3).filled(8)
