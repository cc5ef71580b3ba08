"""Killed at any moment and started again, curation ends with the same bytes; nothing is lost and nothing is twice."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from seedbed.core.artifacts import open_artifact
from seedbed.curation import curate
from seedbed.curation.storage import read_rows

_OPTIONS = {"near_duplicates": {"parameters": "verified"}, "repeated_substring_bytes": 80}
_CALL = f"""
import sys
from seedbed.curation import curate
print("ready", flush=True)
curate(sys.argv[1], sys.argv[2], **{_OPTIONS!r})
"""


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    generator = random.Random(0)
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(1200):
        words = [f"word{generator.randrange(900)}" for _ in range(generator.randrange(10, 200))]
        (folder / f"{number:04d}.txt").write_text(" ".join(words))
        if number % 4 == 0:
            (folder / f"{number:04d}-twin.txt").write_text(" ".join([*words, "more"]))
    return folder


def _bytes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*.parquet"))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_kills_change_nothing(docs: Path, tmp_path: Path) -> None:
    started = time.perf_counter()
    whole = curate(docs, tmp_path / "whole", **_OPTIONS)
    seconds = time.perf_counter() - started
    killed = tmp_path / "killed"
    generator = random.Random(1)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", _CALL, str(docs), str(killed)], stdout=subprocess.PIPE, env=environment
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(generator.uniform(0.1, 0.9) * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    again = curate(docs, killed, **_OPTIONS)
    assert again.metrics == whole.metrics
    assert _bytes(killed) == _bytes(tmp_path / "whole")
    assert open_artifact(killed).fingerprint == open_artifact(tmp_path / "whole").fingerprint
    ids = [
        row["id"] for name in ("train", "validation", "test", "rejected") for row in read_rows(killed / name, ["id"])
    ]
    assert len(ids) == len(set(ids)) == again.read == 1500
    assert pq.read_table(killed / "scores").num_rows == 1500
