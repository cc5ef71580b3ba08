"""One corpus, whoever makes it: this process, several, or a Ray cluster; and no finished unit is done twice."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seedbed.core.artifacts import open_artifact
from seedbed.core.errors import ConfigError, ResourceError
from seedbed.curation import engines, pipeline, redecide_corpus, shuffling, units
from seedbed.curation.blobs import ReadingConfig
from seedbed.curation.documents import Document
from seedbed.curation.parts import finished_parts
from seedbed.curation.report import curate
from seedbed.curation.units import Unit, plan_units

_OPTIONS = {"near_duplicates": {"parameters": "verified"}, "personal_data": {"kinds": ["email"]}}


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that makes a dozen units."""
    monkeypatch.setattr(units, "UNIT_BYTES", 8_000)
    monkeypatch.setattr(units, "_CHUNK", 3_000)
    generator = random.Random(0)
    folder = tmp_path / "docs"
    folder.mkdir()
    rows = []
    for number in range(120):
        words = [f"word{generator.randrange(500)}" for _ in range(generator.randrange(20, 120))]
        rows.append({"text": " ".join([*words, "me@example.org"] if number % 9 == 0 else words), "number": number})
        if number % 6 == 0:
            rows.append({"text": " ".join([*words, "end"]), "number": -number})
            rows.append(rows[-2])
    lines = [json.dumps(row) for row in rows]
    lines[40] = "not json"
    (folder / "a.jsonl").write_text("\n".join(lines) + "\n")
    pq.write_table(pa.Table.from_pylist(rows), folder / "b.parquet", row_group_size=20)
    for row in rows[:30]:
        (folder / f"c{row['number']}.txt").write_text(row["text"] + " also")
    (folder / "d.txt").write_bytes(b"\xff")
    return folder


def _files(corpus: Path) -> dict[str, str]:
    return {
        path.relative_to(corpus).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(corpus.rglob("*.parquet"))
    }


@pytest.fixture
def alone(docs: Path, tmp_path: Path) -> Path:
    """The corpus as one process makes it."""
    report = curate(docs, tmp_path / "alone", workers=1, **_OPTIONS)
    assert {drop["rule"] for drop in report.metrics["drops"]} >= {"near_duplicate", "exact_duplicate", "bad_json"}
    return report.path


