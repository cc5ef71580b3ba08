"""`tokenizer.json`: a byte-level BPE tokenizer in the format of Hugging Face's `tokenizers`.

What a file asks for and this package cannot do exactly is refused by name; nothing is encoded differently in silence.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import FormatError
from . import pretokenizers
from .bytelevel import CHARACTER_OF_BYTE

_MOST_HOLES = 1 << 16  # ids that no token has; more of them is a damaged file, and would cost memory


@dataclass(frozen=True)
class AddedToken:
    """A token that stands in the text as it is. `special`: a control token, left out of decoded text when asked."""

    content: str
    id: int
    special: bool = True
    normalized: bool = False


@dataclass(frozen=True)
class Specification:
    """All that decides which ids a text becomes."""

    vocabulary: dict[str, int]  # in the characters of bytelevel.py
    merges: list[tuple[str, str]]  # in order of application
    pattern: str
    added: tuple[AddedToken, ...] = ()
    ignore_merges: bool = False  # a pre-token that is in the vocabulary needs no merges
    post_processor: dict[str, Any] | None = None
    prefix: tuple[int, ...] = ()  # ids that the post-processor puts around a text
    suffix: tuple[int, ...] = ()
    trim_offsets: bool = False
    size: int = field(init=False)  # largest id + 1

    def __post_init__(self) -> None:
        ids = [*self.vocabulary.values(), *(token.id for token in self.added)]
        object.__setattr__(self, "size", max(ids, default=-1) + 1)


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
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": pretokenizers.to_json(specification.pattern),
        "post_processor": specification.post_processor,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": specification.ignore_merges,
            "vocab": dict(sorted(specification.vocabulary.items(), key=lambda item: item[1])),
            "merges": [list(pair) for pair in specification.merges],
        },
    }


def read(path: Path) -> Specification:
    """Read a tokenizer.json.

    Raises:
        FormatError: it is damaged or asks for what cannot be represented; names the file and the key.
    """
    document = read_json(path)
    return _Reader(path).specification(document)


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


class _Reader:
    """Turns a document into a Specification, naming file and key in every complaint."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fail(self, key: str, problem: str) -> FormatError:
        return FormatError(f"'{key}' {problem}", where=self.path)

    def specification(self, document: dict[str, Any]) -> Specification:
        known = set(to_json(Specification({}, [], "gpt2")))
        self._only(document, known, "")
        for key in ("truncation", "padding", "normalizer"):
            if document.get(key) is not None:
                name = document[key].get("type", "") if isinstance(document[key], dict) else ""
                raise self.fail(key, f"{name} cannot be represented; only null can".lstrip())
        if not isinstance(document.get("model"), dict):
            raise self.fail("model", "is missing or not an object")
        model = document["model"]
        vocabulary = self._vocabulary(model)
        merges = self._merges(model, vocabulary)
        self._model_options(model)
        self._decoder(document.get("decoder"))
        try:
            pattern = pretokenizers.from_json(document.get("pre_tokenizer"))
        except ValueError as error:
            raise self.fail("pre_tokenizer", str(error)) from None
        added = self._added(document.get("added_tokens") or [], vocabulary)
        post_processor = document.get("post_processor")
        names = vocabulary | {token.content: token.id for token in added}
        prefix, suffix, trim = self._post_processor(post_processor, names)
        found = Specification(
            vocabulary, merges, pattern, added, bool(model.get("ignore_merges")), post_processor, prefix, suffix, trim
        )
        if found.size > 2 * len(names) + _MOST_HOLES:
            raise self.fail("model.vocab", f"claims ids up to {found.size - 1:,} for {len(names):,} tokens")
        return found

    def _only(self, node: dict[str, Any], known: Iterable[str], within: str) -> None:
        for key, value in node.items():
            if key not in known and value is not None:
                raise self.fail(within + key, "is not known")

    def _vocabulary(self, model: dict[str, Any]) -> dict[str, int]:
        if model.get("type", "BPE") != "BPE":
            raise self.fail("model.type", f"is {model['type']!r}, and only byte-level BPE can be used")
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
        for byte, character in CHARACTER_OF_BYTE.items():
            if character not in vocabulary:
                raise self.fail("model.vocab", f"lacks {character!r} (byte {byte:#04x}), so it is not byte-level")
        return vocabulary

    def _merges(self, model: dict[str, Any], vocabulary: dict[str, int]) -> list[tuple[str, str]]:
        listed = model.get("merges")
        if not isinstance(listed, list):
            raise self.fail("model.merges", "is missing or not a list")
        merges = []
        for rank, item in enumerate(listed):
            pair = item.split(" ") if isinstance(item, str) else item
            if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
                raise self.fail(f"model.merges[{rank}]", f"is not a pair of tokens: {str(item)[:80]!r}")
            left, right = pair
            for token in (left, right, left + right):
                if token not in vocabulary:
                    raise self.fail(f"model.merges[{rank}]", f"names {token!r}, which is not in the vocabulary")
            merges.append((left, right))
        return merges

    def _model_options(self, model: dict[str, Any]) -> None:
        self._only(model, to_json(Specification({}, [], "gpt2"))["model"], "model.")
        # All bytes are known, so nothing is ever unknown: unk_token, fuse_unk and byte_fallback change nothing.
        for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
            if model.get(key):
                raise self.fail(f"model.{key}", f"is {model[key]!r}, which cannot be represented")

    def _decoder(self, node: Any) -> None:
        if not isinstance(node, dict) or node.get("type") != "ByteLevel":
            kind = node.get("type") if isinstance(node, dict) else node
            raise self.fail("decoder", f"is {kind!r}, and only ByteLevel can be used")

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
