"""Normalisers: what changes a text before it is cut, as the `normalizer` of a tokenizer.json says it.

The mechanism is native/tokenizer/normalizers.cpp: text and offsets equal those of `tokenizers`,
even where its versions of Unicode are old.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from .. import _native
from .json_reader import JsonReader

_MOST_STEPS = 64  # of a sequence, its own sequences included; published files have fewer than ten


class Normalizer(ABC):
    """One of the dataclasses below; equal ones do the same."""

    @abstractmethod
    def native(self) -> _native.Normalizer:
        """The mechanism."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The `normalizer` of a tokenizer.json."""

    def normalize(self, text: str) -> str:
        """The normalised text."""
        return self.native().normalize(text).decode("utf-8")


@dataclass(frozen=True)
class UnicodeForm(Normalizer):
    """A normal form of Unicode: "NFC", "NFD", "NFKC" or "NFKD" (Unicode Standard Annex 15)."""

    name: str

    NAMES: ClassVar[tuple[str, ...]] = ("NFC", "NFD", "NFKC", "NFKD")

    def native(self) -> _native.Normalizer:
        return _native.unicode_form("K" in self.name, self.name.endswith("C"))

    def to_json(self) -> dict[str, Any]:
        return {"type": self.name}


@dataclass(frozen=True)
class Lowercase(Normalizer):
    """Each character by itself: a sigma at the end of a word is no other than one inside."""

    def native(self) -> _native.Normalizer:
        return _native.lowercase_normalizer()

    def to_json(self) -> dict[str, Any]:
        return {"type": "Lowercase"}


@dataclass(frozen=True)
class StripAccents(Normalizer):
    """Marks go. They must stand apart from their letters: NFD or NFKD comes first."""

    def native(self) -> _native.Normalizer:
        return _native.strip_accents_normalizer()

    def to_json(self) -> dict[str, Any]:
        return {"type": "StripAccents"}


@dataclass(frozen=True)
class Replace(Normalizer):
    """Every occurrence of a text, which is not empty, becomes another."""

    pattern: str
    content: str

    def native(self) -> _native.Normalizer:
        return _native.replace_normalizer(self.pattern, self.content)

    def to_json(self) -> dict[str, Any]:
        return {"type": "Replace", "pattern": {"String": self.pattern}, "content": self.content}


@dataclass(frozen=True)
class Prepend(Normalizer):
    """A text, which is not empty, is put in front of any other that is not."""

    prepend: str

    def native(self) -> _native.Normalizer:
        return _native.prepend_normalizer(self.prepend)

    def to_json(self) -> dict[str, Any]:
        return {"type": "Prepend", "prepend": self.prepend}


@dataclass(frozen=True)
class Strip(Normalizer):
    """White space at the ends goes."""

    strip_left: bool = True
    strip_right: bool = True

    def native(self) -> _native.Normalizer:
        return _native.strip_normalizer(self.strip_left, self.strip_right)

    def to_json(self) -> dict[str, Any]:
        return {"type": "Strip", "strip_left": self.strip_left, "strip_right": self.strip_right}


@dataclass(frozen=True)
class BertNormalizer(Normalizer):
    """BERT's: control characters go, ideographs are set apart, accents go, all is lower case.

    `strip_accents=None`: accents go where `lowercase` is on.
    """

    clean_text: bool = True
    handle_chinese_chars: bool = True
    strip_accents: bool | None = None
    lowercase: bool = True

    def native(self) -> _native.Normalizer:
        accents = self.lowercase if self.strip_accents is None else self.strip_accents
        return _native.bert_normalizer(self.clean_text, self.handle_chinese_chars, accents, self.lowercase)

    def to_json(self) -> dict[str, Any]:
        return {
            "type": "BertNormalizer",
            "clean_text": self.clean_text,
            "handle_chinese_chars": self.handle_chinese_chars,
            "strip_accents": self.strip_accents,
            "lowercase": self.lowercase,
        }


@dataclass(frozen=True)
class Sequence(Normalizer):
    """One after another."""

    normalizers: tuple[Normalizer, ...]

    def native(self) -> _native.Normalizer:
        return _native.normalizer_sequence([normalizer.native() for normalizer in self.normalizers])

    def to_json(self) -> dict[str, Any]:
        return {"type": "Sequence", "normalizers": [normalizer.to_json() for normalizer in self.normalizers]}


def to_json(normalizer: Normalizer | None) -> dict[str, Any] | None:
    return None if normalizer is None else normalizer.to_json()


def from_json(node: Any, reader: JsonReader, key: str = "normalizer") -> Normalizer | None:
    """The normaliser of a tokenizer.json; None where it has none.

    Raises:
        FormatError: it is damaged or none of the above; names the key.
    """
    return None if node is None else _Reader(reader).normalizer(node, key)


class _Reader:
    def __init__(self, reader: JsonReader) -> None:
        self.reader = reader
        self.steps = 0

    def normalizer(self, node: Any, key: str) -> Normalizer:
        self.steps += 1
        if self.steps > _MOST_STEPS:
            raise self.reader.fail(key, f"has more than {_MOST_STEPS} steps")
        if not isinstance(node, dict):
            raise self.reader.fail(key, f"is {str(node)[:80]!r}, not an object")
        found = self._made(node, node.get("type"), key)
        self.reader.only(node, found.to_json(), f"{key}.")
        return found

    def _made(self, node: dict[str, Any], kind: Any, key: str) -> Normalizer:
        if kind in UnicodeForm.NAMES:
            return UnicodeForm(kind)
        if kind == "Lowercase":
            return Lowercase()
        if kind == "StripAccents":
            return StripAccents()
        if kind == "Prepend":
            return Prepend(self._text(node, "prepend", key))
        if kind == "Strip":
            return Strip(*(self._value(node, name, bool, key) for name in ("strip_left", "strip_right")))
        if kind == "BertNormalizer":
            accents = node.get("strip_accents")
            return BertNormalizer(
                clean_text=self._value(node, "clean_text", bool, key),
                handle_chinese_chars=self._value(node, "handle_chinese_chars", bool, key),
                strip_accents=None if accents is None else self._value(node, "strip_accents", bool, key),
                lowercase=self._value(node, "lowercase", bool, key),
            )
        if kind == "Replace":
            pattern = self._value(node, "pattern", dict, key)
            if list(pattern) != ["String"]:
                raise self.reader.fail(f"{key}.pattern", f"is {str(pattern)[:80]}, and only a String can be used")
            text = self._text(pattern, "String", f"{key}.pattern")
            return Replace(text, self._value(node, "content", str, key))
        if kind == "Sequence":
            steps = self._value(node, "normalizers", list, key)
            return Sequence(
                tuple(self.normalizer(step, f"{key}.normalizers[{index}]") for index, step in enumerate(steps))
            )
        raise self.reader.fail(key, f"is {kind!r}, which cannot be represented")

    def _value(self, node: dict[str, Any], name: str, kind: type, key: str) -> Any:
        value = node.get(name)
        if type(value) is not kind:
            raise self.reader.fail(f"{key}.{name}", f"is {str(value)[:80]!r}")
        if isinstance(value, str) and any("\ud800" <= character < "\ue000" for character in value):
            raise self.reader.fail(f"{key}.{name}", "has a lone surrogate")
        return value

    def _text(self, node: dict[str, Any], name: str, key: str) -> str:
        text: str = self._value(node, name, str, key)
        if not text:
            raise self.reader.fail(f"{key}.{name}", "is empty, which cannot be represented")
        return text
