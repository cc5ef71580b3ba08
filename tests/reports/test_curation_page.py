"""The page of a corpus: its figures are the account's, its examples lie on both sides of the bound, and it is safe."""

from __future__ import annotations

import re

import pytest

from seedbed.core.artifacts import Artifact, open_artifact
from seedbed.curation import curate
from seedbed.reports.curation_page import curation_page


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("report")
    docs = folder / "docs"
    docs.mkdir()
    for n in range(40):
        (docs / f"{n:02d}.txt").write_text(
            f"Document {n} speaks of {n * n} rivers and of nothing else that {n} matters."
        )
    (docs / "short.txt").write_text("x" * 38)
    (docs / "shorter.txt").write_text("x" * 20)
    (docs / "border.txt").write_text("<script>alert(1)</script> it is long enough")
    (docs / "bad.txt").write_bytes(b"ab\xff")
    long = "A river comes from the hills and goes to the sea, as every river of the country does, "
    (docs / "twin-1.txt").write_text(long * 2 + "in May.")
    (docs / "twin-2.txt").write_text(long * 2 + "in June.")
    curate(docs, folder / "corpus", near_duplicates={"parameters": "verified"})
    return open_artifact(folder / "corpus", "corpus")


def test_what_the_page_says(corpus: Artifact) -> None:
    page = curation_page(corpus)
    assert [section.key for section in page.sections] == [
        "funnel", "rules", "scores", "clusters", "sources", "exhaustion"
    ]  # fmt: skip
    assert page.cards[0].value == "42"
    rules = next(section for section in page.sections if section.key == "rules")
    quotes = {block.title: block.items for block in rules.blocks if block.kind == "quotes"}
    labels = [label for label, _ in quotes["min_characters"]]
    assert labels == ["dropped · short.txt · 38", "kept · border.txt · 43"]
    clusters = next(section for section in page.sections if section.key == "clusters")
    assert any("twin-2.txt" in label for block in clusters.blocks if block.kind == "quotes" for label, _ in block.items)
    funnel = next(section for section in page.sections if section.key == "funnel")
    table = next(block for block in funnel.blocks if block.kind == "table")
    assert [(row[0], row[1]) for row in table.rows] == [
        ("came in", 46), ("reading", 45), ("quality rules", 43), ("near-duplicates", 42)
    ]  # fmt: skip


def test_texts_are_escaped_and_nothing_is_loaded(corpus: Artifact) -> None:
    html = curation_page(corpus).html()
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html
    assert not re.search(r"""(?:src|href)=["']https?:""", html)
