"""Pages that take too long, or crash the parser, are refused; the next page is read as ever."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from seedbed.curation import page_process
from seedbed.curation.blobs import ReadingConfig
from seedbed.curation.documents import Document, Piece, Rejection
from seedbed.curation.pages import page_document

_PAGE = "<html><body><p>" + "Words that make a paragraph of the main text. " * 20 + "</p></body></html>"


@pytest.fixture(autouse=True)
def every_page_is_large(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(page_process, "SMALL_CHARACTERS", 0)
    yield
    helper = page_process._helper()
    page_process._helper.cache_clear()
    helper.communicate()


def _read(page: str, **options: int) -> Piece:
    return page_document("id", "source", page.encode(), ReadingConfig(**options), title="none")


def test_a_page_is_what_it_is_without_the_helper() -> None:
    found = _read(_PAGE)
    assert isinstance(found, Document)
    assert found.text == page_process.extraction.html(_PAGE)[1]


def test_time_is_bounded() -> None:
    # Attributes are looked up one by one in a list.
    hostile = "<div " + " ".join(f"a{number}=1" for number in range(120_000)) + ">x</div>"
    found = _read(hostile, max_page_seconds=1)
    assert isinstance(found, Rejection)
    assert (found.rule, found.threshold) == ("too_slow", 1)
    assert isinstance(_read(_PAGE), Document)


def test_a_crash_costs_one_page() -> None:
    assert isinstance(_read(_PAGE), Document)
    os.kill(page_process._helper().pid, signal.SIGSEGV)
    page_process._helper().wait()
    found = _read(_PAGE)
    assert isinstance(found, Rejection)
    assert found.rule == "parser_crash"
    assert isinstance(_read(_PAGE), Document)
