"""Lists of addresses: domains, paths and words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seedbed.curation import curate
from seedbed.curation.addresses import AddressList
from seedbed.curation.storage import read_rows

_LIST = AddressList(["# a comment", "", "bad.example", "good.example/shop", "www.other.example/", "Casino", "a.b/c/d"])


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("https://bad.example", "bad.example"),
        ("http://WWW.Bad.Example:8080/page?q=1#top", "bad.example"),
        ("https://deep.in.bad.example/x", "bad.example"),
        ("https://notbad.example/", None),
        ("https://bad.example.org/", None),
        ("https://good.example/", None),
        ("https://good.example/shopping", None),
        ("https://good.example/shop/", "good.example/shop"),
        ("https://good.example/shop/item/7", "good.example/shop"),
        ("https://other.example/any", "other.example"),
        ("https://fine.example/best-casino_bonus", "casino"),
        ("https://fine.example/casinos", None),
        ("http://a.b/c", None),
        ("http://a.b/c/d/e", "a.b/c/d"),
        ("http://[broken", None),
        ("", None),
    ],
)
def test_what_a_list_speaks_against(address: str, line: str | None) -> None:
    assert _LIST.find(address) == line


def test_pages_of_listed_addresses_go(tmp_path: Path) -> None:
    text = "Page number {} has a few words of its own, as pages have that are worth their while."
    rows = [
        {"text": text.format(n), "url": f"https://{'bad' if n % 10 == 0 else 'good'}.example/{n}"} for n in range(40)
    ]
    (tmp_path / "pages.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "list.txt").write_text("bad.example\n")
    report = curate(tmp_path / "pages.jsonl", tmp_path / "out", banned_addresses=str(tmp_path / "list.txt"))
    assert report.kept == 36
    assert {(row["rule"], row["detail"]) for row in read_rows(report.path / "rejected")} == {
        ("banned_address", "'bad.example' is on the list of addresses")
    }
    assert [row["step"] for row in report.metrics["funnel"]] == ["came in", "addresses"]
