"""Documents from rows: JSON Lines, CSV and Parquet. Rows are named by their number, `file.jsonl#12`."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from .blobs import Blob, Span
from .decoding import Undecodable, check_binary, mark_of
from .documents import EXCERPT_CHARACTERS, Document, Piece, Pieces, Rejection

if TYPE_CHECKING:
    from .blobs import ReadingConfig

_TEXT_COLUMNS = ("text", "content", "body", "document", "passage")
_TITLE_COLUMNS = ("title", "name", "heading")
_METADATA_CHARACTERS = 200
# A Parquet file in an archive is held whole, because reading it means seeking in it.
_MAX_ARCHIVED_PARQUET = 256 << 20


def read_jsonl(blob: Blob, config: ReadingConfig) -> Pieces:
    """One document per line that is a JSON object; empty lines are nothing."""
    limit = config.max_document_bytes
    span = blob.span or Span(0, sys.maxsize, 0)
    with blob.open() as stream:
        if span.start:
            stream.seek(span.start)
        for number, line in enumerate(_lines(stream, limit, span.stop - span.start), start=span.before + 1):
            if number == 1:
                if (mark_of(line) or "utf-8-sig") != "utf-8-sig":
                    raise Undecodable("not_utf8", "UTF-16; JSON Lines are UTF-8, so save it as that", 0, b"")
                check_binary(line)
                line = line.removeprefix(b"\xef\xbb\xbf")
            if len(line) > limit:
                detail = f"line {number} is longer than max_document_bytes"
                yield _bad_row(blob, number, line, "too_large", detail, number, limit)
            elif line.strip():
                yield _json_row(blob, number, line, config)


def _lines(stream: BinaryIO, limit: int, left: int) -> Iterator[bytes]:
    """Lines that begin within `left` bytes, cut to at most `limit + 1`; the rest of a longer line is skipped."""
    while left > 0 and (line := stream.readline(limit + 1)):
        rest = line
        left -= len(line)
        while len(rest) > limit and not rest.endswith(b"\n"):
            rest = stream.readline(limit + 1)
            left -= len(rest)
        yield line


def _json_row(blob: Blob, number: int, line: bytes, config: ReadingConfig) -> Piece:
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError as error:
        detail = f"line {number} is not UTF-8 at its byte {error.start}"
        return _bad_row(blob, number, line, "not_utf8", detail, number)
    except (ValueError, RecursionError) as error:
        detail = f"line {number} is not JSON ({getattr(error, 'msg', None) or type(error).__name__})"
        return _bad_row(blob, number, line, "bad_json", detail, number)
    if not isinstance(row, dict):
        return _bad_row(blob, number, line, "bad_json", f"line {number} is not a JSON object", number)
    column = _text_column(list(row), config)
    if column is None or not isinstance(row[column], str):
        detail = f"line {number}: {_no_text_column(list(row), column, config)}"
        return _bad_row(blob, number, line, "no_text_column", detail, number)
    return _row_document(blob, number, row, column, config)


def read_csv(blob: Blob, config: ReadingConfig) -> Pieces:
    """One document per row after the header; the delimiter is the header's most frequent of comma, semicolon, tab
    and bar."""
    limit = config.max_document_bytes
    csv.field_size_limit(limit)  # Python keeps one for the process
    with blob.open() as stream:
        head = stream.readline(limit)
        encoding = mark_of(head) or "utf-8"
        if encoding == "utf-16":
            raise Undecodable("not_utf8", "UTF-16; save the table as UTF-8", 0, b"")
        check_binary(head)
        header = head.decode(encoding, "surrogateescape")
        delimiter = max(",;\t|", key=header.count)
        # A row that is not UTF-8 is refused alone: its wrong bytes arrive as lone surrogates.
        rest = io.TextIOWrapper(stream, "utf-8", errors="surrogateescape", newline="")
        rows = csv.reader(_with_first(header, rest, limit), delimiter=delimiter)
        try:
            columns = [name.strip() for name in next(rows, [])]
            column = _text_column(columns, config)
            if column is None:
                raise Undecodable("no_text_column", _no_text_column(columns, None, config), 0, head[:400])
            for number, cells in enumerate(rows, start=1):
                if cells:
                    yield _csv_row(blob, number, columns, cells, column, config)
        except csv.Error as error:
            line = rows.line_num
            detail = f"line {line}: {error}; nothing after it was read"
            yield Rejection(f"{blob.source}#line-{line}", blob.source, "", "bad_csv", detail, line)


def _with_first(first: str, rest: io.TextIOWrapper, limit: int) -> Iterator[str]:
    line = first
    while line:
        if len(line) >= limit:
            raise csv.Error("a line longer than max_document_bytes")
        yield line
        line = rest.readline(limit)


def _csv_row(
    blob: Blob, number: int, columns: Sequence[str], cells: Sequence[str], column: str, config: ReadingConfig
) -> Piece:
    raw = "\t".join(cells).encode("utf-8", "surrogateescape")
    if len(cells) != len(columns):
        detail = f"row {number} has {len(cells)} cells and the header has {len(columns)}"
        return _bad_row(blob, number, raw, "bad_csv", detail, number)
    if not raw.isascii() and any("\udc80" <= character <= "\udcff" for cell in cells for character in cell):
        if config.fallback_encoding is None:
            return _bad_row(blob, number, raw, "not_utf8", f"row {number} is not UTF-8", number)
        cells = [cell.encode("utf-8", "surrogateescape").decode(config.fallback_encoding, "replace") for cell in cells]
    return _row_document(blob, number, dict(zip(columns, cells, strict=True)), column, config)


def read_parquet(blob: Blob, config: ReadingConfig) -> Pieces:
    """One document per row whose text is not null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with blob.open() as opened:
        stream: BinaryIO = opened
        if blob.compressed:
            data = opened.read(_MAX_ARCHIVED_PARQUET + 1)
            if len(data) > _MAX_ARCHIVED_PARQUET:
                detail = "a Parquet file this large is not read from an archive; unpack it"
                yield Rejection(blob.source, blob.source, "", "too_large", detail, None, _MAX_ARCHIVED_PARQUET)
                return
            stream = io.BytesIO(data)
        try:
            file = pq.ParquetFile(stream)
            schema = file.schema_arrow
            column = _text_column(schema.names, config)
            if column is None or not _holds_text(schema.field(schema.names.index(column)).type):
                raise Undecodable("no_text_column", _no_text_column(schema.names, column, config), 0, b"")
            wanted = [field.name for field in schema if field.name == column or _holds_scalar(field.type)]
            span = blob.span or Span(0, file.num_row_groups, 0)
            number, groups = span.before, list(range(span.start, span.stop))
            for batch in file.iter_batches(batch_size=64, row_groups=groups, columns=wanted, use_threads=False):
                for row in batch.to_pylist():
                    number += 1
                    yield _parquet_row(blob, number, row, column, config)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())[:200]
            yield Rejection(blob.fault_id, blob.source, "", "broken_parquet", f"not readable as Parquet ({reason})")


