"""`tokenizer.json`: a tokenizer in the format of Hugging Face's `tokenizers`.

What a file asks for and this package cannot do exactly is refused by name; nothing is encoded differently in silence.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..core.errors import FormatError
from ..core.json_files import read_json
from . import sentencepiece_model
from .assembly import Padding, Side, Strategy, Truncation
from .bpe_model import ByteLevelBPE
from .character_bpe import CharacterBPE
from .json_reader import JsonReader, float_of_tokenizers
from .post_processor import PostProcessor
from .sentencepiece_model import SentencePiece
from .specification import AddedToken, Model, Specification
from .unigram_model import Unigram
from .wordpiece_model import WordPiece

_KEYS = (
    "version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder",
    "model",
)  # fmt: skip


def _bpe(document: dict[str, Any], reader: JsonReader) -> Model:
    """Of the two kinds of BPE, the decoder tells which it is."""
    decoder = document.get("decoder")
    by_character = isinstance(decoder, dict) and decoder.get("type") in ("Metaspace", "Sequence")
    return (CharacterBPE if by_character else ByteLevelBPE).from_json(document, reader)


# By `model.type`: each judges all parts of the document that belong to it.
_MODELS: dict[str, Callable[[dict[str, Any], JsonReader], Model]] = {
    "BPE": _bpe,
    "WordPiece": WordPiece.from_json,
    "Unigram": Unigram.from_json,
}
LARGEST_FILE = 1 << 28  # bytes; the largest published ones have about 40 million
_SIDES: dict[str, Side] = {"Left": "left", "Right": "right"}
_STRATEGIES: dict[str, Strategy] = {
    "LongestFirst": "longest_first",
    "OnlyFirst": "only_first",
    "OnlySecond": "only_second",
}
_MOST_ADDED = 1 << 22  # characters of added tokens, which are searched for at some cost of memory for each
MOST_HOLES = 1 << 16  # ids that no token has; more of them is a damaged file, and would cost memory


def to_json(specification: Specification) -> dict[str, Any]:
    """The content of a tokenizer.json."""
    added = [
        {
            "id": token.id,
            "content": token.content,
            "single_word": token.single_word,
            "lstrip": token.lstrip,
            "rstrip": token.rstrip,
            "normalized": token.normalized,
            "special": token.special,
        }
        for token in sorted(specification.added, key=lambda token: token.id)
    ]
    model = specification.model.to_json()
    return {
        "version": "1.0",
        "truncation": _truncation_json(specification.truncation),
        "padding": _padding_json(specification.padding),
        "added_tokens": added,
        "normalizer": model["normalizer"],
        "pre_tokenizer": model["pre_tokenizer"],
        "post_processor": specification.post_processor.document,
        "decoder": model["decoder"],
        "model": model["model"],
    }


def read(path: Path) -> Specification:
    """Read a tokenizer.json.

    Raises:
        FormatError: it is damaged or asks for what cannot be represented; names the file and the key.
    """
    document = read_json(path, largest=LARGEST_FILE, parse_float=float_of_tokenizers)
    try:
        return _Reader(path).specification(document)
    except RecursionError:
        raise FormatError("is nested too deeply", where=path) from None


class _Reader(JsonReader):
    """Turns a document into a Specification."""

    def specification(self, document: dict[str, Any]) -> Specification:
        self.only(document, _KEYS)
        if not isinstance(document.get("model"), dict):
            raise self.fail("model", "is missing or not an object")
        kind = document["model"].get("type", "BPE")
        if not isinstance(kind, str) or kind not in _MODELS:
            raise self.fail("model.type", f"is {kind!r}, and only {', '.join(_MODELS)} can be used")
        load = SentencePiece.from_json if sentencepiece_model.KEY in document["model"] else _MODELS[kind]
        model = load(document, self)
        added = self._added(document.get("added_tokens") or [], model.vocabulary)
        names = model.vocabulary | {token.content: token.id for token in added}
        found = Specification(
            model,
            added,
            PostProcessor.read(document.get("post_processor"), names, self),
            self._truncation(document.get("truncation")),
            self._padding(document.get("padding")),
        )
        if found.size > 2 * len(names) + MOST_HOLES:
            raise self.fail("model.vocab", f"claims ids up to {found.size - 1:,} for {len(names):,} tokens")
        return found

    def _added(self, listed: Any, vocabulary: dict[str, int]) -> tuple[AddedToken, ...]:
        if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
            raise self.fail("added_tokens", "is not a list of objects")
        if sum(len(str(item.get("content", ""))) for item in listed) > _MOST_ADDED:
            raise self.fail("added_tokens", f"holds more than {_MOST_ADDED:,} characters")
        owner = {number: token for token, number in vocabulary.items()}
        added: dict[str, AddedToken] = {}
        for index, item in enumerate(listed):
            key = f"added_tokens[{index}]"
            content, number = item.get("content"), item.get("id")
            if not self.text(f"{key}.content", content):
                raise self.fail(f"{key}.content", "is empty")
            if type(number) is not int or not 0 <= number < 1 << 31:
                raise self.fail(f"{key}.id", f"is {number!r}")
            if content in added:
                raise self.fail(key, f"lists {content!r} a second time")
            if vocabulary.get(content, number) != number or owner.setdefault(number, content) != content:
                raise self.fail(key, f"gives {content!r} the id {number}, which the vocabulary gives otherwise")
            special = self.flag(item, "special", f"{key}.", default=False)
            added[content] = AddedToken(
                content,
                number,
                special,
                self.flag(item, "normalized", f"{key}.", default=not special),
                *(self.flag(item, name, f"{key}.", default=False) for name in ("single_word", "lstrip", "rstrip")),
            )
        return tuple(added.values())

    def _truncation(self, node: Any) -> Truncation | None:
        if node is None:
            return None
        keys = ("max_length", "direction", "strategy", "stride")
        length, side, strategy, stride = self._values("truncation", node, keys, (None, "Right", "LongestFirst", 0))
        if not _is_length(length) or not _is_length(stride):
            raise self.fail("truncation", f"has the max_length {length!r} and the stride {stride!r}")
        return Truncation(
            length,
            self._choice("truncation.direction", side, _SIDES),
            self._choice("truncation.strategy", strategy, _STRATEGIES),
            stride,
        )

    def _padding(self, node: Any) -> Padding | None:
        if node is None:
            return None
        keys = ("strategy", "direction", "pad_to_multiple_of", "pad_token", "pad_id", "pad_type_id")
        length, side, multiple, token, *ids = self._values(
            "padding", node, keys, ("BatchLongest", "Right", None, "[PAD]", 0, 0)
        )
        if isinstance(length, dict) and length.keys() == {"Fixed"} and _is_length(length["Fixed"]):
            length = length["Fixed"]
        elif length == "BatchLongest":
            length = None
        else:
            raise self.fail("padding.strategy", f"is {length!r}")
        if not isinstance(token, str) or not all(map(_is_length, ids)):
            raise self.fail("padding", f"has the token {token!r} with ids {ids}")
        if multiple is not None and not (_is_length(multiple) and multiple > 0):
            raise self.fail("padding.pad_to_multiple_of", f"is {multiple!r}")
        return Padding(length, self._choice("padding.direction", side, _SIDES), multiple, token, *ids)

    def _values(self, key: str, node: Any, keys: tuple[str, ...], defaults: tuple[Any, ...]) -> list[Any]:
        if not isinstance(node, dict):
            raise self.fail(key, "is not an object")
        self.only(node, keys, f"{key}.")
        return [node.get(name, default) for name, default in zip(keys, defaults, strict=True)]

    def _choice(self, key: str, value: Any, known: dict[str, Any]) -> Any:
        if not isinstance(value, str) or value not in known:
            raise self.fail(key, f"is {value!r}; known are {', '.join(known)}")
        return known[value]


def _is_length(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 31


def _truncation_json(truncation: Truncation | None) -> dict[str, Any] | None:
    if truncation is None:
        return None
    return {
        "direction": truncation.side.title(),
        "max_length": truncation.max_length,
        "strategy": truncation.strategy.title().replace("_", ""),
        "stride": truncation.stride,
    }


def _padding_json(padding: Padding | None) -> dict[str, Any] | None:
    if padding is None:
        return None
    return {
        "strategy": "BatchLongest" if padding.length is None else {"Fixed": padding.length},
        "direction": padding.side.title(),
        "pad_to_multiple_of": padding.multiple_of,
        "pad_id": padding.token_id,
        "pad_type_id": padding.type_id,
        "pad_token": padding.token,
    }
