"""WordPiece applied: its vocabulary, normaliser and decoder, in a tokenizer.json and for native code.

The mechanism is native/tokenizer/wordpiece.cpp; wordpiece.py trains.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import _native
from . import normalizers
from .json_reader import JsonReader
from .normalizers import BertNormalizer, Normalizer
from .specification import Model

# What the decoder's clean-up puts together, token by token and in this order.
_CLEANED = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" do not", " don't"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


@dataclass(frozen=True)
class WordPiece(Model):
    """Text is normalised and cut into words; each falls into the longest pieces that are in the vocabulary."""

    vocabulary: dict[str, int]
    unk_token: str = "[UNK]"  # a word that does not fall into pieces becomes this
    prefix: str = "##"  # of tokens that continue a word
    max_input_chars_per_word: int = 100  # a longer word becomes `unk_token`
    normalizer: Normalizer | None = field(default_factory=BertNormalizer)
    punctuation: bool = True  # words end at punctuation too, not at white space only
    decoder_prefix: str = "##"
    cleanup: bool = True  # decoded text has no space before punctuation

    @property
    def unknown_id(self) -> int:
        return self.vocabulary[self.unk_token]

    def bytes_of(self, token: str) -> bytes:
        after = token.removeprefix(self.decoder_prefix) if token.startswith(self.decoder_prefix) else f" {token}"
        return self._cleaned(after).encode("utf-8", errors="surrogatepass")

    def first_bytes_of(self, token: str) -> bytes:
        return self._cleaned(token).encode("utf-8", errors="surrogatepass")

    def _cleaned(self, text: str) -> str:
        for found, instead in _CLEANED if self.cleanup else ():
            text = text.replace(found, instead)
        return text

    def algorithm(self, pieces: list[bytes], control_ids: set[int]) -> _native.Algorithm:
        return _native.wordpiece(
            tokens=[token.encode("utf-8", errors="surrogatepass") for token in self.vocabulary],
            ids=np.array(list(self.vocabulary.values()), dtype=np.uint32),
            unknown=self.vocabulary[self.unk_token],
            prefix=self.prefix.encode("utf-8", errors="surrogatepass"),
            most_characters=self.max_input_chars_per_word,
            punctuation=self.punctuation,
            normalizer=None if self.normalizer is None else self.normalizer.native(),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "normalizer": normalizers.to_json(self.normalizer),
            "pre_tokenizer": {"type": "BertPreTokenizer" if self.punctuation else "WhitespaceSplit"},
            "decoder": {"type": "WordPiece", "prefix": self.decoder_prefix, "cleanup": self.cleanup},
            "model": {
                "type": "WordPiece",
                "unk_token": self.unk_token,
                "continuing_subword_prefix": self.prefix,
                "max_input_chars_per_word": self.max_input_chars_per_word,
                "vocab": dict(sorted(self.vocabulary.items(), key=lambda item: item[1])),
            },
        }

    @classmethod
    def from_json(cls, document: dict[str, Any], reader: JsonReader) -> WordPiece:
        """The model of a tokenizer.json.

        Raises:
            FormatError: it is damaged or cuts words otherwise; names the key.
        """
        model: dict[str, Any] = document["model"]
        vocabulary = reader.vocabulary(model)
        reader.only(model, cls({}).to_json()["model"], "model.")
        unk_token, prefix = (_text(model, key, reader) for key in ("unk_token", "continuing_subword_prefix"))
        if unk_token not in vocabulary:
            raise reader.fail("model.unk_token", f"is {unk_token!r}, which is not in the vocabulary")
        most = model.get("max_input_chars_per_word")
        if type(most) is not int or not 0 <= most < 1 << 31:
            raise reader.fail("model.max_input_chars_per_word", f"is {most!r}")
        decoder = reader.of_type(document, "decoder", "WordPiece")
        reader.only(decoder, ("type", "prefix", "cleanup"), "decoder.")
        if not isinstance(decoder.get("prefix"), str) or not isinstance(decoder.get("cleanup"), bool):
            raise reader.fail("decoder", "has no prefix or no cleanup")
        return cls(
            vocabulary,
            unk_token,
            prefix,
            most,
            normalizers.from_json(document.get("normalizer"), reader),
            _punctuation(document.get("pre_tokenizer"), reader),
            decoder["prefix"],
            decoder["cleanup"],
        )


def _text(model: dict[str, Any], key: str, reader: JsonReader) -> str:
    value = model.get(key)
    if not isinstance(value, str):
        raise reader.fail(f"model.{key}", f"is {str(value)[:80]!r}")
    return value


def _punctuation(node: Any, reader: JsonReader) -> bool:
    """Whether words end at punctuation: BERT's pre-tokeniser or its two halves, or the first of these alone."""
    steps = node.get("pretokenizers") if isinstance(node, dict) and node.get("type") == "Sequence" else [node]
    if isinstance(steps, list) and all(isinstance(step, dict) for step in steps):
        kinds = [step.get("type") for step in steps]
        isolated = steps[-1].get("behavior", "Isolated") == "Isolated" if steps else False
        if kinds == ["BertPreTokenizer"] or (kinds == ["WhitespaceSplit", "Punctuation"] and isolated):
            return True
        if kinds == ["WhitespaceSplit"]:
            return False
    raise reader.fail(
        "pre_tokenizer", "is none of BertPreTokenizer, WhitespaceSplit, and WhitespaceSplit + isolated Punctuation"
    )
