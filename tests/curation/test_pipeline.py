"""The whole stage: every document accounted for, the same bytes each time, clear errors where nothing can be made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedbed.core.artifacts import Workspace
from seedbed.core.errors import ArtifactError, ConfigError, DataError
from seedbed.curation import SPLITS, Corpus, CurationConfig, curate, curate_corpus
from seedbed.curation.dedup import text_digest
from seedbed.curation.splits import SplitConfig, assign_splits, draw
from seedbed.curation.storage import PartWriter, read_rows

_WORDS = "This is document number {n} and it says something of its own, {n} times over, to anybody who reads it."


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    (folder / "deep").mkdir(parents=True)
    for n in range(60):
        (folder / "deep" / f"{n:02d}.txt").write_text(_WORDS.format(n=n))
    (folder / "copy.txt").write_text(_WORDS.format(n=7) + "  \r\n\r\n")
    (folder / "short.md").write_text("# Hi")
    (folder / "blank.txt").write_text(" \n ")
    (folder / "bad.txt").write_bytes(b"\xff")
    (folder / "rows.jsonl").write_text(json.dumps({"text": _WORDS.format(n=99), "score": 0.5}) + "\nnot json\n")
    odd = {"text": "abc " * 30 + "\ud800", "title": "\ud800", "x\ud800": "\ud800"}
    (folder / "odd.jsonl").write_text(json.dumps(odd))
    return folder


def _tree(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.parquet"))
        if ".scratch" not in path.parts
    }


def test_every_document_is_accounted_for(docs: Path, tmp_path: Path) -> None:
    report = curate(docs, tmp_path / "corpus")
    rows = {name: list(report.corpus.rows(name)) for name in SPLITS}
    rejected = pq.read_table(tmp_path / "corpus/rejected").to_pylist()
    assert report.read == 67
    assert report.kept == sum(map(len, rows.values())) == 62
    assert {row["id"]: row["rule"] for row in rejected} == {
        "deep/07.txt": "exact_duplicate",
        "short.md": "min_characters",
        "blank.txt": "empty",
        "bad.txt": "not_utf8",
        "rows.jsonl#2": "bad_json",
    }
    assert next(row for row in rejected if row["id"] == "deep/07.txt")["text"] == _WORDS.format(n=7)
    assert {drop["rule"]: (drop["documents"], drop["examples"]) for drop in report.metrics["drops"]} == {
        row["rule"]: (1, [row["id"]]) for row in rejected
    }
    every = {row["id"]: row for split in rows.values() for row in split}
    assert json.loads(every["rows.jsonl#1"]["metadata"]) == {"score": 0.5}
    assert every["odd.jsonl#1"]["title"] == "\ufffd"
    assert json.loads(every["odd.jsonl#1"]["metadata"]) == {"x\ud800": "\ud800"}
    assert every["deep/03.txt"]["source"] == "deep/03.txt"
    assert report.metrics["kept"]["train"]["bytes"] == sum(len(row["text"].encode()) for row in rows["train"])
    table = report.corpus.split("train")
    assert table.column_names == ["id", "text", "title", "source", "language", "metadata"]
    assert table.num_rows == report.corpus.count("train") == len(list(report.corpus.texts("train")))
    assert str(tmp_path) not in json.dumps(report.metrics)
    report.show()


def test_the_same_bytes_also_over_the_leftovers_of_a_kill(docs: Path, tmp_path: Path) -> None:
    first = curate(docs, tmp_path / "one")
    moved = docs.rename(tmp_path / "elsewhere")
    workspace = Workspace(tmp_path / "two", resumed=True)
    for leftover in ("train", "rejected", ".scratch/kept"):
        (workspace.path / leftover).mkdir(parents=True)
        (workspace.path / leftover / "part-00000.parquet").write_bytes(b"half a fi")
        (workspace.path / leftover / "part-00001.parquet").write_bytes(b"half a fi")
    assert curate_corpus(CurationConfig(), [str(moved)], workspace) == first.metrics
    assert _tree(tmp_path / "one") == _tree(tmp_path / "two")
    assert len(_tree(tmp_path / "one")) == 5


def test_a_second_call_skips_and_a_changed_file_does_not(docs: Path, tmp_path: Path) -> None:
    curate(docs, tmp_path / "corpus")
    manifest = tmp_path / "corpus/manifest.json"
    before = manifest.stat().st_mtime_ns
    curate(docs, tmp_path / "corpus")
    assert manifest.stat().st_mtime_ns == before
    (docs / "new.txt").write_text(_WORDS.format(n=500))
    assert curate(docs, tmp_path / "corpus").kept == 63


def test_one_long_file_gives_all_three_splits(tmp_path: Path) -> None:
    text = "\n\n".join(_WORDS.format(n=n) for n in range(300))
    (tmp_path / "book.txt").write_text(text)
    report = curate([tmp_path / "book.txt"], tmp_path / "corpus", max_document_characters=1000)
    rows = [row for name in SPLITS for row in report.corpus.rows(name)]
    assert min(report.corpus.count(name) for name in SPLITS) >= 1
    rows.sort(key=lambda row: json.loads(row["metadata"])["part"])
    assert "\n\n".join(row["text"] for row in rows) == text
    assert {row["source"] for row in rows} == {"book.txt"}


def test_clear_errors(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    out = tmp_path / "corpus"
    with pytest.raises(DataError, match=r"the sources hold no documents\. Give a folder with txt, md"):
        curate(folder, out)
    (folder / "x.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"nothing usable.*x\.txt: not UTF-8 at byte 0"):
        curate(folder, out)
    (folder / "y.txt").write_text(_WORDS)
    with pytest.raises(DataError, match="too small: 1 documents were kept and 20 are needed"):
        curate(folder, out)
    with pytest.raises(DataError, match="no such file"):
        curate(tmp_path / "none", out)
    with pytest.raises(DataError, match="no source was given"):
        curate([], out)
    with pytest.raises(ConfigError, match=r"unknown preset 'finest'\. There are: none, prose"):
        curate(folder, out, preset="finest")
    with pytest.raises(ConfigError, match=r"unknown engine 'spark'\. There are: local, ray"):
        curate(folder, out, engine="spark")
    with pytest.raises(ConfigError, match="unknown key 'presets'"):
        curate(folder, out, presets="x")
    assert not out.exists()
    with pytest.raises(ArtifactError, match="not a corpus"):
        Corpus.open(out)


@given(st.integers(20, 400), st.integers(0, 5))
def test_splits_have_their_shares_and_are_never_empty(count: int, seed: int) -> None:
    config = SplitConfig(seed=seed)
    draws = [draw(text_digest(str(n)), seed) for n in range(count)]
    sizes = np.bincount(assign_splits(draws, config), minlength=3)
    assert sizes.sum() == count
    for size in sizes[1:]:
        assert max(1, int(count * 0.025)) <= size <= count * 0.05 + 5 * (count * 0.05) ** 0.5


def test_a_document_keeps_its_split_when_others_come() -> None:
    draws = [draw(text_digest(str(n)), 0) for n in range(4000)]
    before, after = assign_splits(draws[:2000], SplitConfig()), assign_splits(draws, SplitConfig())
    assert (before == after[:2000]).all()


def test_parts_roll_over_and_keep_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seedbed.curation.storage._PART_CHARACTERS", 100)
    monkeypatch.setattr("seedbed.curation.storage._GROUP_ROWS", 3)
    with PartWriter(tmp_path / "table", ("id", "text")) as writer:
        for n in range(20):
            writer.add({"id": str(n), "text": "x" * 20})
    assert len(list((tmp_path / "table").iterdir())) == 4
    assert [row["id"] for row in read_rows(tmp_path / "table")] == [str(n) for n in range(20)]
    with PartWriter(tmp_path / "empty", ("id", "text")):
        pass
    assert pq.read_table(tmp_path / "empty").num_rows == 0


def test_real_speeches(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    report = curate(shared_data("text/inaugural.zip"), tmp_path / "corpus")
    assert {drop["rule"]: drop["documents"] for drop in report.metrics["drops"]} == {"not_utf8": 1, "unsupported": 1}
    assert report.read == report.kept + 2
    assert list(report.metrics["languages"]) == ["en"]
    assert sum(split["bytes"] for split in report.metrics["kept"].values()) > 700_000
