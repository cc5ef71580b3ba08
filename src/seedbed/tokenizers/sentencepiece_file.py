"""Reading SentencePiece's `.model` files, which are protocol buffers, without a library for these.

The fields are those of sentencepiece_model.proto. A file may come from anywhere: every length is checked before it is
used, and every complaint names the file and the field.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from ..core.errors import FormatError, disk_errors
from .byte_fallback import BYTE_OF_NAME

_LARGEST_FILE = 1 << 28  # bytes; the largest published ones have about 5 million
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# Fields of the trainer's settings, with what stands for those that a file leaves out.
_ROLES = (
    ("unk_token", 45, "<unk>"),
    ("bos_token", 46, "<s>"),
    ("eos_token", 47, "</s>"),
    ("pad_token", 48, "<pad>"),
)
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}


class Kind(IntEnum):
    """What a piece is for (`ModelProto.SentencePiece.Type`)."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Algorithm(IntEnum):
    """`TrainerSpec.ModelType`."""

    UNIGRAM = 1
    BPE = 2
    WORD = 3
    CHAR = 4


@dataclass(frozen=True)
class Piece:
    text: str
    score: float
    kind: Kind


@dataclass(frozen=True)
class Normalization:
    """`NormalizerSpec`."""

    charsmap: bytes = field(default=b"", repr=False)
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    escape_whitespaces: bool = True


@dataclass(frozen=True)
class SentencePieceFile:
    pieces: list[Piece] = field(repr=False)
    algorithm: Algorithm
    normalization: Normalization
    byte_fallback: bool = False
    whitespace_as_suffix: bool = False
    unknown_surface: str = " ⁇ "  # what the unknown token is decoded as
    roles: dict[str, str] = field(default_factory=dict)  # by the names of Roles; a piece may be missing


