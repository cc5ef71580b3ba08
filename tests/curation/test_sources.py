"""Reading: every format, plain, gzipped and zipped; every fault becomes a named rejection and the rest is read."""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seedbed.core.errors import ConfigError, DataError
from seedbed.curation.blobs import ArchiveLimits, ReadingConfig
from seedbed.curation.documents import Document, Rejection
from seedbed.curation.sources import fingerprint_sources, read_sources

_CONFIG = ReadingConfig()


def _read(*paths: Path, **options: object) -> tuple[dict[str, Document], dict[str, Rejection]]:
    pieces = list(read_sources([str(path) for path in paths], _CONFIG.replace(**options)))
    documents = {piece.id: piece for piece in pieces if isinstance(piece, Document)}
    rejections = {piece.id: piece for piece in pieces if isinstance(piece, Rejection)}
    assert len(documents) + len(rejections) == len(pieces), "ids are not unique"
    return documents, rejections


def _parquet(columns: dict[str, list[object]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def _arrow(columns: dict[str, list[object]], file: bool) -> bytes:
    table = pa.table(columns)
    buffer = io.BytesIO()
    with (pa.ipc.new_file if file else pa.ipc.new_stream)(buffer, table.schema) as writer:
        writer.write_table(table, max_chunksize=1)
    return buffer.getvalue()


def _zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def _zip(path: Path, members: dict[str | zipfile.ZipInfo, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


_FILES = {
    "a/plain.txt": (b"First line\n\nBody text.", {"a/plain.txt": "First line"}),
    "a/page.html": (
        b"<title>Page - Site</title><main><h1>Page</h1><p>A paragraph with words in it.</p></main>",
        {"a/page.html": "Page"},
    ),
    "b/notes.md": (b"# Notes\n\nSome *text*.", {"b/notes.md": "Notes"}),
    "b/guide.rst": (b"Guide\n=====\n\nSome text.", {"b/guide.rst": "Guide"}),
    "rows.jsonl": (b'{"text": "one", "title": "T"}\n\n{"text": "two"}\n', {"rows.jsonl#1": "T", "rows.jsonl#3": ""}),
    "lines.json": (b'{"text": "one", "title": "T"}\n{"text": "two"}\n', {"lines.json#1": "T", "lines.json#2": ""}),
    "list.json": (b'[\n {"text": "one", "title": "T"},\n {"text": "two"}\n]', {"list.json#1": "T", "list.json#2": ""}),
    "one.json": (b'{\n "text": "one",\n "title": "T"\n}', {"one.json#1": "T"}),
    "data.arrow": (
        _arrow({"text": ["x", "y"], "title": ["X", "Y"]}, file=False),
        {"data.arrow#1": "X", "data.arrow#2": "Y"},
    ),
    "feather.arrow": (_arrow({"text": ["x", "y"]}, file=True), {"feather.arrow#1": "", "feather.arrow#2": ""}),
    "table.csv": (b'name,text\nN,"a, b\nc"\n', {"table.csv#1": "N"}),
    "wide.tsv": (b"title\tbody\nN\tab\n", {"wide.tsv#1": "N"}),
    "data.parquet": (
        _parquet({"text": ["x", "y"], "title": ["X", "Y"]}),
        {"data.parquet#1": "X", "data.parquet#2": "Y"},
    ),
}


@pytest.mark.parametrize("packed", ["plain", "gzip", "zstd", "zip", "gzip in zip", "zstd in zip"])
def test_every_format_plain_gzipped_and_zipped(tmp_path: Path, packed: str) -> None:
    expected = {}
    members = {}
    for name, (data, titles) in _FILES.items():
        suffix, pack = {"gzip": (".gz", gzip.compress), "zstd": (".zst", _zstd)}.get(packed.split()[0], ("", bytes))
        data = pack(data)
        prefix = "all.zip!" if packed.endswith("zip") and packed != "gzip" else ""
        expected |= {f"{prefix}{id.replace(name, name + suffix)}": title for id, title in titles.items()}
        if prefix:
            members[name + suffix] = data
        else:
            path = tmp_path / (name + suffix)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
    if members:
        _zip(tmp_path / "all.zip", members)
    documents, rejections = _read(tmp_path)
    assert not rejections
    assert {id: document.title for id, document in documents.items()} == expected
    assert not any(str(tmp_path) in f"{document}" for document in documents.values())


def _link(info_name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(info_name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def _broken(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _zip_bytes(members: dict[str | zipfile.ZipInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


_FAULTS: list[tuple[str, bytes, str, str, str]] = [  # file, content, id, rule, words of the detail
    ("x.txt", b"abc\xff", "x.txt", "not_utf8", "byte 3"),
    ("x.txt", b"ab\x00c", "x.txt", "binary", "NUL at byte 2"),
    ("x.html", b"<p>\xff", "x.html", "not_utf8", "byte 3"),
    ("x.png", b"\x89PNG", "x.png", "unsupported", "not a kind of file"),
    ("x.txt.gz", b"not gzip", "x.txt.gz", "broken_gzip", "Not a gzipped file"),
    ("x.txt.gz", _broken(gzip.compress(os.urandom(999).hex().encode())), "x.txt.gz", "broken_gzip", "end"),
    ("x.txt.gz", gzip.compress(bytes(17 << 20)), "x.txt.gz", "binary", "NUL"),
    ("x.txt.gz", gzip.compress(b"a" * (17 << 20)), "x.txt.gz", "zip_bomb", "expands"),
    ("x.jsonl.zst", b"not zstd", "x.jsonl.zst", "broken_zstd", "ZSTD"),
    ("x.txt.zst", _broken(_zstd(os.urandom(999).hex().encode())), "x.txt.zst", "broken_zstd", "Truncated"),
    ("x.txt.zst", _zstd(b"a" * (17 << 20)), "x.txt.zst", "zip_bomb", "expands"),
    ("x.json", b'{\n "splits": 3\n}', "x.json#1", "no_text_column", "columns found: splits"),
    ("x.json", b'[{"text": "a"},', "x.json", "bad_json", "not JSON"),
    ("x.json", b"\xff\xfe", "x.json", "bad_json", "not JSON"),
    ("x.json", b"[" * 100_000, "x.json", "bad_json", "RecursionError"),
    ("x.arrow", b"ARROW1 no", "x.arrow", "broken_arrow", "not readable as Arrow"),
    ("x.arrow", _broken(_arrow({"text": ["a" * 99]}, file=True)), "x.arrow", "broken_arrow", "not readable"),
    ("x.arrow", _arrow({"a": [1], "b": [2]}, file=False), "x.arrow", "no_text_column", "columns found: a, b"),
    ("x.zip", b"not zip", "x.zip", "broken_zip", "not a readable zip"),
    ("x.zip", _zip_bytes({"../up.txt": b"x"}), "x.zip!../up.txt", "unsafe_path", "leaves the archive"),
    ("x.zip", _zip_bytes({"/etc/x.txt": b"x"}), "x.zip!/etc/x.txt", "unsafe_path", "leaves the archive"),
    ("x.zip", _zip_bytes({"C:\\x.txt": b"x"}), "x.zip!C:\\x.txt", "unsafe_path", "leaves the archive"),
    ("x.zip", _zip_bytes({_link("l.txt"): b"/etc/passwd"}), "x.zip!l.txt", "symlink", "link"),
    ("x.zip", _zip_bytes({"b.txt": b"a" * (17 << 20)}), "x.zip!b.txt", "zip_bomb", "max_ratio"),
    ("x.jsonl", b'{"text": "fine"}\n{"text": \n', "x.jsonl#2", "bad_json", "line 2 is not JSON"),
    ("x.jsonl", b'["a"]\n', "x.jsonl#1", "bad_json", "not a JSON object"),
    ("x.jsonl", b'{"text": "\xff"}\n', "x.jsonl#1", "not_utf8", "line 1"),
    ("x.jsonl", b"[" * 100_000, "x.jsonl#1", "bad_json", "line 1"),
    ("x.jsonl", b'{"prompt": "a", "text": 3}', "x.jsonl#1", "no_text_column", "columns found: prompt, text"),
    ("x.csv", b"a;b\n1;2\n", "x.csv", "no_text_column", "columns found: a, b"),
    ("x.csv", b"a,text\n1,2,3\n", "x.csv#1", "bad_csv", "3 cells"),
    ("x.csv", b"a,text\n1,\xff\n", "x.csv#1", "not_utf8", "row 1"),
    ("x.parquet", b"PAR1 no", "x.parquet", "broken_parquet", "not readable as Parquet"),
    ("x.parquet", _parquet({"a": [1], "b": [2]}), "x.parquet", "no_text_column", "columns found: a, b"),
    ("x.parquet", _parquet({"text": [1]}), "x.parquet", "no_text_column", "holds no text"),
    ("x.parquet", _parquet({"text": [None, "x"]}), "x.parquet#1", "empty", "row 1 has no text"),
    ("x.html", b"<div>" * 100_000, "x.html", "too_deep", "nested"),
    ("x.txt", "naïve ".encode() + "naïve".encode("cp1252"), "x.txt", "not_utf8", "byte 9"),
]


@pytest.mark.parametrize(("name", "content", "id", "rule", "words"), _FAULTS)
def test_a_fault_is_rejected_and_the_rest_is_read(
    tmp_path: Path, name: str, content: bytes, id: str, rule: str, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "z-good.txt").write_text("good")
    documents, rejections = _read(tmp_path)
    assert "z-good.txt" in documents
    assert list(rejections) == [id]
    assert rejections[id].rule == rule
    assert words in rejections[id].detail


def test_limits_are_config(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(json.dumps({"text": "a" * 2000}) + '\n{"text": "b"}\n')
    (tmp_path / "x.csv").write_text("text\n" + "a" * 2000 + "\n")
    (tmp_path / "x.html").write_text("a" * 2000)
    (tmp_path / "x.parquet").write_bytes(_parquet({"text": ["a" * 2000]}))
    _zip(tmp_path / "x.zip", {"1.txt": b"a" * 60, "2.txt": b"b" * 60})
    documents, rejections = _read(
        tmp_path, max_document_bytes=1024, archives=ArchiveLimits(max_archive_bytes=100).model_dump()
    )
    assert sorted(documents) == ["x.jsonl#2", "x.zip!1.txt"]
    assert {id: rejection.rule for id, rejection in rejections.items()} == {
        "x.jsonl#1": "too_large",
        "x.csv#line-1": "bad_csv",
        "x.html": "too_large",
        "x.parquet#1": "too_large",
        "x.zip!2.txt": "zip_bomb",
    }


def test_encodings_of_the_policy(tmp_path: Path) -> None:
    text = "naïve café – “quoted”"
    (tmp_path / "mark8.txt").write_bytes(text.encode("utf-8-sig"))
    (tmp_path / "mark16.txt").write_bytes(text.encode("utf-16"))
    (tmp_path / "declared.html").write_bytes(f'<meta charset="latin1"><p>{text}'.encode("cp1252"))
    (tmp_path / "other.txt").write_bytes(text.encode("cp1252"))
    documents, rejections = _read(tmp_path)
    assert list(rejections) == ["other.txt"]
    assert all(text in document.text for document in documents.values())
    documents, rejections = _read(tmp_path, fallback_encoding="cp1252")
    assert not rejections
    assert documents["other.txt"].text == text
    with pytest.raises(ConfigError, match="unknown encoding 'cp99'"):
        _read(tmp_path, fallback_encoding="cp99")


def test_links_pipes_and_unreadable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/a.txt").write_text("a")
    (tmp_path / "inner/up").symlink_to(tmp_path)
    (tmp_path / "self.txt").symlink_to("self.txt")
    (tmp_path / "closed.txt").write_text("x")
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / ".hidden").write_text("x")
    (tmp_path / os.fsdecode(b"bad\xff.txt")).write_text("named badly")
    real_open = open

    def refusing_open(path: object, *args: object, **kwargs: object) -> object:
        if str(path).endswith("closed.txt"):  # root may read everything, so permissions alone test nothing
            raise PermissionError(13, "Permission denied")
        return real_open(path, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr("builtins.open", refusing_open)
    documents, rejections = _read(tmp_path)
    assert sorted(documents) == ["bad\\xff.txt", "inner/a.txt"]
    assert {id: rejection.rule for id, rejection in rejections.items()} == {
        "inner/up": "symlink_loop",
        "self.txt": "unreadable",
        "closed.txt": "unreadable",
        "pipe.txt": "unreadable",
    }
    assert "Permission denied" in rejections["closed.txt"].detail


@pytest.mark.parametrize(("line", "kept"), [("a", False), ("word ", True)])
def test_a_huge_single_line_stays_within_bounded_memory(tmp_path: Path, line: str, kept: bool) -> None:
    size = 30_000_000
    (tmp_path / "line.txt").write_text(line * (size // len(line)))
    tracemalloc.start()
    characters = 0
    for piece in read_sources([str(tmp_path)], _CONFIG.replace(max_document_bytes=1 << 20)):
        assert isinstance(piece, Document) == kept
        if isinstance(piece, Document):
            assert len(piece.text) <= 3 << 20
            characters += len(piece.text)
        else:
            assert piece.rule == "too_large"
            characters += int(piece.value or 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert characters == size
    assert peak < 16 << 20


def test_of_a_page_of_500_megabytes_only_the_beginning_is_read(tmp_path: Path) -> None:
    with open(tmp_path / "page.html", "wb") as file:
        file.write(b"<p>It begins as any page does.")
        file.truncate(500_000_000)
    tracemalloc.start()
    (piece,) = read_sources([str(tmp_path)], _CONFIG)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(piece, Rejection)
    assert (piece.rule, piece.text[:30]) == ("too_large", "<p>It begins as any page does.")
    assert peak < 4 * _CONFIG.max_document_bytes


def test_columns_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("question;answer;n\nQ;A;7\n")
    documents, _ = _read(tmp_path, text_column="answer", title_column="question")
    assert documents["x.csv#1"] == Document("x.csv#1", "A", "Q", "x.csv", {"n": "7"})
    _, rejections = _read(tmp_path, text_column="reply")
    assert "no column reply (columns found: question, answer, n)" in rejections["x.csv"].detail


def test_roots_patterns_and_missing_paths(tmp_path: Path) -> None:
    for folder in ("one/docs", "two/docs"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.txt").write_text(folder)
    documents, _ = _read(tmp_path / "one/docs", tmp_path / "two/docs", tmp_path / "one/docs/a.txt")
    assert sorted(documents) == ["a.txt", "docs/a.txt", "docs~2/a.txt"]
    documents, _ = _read(tmp_path / "*/docs/*.txt")
    assert [document.text for document in documents.values()] == ["one/docs", "two/docs"]
    for folder in ("one", "two"):
        (tmp_path / folder / "rows.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n'))
    documents, _ = _read(tmp_path / "one/rows.jsonl.gz", tmp_path / "two/rows.jsonl.gz")
    assert sorted(documents) == ["rows.jsonl.gz#1", "rows.jsonl.gz~2#1"]
    with pytest.raises(DataError, match="no such file or folder"):
        _read(tmp_path / "three")
    with pytest.raises(DataError, match="matches no file"):
        _read(tmp_path / "*.md")


def test_fingerprint_is_of_names_and_contents_alone(tmp_path: Path) -> None:
    def make(name: str, change: Callable[[Path], object] = lambda _: None) -> str:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "a.txt").write_text("a")
        (folder / "b.txt").write_text("b")
        change(folder)
        return fingerprint_sources([str(folder)])

    first = make("1")
    assert make("2") == first
    assert make("3", lambda folder: (folder / "a.txt").write_text("c")) != first
    assert make("4", lambda folder: (folder / "a.txt").rename(folder / "c.txt")) != first
    assert fingerprint_sources(["--python-docs"]) != first
