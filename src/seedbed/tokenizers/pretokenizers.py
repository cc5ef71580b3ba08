"""Pre-tokenisers: text is cut into pieces before BPE, and no token crosses a cut.

The patterns that published tokenizers use have native matchers (native/tokenizer/pretokenizer.cpp), which cut as the
regular expressions here would. The expressions are what a saved tokenizer.json holds and what a loaded one is known by.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from .. import _native
from ..core.errors import ConfigError

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


def check_pattern(pattern: str) -> str:
    """The name of a pattern given by name or by its exact expression.

    Raises:
        ConfigError: it is neither.
    """
    name = pattern if pattern in PATTERNS else _NAME_OF.get(pattern)
    if name is None:
        raise ConfigError(f"unknown pre-tokeniser pattern {pattern!r}", hint=f"Known: {', '.join(PATTERNS)}.")
    return name


def split(text: str, pattern: str = "llama3") -> list[str]:
    """The pieces of `text`; joined they are the text."""
    data = text.encode("utf-8")
    cuts = _native.cut(check_pattern(pattern), data).tolist()
    return [data[start:end].decode("utf-8") for start, end in pairwise(cuts)]


def to_json(pattern: str) -> dict[str, Any]:
    """The `pre_tokenizer` of a tokenizer.json."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": pattern == "gpt2"}
    if pattern == "gpt2":
        return byte_level
    cut = {"type": "Split", "pattern": {"Regex": PATTERNS[pattern]}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [cut, byte_level]}


def from_json(node: Any) -> str:
    """The pattern of a tokenizer.json's `pre_tokenizer`.

    Raises:
        ValueError: it says what cannot be represented.
    """
    steps = node.get("pretokenizers") if isinstance(node, dict) and node.get("type") == "Sequence" else [node]
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise ValueError("is not a byte-level pre-tokeniser")
    kinds = [step.get("type") for step in steps]
    if kinds not in (["ByteLevel"], ["Split", "ByteLevel"]):
        raise ValueError(f"has {' + '.join(map(str, kinds))}, and only [Split +] ByteLevel can be used")
    if steps[-1].get("add_prefix_space", True):
        raise ValueError("has add_prefix_space, which cannot be used")
    if kinds == ["ByteLevel"]:
        if not steps[0].get("use_regex", True):
            raise ValueError("has a ByteLevel without use_regex and no Split")
        return "gpt2"
    cut, byte_level = steps
    if byte_level.get("use_regex", True):
        raise ValueError("has a ByteLevel with use_regex behind a Split, which cannot be used")
    if cut.get("behavior") != "Isolated" or cut.get("invert", False):
        raise ValueError("has a Split that is not isolated, which cannot be used")
    expression = cut["pattern"].get("Regex") if isinstance(cut.get("pattern"), dict) else None
    if expression not in _NAME_OF:
        raise ValueError(f"has the pattern {expression!r}; known are those of {', '.join(PATTERNS)}")
    return _NAME_OF[expression]