def read(path: Path) -> SentencePieceFile:
    """Read a `.model` file.

    Raises:
        FormatError: it is damaged; names the file and the field.
    """
    with disk_errors(path):
        if not path.is_file():
            raise FormatError("no such file", where=path)
        if path.stat().st_size > _LARGEST_FILE:
            raise FormatError(f"has {path.stat().st_size:,} bytes, too many for a SentencePiece model", where=path)
        return _Reader(path).model(memoryview(path.read_bytes()))


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path

    def fail(self, name: str, problem: str) -> FormatError:
        return FormatError(f"'{name}' {problem}", where=self.path)

    def model(self, data: memoryview) -> SentencePieceFile:
        pieces: list[Piece] = []
        parts: dict[int, memoryview] = {}
        for number, value in self.fields(data, "model"):
            if number == 1:
                pieces.append(self.piece(self.view(value, f"pieces[{len(pieces)}]"), f"pieces[{len(pieces)}]"))
            elif number in (2, 3, 5):
                name = {2: "trainer_spec", 3: "normalizer_spec", 5: "denormalizer_spec"}[number]
                if number in parts:
                    raise self.fail(name, "stands in the file twice")
                parts[number] = self.view(value, name)
        self.check(pieces)
        trainer = dict(self.fields(parts.get(2, memoryview(b"")), "trainer_spec"))
        if any(
            number == 2 and value for number, value in self.fields(parts.get(5, memoryview(b"")), "denormalizer_spec")
        ):
            raise self.fail("denormalizer_spec", "has rules, which cannot be represented")
        kind = self.integer(trainer.get(3, 1), "trainer_spec.model_type")
        if kind not in list(Algorithm):
            raise self.fail("trainer_spec.model_type", f"is {kind}, which is not known")
        surface = trainer.get(44)
        return SentencePieceFile(
            pieces,
            Algorithm(kind),
            self.normalization(parts.get(3, memoryview(b""))),
            bool(self.integer(trainer.get(35, 0), "trainer_spec.byte_fallback")),
            bool(self.integer(trainer.get(24, 0), "trainer_spec.treat_whitespace_as_suffix")),
            " ⁇ " if surface is None else self.text(surface, "trainer_spec.unk_surface"),
            {
                role: self.text(trainer[number], f"trainer_spec.{role}") if number in trainer else usual
                for role, number, usual in _ROLES
            },
        )

    def piece(self, data: memoryview, name: str) -> Piece:
        found = dict(self.fields(data, name))
        score = found.get(2, b"\0\0\0\0")
        if not isinstance(score, bytes) or len(score) != 4:
            raise self.fail(f"{name}.score", "is not a 32-bit number")
        (value,) = struct.unpack("<f", score)
        if not math.isfinite(value):
            raise self.fail(f"{name}.score", f"is {value}")
        kind = self.integer(found.get(3, 1), f"{name}.type")
        if kind not in list(Kind):
            raise self.fail(f"{name}.type", f"is {kind}, which is not known")
        text = self.text(found.get(1, memoryview(b"")), f"{name}.piece")
        if not text:
            raise self.fail(f"{name}.piece", "is empty")
        if kind == Kind.BYTE and text not in BYTE_OF_NAME:
            raise self.fail(f"{name}.piece", f"is {text!r}, which names no byte")
        return Piece(text, value, Kind(kind))

    def normalization(self, data: memoryview) -> Normalization:
        name = "normalizer_spec"
        found = dict(self.fields(data, name))
        flags = [
            bool(self.integer(found.get(number, 1), f"{name}.{option}"))
            for number, option in ((3, "add_dummy_prefix"), (4, "remove_extra_whitespaces"), (5, "escape_whitespaces"))
        ]
        charsmap = bytes(self.view(found.get(2, memoryview(b"")), f"{name}.precompiled_charsmap"))
        return Normalization(charsmap, *flags)

    def check(self, pieces: list[Piece]) -> None:
        if not pieces:
            raise self.fail("pieces", "are missing, so this is no SentencePiece model")
        seen: dict[str, int] = {}
        for number, piece in enumerate(pieces):
            if seen.setdefault(piece.text, number) != number:
                raise self.fail(f"pieces[{number}]", f"repeats {piece.text!r}, which is piece {seen[piece.text]}")
        unknown = [number for number, piece in enumerate(pieces) if piece.kind == Kind.UNKNOWN]
        if len(unknown) != 1:
            raise self.fail("pieces", f"hold {len(unknown)} unknown tokens, not one")

    # The wire format

    def fields(self, data: memoryview, name: str) -> Iterator[tuple[int, int | bytes | memoryview]]:
        """The fields of a message: numbers as int, fixed ones as bytes, and anything with a length as a view."""
        at = 0
        while at < len(data):
            key, at = self.varint(data, at, name)
            number, wire = key >> 3, key & 7
            if number == 0:
                raise self.fail(name, f"has a field numbered 0 at byte {at}")
            if wire == _VARINT:
                value, at = self.varint(data, at, name)
                yield number, value
                continue
            if wire == _BYTES:
                size, at = self.varint(data, at, name)
            elif wire in _WIDTHS:
                size = _WIDTHS[wire]
            else:
                raise self.fail(name, f"has a field of unknown wire type {wire} at byte {at}")
            if size > len(data) - at:
                raise self.fail(name, f"ends within field {number}, which claims {size:,} bytes")
            view = data[at : at + size]
            at += size
            yield number, view if wire == _BYTES else bytes(view)

    def varint(self, data: memoryview, at: int, name: str) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if at >= len(data):
                raise self.fail(name, "ends within a number")
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
        raise self.fail(name, "has a number of over 64 bits")

    def view(self, value: int | bytes | memoryview, name: str) -> memoryview:
        if not isinstance(value, memoryview):
            raise self.fail(name, "has the wrong wire type")
        return value

    def text(self, value: int | bytes | memoryview, name: str) -> str:
        try:
            return str(self.view(value, name), "utf-8")
        except UnicodeDecodeError as error:
            raise self.fail(name, f"is not UTF-8 ({error.reason})") from None

    def integer(self, value: int | bytes | memoryview, name: str) -> int:
        if not isinstance(value, int):
            raise self.fail(name, "has the wrong wire type")
        return value
