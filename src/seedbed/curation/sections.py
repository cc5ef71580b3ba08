"""Long documents in sections, so that one long file still gives a corpus with train, validation and test."""

from __future__ import annotations

from collections.abc import Iterator

from .documents import Document
from .extraction import is_heading


def split_sections(document: Document, max_characters: int | None) -> Iterator[Document]:
    """The document itself where it is short enough, else its sections: about equally long, none longer than
    `max_characters`, cut before a heading if one is near, else at an empty line, a line end, a space, or anywhere.

    A section is called after its own first heading, else like the document.
    """
    if max_characters is None or len(document.text) <= max_characters:
        yield document
        return
    parts = list(_pack(document.text, max_characters))
    if len(parts[-1]) < max_characters // 10 and len(parts[-2]) + len(parts[-1]) + 2 <= max_characters:
        parts[-2:] = ["\n\n".join(parts[-2:])]
    for number, text in enumerate(parts, start=1):
        heading = _heading(text)
        metadata = {**document.metadata, "parent": document.id, "part": number, "parts": len(parts)}
        yield Document(f"{document.id}#part-{number}", text, heading or document.title, document.source, metadata)


def _pack(text: str, limit: int) -> Iterator[str]:
    target = -(-len(text) // -(-len(text) // limit))
    pending: list[str] = []
    size = 0
    for block in _blocks(text, limit):
        full = size + len(block) > limit or size >= target
        if pending and (full or (size >= target * 3 // 4 and block.endswith("\n\n") and is_heading(block[:-2]))):
            yield "".join(pending).strip("\n")
            pending, size = [], 0
        pending.append(block)
        size += len(block)
    if pending:
        yield "".join(pending).strip("\n")


def _blocks(text: str, limit: int) -> Iterator[str]:
    """Paragraphs with the empty lines after them; paragraphs longer than `limit` in pieces."""
    at = 0
    while at < len(text):
        end = text.find("\n\n", at)
        end = len(text) if end < 0 else end + 2
        block, at = text[at:end], end
        while len(block) > limit:
            cut = max(block.rfind("\n", limit // 2, limit), 0) or max(block.rfind(" ", limit // 2, limit), 0)
            cut = cut + 1 if cut else limit
            yield block[:cut]
            block = block[cut:]
        if block:
            yield block


def _heading(text: str) -> str:
    first, _, rest = text.partition("\n")
    return first if rest.startswith("\n") and is_heading(first) else ""
