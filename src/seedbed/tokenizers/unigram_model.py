"""Unigram applied: its pieces and scores, as a tokenizer.json holds them and as native code takes them.

The mechanism is native/tokenizer/unigram.cpp, behind the cutting and caching of piece_encoder.cpp; unigram.py trains.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _native
from . import normalizers
from .byte_fallback import byte_ids
from .json_reader import JsonReader
from .metaspace import Metaspace, SpaceDecoder
from .normalizers import Normalizer
from .specification import Model

UNKNOWN_PENALTY = 10.0  # an unknown character scores so much less than the least of the pieces


@dataclass(frozen=True)
class Unigram(Model):
    """The pieces of a word are those whose scores, which are log-probabilities, sum highest. Equal to `tokenizers`."""

    pieces: list[tuple[str, float]]  # by id
    unknown_id: int = 0
    byte_fallback: bool = False  # characters that no piece has become their bytes
    normalizer: Normalizer | None = None
    spaces: Metaspace = field(default_factory=Metaspace)
    decoder: SpaceDecoder = field(default_factory=SpaceDecoder)

    @cached_property
    def vocabulary(self) -> dict[str, int]:  # type: ignore[override]
        return {token: number for number, (token, _) in enumerate(self.pieces)}

    def bytes_of(self, token: str) -> bytes:
        return self.decoder.bytes_of(token)

    def first_bytes_of(self, token: str) -> bytes | None:
        return self.decoder.first_bytes_of(token)

    def decode(self, data: bytes, ids: NDArray[np.integer], tokens: Sequence[str | None]) -> str:
        return self.decoder.decode(data, ids, tokens)

    def algorithm(self, pieces: list[bytes], control_ids: set[int]) -> _native.Algorithm:
        scores = np.array([score for _, score in self.pieces], dtype=np.float64)
        model = _native.unigram(
            [self.spaces.to_native(token) for token, _ in self.pieces],
            scores,
            self.unknown_id,
            float(scores.min()) - UNKNOWN_PENALTY,
            byte_ids(self.vocabulary, self.byte_fallback),
            self.spaces.replacement.encode("utf-8"),
            contextual=not self.spaces.split,
            single_precision=False,
        )
        return self.spaces.encoder(model, None if self.normalizer is None else self.normalizer.native())

    def to_json(self) -> dict[str, Any]:
        return {
            "normalizer": normalizers.to_json(self.normalizer),
            "pre_tokenizer": self.spaces.to_json(),
            "decoder": self.decoder.to_json(),
            "model": {
                "type": "Unigram",
                "unk_id": self.unknown_id,
                "vocab": [[token, score] for token, score in self.pieces],
                "byte_fallback": self.byte_fallback,
            },
        }

    @classmethod
    def from_json(cls, document: dict[str, Any], reader: JsonReader) -> Unigram:
        """The model of a tokenizer.json.

        Raises:
            FormatError: it is damaged or asks for what cannot be represented; names the key.
        """
        model: dict[str, Any] = document["model"]
        reader.only(model, ("type", "unk_id", "vocab", "byte_fallback"), "model.")
        normalizer = normalizers.from_json(document.get("normalizer"), reader)
        pieces = scored_pieces(model.get("vocab"), reader)
        unknown = model.get("unk_id")
        if type(unknown) is not int or not 0 <= unknown < len(pieces):
            raise reader.fail("model.unk_id", f"is {unknown!r}, which is the id of no piece")
        spaces = Metaspace.from_json(document.get("pre_tokenizer"), reader)
        decoder = SpaceDecoder.from_json(document.get("decoder"), reader)
        return cls(pieces, unknown, bool(model.get("byte_fallback")), normalizer, spaces, decoder)


def scored_pieces(listed: Any, reader: JsonReader) -> list[tuple[str, float]]:
    """The `vocab` of a Unigram model: pieces with scores, none twice."""
    if not isinstance(listed, list):
        raise reader.fail("model.vocab", "is missing or not a list")
    pieces: list[tuple[str, float]] = []
    known: dict[str, int] = {}
    for number, item in enumerate(listed):
        key = f"model.vocab[{number}]"
        if not isinstance(item, list) or len(item) != 2 or not isinstance(item[0], str):
            raise reader.fail(key, f"is not a piece with its score: {str(item)[:80]!r}")
        token, score = reader.text(key, item[0]), item[1]
        if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
            raise reader.fail(key, f"gives {token!r} the score {score!r}")
        if known.setdefault(token, number) != number:
            raise reader.fail(key, f"lists {token!r} a second time, after {known[token]}")
        pieces.append((token, float(score)))
    return pieces
