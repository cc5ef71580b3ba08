"""Which passages a search may return: conditions on their columns, as text or as a mapping.

    source ~ docs/*.md and (language in (en, de) or not year < 2020)

Columns are id, document, title, source, text and language, and the keys of the documents' metadata. Operators: `=`,
`!=`, `<`, `<=`, `>`, `>=`, `in (a, b)`, and `~` and `!~` for patterns with `*` and `?`; `and`, `or`, `not` and
parentheses join conditions. Values with spaces or marks in them stand in quotation marks. Numbers compare as numbers
where both sides are some, else texts as texts (so do dates written 2026-11-25). Where a document has no such key, only
`!=` and `!~` hold; where it has a list there, one of its elements has to fit.

As a mapping, every entry has to hold; a list means one of them:

    {"source": {"~": "docs/*.md"}, "language": ["en", "de"], "year": {">=": 2020, "<": 2024}}
    {"or": [{"year": 2020}, {"not": {"language": "en"}}]}
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.errors import ConfigError
from ..indexes.base import Ids
from .passages import FIELDS, Passages

Filter = str | Mapping[str, Any]
Mask = npt.NDArray[np.bool_]

_METADATA = "metadata"
_OPERATORS = ("=", "!=", "<", "<=", ">", ">=", "~", "!~", "in")
_TOKEN = re.compile(
    r"""\s*(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)'"""
    r"""|(?P<mark>!=|!~|<=|>=|[=<>~(),])|(?P<word>[^\s=<>~!(),"']+))"""
)
_DEEPEST = 50


@dataclass(frozen=True)
class Comparison:
    column: str
    operator: str
    value: Any  # a tuple for "in"


@dataclass(frozen=True)
class Joined:
    """All of the parts hold, or one of them ("or")."""

    parts: tuple[Condition, ...]
    every: bool


@dataclass(frozen=True)
class Not:
    part: Condition


Condition = Comparison | Joined | Not


def admitted(filter: Filter, passages: Passages) -> Ids:
    """Numbers of the passages that `filter` admits, rising.

    Raises:
        ConfigError: it cannot be read, or names a column that no passage has.
    """
    return passages.numbers[_mask(parse_filter(filter), passages)]


def parse_filter(filter: Filter) -> Condition:
    """What a filter says.

    Raises:
        ConfigError: it cannot be read.
    """
    if isinstance(filter, str):
        return _Parser(filter).parse()
    if not isinstance(filter, Mapping):
        raise ConfigError(f"a filter is a text or a mapping, not {type(filter).__name__}")
    return _of_mapping(filter, 0)


def _of_mapping(given: Mapping[str, Any], depth: int) -> Condition:
    if depth > _DEEPEST:
        raise ConfigError("the filter is nested too deeply")
    parts: list[Condition] = []
    for name, value in given.items():
        if name in ("and", "or"):
            if not isinstance(value, Sequence) or not all(isinstance(one, Mapping) for one in value) or not value:
                raise ConfigError(f"'{name}' in a filter takes a list of mappings")
            parts.append(Joined(tuple(_of_mapping(one, depth + 1) for one in value), name == "and"))
        elif name == "not":
            if not isinstance(value, Mapping):
                raise ConfigError("'not' in a filter takes a mapping")
            parts.append(Not(_of_mapping(value, depth + 1)))
        elif isinstance(value, Mapping):
            parts += [_comparison(name, operator, one) for operator, one in value.items()]
        else:
            parts.append(_comparison(name, "in" if isinstance(value, list | tuple) else "=", value))
    if not parts:
        raise ConfigError("the filter is empty", hint="Leave it out to admit everything.")
    return parts[0] if len(parts) == 1 else Joined(tuple(parts), True)


def _comparison(column: str, operator: str, value: Any) -> Comparison:
    if operator not in _OPERATORS:
        raise ConfigError(f"a filter knows no operator '{operator}'", hint=f"There are: {' '.join(_OPERATORS)}.")
    values = value if operator == "in" and isinstance(value, list | tuple) else (value,)
    if not all(isinstance(one, str | int | float | bool) for one in values):
        raise ConfigError(f"a filter compares '{column}' with texts and numbers, not with {value!r:.60}")
    return Comparison(str(column), operator, tuple(values) if operator == "in" else value)


