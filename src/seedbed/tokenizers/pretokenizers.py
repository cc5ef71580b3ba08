"""Pre-tokenisers of byte-level BPE: text is cut into pieces before it is merged, and no token crosses a cut.

The patterns that most published tokenizers use have native matchers (native/tokenizer/pretokenizer.cpp), which cut as
the regular expressions here would. All others go through the package `regex` (expressions.py), a hundred times slower:
one step after another, each cutting the pieces of the one before, as the steps of a tokenizer.json say.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import regex
from numpy.typing import NDArray

from .. import _native
from ..core.errors import ConfigError, DataError
from .bytelevel import to_characters
from .expressions import as_unicode_16, translate

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+"
_SYMBOLS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"

# Name to expression, in the dialect of `tokenizers` (Oniguruma).
PATTERNS: dict[str, str] = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    # tiktoken's, where white space at the end of the text is one piece
    "cl100k": rf"{_WORDS}|\p{{N}}{{1,3}}|{_SYMBOLS}|\s+\z|{_SPACES}",
    "llama3": rf"{_WORDS}|\p{{N}}{{1,3}}|{_SYMBOLS}|{_SPACES}",
    "o200k": "|".join(
        (
            rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTIONS}?",
            rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTIONS}?",
            r"\p{N}{1,3}",
            r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
            _SPACES,
        )
    ),
    "qwen2": rf"{_WORDS}|\p{{N}}|{_SYMBOLS}|{_SPACES}",
}
_NAME_OF = {expression: name for name, expression in PATTERNS.items()}


Node = dict[str, Any]  # a step as a tokenizer.json writes it
Ranges = list[tuple[int, int]]

_BEHAVIORS = ("Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous")
_PUNCTUATION = r"[!-/:-@\[-`{-~\p{P}]"
_WORDS_AND_SYMBOLS = r"[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200c\u200d]+|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200c\u200d\s]+"
_BYTE_LEVEL: Node = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
# An expression that goes back and forth over a text for longer than this is given up.
_SECONDS, _SECONDS_PER_CHARACTER = 10.0, 1e-4


@dataclass(frozen=True)
class PreTokenizer:
    """The steps of a pre-tokeniser that ends in bytes; made by `of_pattern` and `from_json`, which check them."""

    steps: tuple[Node, ...]

    @classmethod
    def of_pattern(cls, pattern: str, *, matches_only: bool = False) -> PreTokenizer:
        """Of a known pattern by name, or of any regular expression (in the dialect of `tokenizers`).

        Args:
            matches_only: what lies between the matches is dropped, not a piece of its own.

        Raises:
            ConfigError: it is neither a name nor an expression that can be used.
        """
        expression = PATTERNS.get(pattern, pattern)
        if expression == PATTERNS["gpt2"]:
            return cls(({**_BYTE_LEVEL, "use_regex": True},))
        try:
            if expression not in _NAME_OF:
                translate(expression)
        except ValueError as error:
            raise ConfigError(f"the pattern {error}", hint=f"Known by name: {', '.join(PATTERNS)}.") from None
        if pattern not in PATTERNS and pattern.isalnum():  # no published expression is a word
            raise ConfigError(f"unknown pre-tokeniser pattern {pattern!r}", hint=f"Known: {', '.join(PATTERNS)}.")
        behavior = "Removed" if matches_only else "Isolated"
        cut = {"type": "Split", "pattern": {"Regex": expression}, "behavior": behavior, "invert": matches_only}
        return cls((cut, _BYTE_LEVEL))

    @property
    def pattern(self) -> str | None:
        """The name of the native matcher that cuts alike, apart from a space put before the text."""
        match self.steps:
            case ({"type": "ByteLevel", "use_regex": True},):
                return "gpt2"
            case (
                {
                    "type": "Split",
                    "pattern": {"Regex": expression},
                    "behavior": ("Isolated" | "Removed") as behavior,
                    "invert": invert,
                },
                {"type": "ByteLevel", "use_regex": False, "add_prefix_space": False},
            ):
                # each known pattern matches every character, so what does not match is nothing
                return _NAME_OF.get(expression) if (behavior == "Removed") == invert else None
        return None

    @property
    def prefix_space(self) -> bool:
        """A space is put before what `pattern` cuts, unless one stands there."""
        return self.pattern is not None and bool(self.steps[-1]["add_prefix_space"])

    @functools.cached_property
    def _cuts(self) -> list[_Cut | None]:
        return [None if step["type"] == "ByteLevel" else _cut_of(step) for step in self.steps]

    def cut(self, data: bytes) -> tuple[bytes | None, NDArray[np.int64], NDArray[np.int64]]:
        """The pieces of a text that no native matcher cuts.

        Returns:
            the text with the spaces that were put before pieces, or None if there are none; from and to of each piece
            in its bytes, int64 (n, 2); and where the spaces stand in it, int64.

        Raises:
            DataError: an expression takes too long.
        """
        text = data.decode("utf-8", errors="surrogateescape")
        pieces: Ranges = [(0, len(text))] if text else []
        spaces: list[int] = []
        in_bytes = False
        for step, cut in zip(self.steps, self._cuts, strict=True):
            if cut is None:
                if step["add_prefix_space"]:
                    text, pieces, spaces = _with_spaces(text, pieces)
                    data = text.encode("utf-8", errors="surrogateescape")
                if step["use_regex"]:
                    pieces = _gpt2().split_all(text, pieces)
                if step is not self.steps[-1]:  # what follows sees characters that stand for bytes
                    byte_of = _byte_of_each(text)
                    pieces = [(int(byte_of[start]), int(byte_of[end])) for start, end in pieces]
                    spaces = byte_of[spaces].tolist()
                    text, in_bytes = to_characters(data), True
            else:
                pieces = cut.split_all(text, pieces)
        ranges = np.array(pieces, dtype=np.int64).reshape(-1, 2)
        places = np.array(spaces, dtype=np.int64)
        if not in_bytes and not text.isascii():
            byte_of = _byte_of_each(text)
            ranges, places = byte_of[ranges], byte_of[places]
        return data if len(places) else None, ranges, places

    def words(self) -> _native.WordSource:
        """How training cuts text."""
        return _native.pattern_words(self.pattern) if self.pattern else _native.cut_words(self.cut)

    def to_json(self) -> Node:
        """The `pre_tokenizer` of a tokenizer.json."""
        return self.steps[0] if len(self.steps) == 1 else {"type": "Sequence", "pretokenizers": list(self.steps)}

    @classmethod
    def from_json(cls, node: Any) -> PreTokenizer:
        """That of a tokenizer.json.

        Raises:
            ValueError: it says what cannot be represented.
        """
        steps = tuple(_flat(node))
        kinds = [step["type"] for step in steps]
        if kinds.count("ByteLevel") != 1:
            raise ValueError(f"has {' + '.join(kinds)}, and only a pre-tokeniser with one ByteLevel can be used")
        return cls(tuple(_checked(step) for step in steps))


def split(text: str, pattern: str = "llama3") -> list[str]:
    """The pieces of `text`; joined they are the text."""
    pre_tokenizer = PreTokenizer.of_pattern(pattern)
    data = text.encode("utf-8")
    if pre_tokenizer.pattern:
        cuts = _native.cut(pre_tokenizer.pattern, data).tolist()
        return [data[start:end].decode("utf-8") for start, end in pairwise(cuts)]
    return [data[start:end].decode("utf-8") for start, end in pre_tokenizer.cut(data)[1].tolist()]


@dataclass(frozen=True)
class _Cut:
    """Cutting at the matches of an expression."""

    shown: str  # in messages
    expression: regex.Pattern[str]
    behavior: str
    invert: bool

    def split_all(self, text: str, pieces: Ranges) -> Ranges:
        """Each piece of the text cut for itself: an expression sees nothing around it."""
        if pieces == [(0, len(text))]:
            return self.split(text)
        return [
            (offset + start, offset + end) for offset, until in pieces for start, end in self.split(text[offset:until])
        ]

    def split(self, text: str) -> Ranges:
        found: list[tuple[int, int, bool]] = []  # stretches, and whether each counts as a match
        last = 0
        try:
            for start, end in self._matches(as_unicode_16(text)):
                if last < start:
                    found.append((last, start, self.invert))
                found.append((start, end, not self.invert))
                last = end
        except TimeoutError:
            raise DataError(
                f"the pattern {self.shown[:80]!r} took too long on a text of {len(text):,} characters",
                hint="It tries the same characters in too many ways: use possessive quantifiers or a named pattern.",
            ) from None
        if last < len(text):
            found.append((last, len(text), self.invert))
        return [(start, end) for start, end in self._joined(found) if start < end]

    def _matches(self, text: str) -> Iterator[tuple[int, int]]:
        """Leftmost matches; an empty one counts unless it stands right behind another, and then one character on."""
        seconds = _SECONDS + _SECONDS_PER_CHARACTER * len(text)
        at, last = 0, -1
        while True:
            for match in self.expression.finditer(text, at, timeout=seconds):
                start, end = match.span()
                at = end
                if start == end:
                    break  # what `finditer` does next differs between the engines
                yield start, end
                last = end
            else:
                return
            if at != last:
                yield at, at
            last = at
            at += 1
            if at > len(text):
                return

    def _joined(self, found: list[tuple[int, int, bool]]) -> Ranges:
        if self.behavior == "Isolated":
            return [(start, end) for start, end, _ in found]
        if self.behavior == "Removed":
            return [(start, end) for start, end, matched in found if not matched]
        backwards = self.behavior == "MergedWithNext"
        joined: Ranges = []
        before = False
        for start, end, matched in reversed(found) if backwards else found:
            joins = matched == before if self.behavior == "Contiguous" else matched and not before
            before = matched
            if joins and joined:
                joined[-1] = (start, joined[-1][1]) if backwards else (joined[-1][0], end)
            else:
                joined.append((start, end))
        return joined[::-1] if backwards else joined


@functools.cache
def _gpt2() -> _Cut:
    return _Cut(PATTERNS["gpt2"], regex.compile(translate(PATTERNS["gpt2"]), regex.V1), "Isolated", False)


def _cut_of(step: Node) -> _Cut:
    behavior, invert = step.get("behavior", "Isolated"), step.get("invert", False)
    shown = ""
    match step:
        case {"type": "Split", "pattern": {"Regex": shown}}:
            written = translate(shown)
        case {"type": "Split", "pattern": {"String": content}} | {"type": "CharDelimiterSplit", "delimiter": content}:
            written = regex.escape(content) if content else r"(?!)"
            behavior = step.get("behavior", "Removed")
        case {"type": "Digits"}:
            written, behavior = r"\p{N}", "Isolated" if step["individual_digits"] else "Contiguous"
        case {"type": "Punctuation"}:
            written = _PUNCTUATION
        case {"type": "Whitespace"}:
            written, behavior, invert = _WORDS_AND_SYMBOLS, "Removed", True
        case _:  # WhitespaceSplit
            written, behavior = r"\s", "Removed"
    return _Cut(shown or written, regex.compile(written, regex.V1), behavior, invert)


def _with_spaces(text: str, pieces: Ranges) -> tuple[str, Ranges, list[int]]:
    """Put a space before each piece that does not begin with one; what lies between pieces stays where it is."""
    parts: list[str] = []
    ranges: Ranges = []
    spaces: list[int] = []
    last = 0
    for start, end in pieces:
        parts.append(text[last:start])
        begin = start + len(spaces)
        if text[start] != " ":
            parts.append(" ")
            spaces.append(begin)
        parts.append(text[start:end])
        ranges.append((begin, end + len(spaces)))
        last = end
    parts.append(text[last:])
    return "".join(parts), ranges, spaces


def _byte_of_each(text: str) -> NDArray[np.int64]:
    """Where each character begins in the UTF-8 of a text, and where that ends; int64 (characters + 1,)."""
    codes = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)
    lengths = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
    lengths[(codes >= 0xDC80) & (codes < 0xDD00)] = 1  # a byte that is not UTF-8
    return np.concatenate([[0], np.cumsum(lengths)])


def _flat(node: Any) -> Iterator[Node]:
    if not isinstance(node, dict) or not isinstance(node.get("type"), str):
        raise ValueError("is not a byte-level pre-tokeniser")
    if node["type"] != "Sequence":
        yield node
    elif not isinstance(node.get("pretokenizers"), list):
        raise ValueError("has a Sequence without its list")
    else:
        for step in node["pretokenizers"]:
            if isinstance(step, dict) and step.get("type") == "Sequence":
                raise ValueError("has a Sequence in a Sequence, which cannot be represented")
            yield from _flat(step)


_DEFAULTS: dict[str, Node] = {
    "ByteLevel": {"add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    "Split": {"pattern": None, "behavior": None, "invert": False},
    "Digits": {"individual_digits": False},
    "Punctuation": {"behavior": "Isolated"},
    "Whitespace": {},
    "WhitespaceSplit": {},
    "CharDelimiterSplit": {"delimiter": None},
}


def _checked(step: Node) -> Node:
    """A step with all its options, each of which can be used."""
    kind = step["type"]
    if kind not in _DEFAULTS:
        raise ValueError(f"has {kind}, and only {', '.join(_DEFAULTS)} can be used")
    unknown = step.keys() - _DEFAULTS[kind] - {"type"}
    if unknown:
        raise ValueError(f"has a {kind} with the unknown option {sorted(unknown)[0]!r}")
    full = {"type": kind} | _DEFAULTS[kind] | step
    for key, value in full.items():
        if isinstance(_DEFAULTS[kind].get(key), bool) and not isinstance(value, bool):
            raise ValueError(f"has a {kind} with {key} {value!r}")
    if "behavior" in full and full["behavior"] not in _BEHAVIORS:
        raise ValueError(f"has a {kind} with the behavior {full['behavior']!r}; known: {', '.join(_BEHAVIORS)}")
    delimiter = full.get("delimiter", "x")
    if not isinstance(delimiter, str) or len(delimiter) != 1:
        raise ValueError(f"has a CharDelimiterSplit with the delimiter {delimiter!r}")
    if kind == "Split":
        match full["pattern"]:
            case {"Regex": str() as expression} if len(full["pattern"]) == 1:
                if expression not in _NAME_OF:
                    translate(expression)
            case {"String": str()} if len(full["pattern"]) == 1:
                pass
            case other:
                raise ValueError(f"has a Split with the pattern {other!r}")
    return full
