"""Normalisers: text and origins equal to `tokenizers`, character by character and in any mixture."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Peer
from tokenizers import models
from tokenizers import normalizers as peers

from seedbed.core.errors import FormatError
from seedbed.tokenizers import normalizers
from seedbed.tokenizers.json_reader import JsonReader
from seedbed.tokenizers.normalizers import (
    BertNormalizer,
    Lowercase,
    Normalizer,
    Prepend,
    Replace,
    Sequence,
    Strip,
    StripAccents,
    UnicodeForm,
)

_ALL: list[Normalizer] = [
    *(UnicodeForm(name) for name in UnicodeForm.NAMES),
    Lowercase(),
    StripAccents(),
    *(
        BertNormalizer(strip_accents=accents, lowercase=lower)
        for accents in (None, True, False)
        for lower in (False, True)
    ),
    BertNormalizer(clean_text=False),
    BertNormalizer(handle_chinese_chars=False),
    Replace(" ", "▁"),
    Replace("é ", ""),
    Replace("aa", "b\u0301c"),
    Prepend("▁"),
    Prepend("é_"),
    Strip(),
    Strip(strip_left=False),
    Strip(strip_right=False),
    Sequence(()),
    Sequence((UnicodeForm("NFD"), Lowercase(), StripAccents())),
    Sequence((Prepend("▁"), Replace(" ", "▁"), UnicodeForm("NFKC"), Strip())),
    Sequence((UnicodeForm("NFKD"), Sequence((Replace("a", "中文"), BertNormalizer())), UnicodeForm("NFC"))),
]
_APT = [
    *"aAéÉ İßΣς中가각ᄀ힣\u1100\u1161\u11a8\t\n\x00\x07\u00a0\u3000\ufffd\u200d\ufeffﬁ①㎏Ⅷ½ǅạ\u0340\u0344\u0f73",
    *"\u0301\u0323\u0327\u0334\u0345\u05b0\u064b\u093c\u09be\u0b57\u3099ゝかガ𝅗\U0001d15e\U0001d165👩🏽豈丽",
]
_texts = st.text(st.one_of(st.sampled_from(_APT), st.characters(exclude_categories=["Cs"])), max_size=24)


def _peer(normalizer: Normalizer) -> peers.Normalizer:
    """The peer's, made from our JSON."""
    document = json.loads(Peer(models.BPE()).to_str()) | {"normalizer": normalizer.to_json()}
    return Peer.from_str(json.dumps(document)).normalizer


@pytest.fixture(scope="module", params=_ALL, ids=str)
def pair(request: pytest.FixtureRequest) -> tuple[Normalizer, peers.Normalizer]:
    return request.param, _peer(request.param)


def _assert_equal(ours: Normalizer, peer: peers.Normalizer, text: str) -> None:
    assert ours.normalize(text) == peer.normalize_str(text), repr(text)


def test_every_character(pair: tuple[Normalizer, peers.Normalizer]) -> None:
    ours, peer = pair
    native = ours.native()
    for start in range(0, 0x110000, 64):
        characters = [chr(code) for code in range(start, start + 64) if not 0xD800 <= code < 0xE000]
        for text in ("".join(characters), "a".join(characters)):
            if native.normalize(text).decode() != peer.normalize_str(text):
                for character in characters:
                    _assert_equal(ours, peer, character)
                _assert_equal(ours, peer, text)


def test_languages_and_mixtures(
    pair: tuple[Normalizer, peers.Normalizer], languages: list[str], strange: list[str]
) -> None:
    generator = random.Random(3)
    for text in [*languages, *strange]:
        _assert_equal(*pair, text)
    for _ in range(3000):
        _assert_equal(*pair, "".join(generator.choices(_APT, k=generator.randint(0, 12))))


@settings(max_examples=40, deadline=None)
@given(text=_texts)
def test_any_text(pair: tuple[Normalizer, peers.Normalizer], text: str) -> None:
    _assert_equal(*pair, text)


@settings(max_examples=40, deadline=None)
@given(text=_texts)
def test_origins_are_the_offsets_of_tokenizers(pair: tuple[Normalizer, peers.Normalizer], text: str) -> None:
    """Every character of the normalised text is a token of the peer's, which says where it came from."""
    ours, peer = pair
    characters = Peer(models.BPE({c: i for i, c in enumerate(sorted(set(ours.normalize(text))))}, []))
    characters.normalizer = peer
    origins = characters.encode(text).offsets
    data, places = ours.native().normalize_with_origins(text)
    character = np.cumsum([(byte & 0xC0) != 0x80 for byte in text.encode()] + [True]) - 1  # of each byte of the text
    starts = [i for i, byte in enumerate(data) if (byte & 0xC0) != 0x80]
    found = character[places.reshape(-1, 2)[starts]] if text else np.zeros((0, 2))
    assert [tuple(row) for row in found.tolist()] == origins


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=40))
def test_bytes_that_are_no_text_are_kept(data: bytes) -> None:
    for normalizer in _ALL[:4]:
        out = normalizer.native().normalize(b"\xff" + data + b"\xe0\x80\x80")
        assert out.startswith(b"\xff")
        assert out.endswith(b"\xe0\x80\x80")
    for normalizer in _ALL:
        out, places = normalizer.native().normalize_with_origins(data)
        assert out == normalizer.native().normalize(data)
        assert len(places) == 2 * len(out)
        assert ((places >= 0) & (places <= len(data))).all()


def test_json_and_what_is_refused() -> None:
    reader = JsonReader(Path("tokenizer.json"))
    for normalizer in _ALL:
        assert normalizers.from_json(normalizer.to_json(), reader) == normalizer
    assert normalizers.from_json(None, reader) is None
    deep: dict = {"type": "NFC"}
    for _ in range(100):
        deep = {"type": "Sequence", "normalizers": [deep]}
    for node, message in [
        ({"type": "Nmt"}, "normalizer' is 'Nmt'"),
        ({"type": "NFC", "form": 1}, "normalizer.form' is not known"),
        ({"type": "Replace", "pattern": {"Regex": " +"}, "content": " "}, "normalizer.pattern.*Regex"),
        ({"type": "Replace", "pattern": {"String": " "}}, "normalizer.content"),
        ({"type": "Replace", "pattern": {"String": ""}, "content": ""}, "normalizer.pattern.String' is empty"),
        ({"type": "Prepend", "prepend": ""}, "normalizer.prepend' is empty"),
        ({"type": "BertNormalizer", "clean_text": 1}, "normalizer.clean_text"),
        ({"type": "Prepend", "prepend": "\udc80"}, "surrogate"),
        ({"type": "Sequence", "normalizers": [{"type": "NFC"}, "NFD"]}, r"normalizers\[1\]"),
        (deep, "more than 64 steps"),
        ([], "normalizer"),
    ]:
        with pytest.raises(FormatError, match=f"tokenizer.json: .*{message}"):
            normalizers.from_json(node, reader)
