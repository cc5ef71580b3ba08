"""Documents from WARC files: the pages that servers answered with, named by their number, `crawl.warc.gz#12`."""

from __future__ import annotations

from typing import BinaryIO

from .blobs import Blob, ReadingConfig
from .decoding import Undecodable
from .documents import Document, Piece, Pieces, Rejection
from .pages import page_document

_HTML = ("text/html", "application/xhtml+xml")
_OK = 200


class _Counted:
    """What FastWARC needs of a stream: bytes in order, and how many there were."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._read = stream, 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._read += len(data)
        return data

    def tell(self) -> int:
        return self._read

    def seek(self, offset: int, whence: int = 0) -> int:
        raise OSError("a stream that only goes forward")

    def close(self) -> None:
        self._stream.close()


def read_warc(blob: Blob, config: ReadingConfig) -> Pieces:
    """One document for each response that holds a page; other records are no documents and are passed over."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    with blob.open() as stream:
        head = stream.read(5)
        if head and head != b"WARC/":
            raise Undecodable("broken_warc", "not a WARC file", 0, head)
    with blob.open() as stream:
        records = ArchiveIterator(_Counted(stream), record_types=WarcRecordType.response, auto_decode="all")
        number = 0
        while True:
            try:
                record = next(records, None)
                if record is None:
                    return
                number += 1
                piece = _page(record, blob, number, config) if record.is_http else None
            except OSError as error:
                if type(error) is not OSError:  # the stream's own, which says more
                    raise
                detail = f"record {number + 1} is damaged ({error}); nothing after it was read"
                yield Rejection(f"{blob.source}#{number + 1}", blob.source, "", "broken_warc", detail, number + 1)
                return
            if piece is not None:
                yield piece


def _page(record, blob: Blob, number: int, config: ReadingConfig) -> Piece | None:  # type: ignore[no-untyped-def]
    kind = (record.http_content_type or "").lower()
    if record.http_headers.status_code != _OK or (kind not in _HTML and kind != "text/plain"):
        return None
    data = record.reader.read(config.max_document_bytes + 1)
    address = (record.headers.get("WARC-Target-URI") or "").strip("<>")
    metadata = {"url": address, "date": record.headers.get("WARC-Date") or ""}
    id = f"{blob.source}#{number}"
    charset, plain = record.http_charset, kind == "text/plain"
    piece = page_document(id, blob.source, data, config, title=address, charset=charset, plain=plain)
    if isinstance(piece, Rejection):
        return piece
    return Document(id, piece.text, piece.title, blob.source, metadata)
