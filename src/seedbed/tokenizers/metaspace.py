"""Metaspace: a space is written as a character of its own, U+2581, with which pieces begin.

The mechanism is native/tokenizer/piece_encoder.cpp, where a space stands for that character.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _native
from .byte_fallback import BYTE_OF_NAME, join, whole_run
from .json_reader import JsonReader

MARK = "▁"
_SCHEMES = ("always", "first", "never")


@dataclass(frozen=True)
class Metaspace:
    """How text becomes words."""

    replacement: str = MARK
    prepend_scheme: str = "always"  # before every stretch of text, before the first, or never
    split: bool = True  # words are encoded on their own
    whitespace_split: bool = False  # text is first cut at white space, which is dropped; needs "always" and `split`

    def to_native(self, token: str) -> bytes:
        """A token as native code has it. One that holds a real space is never met, as spaces are replaced before."""
        return b"" if " " in token else token.replace(self.replacement, " ").encode("utf-8")

    def encoder(self, model: _native.PieceModel, normalizer: _native.Normalizer | None = None) -> _native.Algorithm:
        mark = self.replacement.encode("utf-8")
        return _native.piece_encoder(model, normalizer, mark, self.prepend_scheme, self.split, self.whitespace_split)

    def to_json(self) -> dict[str, Any]:
        """The `pre_tokenizer` of a tokenizer.json."""
        step = self._step() | {"split": self.split}
        if self.whitespace_split:
            return {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, step]}
        return step

    def _step(self) -> dict[str, Any]:
        return {"type": "Metaspace", "replacement": self.replacement, "prepend_scheme": self.prepend_scheme}

    @classmethod
    def from_json(cls, node: Any, reader: JsonReader) -> Metaspace:
        """Of a tokenizer.json's `pre_tokenizer`: Metaspace, or WhitespaceSplit and Metaspace.

        Raises:
            FormatError: it is something else; names the key.
        """
        key = "pre_tokenizer"
        steps = node.get("pretokenizers") if isinstance(node, dict) and node.get("type") == "Sequence" else [node]
        if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
            raise reader.fail(key, "is no Metaspace")
        kinds = [step.get("type") for step in steps]
        if kinds not in (["Metaspace"], ["WhitespaceSplit", "Metaspace"]):
            raise reader.fail(
                key, f"has {' + '.join(map(str, kinds))}, and only [WhitespaceSplit +] Metaspace can be used"
            )
        replacement, scheme, split = _options(steps[-1], reader, key)
        if len(steps) == 2 and not (scheme == "always" and split):
            raise reader.fail(key, "has a WhitespaceSplit before a Metaspace that does not split or prepend always")
        return cls(replacement, scheme, split, len(steps) == 2)


@dataclass(frozen=True)
class SpaceDecoder:
    """How tokens become text again, as `tokenizers` does it."""

    space: str = MARK  # what is read as a space
    strips: bool = True  # the space before the text goes
    joins_bytes: bool = False  # tokens of byte fallback are these bytes, not their names

    def bytes_of(self, token: str) -> bytes:
        if self.joins_bytes and token in BYTE_OF_NAME:
            return bytes([BYTE_OF_NAME[token]])
        return self._spell(token).encode("utf-8", errors="surrogatepass")

    def first_bytes_of(self, token: str) -> bytes | None:
        """Of the first token Metaspace drops all spaces, and the decoder for bytes one."""
        if not self.strips:
            return None
        if self.joins_bytes:
            return self.bytes_of(token).removeprefix(b" ")
        return token.replace(self.space, "").encode("utf-8", errors="surrogatepass")

    def decode(self, data: bytes, ids: NDArray[np.integer], tokens: Sequence[str | None]) -> str:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            text = join((tokens[number] or "" for number in ids.tolist()), self._spell, whole_run)
            return text.removeprefix(" ") if self.strips else text

    def _spell(self, token: str) -> str:
        return token.replace(self.space, " ")

    def to_json(self) -> dict[str, Any]:
        """The `decoder` of a tokenizer.json."""
        if not self.joins_bytes:
            return Metaspace(self.space, "always" if self.strips else "never").to_json()
        steps: list[dict[str, Any]] = [
            {"type": "Replace", "pattern": {"String": self.space}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
        ]
        if self.strips:
            steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
        return {"type": "Sequence", "decoders": steps}

    @classmethod
    def from_json(cls, node: Any, reader: JsonReader) -> SpaceDecoder:
        """Of a tokenizer.json's `decoder`.

        Raises:
            FormatError: it is not what `to_json` makes; names the key.
        """
        kind = node.get("type") if isinstance(node, dict) else node
        if kind == "Metaspace":
            replacement, scheme, _ = _options(node, reader, "decoder")
            return cls(replacement, scheme != "never")
        steps = node.get("decoders") if kind == "Sequence" else None
        first = steps[0] if isinstance(steps, list) and steps and isinstance(steps[0], dict) else {}
        space = first["pattern"].get("String") if isinstance(first.get("pattern"), dict) else None
        if isinstance(space, str) and len(space) == 1:
            for strips in (True, False):
                found = cls(space, strips, joins_bytes=True)
                if node == found.to_json():
                    return found
        raise reader.fail(
            "decoder", f"is {kind!r}, and only Metaspace or Replace + ByteFallback + Fuse [+ Strip] can be used"
        )


def _options(step: dict[str, Any], reader: JsonReader, key: str) -> tuple[str, str, bool]:
    reader.only(step, ("type", "replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"), f"{key}.")
    replacement = step.get("replacement")
    if not isinstance(replacement, str) or len(replacement) != 1 or replacement == " ":
        raise reader.fail(f"{key}.replacement", f"is {replacement!r}, not one character other than a space")
    scheme = step.get("prepend_scheme")
    if scheme is None:  # how older files say it
        scheme = "always" if step.get("add_prefix_space", True) else "never"
    if scheme not in _SCHEMES:
        raise reader.fail(f"{key}.prepend_scheme", f"is {scheme!r}; known are {', '.join(_SCHEMES)}")
    split = step.get("split", True)
    if type(split) is not bool:
        raise reader.fail(f"{key}.split", f"is {split!r}, not true or false")
    return replacement, scheme, split
