"""What flows through curation: documents, and rejections that say why a piece went no further."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

# Faults found while reading keep only the beginning of what could not be read: the source still holds it all.
EXCERPT_CHARACTERS = 2_000
REPAIRED = {"encoding": "repaired"}  # in the metadata of documents that were decoded anew


@dataclass(frozen=True)
class Document:
    """One text.

    Attributes:
        id: unique within a corpus; the source, with `#row` in tables and `#part-N` in sections.
        text: complete by itself.
        title: a name that a person would give it, "" if there is none.
        source: path below the source root, `!member` within a zip; never absolute.
        metadata: JSON values.
    """

    id: str
    text: str
    title: str
    source: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rejection:
    """A document, or a part of a source that could not become one, with the rule that refused it.

    Attributes:
        rule: name of the rule ("not_utf8", "min_characters").
        value: what the rule measured, if it measures (byte offset, line number, share).
        threshold: the bound that the value broke, if there is one.
        detail: one sentence for a person.
        title, metadata: of the document, where there was one.
    """

    id: str
    source: str
    text: str
    rule: str
    detail: str
    value: float | None = None
    threshold: float | None = None
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


Piece = Document | Rejection
Pieces = Iterator[Piece]


def reject(
    document: Document, rule: str, detail: str, value: float | None = None, threshold: float | None = None
) -> Rejection:
    """The rejection of a whole document, with all of its text."""
    return Rejection(
        document.id, document.source, document.text, rule, detail, value, threshold, document.title, document.metadata
    )


def row_of_document(document: Document, language: str) -> dict[str, Any]:
    """The corpus columns of a document."""
    return {
        "id": document.id,
        "text": document.text,
        "title": document.title,
        "source": document.source,
        "language": language,
        "metadata": _json(document.metadata),
    }


def row_of_rejection(rejection: Rejection) -> dict[str, Any]:
    """The columns of rejected/."""
    row = {name: getattr(rejection, name) for name in Rejection.__dataclass_fields__}
    text = rejection.text.encode("utf-8", "replace").decode()
    return {**row, "text": text, "metadata": _json(rejection.metadata)}


def _json(metadata: Mapping[str, Any]) -> str:
    # A lone surrogate, which no UTF-8 can hold, stays what it was in the JSON: an escape.
    written = json.dumps(dict(metadata), ensure_ascii=False, sort_keys=True)
    return written.encode("utf-8", "backslashreplace").decode()
