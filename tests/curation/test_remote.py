"""Sources behind URLs, with fsspec's filesystem in memory in the place of a store."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from seedbed.core.errors import DataError
from seedbed.curation import curate
from seedbed.curation.blobs import ReadingConfig
from seedbed.curation.sources import fingerprint_sources, read_sources


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> fsspec.AbstractFileSystem:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = fsspec.filesystem("memory")
    store.pipe("/bucket/docs/a.txt", b"Of rivers.")
    store.pipe("/bucket/docs/deep/b.md", b"# Of seas\n")
    store.pipe("/bucket/docs/c.jsonl", b'{"text": "Of hills."}\n')
    yield store
    store.rm("/bucket", recursive=True)


def _ids(url: str) -> list[str]:
    return [piece.id for piece in read_sources([url], ReadingConfig())]


def test_folders_files_and_patterns(store: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    assert _ids("memory://bucket/docs") == ["a.txt", "c.jsonl#1", "deep/b.md"]
    assert _ids("memory://bucket/docs/a.txt") == ["a.txt"]
    assert _ids("memory://bucket/docs/*.txt") == ["a.txt"]
    both = [piece.id for piece in read_sources(["memory://bucket/docs", "memory://bucket/docs/*.txt"], ReadingConfig())]
    assert both == ["docs/a.txt", "docs/c.jsonl#1", "docs/deep/b.md", "docs~2/a.txt"]
    before = fingerprint_sources(["memory://bucket/docs"])
    store.pipe("/bucket/docs/a.txt", b"Of other rivers.")
    assert fingerprint_sources(["memory://bucket/docs"]) != before
    texts = [piece.text for piece in read_sources(["memory://bucket/docs"], ReadingConfig())]
    assert texts[0] == "Of other rivers."
    store.rm("/bucket/docs/c.jsonl")
    assert _ids("memory://bucket/docs") == ["a.txt", "deep/b.md"]
    assert not list(tmp_path.rglob("*.partial"))


def test_faults_are_one_sentence(store: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        curate("memory://bucket/none", tmp_path / "out")
    with pytest.raises(DataError, match="cannot be fetched"):
        curate("nonsense://bucket/docs", tmp_path / "out")
