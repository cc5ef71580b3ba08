"""Sitemaps beside saved pages: what they list is read in their order with its address, and what is missing is told."""

from __future__ import annotations

import gzip
from pathlib import Path

from seedbed.curation.blobs import ReadingConfig
from seedbed.curation.documents import Document, Rejection
from seedbed.curation.sources import fingerprint_sources, read_sources
from seedbed.curation.units import Unit, plan_units

_PAGE = "<title>{0}</title><main><p>This is the page that is called {0}, and it says so.</p></main>"
_NAMESPACE = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'


def _urls(*addresses: str) -> bytes:
    listed = "".join(f"<url><loc> {address} </loc><lastmod>2024-01-01</lastmod></url>" for address in addresses)
    return f'<?xml version="1.0"?>\n<urlset {_NAMESPACE}>{listed}</urlset>'.encode()


def _site(folder: Path) -> Path:
    for place in ("index.html", "guide.html", "blog/index.html", "www.x.org/mirrored", "a b.html", "find?q=1&p=2"):
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_PAGE.format(place))
    (folder / "more.xml.gz").write_bytes(gzip.compress(_urls("https://www.x.org/a%20b.html", "https://x.org/guide")))
    (folder / "first.xml").write_bytes(
        _urls(
            "https://x.org/guide",
            "https://x.org/",
            "https://x.org/blog/",
            "https://www.x.org/mirrored",
            "https://x.org/find?q=1&amp;p=2",
            "https://x.org/gone",
            "https://x.org/%2e%2e/%2e%2e/etc/passwd",
            "https://../etc/passwd",
            "https://[broken",
        )
    )
    index = "".join(f"<sitemap><loc>https://x.org/{name}</loc></sitemap>" for name in ("first.xml", "more.xml.gz"))
    path = folder / "sitemap.xml"
    path.write_text(
        f"<sitemapindex {_NAMESPACE}>{index}<sitemap><loc>https://x.org/no.xml</loc></sitemap></sitemapindex>"
    )
    return path


def test_listed_pages_are_read_in_order_with_their_addresses(tmp_path: Path) -> None:
    sitemap = _site(tmp_path)
    pieces = list(read_sources([str(sitemap)], ReadingConfig()))
    documents = [piece for piece in pieces if isinstance(piece, Document)]
    assert [(one.title, one.metadata["url"]) for one in documents] == [
        ("guide.html", "https://x.org/guide"),
        ("index.html", "https://x.org/"),
        ("blog/index.html", "https://x.org/blog/"),
        ("www.x.org/mirrored", "https://www.x.org/mirrored"),
        ("find?q=1&p=2", "https://x.org/find?q=1&p=2"),
        ("a b.html", "https://www.x.org/a%20b.html"),
    ]
    refused = {piece.id: piece.rule for piece in pieces if isinstance(piece, Rejection)}
    assert refused == {
        "sitemap.xml!gone": "not_saved",
        "sitemap.xml!../../etc/passwd": "unsafe_path",
        "sitemap.xml!etc/passwd": "unsafe_path",
        "sitemap.xml!https://[broken": "not_saved",
        "sitemap.xml!no.xml": "not_saved",
    }
    assert len({piece.id for piece in pieces}) == len(pieces)
    units = [Unit.from_json(unit.to_json()) for unit in plan_units([str(sitemap)], ReadingConfig().archives)]
    assert [piece for unit in units for piece in unit.pieces(ReadingConfig())] == pieces


def test_its_pages_count_in_the_fingerprint(tmp_path: Path) -> None:
    sitemap = _site(tmp_path)
    before = fingerprint_sources([str(sitemap)])
    (tmp_path / "guide.html").write_text(_PAGE.format("changed"))
    assert fingerprint_sources([str(sitemap)]) != before


def test_faults_of_sitemaps_are_told(tmp_path: Path) -> None:
    whole = gzip.compress(_urls(*(f"https://x.org/{number}" for number in range(9_000))))
    (tmp_path / "cut.xml.gz").write_bytes(whole[: len(whole) // 2])
    (piece,) = read_sources([str(tmp_path / "cut.xml.gz")], ReadingConfig())
    assert isinstance(piece, Rejection)
    assert (piece.rule, "cannot be read to its end" in piece.detail) == ("unreadable", True)
    (tmp_path / "other.xml").write_text("<note>No sitemap, but a file that somebody named.</note>")
    (piece,) = read_sources([str(tmp_path / "other.xml")], ReadingConfig())
    assert isinstance(piece, Document)
