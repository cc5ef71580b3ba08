"""The text layer of PDF files, by pypdf: the extra `seedbed[pdf]`. Pages that are pictures have no text to read."""

from __future__ import annotations

import io
import logging
from pathlib import PurePosixPath

from .blobs import Blob, ReadingConfig
from .documents import Document, Pieces, Rejection

_MAX_BYTES = 256 << 20
_MAX_PAGES = 20_000


def read_pdf(blob: Blob, config: ReadingConfig) -> Pieces:
    """One document: the pages' texts, with empty lines between them."""

    def refuse(rule: str, detail: str, value: float | None = None, threshold: float | None = None) -> Rejection:
        return Rejection(blob.source, blob.source, "", rule, detail, value, threshold)

    try:
        from pypdf import PdfReader
    except ImportError:
        yield refuse("needs_extra", "PDF is read with pypdf: pip install 'seedbed[pdf]'")
        return
    with blob.open() as stream:
        data = stream.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        yield refuse("too_large", "a PDF larger than is read", None, _MAX_BYTES)
        return
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what it mends is no news to the user
    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            yield refuse("unreadable", "encrypted")
            return
        count = len(reader.pages)
        if count > _MAX_PAGES:
            yield refuse("too_large", "a PDF of more pages than are read", count, _MAX_PAGES)
            return
        pages, size = list[str](), 0
        for page in reader.pages:
            pages.append(page.extract_text())
            size += len(pages[-1])
            if size > config.max_document_bytes:
                yield refuse("too_large", "more text than max_document_bytes", size, config.max_document_bytes)
                return
        title = str((reader.metadata.title if reader.metadata else None) or "")
    # A damaged file can fail anywhere in the library, with errors of any kind.
    except Exception as error:
        yield refuse(
            "broken_pdf", f"not readable as PDF ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        )
        return
    name = PurePosixPath(blob.source.rsplit("!", 1)[-1]).name.split(".")[0]
    text = "\n\n".join(page.strip() for page in pages if page.strip())
    yield Document(blob.source, text, title or name, blob.source, {"pages": count})
