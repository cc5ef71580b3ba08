"""Which encoding a text is in. The policy, in order:

1. a byte-order mark: UTF-8 or UTF-16;
2. a NUL among the first 8,192 bytes: binary, refused;
3. UTF-8, if every byte of it is valid;
4. HTML only: the charset that the page declares, under its name in the WHATWG Encoding Standard;
5. the config's `fallback_encoding`, if there is one;
6. refused, with the offset of the first wrong byte.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from typing import BinaryIO

from ..core.errors import ConfigError

_CHUNK = 1 << 20
_HEAD = 8192
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_CHARSET = re.compile(
    rb"""<meta[^>]{0,400}charset\s*=\s*["']?\s*([\w:.\-]+)|<\?xml[^>]{0,400}encoding\s*=\s*["']([\w:.\-]+)""", re.I
)


class Undecodable(Exception):
    """Bytes that are no text.

    Attributes:
        offset: of the first wrong byte.
        excerpt: bytes from there on.
    """

    def __init__(self, rule: str, detail: str, offset: int, excerpt: bytes) -> None:
        super().__init__(detail)
        self.rule, self.detail, self.offset, self.excerpt = rule, detail, offset, excerpt


def mark_of(head: bytes) -> str | None:
    """The encoding that a byte-order mark announces."""
    return next((name for mark, name in _MARKS if head.startswith(mark)), None)


def check_binary(head: bytes) -> None:
    """Raise Undecodable where the beginning of a file without byte-order mark holds a NUL."""
    at = head[:_HEAD].find(b"\0")
    if at >= 0:
        raise Undecodable("binary", f"not text: a NUL at byte {at}", at, b"")


def check_encoding_name(name: str | None) -> None:
    """Raise ConfigError for a `fallback_encoding` that Python does not know as one of texts."""
    try:
        if name is not None:
            "".encode(name)
    except LookupError:
        raise ConfigError(f"unknown encoding '{name}'", where="fallback_encoding", hint="Try cp1252.") from None


def find_encoding(stream: BinaryIO, fallback: str | None) -> str:
    """The encoding of a whole text stream, read once in bounded memory.

    Raises:
        Undecodable: binary, or in no encoding of the policy.
    """
    data = stream.read(_HEAD)
    encoding = mark_of(data)
    if encoding is None:
        check_binary(data)
        encoding = "utf-8"
    decoder = codecs.getincrementaldecoder(encoding)()
    offset = 0
    while True:
        held = len(decoder.getstate()[0])
        try:
            decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            if fallback is not None:
                return fallback
            at = offset - held + error.start
            raise _wrong_byte(at, error.object[error.start :]) from None
        if not data:
            return encoding
        offset += len(data)
        data = stream.read(_CHUNK)


def text_chunks(stream: BinaryIO, encoding: str) -> Iterator[str]:
    """A stream's text in bounded chunks, line ends as LF."""
    with io.TextIOWrapper(stream, encoding, errors="replace") as reader:
        while chunk := reader.read(_CHUNK):
            yield chunk


def decode_html(data: bytes, fallback: str | None) -> str:
    """A page's text.

    Raises:
        Undecodable: binary, or in no encoding of the policy.
    """
    marked = mark_of(data)
    if marked is None:
        check_binary(data)
    try:
        return data.decode(marked or "utf-8")
    except UnicodeDecodeError as error:
        declared = None if marked else _declared_charset(data)
        for encoding in (declared, fallback):
            if encoding is not None:
                return data.decode(encoding, "replace")
        raise _wrong_byte(error.start, data[error.start :]) from None


def _declared_charset(data: bytes) -> str | None:
    found = _CHARSET.search(data[: 2 * _HEAD])
    if found is None:
        return None
    from resiliparse.parse.encoding import map_encoding_to_html5

    # Names outside the standard, and Python's codecs that are no encodings, come back as UTF-8.
    encoding = map_encoding_to_html5((found[1] or found[2]).decode("ascii", "replace"))
    return None if encoding == "utf-8" else encoding


def _wrong_byte(offset: int, following: bytes) -> Undecodable:
    detail = f"not UTF-8 at byte {offset}; save it as UTF-8, or set fallback_encoding (cp1252 for example)"
    return Undecodable("not_utf8", detail, offset, following[:400])