def test_units_hold_every_row_once_under_its_own_name(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ReadingConfig()
    cut = [Unit.from_json(unit.to_json()) for unit in plan_units([str(docs)], config.archives)]
    assert len(cut) > 8
    assert [unit.number for unit in cut] == list(range(len(cut)))
    monkeypatch.setattr(units, "UNIT_BYTES", 1 << 30)
    (whole,) = plan_units([str(docs)], config.archives)
    assert [piece for unit in cut for piece in unit.pieces(config)] == list(whole.pieces(config))
    assert sum(isinstance(piece, Document) for piece in whole.pieces(config)) > 300


def test_processes_make_the_same_corpus(
    docs: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_ALONE_BYTES", 0)
    curate(docs, tmp_path / "two", workers=2, **_OPTIONS)
    assert _files(tmp_path / "two") == _files(alone)
    assert open_artifact(tmp_path / "two").fingerprint == open_artifact(alone).fingerprint


def test_a_ray_cluster_makes_the_same_corpus(docs: Path, alone: Path, tmp_path: Path) -> None:
    pytest.importorskip("daft")
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        curate(docs, tmp_path / "cluster", engine="ray", **_OPTIONS)
    finally:
        ray.shutdown()
    assert _files(tmp_path / "cluster") == _files(alone)
    assert open_artifact(tmp_path / "cluster").fingerprint == open_artifact(alone).fingerprint


def test_finished_units_are_not_done_again(
    docs: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies_after_five(engine: str, task: str, left: list[str], processes: int) -> Iterator[str]:
        for number, unit in enumerate(left):
            if number == 5:
                raise ResourceError("a worker process died")
            yield engines.judge_unit(task, unit)

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "judge_units", dies_after_five)
        with pytest.raises(ResourceError):
            curate(docs, tmp_path / "again", **_OPTIONS)
    parts = next(tmp_path.rglob("parts"))
    damaged = parts / finished_parts(parts)[2]
    damaged.write_bytes(damaged.read_bytes()[:-9])
    (parts / ".00000009.1.partial").write_bytes(b"half")
    done: list[int] = []

    def noted(engine: str, task: str, left: list[str], processes: int) -> Iterator[str]:
        done.extend(json.loads(unit)["number"] for unit in left)
        return engines.judge_units(engine, task, left, processes)

    monkeypatch.setattr(pipeline, "judge_units", noted)
    curate(docs, tmp_path / "again", **_OPTIONS)
    assert done[:2] == [2, 5]
    assert _files(tmp_path / "again") == _files(alone)


@pytest.mark.parametrize("judged", [0.4, 1.2])  # of the units, when the disk is full
def test_a_full_disk_stops_with_one_sentence_and_the_next_call_goes_on(
    docs: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judged: float
) -> None:
    count = len(list(plan_units([str(docs)], ReadingConfig().archives)))
    write, left = pq.ParquetWriter.write_table, iter(range(int(judged * count)))

    def fills_up(writer: pq.ParquetWriter, *arguments: object, **named: object) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(writer, *arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(pq.ParquetWriter, "write_table", fills_up)
        with pytest.raises(ResourceError, match=r"no space left on the device\. .* it goes on where it stopped"):
            curate(docs, tmp_path / "full", workers=1, **_OPTIONS)
    assert not (tmp_path / "full").exists()
    assert finished_parts(next(tmp_path.rglob("parts")))
    curate(docs, tmp_path / "full", workers=1, **_OPTIONS)
    assert _files(tmp_path / "full") == _files(alone)


def test_a_worker_that_dies_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_WORKER", "import os, sys; sys.stdin.readline(); os.kill(os.getpid(), 9)")
    with pytest.raises(ResourceError, match=r"a worker process died .* it goes on where it stopped"):
        list(engines.judge_units("local", "{}", ["1", "2", "3"], 2))


def test_a_worker_does_not_outlive_who_asked() -> None:
    code = "import time; from seedbed.curation import engines as e; e.judge_unit = lambda *_: time.sleep(60); e.serve()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    worker = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, env=environment)
    assert worker.stdin is not None
    worker.stdin.write(b'["task", "unit"]\n')
    worker.stdin.close()
    assert worker.wait(30) == 0


def test_a_shuffled_corpus_has_one_order(docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shuffling, "_BUCKET_CHARACTERS", 20_000)
    straight = curate(docs, tmp_path / "straight", deduplicate=False, **_OPTIONS).corpus
    report = curate(docs, tmp_path / "shuffled", shuffle=True, deduplicate=False, **_OPTIONS)
    order, before = [list(corpus.rows("train")) for corpus in (report.corpus, straight)]
    assert order != before
    assert sorted(row["id"] for row in order) == sorted(row["id"] for row in before)
    places = {row["id"]: place for place, row in enumerate(before)}
    moved = [abs(places[row["id"]] - place) for place, row in enumerate(order)]
    assert sum(moved) / len(moved) == pytest.approx(len(moved) / 3, rel=0.25)  # as of a uniform permutation
    # Sources in another order are other ids of the same texts.
    for number, path in enumerate(sorted(docs.iterdir(), reverse=True)):
        path.rename(path.with_name(f"{number:03d}{path.suffix}"))
    again = curate(docs, tmp_path / "again", shuffle=True, deduplicate=False, **_OPTIONS).corpus
    assert list(again.texts("train")) == [row["text"] for row in order]
    with pytest.raises(ConfigError, match="shuffled order"):
        redecide_corpus(report.path, tmp_path / "anew")
