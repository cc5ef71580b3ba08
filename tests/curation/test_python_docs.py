"""The embedded default: what this Python carries."""

from __future__ import annotations

import inspect
import json
from collections import Counter
from pathlib import Path

import pytest

from seedbed.curation.documents import Document
from seedbed.curation.python_docs import read_python_docs


@pytest.fixture(scope="module")
def documents() -> dict[str, Document]:
    pieces = list(read_python_docs())
    assert all(isinstance(piece, Document) for piece in pieces)
    found = {piece.id: piece for piece in pieces if isinstance(piece, Document)}
    assert len(found) == len(pieces)
    return found


def test_there_are_thousands_of_each_kind(documents: dict[str, Document]) -> None:
    kinds = Counter(document.metadata["kind"] for document in documents.values())
    assert 7_000 < len(documents) < 12_000
    assert 2_000_000 < sum(len(document.text) for document in documents.values()) < 4_000_000
    assert min(kinds[kind] for kind in ("method", "function", "class", "module", "topic")) >= 50
    assert not any(f"{Path(json.__file__).parent.parent}" in document.text for document in documents.values())


def test_a_document_is_name_signature_and_docstring(documents: dict[str, Document]) -> None:
    dumps = documents["python/json.dumps"]
    heading, _, body = dumps.text.partition("\n\n")
    assert heading == f"json.dumps{inspect.signature(json.dumps)}"
    assert body == inspect.getdoc(json.dumps)
    assert dumps.title == "json.dumps"
    assert dumps.metadata == {"kind": "function", "name": "json.dumps"}
    topic = documents["python/topics/assert"]
    assert topic.title == "assert"
    assert topic.text.startswith('The "assert" statement\n\nAssert statements')


def test_signatures_as_callers_write_them(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text('''"""Module."""
if True:
    class C(object):
        """Class."""
        def __init__(self, a, /, b=1, *c, d: int = 2, **e):
            """Init."""
        @staticmethod
        def s(x=1):
            """Static."""
        @classmethod
        def k(cls, y): "Class method."
        @property
        def p(self) -> int:
            """Property."""
        class Inner:
            """Inner."""
try:
    async def f(x, y=[1]) -> str:
        """F."""
        def hidden(): """No."""
except ValueError:
    def f():
        """Other."""
def empty(): "  "
''')
    (tmp_path / "broken.py").write_text("def (:")
    (tmp_path / "test").mkdir()
    (tmp_path / "test/t.py").write_text('"""Test."""')
    pieces = [piece for piece in read_python_docs(tmp_path) if "topics" not in piece.id]
    assert [(piece.id, piece.text.partition("\n")[0]) for piece in pieces] == [
        ("python/broken", ""),
        ("python/m", "m"),
        ("python/m.C", "m.C(a, /, b=1, *c, d: int=2, **e)"),
        ("python/m.C.__init__", "m.C.__init__(a, /, b=1, *c, d: int=2, **e)"),
        ("python/m.C.s", "m.C.s(x=1)"),
        ("python/m.C.k", "m.C.k(y)"),
        ("python/m.C.p", "m.C.p"),
        ("python/m.C.Inner", "m.C.Inner"),
        ("python/m.f", "m.f(x, y=[1]) -> str"),
        ("python/m.f#2", "m.f()"),
    ]
