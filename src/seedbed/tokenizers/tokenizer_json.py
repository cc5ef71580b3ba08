"""`tokenizer.json`: a tokenizer in the format of Hugging Face's `tokenizers`.

What a file asks for and this package cannot do exactly is refused by name; nothing is encoded differently in silence.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..core.json_files import read_json
from .bpe_model import ByteLevelBPE
from .json_reader import JsonReader
from .specification import AddedToken, Model, Specification
from .wordpiece_model import WordPiece

_KEYS = (
    "version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder",
    "model",
)  # fmt: skip
# By `model.type`: each judges all parts of the document that belong to it.
_MODELS: dict[str, Callable[[dict[str, Any], JsonReader], Model]] = {
    "BPE": ByteLevelBPE.from_json,
    "WordPiece": WordPiece.from_json,
}
LARGEST_FILE = 1 << 28  # bytes; the largest published ones have about 40 million
_MOST_HOLES = 1 << 16  # ids that no token has; more of them is a damaged file, and would cost memory


def to_json(specification: Specification) -> dict[str, Any]:
    """The content of a tokenizer.json."""
    added = [
        {
            "id": token.id,
            "content": token.content,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": token.normalized,
            "special": token.special,
        }
        for token in sorted(specification.added, key=lambda token: token.id)
    ]
    model = specification.model.to_json()
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": model["normalizer"],
        "pre_tokenizer": model["pre_tokenizer"],
        "post_processor": specification.post_processor,
        "decoder": model["decoder"],
        "model": model["model"],
    }


def read(path: Path) -> Specification:
    """Read a tokenizer.json.

    Raises:
        FormatError: it is damaged or asks for what cannot be represented; names the file and the key.
    """
    document = read_json(path, largest=LARGEST_FILE)
    return _Reader(path).specification(document)


class _Reader(JsonReader):
    """Turns a document into a Specification."""

    def specification(self, document: dict[str, Any]) -> Specification:
        self.only(document, _KEYS)
        for key in ("truncation", "padding"):
            self.only_null(document, key)
        if not isinstance(document.get("model"), dict):
            raise self.fail("model", "is missing or not an object")
        kind = document["model"].get("type", "BPE")
        if not isinstance(kind, str) or kind not in _MODELS:
            raise self.fail("model.type", f"is {kind!r}, and only {', '.join(_MODELS)} can be used")
        model = _MODELS[kind](document, self)
        added = self._added(document.get("added_tokens") or [], model.vocabulary)
        post_processor = document.get("post_processor")
        names = model.vocabulary | {token.content: token.id for token in added}
        found = Specification(model, added, post_processor, *self._post_processor(post_processor, names))
        if found.size > 2 * len(names) + _MOST_HOLES:
            raise self.fail("model.vocab", f"claims ids up to {found.size - 1:,} for {len(names):,} tokens")
        return found

    def _added(self, listed: Any, vocabulary: dict[str, int]) -> tuple[AddedToken, ...]:
        if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
            raise self.fail("added_tokens", "is not a list of objects")
        owner = {number: token for token, number in vocabulary.items()}
        added: dict[str, AddedToken] = {}
        for index, item in enumerate(listed):
            key = f"added_tokens[{index}]"
            content, number = item.get("content"), item.get("id")
            if not isinstance(content, str) or not content:
                raise self.fail(f"{key}.content", f"is {content!r}")
            if type(number) is not int or not 0 <= number < 1 << 31:
                raise self.fail(f"{key}.id", f"is {number!r}")
            if content in added:
                raise self.fail(key, f"lists {content!r} a second time")
            if vocabulary.get(content, number) != number or owner.setdefault(number, content) != content:
                raise self.fail(key, f"gives {content!r} the id {number}, which the vocabulary gives otherwise")
            for option in ("single_word", "lstrip", "rstrip"):
                if item.get(option):
                    raise self.fail(f"{key}.{option}", "is true, which cannot be represented")
            special = bool(item.get("special"))
            added[content] = AddedToken(content, number, special, bool(item.get("normalized", not special)))
        return tuple(added.values())

    def _post_processor(self, node: Any, names: dict[str, int]) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
        """(prefix, suffix, trim_offsets) of null, ByteLevel, a template for single texts, or a sequence of these."""
        if node is None:
            return (), (), False
        kind = node.get("type") if isinstance(node, dict) else node
        if kind == "ByteLevel":
            return (), (), bool(node.get("trim_offsets", True))
        if kind == "TemplateProcessing":
            return *self._template(node, names), False
        if kind == "Sequence" and isinstance(node.get("processors"), list):
            prefix: tuple[int, ...] = ()
            suffix: tuple[int, ...] = ()
            trim = False
            for step in node["processors"]:
                if isinstance(step, dict) and step.get("type") == "Sequence":
                    raise self.fail("post_processor", "is a sequence of sequences, which cannot be represented")
                before, behind, trims = self._post_processor(step, names)
                if trims and (prefix or suffix):
                    raise self.fail("post_processor", "has a ByteLevel behind a template, which cannot be represented")
                prefix, suffix, trim = (*before, *prefix), (*suffix, *behind), trim or trims
            return prefix, suffix, trim
        raise self.fail("post_processor", f"is {kind!r}, which cannot be represented")

    def _template(self, node: dict[str, Any], names: dict[str, int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        around: tuple[list[int], list[int]] = ([], [])
        texts = 0
        try:
            for piece in node["single"]:
                if "Sequence" in piece:
                    texts += 1
                    continue
                special = node["special_tokens"][piece["SpecialToken"]["id"]]
                if special["ids"] != [names[token] for token in special["tokens"]]:
                    raise self.fail("post_processor.special_tokens", "names ids that differ from the vocabulary's")
                around[min(texts, 1)].extend(special["ids"])
        except (KeyError, TypeError, IndexError) as error:
            raise self.fail("post_processor", f"is not a template over known tokens ({error})") from None
        if texts != 1:
            raise self.fail("post_processor.single", f"holds the text {texts} times")
        return tuple(around[0]), tuple(around[1])
