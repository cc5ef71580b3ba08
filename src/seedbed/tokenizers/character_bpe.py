"""BPE over characters with byte fallback, as the tokenizer.json of Llama 2, Mistral and Gemma has it.

The mechanism is native/tokenizer/character_bpe.cpp, behind the cutting and caching of piece_encoder.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _native
from . import normalizers
from .bpe_model import read_merges
from .byte_fallback import byte_ids
from .json_reader import JsonReader
from .metaspace import MARK, Metaspace, SpaceDecoder
from .normalizers import Normalizer
from .specification import Model


@dataclass(frozen=True)
class CharacterBPE(Model):
    """Characters are joined by merges; those that are no token become their bytes."""

    vocabulary: dict[str, int]
    merges: list[tuple[str, str]]  # in order of application
    unknown_token: str
    fuses_unknown: bool
    byte_fallback: bool
    normalizer: Normalizer | None
    spaces: Metaspace | None  # None: the normaliser writes the spaces, and the text is one word
    decoder: SpaceDecoder

    @property
    def unknown_id(self) -> int:
        return self.vocabulary[self.unknown_token]

    def bytes_of(self, token: str) -> bytes:
        return self.decoder.bytes_of(token)

    def first_bytes_of(self, token: str) -> bytes | None:
        return self.decoder.first_bytes_of(token)

    def decode(self, data: bytes, ids: NDArray[np.integer], tokens: Sequence[str | None]) -> str:
        return self.decoder.decode(data, ids, tokens)

    def algorithm(self, pieces: list[bytes], control_ids: set[int]) -> _native.Algorithm:
        spaces = self.spaces or Metaspace(prepend_scheme="never", split=False)
        ids = self.vocabulary
        texts = [b""] * (max(ids.values()) + 1)
        for token, number in ids.items():
            texts[number] = spaces.to_native(token)
        merges = np.array(
            [(ids[left], ids[right], ids[left + right]) for left, right in self.merges], dtype=np.uint32
        ).reshape(-1, 3)
        model = _native.character_bpe(
            texts,
            merges,
            self.unknown_id,
            self.fuses_unknown,
            byte_ids(ids, self.byte_fallback),
            spaces.replacement.encode("utf-8"),
        )
        return spaces.encoder(model, None if self.normalizer is None else self.normalizer.native())

    def to_json(self) -> dict[str, Any]:
        return {
            "normalizer": normalizers.to_json(self.normalizer),
            "pre_tokenizer": None if self.spaces is None else self.spaces.to_json(),
            "decoder": self.decoder.to_json(),
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": self.unknown_token,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": self.fuses_unknown,
                "byte_fallback": self.byte_fallback,
                "ignore_merges": False,
                "vocab": dict(sorted(self.vocabulary.items(), key=lambda item: item[1])),
                "merges": [list(pair) for pair in self.merges],
            },
        }

    @classmethod
    def from_json(cls, document: dict[str, Any], reader: JsonReader) -> CharacterBPE:
        """The model of a tokenizer.json.

        Raises:
            FormatError: it is damaged or asks for what cannot be represented; names the key.
        """
        model: dict[str, Any] = document["model"]
        known = ("type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
                 "byte_fallback", "ignore_merges", "vocab", "merges")  # fmt: skip
        reader.only(model, known, "model.")
        for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"):
            if model.get(key):
                raise reader.fail(f"model.{key}", f"is {model[key]!r}, which cannot be represented")
        vocabulary = reader.vocabulary(model)
        unknown = model.get("unk_token")
        if not isinstance(unknown, str) or unknown not in vocabulary:
            raise reader.fail("model.unk_token", f"is {unknown!r}, which is no token")
        if model.get("byte_fallback") and not len(byte_ids(vocabulary)):
            raise reader.fail("model.vocab", "lacks tokens for bytes, which model.byte_fallback asks for")
        merges = read_merges(model, vocabulary, reader)
        normalizer = normalizers.from_json(document.get("normalizer"), reader)
        spaces = document.get("pre_tokenizer")
        if spaces is None and not _writes_spaces(normalizer):
            raise reader.fail(
                "normalizer", f"leaves spaces in the text, and there is no pre_tokenizer that writes {MARK}"
            )
        return cls(
            vocabulary,
            merges,
            unknown,
            bool(model.get("fuse_unk")),
            bool(model.get("byte_fallback")),
            normalizer,
            None if spaces is None else Metaspace.from_json(spaces, reader),
            SpaceDecoder.from_json(document.get("decoder"), reader),
        )


def _writes_spaces(normalizer: Normalizer | None) -> bool:
    """Whether its last step makes every space a U+2581, so that both may be taken for one."""
    steps = normalizer.normalizers if isinstance(normalizer, normalizers.Sequence) else (normalizer,)
    written = {"type": "Replace", "pattern": {"String": " "}, "content": MARK}
    return bool(steps) and steps[-1] is not None and steps[-1].to_json() == written
