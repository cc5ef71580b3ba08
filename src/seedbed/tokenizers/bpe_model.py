"""Byte-level BPE applied: its vocabulary and merges, as a tokenizer.json holds them and as native code takes them.

The mechanism is native/tokenizer/bpe_model.cpp, behind the cutting and caching of byte_level_bpe.cpp; bpe.py trains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _native
from .bytelevel import BYTE_OF_CHARACTER, CHARACTER_OF_BYTE, to_bytes
from .json_reader import JsonReader
from .pretokenizers import PreTokenizer
from .specification import Model


@dataclass(frozen=True)
class ByteLevelBPE(Model):
    """Text is cut by `pre_tokenizer`, each piece is written in the characters of bytelevel.py, and merged by rank."""

    vocabulary: dict[str, int]  # in the characters of bytelevel.py
    merges: list[tuple[str, str]]  # in order of application
    pre_tokenizer: PreTokenizer
    ignore_merges: bool = False  # a pre-token that is in the vocabulary needs no merges

    def bytes_of(self, token: str) -> bytes:
        return to_bytes(token)

    def algorithm(self, pieces: list[bytes], control_ids: set[int]) -> _native.Algorithm:
        ids = self.vocabulary
        merges = np.array(
            [(ids[left], ids[right], ids[left + right]) for left, right in self.merges], dtype=np.uint32
        ).reshape(-1, 3)
        byte_ids = np.zeros(256, dtype=np.uint32)
        for character, byte in BYTE_OF_CHARACTER.items():
            byte_ids[byte] = ids[character]
        whole_words = [
            number
            for token, number in ids.items()
            if self.ignore_merges and number not in control_ids and BYTE_OF_CHARACTER.keys() >= set(token)
        ]
        model = (pieces, merges, byte_ids, np.array(whole_words, dtype=np.uint32))
        return self._cutting(*model)

    def _cutting(
        self,
        pieces: list[bytes],
        merges: NDArray[np.uint32],
        byte_ids: NDArray[np.uint32],
        whole_words: NDArray[np.uint32],
    ) -> _native.Algorithm:
        pattern = self.pre_tokenizer.pattern
        if pattern is None or self.pre_tokenizer.prefix_space:
            return _native.cut_bpe(pieces, merges, byte_ids, self.pre_tokenizer.cut, whole_words)
        return _native.byte_level_bpe(pieces, merges, byte_ids, pattern, whole_words)

    def to_json(self) -> dict[str, Any]:
        return {
            "normalizer": None,
            "pre_tokenizer": self.pre_tokenizer.to_json(),
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": self.ignore_merges,
                "vocab": dict(sorted(self.vocabulary.items(), key=lambda item: item[1])),
                "merges": [list(pair) for pair in self.merges],
            },
        }

    @classmethod
    def from_json(cls, document: dict[str, Any], reader: JsonReader) -> ByteLevelBPE:
        """The model of a tokenizer.json.

        Raises:
            FormatError: it is damaged or no byte-level BPE; names the key.
        """
        model: dict[str, Any] = document["model"]
        reader.only_null(document, "normalizer")
        vocabulary = reader.vocabulary(model)
        for byte, character in CHARACTER_OF_BYTE.items():
            if character not in vocabulary:
                raise reader.fail("model.vocab", f"lacks {character!r} (byte {byte:#04x}), so it is not byte-level")
        merges = read_merges(model, vocabulary, reader)
        reader.only(model, cls({}, [], PreTokenizer.of_pattern("gpt2")).to_json()["model"], "model.")
        # All bytes are known, so nothing is ever unknown: unk_token, fuse_unk and byte_fallback change nothing.
        for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
            if model.get(key):
                raise reader.fail(f"model.{key}", f"is {model[key]!r}, which cannot be represented")
        reader.of_type(document, "decoder", "ByteLevel")
        try:
            pre_tokenizer = PreTokenizer.from_json(document.get("pre_tokenizer"))
        except ValueError as error:
            raise reader.fail("pre_tokenizer", str(error)) from None
        return cls(vocabulary, merges, pre_tokenizer, bool(model.get("ignore_merges")))


def read_merges(model: dict[str, Any], vocabulary: dict[str, int], reader: JsonReader) -> list[tuple[str, str]]:
    """The `merges` of a model, in either way of writing them; all parts and results are in the vocabulary."""
    listed = model.get("merges")
    if not isinstance(listed, list):
        raise reader.fail("model.merges", "is missing or not a list")
    merges = []
    for rank, item in enumerate(listed):
        pair = item.split(" ") if isinstance(item, str) else item
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise reader.fail(f"model.merges[{rank}]", f"is not a pair of tokens: {str(item)[:80]!r}")
        left, right = pair
        for token in (left, right, left + right):
            if token not in vocabulary:
                raise reader.fail(f"model.merges[{rank}]", f"names {token!r}, which is not in the vocabulary")
        merges.append((left, right))
    return merges
