"""WARC, tar and PDF: what is read, and that every fault is named and the rest is read."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from seedbed.curation.blobs import ArchiveLimits, ReadingConfig
from seedbed.curation.documents import Document, Rejection
from seedbed.curation.sources import read_sources


def _read(path: Path, **options: object) -> tuple[dict[str, Document], dict[str, Rejection]]:
    pieces = list(read_sources([str(path)], ReadingConfig().replace(**options)))
    assert len({piece.id for piece in pieces}) == len(pieces)
    return (
        {piece.id: piece for piece in pieces if isinstance(piece, Document)},
        {piece.id: piece for piece in pieces if isinstance(piece, Rejection)},
    )


def _record(
    body: bytes, kind: str = "text/html", status: int = 200, url: str = "http://x.org/a", extra: str = ""
) -> bytes:
    http = f"HTTP/1.1 {status} OK\r\nContent-Type: {kind}\r\n{extra}Content-Length: {len(body)}\r\n\r\n".encode() + body
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2024-01-02T03:04:05Z\r\n"
        "WARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-000000000000>\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
    )
    return head.encode() + http + b"\r\n\r\n"


_PAGE = b"<html><head><title>Of rivers</title></head><body><p>%s</p></body></html>" % (
    b"The river runs to the sea. " * 9
)


def test_pages_of_a_crawl(tmp_path: Path) -> None:
    latin = _PAGE.replace(b"sea", b"m\xe8re")
    packed = gzip.compress(_PAGE)
    records = [
        _record(_PAGE),
        _record(b"not found", status=404),
        _record(b"\x89PNG\r\n", kind="image/png"),
        _record(latin, kind="text/html; charset=iso-8859-1", url="http://x.org/b"),
        _record(packed, extra="Content-Encoding: gzip\r\n"),
        _record(b"<div>" * 3000 + b"deep"),
        _record(b"x" * 5000),
        _record(b"a < b, plainly", kind="text/plain"),
    ]
    path = tmp_path / "crawl.warc.gz"
    path.write_bytes(b"".join(map(gzip.compress, records)))
    documents, rejected = _read(path, max_document_bytes=20_000)
    assert list(documents) == [f"crawl.warc.gz#{n}" for n in (1, 4, 5, 7, 8)]
    first = documents["crawl.warc.gz#1"]
    assert first.title == "Of rivers"
    assert first.text.startswith("The river runs to the sea.")
    assert first.metadata == {"url": "http://x.org/a", "date": "2024-01-02T03:04:05Z"}
    assert "mère" in documents["crawl.warc.gz#4"].text
    assert documents["crawl.warc.gz#5"].text == first.text
    assert {id: one.rule for id, one in rejected.items()} == {"crawl.warc.gz#6": "too_deep"}
    assert _read(path, max_document_bytes=1024)[1]["crawl.warc.gz#7"].rule == "too_large"
    assert documents["crawl.warc.gz#8"].text == "a < b, plainly"
    # Without gzip, cut off, damaged, and something else altogether.
    plain = tmp_path / "crawl.warc"
    plain.write_bytes(b"".join(records[:2]))
    assert len(_read(plain)[0]) == 1
    path.write_bytes(path.read_bytes()[:-20])
    assert _read(path)[1]["crawl.warc.gz"].rule == "broken_gzip"
    plain.write_bytes(records[0] + b"WARC/1.0\r\nContent-Length: 99999999999999999999999\r\n\r\nx")
    assert [one.rule for one in _read(plain)[1].values()] == ["broken_warc"]
    plain.write_bytes(b"no such thing")
    assert [one.rule for one in _read(plain)[1].values()] == ["broken_warc"]


def test_real_crawls(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    documents, rejected = _read(shared_data("warc/sample-0000.warc.gz"))
    assert len(documents) == 22
    assert not rejected
    assert all(one.metadata["url"].startswith("http") for one in documents.values())
    assert sum(len(one.text) > 500 for one in documents.values()) > 15
    cut = tmp_path / "sample-0000.warc.gz"
    cut.write_bytes(shared_data("warc/sample-0000.warc.gz").read_bytes()[:100_000])
    before, rejected = _read(cut)
    assert 5 < len(before) < 22
    assert all(documents[id].text == one.text for id, one in before.items())
    assert [one.rule for one in rejected.values()] == ["broken_gzip"]


def _tar(path: Path, members: list[tuple[str, bytes | str]]) -> Path:
    """Members are (name, bytes), or (name, target) of a link."""
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("name", ["docs.tar", "docs.tar.gz", "docs.tgz"])
def test_members_of_tar(tmp_path: Path, name: str) -> None:
    members: list[tuple[str, bytes | str]] = [
        ("b/second.txt", b"Text of the second."),
        ("a.md", b"# First\n\ntext"),
        ("rows.jsonl.gz", gzip.compress(b'{"text": "a row"}\n')),
        ("../../etc/passwd.txt", b"x"),
        ("/abs.txt", b"x"),
        ("link.txt", "/etc/passwd"),
        ("picture.png", b"x"),
        (".hidden.txt", b"x"),
        ("a.md", b"# First\n\nagain"),
        ("bad.txt", b"ab\xff"),
    ]
    path = _tar(tmp_path / name, members)
    documents, rejected = _read(path)
    assert [document.text.strip() for document in documents.values()][:2] == ["Text of the second.", "First\n\n\ntext"]
    assert list(documents) == [f"{name}!{member}" for member in ("b/second.txt", "a.md", "rows.jsonl.gz#1", "a.md~2")]
    assert Counter(one.rule for one in rejected.values()) == {
        "unsafe_path": 2, "symlink": 1, "unsupported": 1, "not_utf8": 1
    }  # fmt: skip
    assert not (tmp_path / "etc").exists()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 4])
    assert "broken_tar" in {one.rule for one in _read(path)[1].values()}
    path.write_bytes(os.urandom(2000))
    assert {one.rule for one in _read(path)[1].values()} == {"broken_tar"}


def test_a_tar_that_expands_without_end(tmp_path: Path) -> None:
    path = _tar(tmp_path / "bomb.tar.gz", [("a.txt", b"a b " * (8 << 20))])
    limits = ArchiveLimits(max_ratio=2)
    rejected = _read(path, archives=limits)[1]
    assert {one.rule for one in rejected.values()} == {"zip_bomb"}
    many = _tar(tmp_path / "many.tar", [(f"{n}.txt", b"x") for n in range(5)])
    documents, rejected = _read(many, archives=ArchiveLimits(max_members=3))
    assert len(documents) == 3
    assert rejected["many.tar"].rule == "zip_bomb"


def _pdf(text: str) -> bytes:
    """A PDF of one page with a line of text."""
    stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % len(out)
    return out + b"xref\n0 6\n0000000000 65535 f \n" + table + end


def test_text_of_pdf(tmp_path: Path) -> None:
    pytest.importorskip("pypdf")
    (tmp_path / "paper.pdf").write_bytes(_pdf("Of rivers and of seas."))
    (tmp_path / "broken.pdf").write_bytes(_pdf("lost")[:120])
    (tmp_path / "none.pdf").write_bytes(b"nothing of the kind")
    documents, rejected = _read(tmp_path)
    assert documents["paper.pdf"].text == "Of rivers and of seas."
    assert documents["paper.pdf"].metadata == {"pages": 1}
    assert {id: one.rule for id, one in rejected.items()} == {"broken.pdf": "broken_pdf", "none.pdf": "broken_pdf"}
