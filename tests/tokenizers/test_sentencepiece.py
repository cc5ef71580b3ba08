"""SentencePiece models: ids and text as the library gives them; hostile files refused by file and field."""

from __future__ import annotations

import io
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Peer
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from seedbed.core.errors import FormatError
from seedbed.tokenizers import Tokenizer
from seedbed.tokenizers.byte_fallback import BYTE_NAMES

_SETTINGS: list[dict[str, Any]] = [
    {},
    {"byte_fallback": True, "character_coverage": 0.98},
    {"user_defined_symbols": ["<sep>", "ing", "★", " foo"], "control_symbols": ["<c>"]},
    {"add_dummy_prefix": False, "remove_extra_whitespaces": False},
    {"normalization_rule_name": "identity"},
    {"normalization_rule_name": "nfkc_cf", "treat_whitespace_as_suffix": True},
    {"split_by_whitespace": False},
]


def _trained(lines: list[str], **options: Any) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, minloglevel=2, hard_vocab_limit=False, **options
    )
    return model.getvalue()


def _load(data: bytes, directory: Path) -> Tokenizer:
    path = directory / "spm.model"
    path.write_bytes(data)
    return Tokenizer.from_sentencepiece(path)


@pytest.fixture(scope="module")
def english(shared_data: Callable[[str], Path]) -> str:
    return shared_data("text/tinyshakespeare.txt").read_text()[:100_000]


@pytest.fixture(scope="module")
def small(english: str) -> bytes:
    return _trained(english[:30_000].split("\n"), vocab_size=400, byte_fallback=True)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("options", _SETTINGS, ids=str)
def test_equals_sentencepiece(
    kind: str, options: dict[str, Any], english: str, languages: list[str], strange: list[str], tmp_path: Path
) -> None:
    lines = [line for text in [english, *languages[::4]] for line in text.split("\n") if line]
    data = _trained(lines, model_type=kind, vocab_size=2200, **options)
    peer, ours = sentencepiece.SentencePieceProcessor(model_proto=data), _load(data, tmp_path)
    generator = random.Random(2)
    ties = ["".join(generator.choices("aeot .-", k=60)) for _ in range(200)]
    texts = [*languages, *strange[::2], *ties, english[:30_000], "ing<sep> foo<c>★ ﷺ①\u0301", "a" * 3000, "▁ ▁a▁"]
    for text in texts:
        ids = peer.encode(text)
        assert ours.encode(text, parse_special=False).tolist() == ids
        assert ours.encode_with_offsets(text, parse_special=False)[0].tolist() == ids
        assert ours.decode(ids, skip_special_tokens=True) == peer.decode(ids)
    for _ in range(300):
        ids = generator.choices(range(len(peer)), k=6)
        assert ours.decode(ids, skip_special_tokens=True) == peer.decode(ids)
    ours.save(tmp_path / "saved")
    again = Tokenizer.load(tmp_path / "saved")
    assert (again.fingerprint, again.roles) == (ours.fingerprint, ours.roles)
    assert (again.roles.bos_token, again.roles.eos_token, again.roles.unk_token) == ("<s>", "</s>", "<unk>")
    rows = again.encode_batch(texts, 2, parse_special=False)
    assert [row.tolist() for row in rows] == peer.encode(texts)
    hugging = Peer.from_file(str(tmp_path / "saved" / "tokenizer.json"))
    if not options:  # what is saved means the same to tokenizers as far as it can say it
        sample = [line for line in lines[:500] if line.isascii()]
        assert [e.ids for e in hugging.encode_batch(sample, add_special_tokens=False)] == peer.encode(sample)


def test_rounding_far_into_a_text(small: bytes, shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    """Scores grow with the text and lose digits, so that pieces of nearly equal worth change places."""
    text = shared_data("text/tinyshakespeare.txt").read_text()
    ours, ids = _load(small, tmp_path), sentencepiece.SentencePieceProcessor(model_proto=small).encode(text)
    for _ in range(2):  # words that are new, and words that the cache holds
        assert ours.encode(text, parse_special=False).tolist() == ids


@pytest.mark.parametrize("variant", range(4))
def test_bpe_with_byte_fallback_equals_tokenizers(
    variant: int, english: str, strange: list[str], tmp_path: Path
) -> None:
    peer = Peer(models.BPE(unk_token="<unk>", byte_fallback=variant != 2, fuse_unk=variant != 3))
    if variant == 1:
        peer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    elif variant == 3:
        peer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    else:
        peer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    strip = decoders.Strip(" ", 1, 0)
    peer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), strip])
    trainer = trainers.BpeTrainer(
        vocab_size=1200, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False, limit_alphabet=60,
        max_token_length=12,
    )  # fmt: skip
    peer.train_from_iterator(english.split("\n"), trainer)
    path = tmp_path / "tokenizer.json"
    peer.save(str(path))
    _add_bytes(path)
    peer = Peer.from_file(str(path))
    ours = Tokenizer.load(path)
    for text in [*strange, *(english[at : at + 400] for at in range(0, 40_000, 400))]:
        encoding = peer.encode(text, add_special_tokens=False)
        ids, offsets = ours.encode_with_offsets(text)
        assert ids.tolist() == encoding.ids
        assert ours.encode(text).tolist() == encoding.ids
        assert [tuple(pair) for pair in offsets.tolist()] == encoding.offsets
        assert ours.decode(ids) == peer.decode(encoding.ids, skip_special_tokens=False)
    ours.save(tmp_path / "again.json")
    assert Tokenizer.load(tmp_path / "again.json").fingerprint == ours.fingerprint


