"""Documents from rows: JSON, JSON Lines, CSV, Parquet and Arrow. Rows are named by their number, `file.jsonl#12`."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from .blobs import Blob, Span
from .decoding import Undecodable, check_binary, mark_of
from .documents import EXCERPT_CHARACTERS, Document, Piece, Pieces, Rejection

if TYPE_CHECKING:
    import pyarrow as pa

    from .blobs import ReadingConfig

_TEXT_COLUMNS = ("text", "content", "body", "document", "passage")
_TITLE_COLUMNS = ("title", "name", "heading")
_METADATA_CHARACTERS = 200
# A Parquet or Arrow file in an archive is held whole, because reading it means seeking in it.
_MAX_ARCHIVED_TABLE = 256 << 20
_BATCH_ROWS = 64
_ARROW_FILE = b"ARROW1"
_MAX_JSON = 256 << 20  # of a file that is one value, which is held whole


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
    return _json_document(blob, number, row, line, config, "line")


def _json_document(blob: Blob, number: int, row: Any, raw: bytes, config: ReadingConfig, what: str) -> Piece:
    if not isinstance(row, dict):
        return _bad_row(blob, number, raw, "bad_json", f"{what} {number} is not a JSON object", number)
    column = _text_column(list(row), config)
    if column is None or not isinstance(row[column], str):
        detail = f"{what} {number}: {_no_text_column(list(row), column, config)}"
        return _bad_row(blob, number, raw, "no_text_column", detail, number)
    return _row_document(blob, number, row, column, config)


def read_json(blob: Blob, config: ReadingConfig) -> Pieces:
    """A list of rows or one row; what begins with a whole object on its first line is JSON Lines under another name."""
    with blob.open() as stream:
        first = next((line for line in _lines(stream, config.max_document_bytes, sys.maxsize) if line.strip()), b"")
    if _is_row(first):
        yield from read_jsonl(blob, config)
        return
    with blob.open() as stream:
        data = stream.read(_MAX_JSON + 1)
    if len(data) > _MAX_JSON:
        detail = "one JSON value this large is not read; save its rows as JSON Lines"
        yield Rejection(blob.source, blob.source, "", "too_large", detail, None, _MAX_JSON)
        return
    try:
        rows = json.loads(data)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", None) or getattr(error, "reason", None) or type(error).__name__
        excerpt = data[:EXCERPT_CHARACTERS].decode("utf-8", "backslashreplace")
        yield Rejection(blob.source, blob.source, excerpt, "bad_json", f"not JSON ({reason})")
        return
    del data
    limit = config.max_document_bytes
    for number, row in enumerate(rows if isinstance(rows, list) else [rows], start=1):
        raw = json.dumps(row, ensure_ascii=False)[: limit + 1].encode("utf-8", "replace")
        if len(raw) > limit:
            detail = f"row {number} is longer than max_document_bytes"
            yield _bad_row(blob, number, raw, "too_large", detail, number, limit)
        else:
            yield _json_document(blob, number, row, raw, config, "row")


def _is_row(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


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
    import pyarrow.parquet as pq

    def batches(stream: BinaryIO) -> Iterator[pa.RecordBatch]:
        file = pq.ParquetFile(stream)
        wanted = _wanted(file.schema_arrow, config)
        groups = list(range(blob.span.start, blob.span.stop)) if blob.span else None
        yield from file.iter_batches(batch_size=_BATCH_ROWS, row_groups=groups, columns=wanted, use_threads=False)

    yield from _read_columns(blob, config, "Parquet", batches)


def read_arrow(blob: Blob, config: ReadingConfig) -> Pieces:
    """The same from Arrow's stream or file format: what `datasets` saves to disk, and what Feather is."""
    import pyarrow as pa

    def batches(stream: BinaryIO) -> Iterator[pa.RecordBatch]:
        is_file = stream.read(len(_ARROW_FILE)) == _ARROW_FILE
        stream.seek(0)
        reader = pa.ipc.open_file(stream) if is_file else pa.ipc.open_stream(stream)
        wanted = _wanted(reader.schema, config)
        numbers = range(reader.num_record_batches) if is_file else ()
        for batch in map(reader.get_batch, numbers) if is_file else reader:
            batch.validate(full=True)  # what was written by others may point anywhere
            for start in range(0, batch.num_rows, _BATCH_ROWS):
                yield batch.slice(start, _BATCH_ROWS).select(wanted)

    yield from _read_columns(blob, config, "Arrow", batches)


def _read_columns(
    blob: Blob, config: ReadingConfig, kind: str, batches: Callable[[BinaryIO], Iterator[pa.RecordBatch]]
) -> Pieces:
    """Rows of a table that is stored by columns, `kind`."""
    import pyarrow as pa

    with blob.open() as opened:
        stream: BinaryIO = opened
        if blob.compressed:
            data = opened.read(_MAX_ARCHIVED_TABLE + 1)
            if len(data) > _MAX_ARCHIVED_TABLE:
                detail = f"a file of {kind} this large is not read from an archive; unpack it"
                yield Rejection(blob.source, blob.source, "", "too_large", detail, None, _MAX_ARCHIVED_TABLE)
                return
            stream = io.BytesIO(data)
        number = blob.span.before if blob.span else 0
        try:
            for batch in batches(stream):
                column = _text_column(batch.schema.names, config)
                assert column is not None
                for row in batch.to_pylist():
                    number += 1
                    yield _column_row(blob, number, row, column, config)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            reason, rule = " ".join(str(error).split())[:200], f"broken_{kind.lower()}"
            yield Rejection(blob.fault_id, blob.source, "", rule, f"not readable as {kind} ({reason})")


def _wanted(schema: pa.Schema, config: ReadingConfig) -> list[str]:
    """The columns that are read: text, and those of scalars.

    Raises:
        Undecodable: no column holds text.
    """
    column = _text_column(schema.names, config)
    if column is None or not _holds_text(schema.field(schema.names.index(column)).type):
        raise Undecodable("no_text_column", _no_text_column(schema.names, column, config), 0, b"")
    return [field.name for field in schema if field.name == column or _holds_scalar(field.type)]


def _holds_text(type: Any) -> bool:
    import pyarrow.types as types

    if types.is_dictionary(type):
        type = type.value_type
    return types.is_string(type) or types.is_large_string(type) or types.is_string_view(type)


def _holds_scalar(type: Any) -> bool:
    import pyarrow.types as types

    return _holds_text(type) or types.is_integer(type) or types.is_floating(type) or types.is_boolean(type)


def _column_row(blob: Blob, number: int, row: Mapping[str, Any], column: str, config: ReadingConfig) -> Piece:
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
