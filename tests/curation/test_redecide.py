"""A corpus decided anew is the corpus that its sources would give."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from seedbed.core.artifacts import open_artifact
from seedbed.core.errors import ArtifactError, ConfigError
from seedbed.curation import curate, redecide_corpus
from seedbed.curation.storage import read_rows


def _rows(corpus: Path, *folders: str) -> list[list[str]]:
    """Rows as text, in which one NaN is like the other."""
    return [[str(row) for row in read_rows(corpus / folder)] for folder in folders]


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    generator = random.Random(0)
    folder = tmp_path / "docs"
    folder.mkdir()
    for n in range(80):
        words = [f"word{generator.randrange(500)}" for _ in range(generator.randrange(20, 90))]
        (folder / f"{n:02d}.md").write_text(f"# Title {n}\n\n" + " ".join(words))
        if n % 5 == 0:
            (folder / f"{n:02d}-twin.md").write_text(f"# Title {n}\n\n" + " ".join([*words, "end"]))
            (folder / f"{n:02d}-zcopy.md").write_text(f"# Title {n}\n\n" + " ".join(words))
    (folder / "10-bad.txt").write_bytes(b"ab\xff")
    (folder / "blank.txt").write_text(" ")
    return folder


def test_it_is_what_the_sources_would_give(docs: Path, tmp_path: Path) -> None:
    first = {"preset": "prose", "rules": {"min_characters": 300}, "near_duplicates": {"parameters": "verified"}}
    other = {"preset": "gopher", "rules": {"min_stop_words": None}, "near_duplicates": {"parameters": "none"}}
    curate(docs, tmp_path / "first", **first)
    fresh = curate(docs, tmp_path / "fresh", **other)
    again = redecide_corpus(tmp_path / "first", tmp_path / "again", **other)
    folders = ("train", "validation", "test", "rejected", "scores")
    assert _rows(tmp_path / "again", *folders) == _rows(tmp_path / "fresh", *folders)
    # What was rejected before has lost nothing that is read of it, and so the account is the same, too.
    assert again.metrics == fresh.metrics
    third = redecide_corpus(tmp_path / "again", tmp_path / "third", **first)
    assert third.metrics == open_artifact(tmp_path / "first").metrics


def test_cleaned_lines_stay_cleaned(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    sources = [shared_data("warc/sample-0000.warc.gz"), shared_data("text/inaugural.zip")]
    curate(sources, tmp_path / "first", preset="fineweb")
    looser = {"rules": {"max_c4_curly_brackets": None, "min_c4_sentences": 2}}
    redecide_corpus(tmp_path / "first", tmp_path / "again", **looser)
    curate(sources, tmp_path / "fresh", preset="fineweb", **looser)
    assert _rows(tmp_path / "again", "train", "test") == _rows(tmp_path / "fresh", "train", "test")


def test_what_needs_the_sources_is_refused(docs: Path, tmp_path: Path) -> None:
    curate(docs, tmp_path / "first")
    for changes in ({"preset": "fineweb"}, {"max_document_characters": 300}, {"repeated_substring_bytes": 50}):
        with pytest.raises(ConfigError, match=r"cannot be decided anew.*Curate the sources again"):
            redecide_corpus(tmp_path / "first", tmp_path / "out", **changes)
    with pytest.raises(ArtifactError):
        redecide_corpus(docs, tmp_path / "out")
