"""The page: nothing from outside becomes markup, nothing is loaded from elsewhere, numbers read well."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from seedbed.reports import charts, numbers, page
from seedbed.reports.page import Card, Figure, Page, Pieces, Quotes, Section, Table

HOSTILE = '</script></pre><img src=x onerror="alert(1)">{{ 7 * 7 }}'


class _Elements(HTMLParser):
    """Every element with its attributes, and the text of every script."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs).get("type") or "", ""))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            kind, before = self.scripts[-1]
            self.scripts[-1] = kind, before + data


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the chart library, whose bundling takes seconds."""
    monkeypatch.setattr(page, "vega_bundle", lambda: "window.vegaEmbed = null;")


def _hostile_page() -> Page:
    rows = [{"name": HOSTILE, "number": 3.0}, {"name": "\u2028", "number": float("nan")}]
    figure = Figure(HOSTILE, [(HOSTILE, charts.bars(rows[:1], "name", "number", HOSTILE))], HOSTILE)
    blocks = [
        figure,
        Table(HOSTILE, (HOSTILE, HOSTILE), [(HOSTILE, 1), ("x", 2)], HOSTILE),
        Quotes(HOSTILE, [(HOSTILE, HOSTILE)], HOSTILE),
        Pieces(HOSTILE, [(HOSTILE, [HOSTILE, "\n"])], HOSTILE),
    ]
    section = Section("key", HOSTILE, HOSTILE, blocks, HOSTILE)
    return Page(HOSTILE, HOSTILE, [Card(HOSTILE, HOSTILE, HOSTILE)], [section], HOSTILE, {HOSTILE: HOSTILE})


@pytest.mark.usefixtures("quick")
def test_text_from_outside_never_becomes_markup() -> None:
    html = _hostile_page().html()
    parsed = _Elements(html)
    assert {tag for tag, _ in parsed.elements}.isdisjoint({"img", "iframe", "link", "object", "base"})
    assert not [name for _, attributes in parsed.elements for name in attributes if name.startswith("on")]
    assert "49" not in html.split("<script")[0].split("</style>")[1]
    specs = [json.loads(text) for kind, text in parsed.scripts if kind == "application/json"]
    assert HOSTILE in json.dumps(specs, ensure_ascii=False).replace('\\"', '"')


@pytest.mark.usefixtures("quick")
def test_only_the_scripts_named_by_the_policy_may_run_and_nothing_may_be_loaded() -> None:
    parsed = _Elements(_hostile_page().html())
    policy = next(one["content"] for tag, one in parsed.elements if one.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    running = [text for kind, text in parsed.scripts if kind == ""]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in running]
    assert re.findall(r"'sha256-([^']+)'", policy) == hashes
    assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]
    assert not [one for _, one in parsed.elements if one.get("src") or (one.get("href") or "#")[0] != "#"]


def test_the_bundle_holds_the_chart_library_and_ends_no_script() -> None:
    bundle = page.vega_bundle()
    assert "window.vegaEmbed=" in bundle.replace(" ", "")
    assert "</script" not in bundle.lower()
    assert "<!--" not in bundle


@pytest.mark.usefixtures("quick")
def test_a_page_is_written_whole_and_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        _hostile_page().write(tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_blocks_fill_two_columns_and_none_stands_alone() -> None:
    narrow, wide = Table("", (), []), Table("", (), [], wide=True)
    widths = [one for _, one in Section("", "", "", [narrow, narrow, narrow, wide, narrow]).layout()]
    assert widths == [False, False, True, True, True]


def test_quantities_stand_to_the_right() -> None:
    rows = [("5-gram", 1, "12.3 MB", "+1.2%", "1.2 to 3.4", "9.7 MiB (+1%)", "3 documents", "", "word")]
    rows.append(("a", 2.5, "4 kB", "−3%", "", "900 per second", "1", "", "1"))
    assert Table("", [""] * 9, rows).numeric() == [False, True, True, True, True, True, False, False, False]


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (numbers.value(1234567), "1,234,567"), (numbers.value(0.00001234), "1.23e-05"), (numbers.value(True), "yes"),
        (numbers.value(-12.3456), "−12.35"), (numbers.value(float("inf")), "infinite"), (numbers.value(None), ""),
        (numbers.percent(0.0123), "1.2%"), (numbers.percent(-0.02, 1, True), "−2.0%"),
        (numbers.short(1_630_000), "1.63 million"), (numbers.short(43_100), "43.1 thousand"),
        (numbers.short(9_012), "9,012"),
        (numbers.tight(330_240), "330k"), (numbers.size(3_100_000), "3.1 MB"), (numbers.size(12), "12 bytes"),
        (numbers.memory(1 << 30), "1 GiB"), (numbers.memory(138.4 * 2**20), "138 MiB"),
        (numbers.duration(0.42), "0.4 s"), (numbers.duration(271), "4 min 31 s"), (numbers.duration(7512), "2 h 5 min"),
        (numbers.count(1, "document"), "1 document"), (numbers.count(9012, "document"), "9,012 documents"),
    ],
)  # fmt: skip
def test_numbers_read_as_people_write_them(shown: str, wanted: str) -> None:
    assert shown == wanted
