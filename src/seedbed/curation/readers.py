"""From the bytes of one file to documents, one reader per format; a fault becomes a Rejection and reading goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import BinaryIO

from . import extraction, tables
from .blobs import READ_ERRORS, Blob, ReadingConfig, read_fault
from .decoding import Undecodable, find_encoding, text_chunks
from .documents import EXCERPT_CHARACTERS, Document, Pieces, Rejection
from .pages import page_document
from .pdf import read_pdf
from .web_archives import read_warc


def read_blob(blob: Blob, config: ReadingConfig) -> Pieces:
    """The documents of one file, and a Rejection for each part that cannot be read."""
    try:
        yield from _reader(blob, config)
    except Undecodable as error:
        excerpt = error.excerpt.decode("utf-8", "backslashreplace")[:EXCERPT_CHARACTERS]
        yield Rejection(blob.fault_id, blob.source, excerpt, error.rule, error.detail, error.offset)
    except READ_ERRORS as error:
        yield read_fault(blob, error)


def _reader(blob: Blob, config: ReadingConfig) -> Pieces:
    if blob.format == "html":
        return _read_html(blob, config)
    if blob.format == "warc":
        return read_warc(blob, config)
    if blob.format == "pdf":
        return read_pdf(blob, config)
    if blob.format == "jsonl":
        return tables.read_jsonl(blob, config)
    if blob.format == "json":
        return tables.read_json(blob, config)
    if blob.format == "csv":
        return tables.read_csv(blob, config)
    if blob.format == "parquet":
        return tables.read_parquet(blob, config)
    if blob.format == "arrow":
        return tables.read_arrow(blob, config)
    return _read_text(blob, config)


def _read_text(blob: Blob, config: ReadingConfig) -> Pieces:
    extract = {"markdown": extraction.markdown, "rst": extraction.rst}.get(blob.format, extraction.plain)
    with blob.open() as stream:
        # The whole file is checked before its first document goes on, so that a file is kept or refused as one.
        encoding = find_encoding(stream, config.fallback_encoding)
    limit = config.max_document_bytes
    with blob.open() as stream:
        for number, segment in enumerate(_segments(stream, encoding, limit), start=1):
            id = blob.source if number == 1 else f"{blob.source}#segment-{number}"
            if isinstance(segment, _LongWord):
                detail = "one word longer than max_document_bytes; only its beginning is kept here"
                yield Rejection(id, blob.source, segment.excerpt, "too_large", detail, segment.characters, limit)
            else:
                title, text = extract(segment)
                yield Document(id, text, title or _stem(blob.source), blob.source)


def _stem(source: str) -> str:
    return PurePosixPath(source.rsplit("!", 1)[-1]).name.split(".")[0]


class _LongWord:
    """The beginning of a word that is too long to keep, and its length."""

    def __init__(self, beginning: str) -> None:
        self.excerpt, self.characters = beginning[:EXCERPT_CHARACTERS], len(beginning)


def _segments(stream: BinaryIO, encoding: str, limit: int) -> Iterator[str | _LongWord]:
    """A text file in pieces of about `limit` characters, cut where a paragraph, a line or at least a word ends.

    What a longer word holds is counted and not kept: memory is bounded whatever a file holds.
    """
    pending: list[str] = []
    size = 0
    long_word: _LongWord | None = None
    for chunk in text_chunks(stream, encoding):
        if long_word is not None:
            end = _first_space(chunk)
            long_word.characters += len(chunk) if end < 0 else end
            if end < 0:
                continue
            yield long_word
            long_word, chunk = None, chunk[end:]
        pending.append(chunk)
        size += len(chunk)
        if size < limit:
            continue
        text = "".join(pending)
        end = _last_break(text, limit // 2)
        if end > 0:
            yield text[:end]
            pending, size = [text[end:]], len(text) - end
        else:
            long_word, pending, size = _LongWord(text), [], 0
    if long_word is not None:
        yield long_word
    elif size:
        yield "".join(pending)


def _last_break(text: str, start: int) -> int:
    for mark in ("\n\n", "\n", " "):
        end = text.rfind(mark, start)
        if end > 0:
            return end
    return max(text.rfind("\n"), text.rfind(" "))


def _first_space(text: str) -> int:
    return min((at for at in (text.find("\n"), text.find(" ")) if at >= 0), default=-1)


def _read_html(blob: Blob, config: ReadingConfig) -> Pieces:
    with blob.open() as stream:
        data = stream.read(config.max_document_bytes + 1)
    page = page_document(blob.source, blob.source, data, config, title=_stem(blob.source))
    known = isinstance(page, Document) and blob.address
    yield replace(page, metadata={"url": blob.address}) if known else page
