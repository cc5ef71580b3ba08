"""JSON files, which may come from anywhere: size and kind are checked, and complaints name the file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .errors import FormatError


def read_json(
    path: Path,
    kind: type[dict[str, Any]] | type[list[Any]] = dict,
    largest: int = 1 << 20,
    parse_float: Callable[[str], float] = float,
) -> Any:
    """The object (or, with `kind` list, the array) that a file of at most `largest` bytes holds.

    Raises:
        FormatError: no such file, too large, not JSON, a key repeated within an object, or of another kind.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            seen: set[str] = set()
            repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise FormatError(f"the key {repeated!r} occurs twice", where=path)
        return found

    try:
        size = path.stat().st_size
        if size > largest:
            raise FormatError(f"is {size:,} bytes long, and at most {largest:,} are read", where=path)
        document = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique, parse_float=parse_float)
    except FileNotFoundError:
        raise FormatError("no such file", where=path) from None
    except OSError as error:
        raise FormatError(f"cannot be read ({error.strerror})", where=path) from None
    except (ValueError, RecursionError) as error:
        raise FormatError(f"is not valid JSON ({error})", where=path, hint="The file is damaged or cut off.") from None
    if not isinstance(document, kind):
        raise FormatError(f"does not hold a JSON {'object' if kind is dict else 'array'}", where=path)
    return document


def json_bytes(values: Mapping[str, Any]) -> bytes:
    """`values` as a file's content: the same values give the same bytes."""
    return (json.dumps(values, indent=2, sort_keys=True) + "\n").encode()
