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

import numpy as np
import pytest
import torch

from seedbed.core.errors import ConfigError, ResourceError
from seedbed.core.ragged import Ragged
from seedbed.datasets.loader import PackedBatches, PaddedBatches
from seedbed.training import DivergenceError, NextToken, Trainer


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

    with pytest.raises(DivergenceError, match="the loss is not finite at step 10, in documents"):
        tiny.run(tmp_path / "run", tiny.config(), objective=Diverging())
    assert [place.name for place in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000007"]


def test_another_config_is_refused(tiny: SimpleNamespace, tmp_path: Path) -> None:
    tiny.run(tmp_path / "run", tiny.config(steps=5))
    with pytest.raises(ConfigError, match="learning_rate, steps"):
        tiny.run(tmp_path / "run", tiny.config(steps=6, learning_rate=0.5))


def test_a_change_can_be_accepted(tiny: SimpleNamespace, whole: tuple[Path, bytes, bytes], tmp_path: Path) -> None:
    tiny.run(tmp_path / "run", tiny.config(steps=5))
    _, result = tiny.run(tmp_path / "run", tiny.config(steps=8, checkpoint_every=3), accept_changes=True)
    assert result.metrics["steps"] == 8
    with pytest.raises(_Stop):  # how often a run is saved is no other config
        tiny.run(tmp_path / "often", tiny.config(checkpoint_every=5), objective=_StoppingAt(23))
    model, _ = tiny.run(tmp_path / "often", tiny.config())
    assert tiny.weights(model) == whole[1]


def test_stops_early_with_the_best_weights(tiny: SimpleNamespace, tmp_path: Path) -> None:
    losses = {5: 3.0, 10: 2.0, 15: 2.5, 20: 2.0, 25: 1.0}
    at_best: list[bytes] = []

    def evaluate(model: Any) -> dict[str, float]:
        step = len(seen) * 5 + 5
        seen.append(step)
        if step == 10:
            at_best.append(tiny.weights(model))
        return {"validation_loss": losses[step]}

    seen: list[int] = []
    settings = tiny.config(evaluate_every=5, patience=2, checkpoint_every=4)
    model, result = tiny.run(tmp_path / "run", settings, evaluate=evaluate)
    assert seen == [5, 10, 15, 20]
    assert result.metrics["steps"] == 20
    assert result.metrics["best_step"] == 10
    assert result.metrics["best_validation_loss"] == 2.0
    assert tiny.weights(model) == at_best[0]
    places = [place.name for place in sorted((tmp_path / "run" / "checkpoints").iterdir())]
    assert places == ["step-00000010", "step-00000016", "step-00000020"]
    again, same = tiny.run(tmp_path / "run", settings, evaluate=evaluate)
    assert same.metrics == result.metrics
    assert tiny.weights(again) == at_best[0]
    with pytest.raises(ConfigError, match="no 'validation_loss'"):
        tiny.run(tmp_path / "other", settings, evaluate=lambda _: {"accuracy": 1.0})


def test_a_spike_names_its_documents_and_keeps_the_checkpoint_before(tiny: SimpleNamespace, tmp_path: Path) -> None:
    class Leaping(NextToken):
        calls = 0

        def loss(self, model: Any, batch: Any) -> Any:
            total, count, extra = super().loss(model, batch)
            self.calls += 1
            return (total * 40 if self.calls == 75 else total), count, extra

    settings = tiny.config(steps=100, evaluate_every=0)
    tiny.run(tmp_path / "run", settings, objective=Leaping(), evaluate=None)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    (leapt,) = [row for row in rows if "usual_loss" in row]
    assert leapt["step"] == 75
    assert leapt["loss"] > 10 * leapt["usual_loss"]
    assert leapt["documents"].startswith("documents ")
    assert "step-00000070" in {place.name for place in (tmp_path / "run" / "checkpoints").iterdir()}


def test_documents_of_a_batch_are_those_that_it_reads(tiny: SimpleNamespace, tmp_path: Path) -> None:
    shards = tiny.shards(tmp_path)
    batches = PackedBatches(shards, 3, 12, seed=1)
    for _ in range(50):
        batch = next(batches)
        named = {int(word) for word in batches.documents().split(" of ")[0].removeprefix("documents ").split(", ")}
        windows = {tuple(row.tolist()) for row in batch.ids_BT}
        text = shards.tokens.tolist()
        starts = [at for at in range(0, len(text) - 12, 12) if tuple(text[at : at + 12]) in windows]
        read = {
            number
            for at in starts
            for number in range(shards.documents)
            if shards.document_offsets[number] <= at + 12 and shards.document_offsets[number + 1] > at
        }
        assert named <= read
        assert len(named) >= 1


def test_a_full_disk_loses_nothing(tiny: SimpleNamespace, whole: tuple[Path, bytes, bytes], tmp_path: Path) -> None:
    script = f"""
import resource, runpy, sys
sys.argv = ["tiny_run.py", {str(tmp_path / "run")!r}, "40"]
import torch.distributed.checkpoint as dcp
saves, real = [], dcp.async_save
def save(*args, **kwargs):
    saves.append(1)
    if len(saves) == 3:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    return real(*args, **kwargs)
dcp.async_save = save
runpy.run_path({str(Path(tiny.__dict__["__file__"]))!r}, run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "ResourceError" in done.stderr
    assert "could not be written" in done.stderr
    kept = sorted(place.name for place in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["step-00000007", "step-00000010"]
    model, _ = tiny.run(tmp_path / "run", tiny.config())
    assert tiny.weights(model) == whole[1]
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == whole[2]


def test_the_largest_batch_is_tried_first(tiny: SimpleNamespace, tmp_path: Path) -> None:
    class TooLarge(NextToken):
        def loss(self, model: Any, batch: Any) -> Any:
            if batch.ids_BT.shape[1] > 24:
                raise MemoryError
            return super().loss(model, batch)

    rows = [np.arange(size) % 16 + 1 for size in (9, 10, 11, 12, 30)]
    ids, ones = Ragged.from_rows(rows), Ragged.from_rows([np.ones(len(row), bool) for row in rows], np.bool_)
    batches = PaddedBatches(ids, ones, 1, 40, 0)
    assert int(batches.largest().ids_BT.shape[1]) == 32
    trainer = Trainer(
        tiny.config(batch_size=1), tiny.Model(), TooLarge(), batches,
        scratch=tmp_path, metrics_path=tmp_path / "metrics.jsonl",
    )  # fmt: skip
    with pytest.raises(ResourceError, match="the largest batch does not fit"):
        trainer.run()
    assert (tmp_path / "metrics.jsonl").read_text() == ""