def _holds_text(type: Any) -> bool:
    import pyarrow.types as types

    if types.is_dictionary(type):
        type = type.value_type
    return types.is_string(type) or types.is_large_string(type) or types.is_string_view(type)


def _holds_scalar(type: Any) -> bool:
    import pyarrow.types as types

    return _holds_text(type) or types.is_integer(type) or types.is_floating(type) or types.is_boolean(type)


def _parquet_row(blob: Blob, number: int, row: Mapping[str, Any], column: str, config: ReadingConfig) -> Piece:
    text = row[column]
    if text is None:
        return _bad_row(blob, number, b"", "empty", f"row {number} has no text", number)
    if len(text) > config.max_document_bytes:
        excerpt = text[:EXCERPT_CHARACTERS].encode()
        detail = f"row {number} is longer than max_document_bytes"
        return _bad_row(blob, number, excerpt, "too_large", detail, len(text), config.max_document_bytes)
    return _row_document(blob, number, row, column, config)


def _text_column(columns: Sequence[str], config: ReadingConfig) -> str | None:
    return _pick(columns, config.text_column, _TEXT_COLUMNS)


def _pick(columns: Sequence[str], named: str | None, usual: Sequence[str]) -> str | None:
    if named is not None:
        return named if named in columns else None
    by_name = {name.lower(): name for name in reversed(columns)}
    return next((by_name[name] for name in usual if name in by_name), None)


def _no_text_column(columns: Sequence[str], column: str | None, config: ReadingConfig) -> str:
    found = ", ".join(columns[:20]) or "none"
    wanted = config.text_column or " or ".join(_TEXT_COLUMNS)
    problem = f"column '{column}' holds no text" if column else f"no column {wanted}"
    return f"{problem} (columns found: {found}); name one with text_column"


def _row_document(blob: Blob, number: int, row: Mapping[str, Any], column: str, config: ReadingConfig) -> Document:
    title_column = _pick(list(row), config.title_column, _TITLE_COLUMNS)
    title = row.get(title_column) if title_column else None
    metadata = {
        str(name): value
        for name, value in row.items()
        if name not in (column, title_column) and _is_small_scalar(value)
    }
    return Document(
        f"{blob.source}#{number}", row[column], title if isinstance(title, str) else "", blob.source, metadata
    )


def _is_small_scalar(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _METADATA_CHARACTERS
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and abs(value) < 1 << 63


def _bad_row(
    blob: Blob, number: int, row: bytes, rule: str, detail: str, value: float, threshold: float | None = None
) -> Rejection:
    text = row[: 4 * EXCERPT_CHARACTERS].decode("utf-8", "backslashreplace")[:EXCERPT_CHARACTERS].rstrip("\r\n")
    return Rejection(f"{blob.source}#{number}", blob.source, text, rule, detail, value, threshold)
