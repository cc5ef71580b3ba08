"""`seedbed index explain` and `seedbed index --recall`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from seedbed.cli.app import app
from seedbed.core.console import console
from seedbed.evaluation import indexes
from seedbed.indexes import HNSWIndex, load_index


@pytest.fixture(autouse=True)
def wide_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or cells would be broken into lines where a terminal is narrow, or where there is none."""
    monkeypatch.setattr(console, "width", 200)


@pytest.fixture(autouse=True)
def no_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speeds are not tested: one pass is enough for them."""
    monkeypatch.setattr(indexes, "_LEAST_SECONDS", 0.0)


def _call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["index", *map(str, arguments)])


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vectors") / "vectors.npy"
    np.save(path, np.random.default_rng(0).normal(size=(900, 12)).astype(np.float32))
    return path


def test_explain(vectors: Path, tmp_path: Path) -> None:
    index = HNSWIndex(12, threads=1)
    index.add(np.load(vectors))
    index.save(tmp_path / "an.index")
    result = _call("explain", tmp_path / "an.index", "--threads", 1, "--sample", 500, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    for words in ("intrinsic dimension", "lost by structure", "graph, 8-bit codes", "built of 500"):
        assert words in result.output
    assert json.loads((tmp_path / "out" / "explain.json").read_text())["vectors"] == 810
    assert (tmp_path / "out" / "graphs.png").read_bytes().startswith(b"\x89PNG")
    assert "500 vectors drawn from 810" in (tmp_path / "out" / "index.html").read_text()


def test_choosing(vectors: Path, tmp_path: Path) -> None:
    out = tmp_path / "chosen.index"
    result = _call("--recall", 0.9, "--vectors", vectors, "--speed", 0, "--threads", 1, "--out", out)
    assert result.exit_code == 0, result.output
    for words in ("The frontier", "chosen", "Chosen: ", "Measured on all of them"):
        assert words in result.output
    assert len(load_index(out)) == 900
    result = _call("--recall", 0.9, "--vectors", vectors, "--memory", "1MB", "--threads", 1)
    assert result.exit_code == 0, result.output
    assert "an exact scan answers" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no run was named"),
        (("--out", "x"), "belong to --recall"),
        (("--recall", "0.9"), "needs vectors"),
        (("--recall", "0.9", "--vectors", "{vectors}", "--run", "{tmp}"), "needs vectors"),
        (("--recall", "0.9", "--vectors", "{vectors}", "-o", "index.m=4"), "reads no recipe"),
        (("--recall", "1.1", "--vectors", "{vectors}"), "must lie above 0"),
        (("--recall", "0.9", "--vectors", "{vectors}", "--memory", "much"), "no amount of memory"),
        (("--recall", "0.9", "--vectors", "{vectors}", "--metric", "hamming"), "metric 'hamming' is unknown"),
        (("explain", "{tmp}"), "index"),
        (("explain", "{tmp}/none.npy"), "no such file"),
    ],
)
def test_what_cannot_be_done(arguments: tuple[str, ...], message: str, vectors: Path, tmp_path: Path) -> None:
    filled = [one.format(tmp=tmp_path, vectors=vectors) for one in arguments]
    result = _call(*(filled or ["--seed", "1"]))
    assert result.exit_code == 1
    assert message in " ".join(result.output.split())
