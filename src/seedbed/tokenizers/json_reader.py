"""Reading a tokenizer.json of unknown origin: every complaint names the file and the key."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..core.errors import FormatError


class JsonReader:
    """What the readers of a document's parts share."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fail(self, key: str, problem: str) -> FormatError:
        return FormatError(f"'{key}' {problem}", where=self.path)

    def only(self, node: dict[str, Any], known: Iterable[str], within: str = "") -> None:
        """Refuse keys that are not `known`, unless they are null."""
        for key, value in node.items():
            if key not in known and value is not None:
                raise self.fail(within + key, "is not known")

    def only_null(self, document: dict[str, Any], key: str) -> None:
        if document.get(key) is not None:
            name = document[key].get("type", "") if isinstance(document[key], dict) else ""
            raise self.fail(key, f"{name} cannot be represented; only null can".lstrip())

    def of_type(self, document: dict[str, Any], key: str, kind: str) -> dict[str, Any]:
        node = document.get(key)
        if not isinstance(node, dict) or node.get("type") != kind:
            found = node.get("type") if isinstance(node, dict) else node
            raise self.fail(key, f"is {found!r}, and only {kind} can be used")
        return node

    def text(self, key: str, value: Any) -> str:
        """A string without lone surrogates, which JSON can hold and UTF-8 cannot."""
        if not isinstance(value, str):
            raise self.fail(key, f"is {value!r:.80} and not text")
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise self.fail(key, f"has a lone surrogate, which is not Unicode text: {value!r:.80}")
        return value

    def flag(self, node: dict[str, Any], name: str, within: str, *, default: bool) -> bool:
        value = node.get(name, default)
        if type(value) is not bool:
            raise self.fail(within + name, f"is {value!r:.80} and neither true nor false")
        return value

    def vocabulary(self, model: dict[str, Any]) -> dict[str, int]:
        """The `vocab` of a model: token to id, no id twice."""
        vocabulary = model.get("vocab")
        if not isinstance(vocabulary, dict):
            raise self.fail("model.vocab", "is missing or not an object")
        owner: dict[int, str] = {}
        for token, number in vocabulary.items():
            self.text("model.vocab", token)
            if type(number) is not int or not 0 <= number < 1 << 31:
                raise self.fail("model.vocab", f"gives {token!r} the id {number!r}")
            if number in owner:
                raise self.fail("model.vocab", f"gives the id {number} to both {owner[number]!r} and {token!r}")
            owner[number] = token
        return vocabulary


def float_of_tokenizers(written: str) -> float:
    """A number of a JSON file as `tokenizers` reads it, whose reader rounds twice: the digits, then their power of ten.

    Scores of seventeen digits are a bit off so, and pieces whose sums tie by it are chosen otherwise.
    """
    digits, _, exponent = written.lower().partition("e")
    whole, _, fraction = digits.lstrip("-").partition(".")
    number, power = 0, int(exponent or 0)
    for place, digit in enumerate(whole + fraction):
        if 10 * number + int(digit) >= 1 << 64:  # what does not fit is left out
            power += max(0, len(whole) - place)
            break
        number = 10 * number + int(digit)
        power -= place >= len(whole)
    value = float(number)
    while power < -308 and value:
        value /= 1e308
        power += 308
    value = value * float(f"1e{power}") if power >= 0 else value / float(f"1e{-power}") if value else value
    return -value if written.startswith("-") else value
