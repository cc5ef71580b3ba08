"""One page of HTML, or one plain text, from its bytes."""

from __future__ import annotations

import codecs

from . import extraction
from .blobs import ReadingConfig
from .decoding import Undecodable, decode_html
from .documents import EXCERPT_CHARACTERS, Document, Piece, Rejection
from .page_process import PageCrashError, PageTimeError, html_in_time


def page_document(
    id: str,
    source: str,
    data: bytes,
    config: ReadingConfig,
    *,
    title: str,
    charset: str | None = None,
    plain: bool = False,
) -> Piece:
    """The document that a page is, or why it is none. Size, depth and time are bounded.

    Args:
        data: up to one byte more than `max_document_bytes`.
        title: for pages without one.
        charset: what the server declared.
        plain: it is text without markup.
    """
    limit = config.max_document_bytes
    if len(data) > limit:
        excerpt = data[:EXCERPT_CHARACTERS].decode("utf-8", "backslashreplace")
        return Rejection(id, source, excerpt, "too_large", "page larger than max_document_bytes", None, limit)
    try:
        page = decode_html(data, _known(charset) or config.fallback_encoding)
    except Undecodable as error:
        excerpt = error.excerpt.decode("utf-8", "backslashreplace")[:EXCERPT_CHARACTERS]
        return Rejection(id, source, excerpt, error.rule, error.detail, error.offset)
    if plain:
        return Document(id, page, title, source)
    depth = extraction.nesting(page)
    if depth > extraction.MAX_NESTING:
        excerpt, detail = page[:EXCERPT_CHARACTERS], "elements nested deeper than a page has them"
        return Rejection(id, source, excerpt, "too_deep", detail, depth, extraction.MAX_NESTING)
    excerpt = page[:EXCERPT_CHARACTERS]
    try:
        found, text = html_in_time(page, config.max_page_seconds)
    except PageTimeError:
        detail = "its extraction takes longer than max_page_seconds"
        return Rejection(id, source, excerpt, "too_slow", detail, None, config.max_page_seconds)
    except PageCrashError as error:
        return Rejection(id, source, excerpt, "parser_crash", f"the HTML parser crashed ({error})")
    return Document(id, text, found or title, source)


def _known(charset: str | None) -> str | None:
    """A server's charset, if Python has it as an encoding of texts."""
    try:
        return charset if charset and codecs.lookup(charset)._is_text_encoding else None
    except LookupError:
        return None
