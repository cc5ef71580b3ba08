"""Filters: texts and mappings that say the same, what they admit, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from seedbed.core.errors import ConfigError, FormatError
from seedbed.embeddings.chunking import Passage
from seedbed.embeddings.filters import admitted, parse_filter
from seedbed.embeddings.passages import Passages, write_passages

ROWS = [
    Passage("a#0", "a", "The A", "docs/a.md", "one", "en", '{"year": 2019, "tags": ["x", "y"]}'),
    Passage("b#0", "b", "B or so", "docs/b.md", "two", "de", '{"year": 2024, "draft": true}'),
    Passage("c#0", "c", "", "library/c.rst", "three", "", "{}"),
    Passage("d#0", "d", "D", "library/d.rst", "four", "en", '{"year": "2021"}'),
]
NUMBERS = np.array([3, 5, 8, 13])


@pytest.fixture(params=["in memory", "in a file"])
def passages(request, tmp_path):
    if request.param == "in memory":
        return Passages(ROWS, NUMBERS)
    write_passages(tmp_path / "passages.parquet", ROWS, NUMBERS)
    return Passages.open(tmp_path / "passages.parquet")


CASES = [
    ("source = docs/a.md", {"source": "docs/a.md"}, "a"),
    ("source ~ docs/*.md", {"source": {"~": "docs/*.md"}}, "ab"),
    ("year >= 2020", {"year": {">=": 2020}}, "bd"),
    ("year >= 2020 and year < 2024", {"year": {">=": 2020, "<": 2024}}, "d"),
    ("not year < 2020", {"not": {"year": {"<": 2020}}}, "bcd"),
    ("year != 2024", {"year": {"!=": 2024}}, "acd"),
    ("language in (en, de)", {"language": ["en", "de"]}, "abd"),
    ("tags = x", {"tags": "x"}, "a"),
    ("draft = true", {"draft": True}, "b"),
    ('title = "B or so" or document = "c"', {"or": [{"title": "B or so"}, {"document": "c"}]}, "bc"),
    ("language = en AND (year = 2019 or year = 2021)",
     {"language": "en", "or": [{"year": 2019}, {"year": 2021}]}, "ad"),
    ("id !~ a*", {"id": {"!~": "a*"}}, "bcd"),
    ("id = nothing", {"id": "nothing"}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("text", "mapping", "expected"), CASES)
def test_texts_and_mappings_admit_the_same(passages, text, mapping, expected):
    for filter in (text, mapping):
        assert "".join(passages[int(number)].document for number in admitted(filter, passages)) == expected


def test_filters_that_say_nothing_clear_are_refused(passages):
    for bad in ("", "source", "source =", "source = a b", "= a", "(source = a", "source in a", "source in (a",
                "a = 'open", "(" * 5000 + "a = b", "not " * 5000 + "a = b", "source & a"):  # fmt: skip
        with pytest.raises(ConfigError):
            parse_filter(bad)
    nested = {"source": "a"}
    for _ in range(100):
        nested = {"not": nested}
    for bad in ({}, {"or": []}, {"or": [1]}, {"source": {"like": 1}}, {"source": None}, 3, nested):
        with pytest.raises(ConfigError):
            parse_filter(bad)
    with pytest.raises(ConfigError, match="no passage has a column 'yeer'"):
        admitted("yeer = 2020", passages)


def test_passages_are_read_from_their_file_by_number(tmp_path):
    rows = [Passage(f"d{i}#0", f"d{i}", "", "s", f"text {i}") for i in range(2500)]
    write_passages(tmp_path / "many.parquet", rows, np.arange(2500) * 2)
    found = Passages.open(tmp_path / "many.parquet")
    assert [found[number].text for number in (0, 2, 1998, 2000, 4998)] == [f"text {i}" for i in (0, 1, 999, 1000, 2499)]
    assert list(found) == rows
    for absent in (1, 5000, -2):
        with pytest.raises(KeyError):
            found[absent]
    (tmp_path / "bad.parquet").write_bytes((tmp_path / "many.parquet").read_bytes()[:-40])
    with pytest.raises(FormatError):
        Passages.open(tmp_path / "bad.parquet")