class _Parser:
    """Recursive descent: or binds weakest, then and, then not."""

    def __init__(self, text: str) -> None:
        self.text, self.tokens, self.at, self.depth = text, list[tuple[str, str]](), 0, 0
        place = 0
        while text[place:].strip():
            match = _TOKEN.match(text, place)
            if match is None:
                raise ConfigError(f"the filter cannot be read from '{text[place:].strip():.30}'", where="filter")
            kind = match.lastgroup or ""
            value = match[kind]
            quoted = kind in ("double", "single")
            self.tokens.append(("value", re.sub(r"\\(.)", r"\1", value)) if quoted else (kind, value))
            place = match.end()

    def parse(self) -> Condition:
        found = self._either()
        if self.at < len(self.tokens):
            raise self._wrong("'and', 'or' or the end")
        return found

    def _either(self) -> Condition:
        return self._joined("or", self._both)

    def _both(self) -> Condition:
        return self._joined("and", self._one)

    def _joined(self, word: str, read: Callable[[], Condition]) -> Condition:
        parts = [read()]
        while self._take("word", word):
            parts.append(read())
        return parts[0] if len(parts) == 1 else Joined(tuple(parts), word == "and")

    def _one(self) -> Condition:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ConfigError("the filter is nested too deeply", where="filter")
        if self._take("word", "not"):
            found: Condition = Not(self._one())
        elif self._take("mark", "("):
            found = self._either()
            if not self._take("mark", ")"):
                raise self._wrong("')'")
        else:
            found = self._compare()
        self.depth -= 1
        return found

    def _compare(self) -> Comparison:
        column = self._value("a column")
        if self._take("word", "in"):
            if not self._take("mark", "("):
                raise self._wrong("'('")
            values = [self._value("a value")]
            while self._take("mark", ","):
                values.append(self._value("a value"))
            if not self._take("mark", ")"):
                raise self._wrong("',' or ')'")
            return Comparison(column, "in", tuple(values))
        kind, operator = self._peek()
        if kind != "mark" or operator not in _OPERATORS:
            raise self._wrong(f"one of {' '.join(_OPERATORS)}")
        self.at += 1
        return Comparison(column, operator, self._value("a value"))

    def _value(self, wanted: str) -> str:
        kind, value = self._peek()
        if kind not in ("word", "value"):
            raise self._wrong(wanted)
        self.at += 1
        return value

    def _peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def _take(self, kind: str, value: str) -> bool:
        found = self._peek()
        there = found[0] == kind and found[1].lower() == value
        self.at += there
        return there

    def _wrong(self, wanted: str) -> ConfigError:
        found = self._peek()[1] if self.at < len(self.tokens) else "its end"
        return ConfigError(f"the filter has '{found:.30}' where {wanted} is wanted", where="filter")


def _mask(condition: Condition, passages: Passages) -> Mask:
    if isinstance(condition, Not):
        return ~_mask(condition.part, passages)
    if isinstance(condition, Joined):
        masks = [_mask(part, passages) for part in condition.parts]
        return np.logical_and.reduce(masks) if condition.every else np.logical_or.reduce(masks)
    codes, values = _values(condition.column, passages)
    return np.array([_fits(value, condition) for value in values], dtype=bool)[codes]


def _values(column: str, passages: Passages) -> tuple[Ids, list[Any]]:
    """The distinct values of a column or of a key of the metadata, and which of them each passage has."""
    if column in FIELDS and column != _METADATA:
        codes, texts = passages.column(column)
        return codes, list(texts)
    codes, texts = passages.column(_METADATA)
    rows = [_read(text) for text in texts]
    if not any(column in row for row in rows):
        known = [name for name in FIELDS if name != _METADATA]
        known += sorted({key for row in rows for key in row} - {*known})
        raise ConfigError(f"no passage has a column '{column}'", where="filter", hint=f"There are: {', '.join(known)}.")
    return codes, [row.get(column) for row in rows]


def _read(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _fits(value: Any, condition: Comparison) -> bool:
    negated = condition.operator in ("!=", "!~")
    if value is None:
        return negated
    elements = value if isinstance(value, list) else [value]
    wanted = condition.value if condition.operator == "in" else (condition.value,)
    operator = {"!=": "=", "!~": "~", "in": "="}.get(condition.operator, condition.operator)
    return negated != any(_holds(one, operator, other) for one in elements for other in wanted)


def _holds(value: Any, operator: str, wanted: Any) -> bool:
    if operator == "~":
        return fnmatchcase(_plain(value), _plain(wanted))
    left, right = _number(value), _number(wanted)
    pair: tuple[Any, Any] = (_plain(value), _plain(wanted)) if left is None or right is None else (left, right)
    one, other = pair
    return bool(
        {"=": one == other, "<": one < other, "<=": one <= other, ">": one > other, ">=": one >= other}[operator]
    )


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
