"""What stands around a text, or a pair of texts, when a model reads it: `[CLS] A [SEP] B [SEP]`.

The post-processors of a tokenizer.json (a template, BERT's, RoBERTa's, ByteLevel's and sequences of these) all come
down to one template for a single text, one for a pair, and whether the offsets leave out spaces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .json_reader import JsonReader


class Piece(NamedTuple):
    """A part of a template: a text of the input (0 or 1), or else ids; and which segment it counts to."""

    text: int | None = None
    ids: tuple[int, ...] = ()
    type_id: int = 0


Template = tuple[Piece, ...]
_SINGLE: Template = (Piece(0),)
_PAIR: Template = (Piece(0), Piece(1, type_id=1))
_KEYS = {
    "TemplateProcessing": ("type", "single", "pair", "special_tokens"),
    "BertProcessing": ("type", "sep", "cls"),
    "RobertaProcessing": ("type", "sep", "cls", "trim_offsets", "add_prefix_space"),
    "ByteLevel": ("type", "add_prefix_space", "trim_offsets", "use_regex"),
}
_LARGEST_TYPE = 1 << 32
_TEXTS = {"A": 0, "B": 1}


@dataclass(frozen=True)
class PostProcessor:
    """Templates, and how offsets are trimmed; `document` is how a tokenizer.json says it."""

    single: Template = _SINGLE
    pair: Template = _PAIR
    trim_offsets: bool = False  # offsets leave out the spaces that a token begins or ends with
    keep_first_space: bool = False  # but not the first, where it was put before the text
    document: dict[str, Any] | None = field(default=None, compare=False)

    @classmethod
    def template(cls, single: str, pair: str, names: Mapping[str, int]) -> PostProcessor:
        """By the notation of `tokenizers`: `template("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", vocabulary)`."""

        def pieces(text: str) -> list[dict[str, Any]]:
            listed = []
            for word in text.split():
                head, _, type_id = word.rpartition(":") if word[-2:-1] == ":" else (word, "", "0")
                kind, name = ("Sequence", head[1:]) if head.startswith("$") else ("SpecialToken", head)
                listed.append({kind: {"id": name, "type_id": int(type_id)}})
            return listed

        document: dict[str, Any] = {"type": "TemplateProcessing", "single": pieces(single), "pair": pieces(pair)}
        tokens = sorted({piece["SpecialToken"]["id"] for piece in document["pair"] if "SpecialToken" in piece})
        document["special_tokens"] = {
            token: {"id": token, "ids": [names[token]], "tokens": [token]} for token in tokens
        }
        return cls(*_by_template(document, names), document=document)

    def added(self, pair: bool) -> int:
        """How many ids a template adds to its text or texts."""
        return sum(len(piece.ids) for piece in (self.pair if pair else self.single))

    @classmethod
    def read(cls, node: Any, names: Mapping[str, int], reader: JsonReader) -> PostProcessor:
        """The `post_processor` of a tokenizer.json.

        Args:
            names: id by token, those that the templates may name.

        Raises:
            FormatError: it is damaged or cannot be represented; names the key.
        """
        if node is None:
            return cls()
        steps = [node]
        if isinstance(node, dict) and node.get("type") == "Sequence":
            steps = node.get("processors")  # type: ignore[assignment]
        if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
            raise reader.fail("post_processor", "is not a post-processor or a list of them")
        single, pair, trims, keeps = _SINGLE, _PAIR, False, False
        for step in steps:
            kind = step.get("type")
            if not isinstance(kind, str) or kind not in _KEYS:
                raise reader.fail("post_processor", f"is {kind!r:.80}, which cannot be represented")
            reader.only(step, _KEYS[kind], "post_processor.")
            if kind in _READERS:
                if (single, pair) != (_SINGLE, _PAIR):
                    raise reader.fail("post_processor", "has two templates, which cannot be represented")
                try:
                    single, pair = _READERS[kind](step, names)
                except (AttributeError, KeyError, TypeError, ValueError) as error:
                    problem = f"is no {kind} over known tokens ({type(error).__name__}: {error})"
                    raise reader.fail("post_processor", problem) from None
            # A template trims nothing; RoBERTa's is a template and ByteLevel's trimming in one.
            if kind in ("ByteLevel", "RobertaProcessing"):
                keep = reader.flag(step, "add_prefix_space", "post_processor.", default=True)
                if not reader.flag(step, "trim_offsets", "post_processor.", default=True):
                    continue
                if trims:
                    raise reader.fail("post_processor", "trims offsets twice, which cannot be represented")
                trims, keeps = True, keep
        return cls(single, pair, trims, keeps, node)


def _by_template(node: dict[str, Any], names: Mapping[str, int]) -> tuple[Template, Template]:
    for name, special in node["special_tokens"].items():
        if special.keys() != {"id", "ids", "tokens"} or special["id"] != name:
            raise ValueError(f"the special token {name!r}")
        if [*map(type, special["tokens"])] != [str] * len(special["ids"]) or {*map(type, special["ids"])} - {int}:
            raise ValueError(f"the ids or tokens of {name!r}")
    return _template(node, "single", names), _template(node, "pair", names)


def _template(node: dict[str, Any], key: str, names: Mapping[str, int]) -> Template:
    pieces = []
    for listed in node[key]:
        ((kind, entry),) = listed.items()
        type_id = entry.get("type_id", 0)
        if type(type_id) is not int or not 0 <= type_id < _LARGEST_TYPE:
            raise ValueError(f"type_id {type_id!r}")
        if kind == "Sequence":
            pieces.append(Piece(_TEXTS[entry["id"]], type_id=type_id))
            continue
        if kind != "SpecialToken":
            raise ValueError(f"a piece {kind!r}")
        special = node["special_tokens"][entry["id"]]
        tokens = special["tokens"]
        ids = tuple(_known(token, number, names) for token, number in zip(tokens, special["ids"], strict=True))
        pieces.append(Piece(ids=ids, type_id=type_id))
    texts = sorted(piece.text for piece in pieces if piece.text is not None)
    if texts != ([0] if key == "single" else [0, 1]):
        raise ValueError(f"'{key}' does not hold each text once")
    return tuple(pieces)


def _by_bert(node: dict[str, Any], names: Mapping[str, int]) -> tuple[Template, Template]:
    start, end = _end(node, "cls", names), _end(node, "sep", names)
    single = (Piece(ids=start), Piece(0), Piece(ids=end))
    return single, (*single, Piece(1, type_id=1), Piece(ids=end, type_id=1))


def _by_roberta(node: dict[str, Any], names: Mapping[str, int]) -> tuple[Template, Template]:
    start, end = _end(node, "cls", names), _end(node, "sep", names)
    single = (Piece(ids=start), Piece(0), Piece(ids=end))
    return single, (*single, Piece(ids=end), Piece(1), Piece(ids=end))


def _end(node: dict[str, Any], key: str, names: Mapping[str, int]) -> tuple[int, ...]:
    token, number = node[key]
    return (_known(token, number, names),)


def _known(token: Any, number: Any, names: Mapping[str, int]) -> int:
    if type(number) is not int or not isinstance(token, str) or names[token] != number:
        raise ValueError(f"{token!r} has not the id {number!r}")
    return number


_READERS = {"TemplateProcessing": _by_template, "BertProcessing": _by_bert, "RobertaProcessing": _by_roberta}
