"""SentencePiece's own models: encoded and decoded as the library `sentencepiece` does it.

A tokenizer.json cannot say all that such a model does: `tokenizers` sums scores in another precision, rewrites text by
grapheme clusters and knows no user-defined symbols, so its ids may differ now and then. What is saved holds the
nearest that it can read, which is how transformers converts such models, and beside it what it passes over and
`from_json` reads: here the ids stay those of `sentencepiece`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..core.errors import FormatError
from . import byte_fallback
from .json_reader import JsonReader
from .metaspace import MARK, Metaspace, SpaceDecoder
from .sentencepiece_file import Algorithm, Kind, Normalization, Piece, SentencePieceFile
from .specification import AddedToken, Model, Specification
from .unigram_model import UNKNOWN_PENALTY, scored_pieces

_IN_TEXT = (Kind.NORMAL, Kind.USER_DEFINED)
KEY = "sentencepiece"  # within `model` of a tokenizer.json


@dataclass(frozen=True)
class SentencePiece(Model):
    """A model of kind Unigram or BPE with the normaliser that belongs to it."""

    file: SentencePieceFile

    @cached_property
    def vocabulary(self) -> dict[str, int]:  # type: ignore[override]
        return {piece.text: number for number, piece in enumerate(self.file.pieces)}

    @cached_property
    def _kinds(self) -> dict[str, Kind]:
        return {piece.text: piece.kind for piece in self.file.pieces}

    @cached_property
    def unknown_id(self) -> int:
        return next(number for number, piece in enumerate(self.file.pieces) if piece.kind == Kind.UNKNOWN)

    def bytes_of(self, token: str) -> bytes:
        if self._is_byte(token):
            return bytes([byte_fallback.BYTE_OF_NAME[token]])
        return self._spell(token).encode("utf-8")

    def _is_byte(self, token: str) -> bool:
        return self._kinds.get(token) == Kind.BYTE

    def _spell(self, token: str) -> str:
        kind = self._kinds.get(token)
        if kind == Kind.UNKNOWN:
            return self.file.unknown_surface
        return token if kind == Kind.CONTROL else token.replace(MARK, " ")

    def decode(self, data: bytes, ids: NDArray[np.integer], tokens: Sequence[str | None]) -> str:
        listed = [tokens[number] or "" for number in ids.tolist()]
        rules = self.file.normalization
        head, at, seen = "", 0, not (rules.add_dummy_prefix or rules.remove_extra_whitespaces)
        visible = ""
        while at < len(listed) and not visible and not seen and not self._is_byte(listed[at]):
            piece = self._spell(listed[at])
            if self._kinds.get(listed[at]) in (Kind.CONTROL, Kind.UNKNOWN):
                visible = piece if self._kinds[listed[at]] == Kind.UNKNOWN else ""
            else:  # the space that the normaliser put before the text
                seen = piece.startswith(" ") and not rules.remove_extra_whitespaces
                piece = visible = piece.removeprefix(" ")
            head += piece
            at += 1
        rest = data[sum(len(self.bytes_of(token)) for token in listed[:at]) :]
        try:
            return head + rest.decode("utf-8")
        except UnicodeDecodeError:
            return head + byte_fallback.join(listed[at:], self._spell, byte_fallback.by_character)

    def algorithm(self, pieces: list[bytes], control_ids: set[int]) -> _native.Algorithm:
        rules, file = self.file.normalization, self.file
        spaces = Metaspace(prepend_scheme="never", split=False)
        kept = [piece.text.encode("utf-8") for piece in file.pieces if piece.kind == Kind.USER_DEFINED]
        normalizer = _native.sentencepiece_normalizer(
            rules.charsmap, rules.add_dummy_prefix, rules.remove_extra_whitespaces, file.whitespace_as_suffix, kept
        )
        texts = [spaces.to_native(piece.text) if piece.kind in _IN_TEXT else b"" for piece in file.pieces]
        bytes_ = byte_fallback.byte_ids(self.vocabulary, file.byte_fallback)
        if file.algorithm == Algorithm.BPE:
            unused = [spaces.to_native(piece.text) if piece.kind == Kind.UNUSED else b"" for piece in file.pieces]
            model = _native.sentencepiece_bpe(
                [text or other for text, other in zip(texts, unused, strict=True)],
                np.array([piece.score for piece in file.pieces], dtype=np.float64),
                np.array([piece.kind == Kind.UNUSED for piece in file.pieces], dtype=bool),
                np.array([piece.kind == Kind.USER_DEFINED for piece in file.pieces], dtype=bool),
                self.unknown_id,
                bytes_,
                MARK.encode("utf-8"),
            )
        else:
            scores, unknown_score = self._scores()
            model = _native.unigram(
                texts, scores, self.unknown_id, unknown_score, bytes_, MARK.encode("utf-8"), True, True
            )
        return spaces.encoder(model, normalizer)

    def _scores(self) -> tuple[NDArray[np.float64], float]:
        """What pieces score, and an unknown character: user-defined ones are all but free, and so always win."""
        normal = [np.float32(piece.score) for piece in self.file.pieces if piece.kind == Kind.NORMAL]
        least = min(normal, default=np.finfo(np.float32).max)
        most = max([*normal, np.finfo(np.float32).tiny])
        scores = [
            float(np.float32(len(piece.text.encode("utf-8"))) * most) - 0.1
            if piece.kind == Kind.USER_DEFINED
            else piece.score
            for piece in self.file.pieces
        ]
        return np.array(scores, dtype=np.float64), float(np.float32(least) - np.float32(UNKNOWN_PENALTY))

    # tokenizer.json

    def to_json(self) -> dict[str, Any]:
        rules, file = self.file.normalization, self.file
        scheme = "always" if rules.add_dummy_prefix else "never"
        steps: list[dict[str, Any]] = []
        if rules.charsmap:
            charsmap = base64.b64encode(rules.charsmap).decode("ascii")
            steps.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
        if rules.remove_extra_whitespaces:
            steps.append({"type": "Strip", "strip_left": True, "strip_right": True})
            steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
        own = {
            "kinds": [int(piece.kind) for piece in file.pieces],
            "scores": [piece.score for piece in file.pieces],
            "algorithm": int(file.algorithm),
            "add_dummy_prefix": rules.add_dummy_prefix,
            "remove_extra_whitespaces": rules.remove_extra_whitespaces,
            "byte_fallback": file.byte_fallback,
            "whitespace_as_suffix": file.whitespace_as_suffix,
            "unknown_surface": file.unknown_surface,
        }
        return {
            "normalizer": {"type": "Sequence", "normalizers": steps} if steps else None,
            "pre_tokenizer": Metaspace(prepend_scheme=scheme, split=file.algorithm == Algorithm.UNIGRAM).to_json(),
            "decoder": SpaceDecoder(MARK, rules.add_dummy_prefix, joins_bytes=True).to_json(),
            "model": self._model_json() | {KEY: own},
        }

    def _model_json(self) -> dict[str, Any]:
        file = self.file
        if file.algorithm == Algorithm.UNIGRAM:
            vocab = [[piece.text, piece.score] for piece in file.pieces]
            return {"type": "Unigram", "unk_id": self.unknown_id, "vocab": vocab, "byte_fallback": file.byte_fallback}
        return {
            "type": "BPE",
            "dropout": None,
            "unk_token": file.pieces[self.unknown_id].text,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": file.byte_fallback,
            "ignore_merges": False,
            "vocab": self.vocabulary,
            "merges": [list(pair) for pair in merges_of(file.pieces)],
        }

    @classmethod
    def from_json(cls, document: dict[str, Any], reader: JsonReader) -> SentencePiece:
        """What `to_json` wrote. Raises FormatError with the key where it did not."""
        model = document["model"]
        own, key = model[KEY], f"model.{KEY}"
        flags = ("add_dummy_prefix", "remove_extra_whitespaces", "byte_fallback", "whitespace_as_suffix")
        if not isinstance(own, dict) or own.get("algorithm") not in (Algorithm.UNIGRAM, Algorithm.BPE):
            raise reader.fail(key, "does not say which algorithm it is")
        for flag in flags:
            if type(own.get(flag)) is not bool:
                raise reader.fail(f"{key}.{flag}", f"is {own.get(flag)!r}, not true or false")
        if not isinstance(own.get("unknown_surface"), str):
            raise reader.fail(f"{key}.unknown_surface", "is not text")
        algorithm = Algorithm(own["algorithm"])
        if algorithm == Algorithm.UNIGRAM:
            texts = [token for token, _ in scored_pieces(model.get("vocab"), reader)]
        else:
            vocabulary = reader.vocabulary(model)
            texts = sorted(vocabulary, key=lambda token: vocabulary[token])
            if [vocabulary[token] for token in texts] != list(range(len(texts))):
                raise reader.fail("model.vocab", "leaves ids out")
        kinds, scores = own.get("kinds"), own.get("scores")
        if not isinstance(kinds, list) or len(kinds) != len(texts) or not all(kind in list(Kind) for kind in kinds):
            raise reader.fail(f"{key}.kinds", "are not the kinds of all pieces")
        if kinds.count(Kind.UNKNOWN) != 1:
            raise reader.fail(f"{key}.kinds", f"hold {kinds.count(Kind.UNKNOWN)} unknown tokens, not one")
        scored_pieces([[token, score] for token, score in zip(texts, scores or [], strict=False)], reader)
        if not isinstance(scores, list) or len(scores) != len(texts):
            raise reader.fail(f"{key}.scores", "are not the scores of all pieces")
        with np.errstate(over="ignore"):
            single = np.array(scores, dtype=np.float32)  # as a .model file holds them
        if not np.isfinite(single).all():
            raise reader.fail(f"{key}.scores", "are too large for single precision")
        pieces = [Piece(*item) for item in zip(texts, single.tolist(), map(Kind, kinds), strict=True)]
        charsmap = _charsmap(document.get("normalizer"), reader)
        rules = Normalization(charsmap, own["add_dummy_prefix"], own["remove_extra_whitespaces"])
        found = cls(
            SentencePieceFile(
                pieces, algorithm, rules, own["byte_fallback"], own["whitespace_as_suffix"], own["unknown_surface"]
            )
        )
        try:
            found.algorithm([], set())
        except ValueError as error:
            raise reader.fail("normalizer.precompiled_charsmap", str(error)) from None
        return found


def specification(file: SentencePieceFile, path: Path) -> Specification:
    """What a `.model` file asks for.

    Raises:
        FormatError: it cannot be represented; names the file and the field.
    """
    if file.algorithm not in (Algorithm.UNIGRAM, Algorithm.BPE):
        raise FormatError(
            f"'trainer_spec.model_type' is {file.algorithm.name}; only UNIGRAM and BPE can be used", where=path
        )
    if not file.normalization.escape_whitespaces:
        raise FormatError("'normalizer_spec.escape_whitespaces' is false, which cannot be represented", where=path)
    if file.byte_fallback and not len(byte_fallback.byte_ids({piece.text: 0 for piece in file.pieces})):
        raise FormatError("'pieces' lack bytes, which 'trainer_spec.byte_fallback' asks for", where=path)
    model = SentencePiece(file)
    try:
        model.algorithm([], set())
    except ValueError as error:
        raise FormatError(f"'normalizer_spec.precompiled_charsmap' {error}", where=path) from None
    added = [AddedToken(p.text, number) for number, p in enumerate(file.pieces) if p.kind == Kind.CONTROL]
    return Specification(model, added=tuple(added))


def merges_of(pieces: list[Piece]) -> list[tuple[str, str]]:
    """Every way to put a piece together from two others, by the score of what comes out: the merges of a BPE.

    Of one piece, the pairs stand in the order of the ids of their parts.
    """
    ids = {piece.text: number for number, piece in enumerate(pieces) if piece.kind in _IN_TEXT}
    found = []
    for piece in pieces:
        if piece.kind not in _IN_TEXT:
            continue
        pairs = [(piece.text[:cut], piece.text[cut:]) for cut in range(1, len(piece.text))]
        known = [pair for pair in pairs if pair[0] in ids and pair[1] in ids]
        known.sort(key=lambda pair: (ids[pair[0]], ids[pair[1]]))
        found += [(-piece.score, pair) for pair in known]
    found.sort(key=lambda item: item[0])
    return [pair for _, pair in found]


def _charsmap(node: Any, reader: JsonReader) -> bytes:
    steps = node.get("normalizers") if isinstance(node, dict) else []
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise reader.fail("normalizer", "is no sequence of steps")
    blobs = [step.get("precompiled_charsmap") for step in steps if step.get("type") == "Precompiled"]
    try:
        return base64.b64decode(blobs[0], validate=True) if blobs else b""
    except (TypeError, ValueError, binascii.Error) as error:
        raise reader.fail("normalizer.precompiled_charsmap", f"is no base64 ({error})") from None