def _add_bytes(path: Path) -> None:
    document = json.loads(path.read_text())
    vocabulary = document["model"]["vocab"]
    for name in BYTE_NAMES:
        vocabulary[name] = len(vocabulary)
    path.write_text(json.dumps(document))


# The wire format, as the tests write it


def _varint(value: int) -> bytes:
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


def _field(number: int, value: bytes | int | float) -> bytes:
    if isinstance(value, bytes):
        return _varint(number << 3 | 2) + _varint(len(value)) + value
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 5) + struct.pack("<f", value)


def _piece(text: bytes, score: float = -1.0, kind: int = 1) -> bytes:
    return _field(1, _field(1, text) + _field(2, score) + _field(3, kind))


_UNKNOWN = _piece(b"<unk>", 0.0, 2)


def _with_charsmap(blob: bytes) -> bytes:
    return _UNKNOWN + _piece(b"a") + _field(3, _field(2, blob))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "pieces"),
        (b"{}", "model"),
        (_varint(1 << 3 | 2) + _varint(1 << 60), "claims 1,152,921,504,606,846,976 bytes"),
        (b"\xff" * 20, "64 bits"),
        (b"\x0b", "wire type 3"),
        (b"\x02\x00", "numbered 0"),
        (_field(1, 5), r"pieces\[0\].*wire type"),
        (_UNKNOWN + _field(1, _field(1, b"a") + _field(2, 7)), r"pieces\[1\].score"),
        (_UNKNOWN + _field(1, _field(1, b"a") + _field(3, b"x")), r"pieces\[1\].type.*wire type"),
        (_UNKNOWN + _piece(b"a", float("nan")), r"pieces\[1\].score.*nan"),
        (_UNKNOWN + _piece(b"a", -1.0, 9), r"pieces\[1\].type.*9"),
        (_UNKNOWN + _piece(b"\xff"), r"pieces\[1\].piece.*UTF-8"),
        (_UNKNOWN + _piece(b""), r"pieces\[1\].piece.*empty"),
        (_UNKNOWN + _piece(b"a") + _piece(b"a"), r"pieces\[2\].*repeats 'a'"),
        (_UNKNOWN + _piece(b"byte", 0.0, 6), r"pieces\[1\].piece.*byte"),
        (_piece(b"a"), "0 unknown"),
        (_UNKNOWN + _piece(b"<u>", 0.0, 2), "2 unknown"),
        (_UNKNOWN + _field(2, _field(3, 3)), "model_type.*WORD"),
        (_UNKNOWN + _field(2, _field(3, 77)), "model_type.*77"),
        (_UNKNOWN + _field(2, _field(35, 1)), "byte_fallback"),
        (_UNKNOWN + _field(2, b"") + _field(2, b""), "trainer_spec.*twice"),
        (_UNKNOWN + _field(3, _field(5, 0)), "escape_whitespaces"),
        (_UNKNOWN + _field(5, _field(2, b"abc")), "denormalizer_spec"),
        (_with_charsmap(b"\0"), "precompiled_charsmap.*size"),
        (_with_charsmap(struct.pack("<I", 1 << 30) + b"x"), "precompiled_charsmap.*claims"),
        (_with_charsmap(struct.pack("<I", 3) + b"abc"), "precompiled_charsmap.*32-bit"),
        (_with_charsmap(struct.pack("<II", 4, 0xFFFFFFFF) + b"abc"), "precompiled_charsmap.*out of its table"),
    ],
)
def test_damaged_files_are_refused_by_field(data: bytes, problem: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=f"spm.model: .*{problem}"):
        _load(data, tmp_path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no such file"):
        Tokenizer.from_sentencepiece(tmp_path / "nothing.model")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_changed_bytes_never_crash(small: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    changed = bytearray(small)
    if data.draw(st.booleans()):
        del changed[data.draw(st.integers(0, len(changed) - 1)) :]
    charsmap = small.index(b"\x12", small.index(b"nmt_nfkc"))
    for _ in range(data.draw(st.integers(1, 4))):
        if changed:
            near = data.draw(st.sampled_from([0, charsmap, max(0, len(changed) - 300)]))
            at = min(len(changed) - 1, near + data.draw(st.integers(0, 5000)))
            changed[at] = data.draw(st.integers(0, 255))
    try:
        loaded = _load(bytes(changed), tmp_path_factory.mktemp("changed"))
    except FormatError:
        return
    for text in ("First Citizen: ﬁne\u3000①\u0301 é\u0301中\0", "\u0344ﷺ" * 30):
        ids = loaded.encode(text)
        assert loaded.encode_with_offsets(text)[0].tolist() == ids.tolist()
        loaded.decode(ids)
