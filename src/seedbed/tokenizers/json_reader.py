"""Reading of JSON files of unknown origin: every complaint names the file and the key."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..core.errors import FormatError


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that must hold one JSON object, whose keys are not repeated."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            seen: set[str] = set()
            repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise FormatError(f"the key {repeated!r} occurs twice", where=path)
        return found

    try:
        document = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique)
    except FileNotFoundError:
        raise FormatError("no such file", where=path) from None
    except OSError as error:
        raise FormatError(f"cannot be read ({error.strerror})", where=path) from None
    except (ValueError, RecursionError) as error:
        raise FormatError(f"is not valid JSON ({error})", where=path, hint="The file is damaged or cut off.") from None
    if not isinstance(document, dict):
        raise FormatError("does not hold a JSON object", where=path)
    return document


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

    def vocabulary(self, model: dict[str, Any]) -> dict[str, int]:
        """The `vocab` of a model: token to id, no id twice."""
        vocabulary = model.get("vocab")
        if not isinstance(vocabulary, dict):
            raise self.fail("model.vocab", "is missing or not an object")
        owner: dict[int, str] = {}
        for token, number in vocabulary.items():
            if type(number) is not int or not 0 <= number < 1 << 31:
                raise self.fail("model.vocab", f"gives {token!r} the id {number!r}")
            if number in owner:
                raise self.fail("model.vocab", f"gives the id {number} to both {owner[number]!r} and {token!r}")
            owner[number] = token
        return vocabulary
