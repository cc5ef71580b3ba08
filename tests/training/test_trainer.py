"""Runs end with the same bytes however they were interrupted, and do not depend on accumulation."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from seedbed.core.errors import ConfigError
from seedbed.training import DivergenceError, NextToken


class _Stop(Exception):
    pass


class _StoppingAt(NextToken):
    """The objective, dead at a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._left = step

    def loss(self, model: Any, batch: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise _Stop
        return super().loss(model, batch)


@pytest.fixture(scope="module")
def whole(tiny: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, bytes]:
    folder = tmp_path_factory.mktemp("whole") / "run"
    model, result = tiny.run(folder, tiny.config())
    assert result.metrics["steps"] == 40
    assert result.metrics["loss"] < 2.0
    return folder, tiny.weights(model), (folder / "metrics.jsonl").read_bytes()


def test_metrics_rows(whole: tuple[Path, bytes, bytes]) -> None:
    rows = [json.loads(line) for line in whole[2].splitlines()]
    steps = [row for row in rows if "loss" in row]
    assert [row["step"] for row in steps] == list(range(1, 41))
    assert steps[-1]["counted"] == 40 * 8 * 12
    assert [row["step"] for row in rows if "validation_loss" in row] == [10, 20, 30, 40]
    rates = [row["learning_rate"] for row in steps]
    assert rates[0] < rates[2] == max(rates) == 0.01
    assert rates[-1] < 0.001


@pytest.mark.parametrize("stops", [[3], [7], [16, 2, 9], [39]])
def test_resumes_bit_for_bit(
    tiny: SimpleNamespace, whole: tuple[Path, bytes, bytes], tmp_path: Path, stops: list[int]
) -> None:
    for stop in stops:
        with pytest.raises(_Stop):
            tiny.run(tmp_path / "run", tiny.config(), objective=_StoppingAt(stop))
    model, result = tiny.run(tmp_path / "run", tiny.config())
    assert tiny.weights(model) == whole[1]
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == whole[2]
    again, same = tiny.run(tmp_path / "run", tiny.config())
    assert tiny.weights(again) == whole[1]
    assert same.metrics == result.metrics
    assert same.measurements == {}


def test_kill_at_a_random_moment(tiny: SimpleNamespace, tmp_path: Path) -> None:
    script = str(Path(tiny.__dict__["__file__"]))
    model, _ = tiny.run(tmp_path / "whole", tiny.config(steps=150))
    command = [sys.executable, script, str(tmp_path / "killed"), "150"]
    moments = random.Random(time.time_ns())
    metrics = tmp_path / "killed" / "metrics.jsonl"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None and not metrics.exists():
        time.sleep(0.002)
    time.sleep(moments.uniform(0, 0.3))
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert (tmp_path / "killed" / "weights.bin").read_bytes() == tiny.weights(model)
    assert metrics.read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def test_a_damaged_checkpoint_falls_back(
    tiny: SimpleNamespace, whole: tuple[Path, bytes, bytes], tmp_path: Path
) -> None:
    with pytest.raises(_Stop):
        tiny.run(tmp_path / "run", tiny.config(), objective=_StoppingAt(23))
    places = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert [place.name for place in places] == ["step-00000010", "step-00000014", "step-00000021"]  # the best, and two
    data = next(places[2].glob("*.distcp"))
    data.write_bytes(data.read_bytes()[:-100])
    (tmp_path / "run" / "checkpoints" / ".step-00000028.writing").mkdir()
    model, _ = tiny.run(tmp_path / "run", tiny.config())
    assert tiny.weights(model) == whole[1]
    for place in (tmp_path / "run" / "checkpoints").iterdir():
        (place / ".metadata").write_bytes(b"")
    model, _ = tiny.run(tmp_path / "run", tiny.config())
    assert tiny.weights(model) == whole[1]


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_accumulation_does_not_change_the_result(tiny: SimpleNamespace, tmp_path: Path, optimizer: str) -> None:
    class Weighted(NextToken):
        """Unequal counts in the micro-batches: a mean of means would differ."""

        def loss(self, model: Any, batch: Any) -> Any:
            weights = (batch.ids_BT % 3 == 0).float() * batch.ids_BT[:, :1]
            return super().loss(model, type(batch)(batch.ids_BT, batch.targets_BT, weights))

    def after(parts: int) -> torch.Tensor:
        settings = tiny.config(steps=12, optimizer=optimizer, accumulation=parts)
        model, _ = tiny.run(tmp_path / f"{parts}", settings, tiny.Model(dropout=0.0), objective=Weighted())
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    one = after(1)
    assert torch.allclose(one, after(2), atol=2e-4)
    assert torch.allclose(one, after(8), atol=2e-4)


def test_divergence_names_the_step_and_keeps_the_checkpoint(tiny: SimpleNamespace, tmp_path: Path) -> None:
    class Diverging(NextToken):
        calls = 0

        def loss(self, model: Any, batch: Any) -> Any:
            total, count, extra = super().loss(model, batch)
            self.calls += 1
            return (total * float("nan") if self.calls == 10 else total), count, extra

    with pytest.raises(DivergenceError, match="the loss is not finite at step 10"):
        tiny.run(tmp_path / "run", tiny.config(), objective=Diverging())
    assert [place.name for place in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000007"]


def test_another_config_is_refused(tiny: SimpleNamespace, tmp_path: Path) -> None:
    tiny.run(tmp_path / "run", tiny.config(steps=5))
    with pytest.raises(ConfigError, match="learning_rate, steps"):
        tiny.run(tmp_path / "run", tiny.config(steps=6, learning_rate=0.5))
