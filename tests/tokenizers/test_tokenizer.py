"""Encoding and decoding: ids, offsets and text equal to `tokenizers`; any bytes come back."""

from __future__ import annotations

import json
import pickle
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken as PeerToken
from tokenizers import Tokenizer as Peer

from seedbed import _native
from seedbed.core.errors import ConfigError, DataError
from seedbed.tokenizers import (
    CHATML_TOKENS,
    StreamDecoder,
    Tokenizer,
    tokenizer_json,
    train_bpe,
)
from seedbed.tokenizers.pretokenizers import PATTERNS


@pytest.fixture(scope="module")
def trained(languages: list[str]) -> dict[str, tuple[Tokenizer, Peer]]:
    """For each pattern a tokenizer of ours, and the same file opened by `tokenizers`."""
    found = {}
    for pattern in PATTERNS:
        ours = train_bpe(languages, 3000, pattern, CHATML_TOKENS)
        found[pattern] = ours, Peer.from_str(json.dumps(tokenizer_json.to_json(ours.specification)))
    return found


@pytest.mark.parametrize("pattern", PATTERNS)
def test_ids_and_offsets_equal(pattern: str, trained: dict, strange: list[str], languages: list[str]) -> None:
    ours, peer = trained[pattern]
    texts = [*strange, *(text[:200] for text in languages[::2])]
    batch = ours.encode_batch(texts, threads=2)
    for text, ids, expected in zip(texts, batch, peer.encode_batch(texts), strict=True):
        assert ids.tolist() == expected.ids
        alone, offsets = ours.encode_with_offsets(text)
        assert alone.tolist() == expected.ids
        assert list(map(tuple, offsets.tolist())) == expected.offsets
        assert ours.decode(ids) == text
    peer.encode_special_tokens = True
    for text, expected in zip(strange, peer.encode_batch(strange), strict=True):
        assert ours.encode(text, parse_special=False).tolist() == expected.ids
    peer.encode_special_tokens = False


def test_gpt2_equals(
    shared_data: Callable[[str], Path], tmp_path: Path, languages: list[str], strange: list[str]
) -> None:
    files = [shared_data(f"tokenizers/gpt2.{name}") for name in ("encoder.json", "vocab.bpe")]
    Tokenizer.from_gpt2(*files).save(tmp_path / "tokenizer.json")
    ours, peer = Tokenizer.load(tmp_path / "tokenizer.json"), Peer.from_file(str(tmp_path / "tokenizer.json"))
    shakespeare = shared_data("text/tinyshakespeare.txt").read_text()[:100_000]
    texts = [*strange, *languages, shakespeare]
    for text, ids, expected in zip(texts, ours.encode_batch(texts), peer.encode_batch(texts), strict=True):
        assert ids.tolist() == expected.ids
        assert ours.decode(ids) == text
    assert ours.encode("Hello world<|endoftext|>").tolist() == [15496, 995, 50256]


@settings(deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes_come_back(trained: dict, data: bytes) -> None:
    ours, peer = trained["llama3"]
    ids = ours._encoder.encode(data, False)
    assert ours.decode_bytes(ids) == data
    assert ours.decode(ids) == peer.decode(ids.tolist(), skip_special_tokens=False)


@settings(deadline=None)
@given(data=st.one_of(st.binary(max_size=60), st.text(max_size=30).map(str.encode)), cuts=st.lists(st.integers(1, 4)))
def test_a_stream_gives_whole_characters(trained: dict, data: bytes, cuts: list[int]) -> None:
    ours, _ = trained["llama3"]
    ids = [3, *ours._encoder.encode(data, False).tolist(), 0]
    stream = StreamDecoder(ours, skip_special_tokens=True)
    pieces, start = [], 0
    for cut in [*cuts, *[1] * len(ids)]:
        pieces.append(stream.push(ids[start : start + cut]))
        start += cut
    pieces.append(stream.finish())
    assert "".join(pieces) == ours.decode(ids, skip_special_tokens=True) == data.decode("utf-8", "replace")
    if "\ufffd" not in data.decode("utf-8", "replace"):
        assert pieces[-1] == ""


def test_batches_of_ids(trained: dict, strange: list[str]) -> None:
    ours, peer = trained["gpt2"]
    batch = ours.encode_batch(strange[:50])
    assert ours.decode_batch(batch) == strange[:50]
    expected = peer.decode_batch([row.tolist() for row in batch], skip_special_tokens=True)
    assert ours.decode_batch([row.tolist() for row in batch], skip_special_tokens=True) == expected
    with pytest.raises(DataError, match=r"row 1, position 2: id 3000 "):
        ours.decode_batch([[1], [1, 2, 3000]])
    stream = StreamDecoder(ours)
    assert [stream.push(int(number)) for number in ours.encode("é")] == ["é"]
    with pytest.raises(DataError, match="3000"):
        stream.push(3000)


@settings(max_examples=40, deadline=None)
@given(text=st.text("abcd", min_size=1, max_size=60), repeats=st.integers(1, 40))
def test_long_words_merge_as_short_ones_do(text: str, repeats: int) -> None:
    ours = train_bpe([text * 3, text[::-1] * 2], 320, special_tokens=())
    peer = Peer.from_str(json.dumps(tokenizer_json.to_json(ours.specification)))
    word = text * repeats  # short words are scanned, long ones use a heap
    assert ours.encode(word).tolist() == peer.encode(word).ids


def test_a_long_word_takes_linear_time(trained: dict) -> None:
    ours, _ = trained["llama3"]
    started = time.perf_counter()
    text = "abcdefghij" * 300_000
    assert ours.decode(ours.encode(text)) == text
    assert time.perf_counter() - started < 20  # scanning instead would take hours


def test_every_instruction_set_gives_the_same_ids(languages: list[str], strange: list[str]) -> None:
    generator = random.Random(5)
    words = ["".join(generator.choices("abetr", k=length)) for length in range(1, 260) for _ in range(4)]
    texts = [*languages, *strange, *words, " ".join(words)]
    specification = train_bpe([*languages, *words], 3000, special_tokens=()).specification
    best = _native.simd_level()
    found = {}
    try:
        for level in ("scalar", "avx2", best):
            try:
                _native.set_simd_level(level)
            except ValueError:  # not on this machine
                continue
            ours = Tokenizer(specification)  # its cache is empty: first the words are merged, then they are found
            found[level] = [ours.encode_batch(texts, threads=1).values.tolist() for _ in range(2)]
    finally:
        _native.set_simd_level(best)
    peer = Peer.from_str(json.dumps(tokenizer_json.to_json(specification)))
    expected = [number for encoding in peer.encode_batch(texts) for number in encoding.ids]
    for level, times in found.items():
        assert times == [expected, expected], level


def test_threads_do_not_matter(trained: dict, languages: list[str]) -> None:
    ours, _ = trained["o200k"]
    many = languages * 12
    one = ours.encode_batch(many, threads=1)
    for threads in (2, 7):
        other = ours.encode_batch(many, threads=threads)
        np.testing.assert_array_equal(other.values, one.values)
        np.testing.assert_array_equal(other.offsets, one.offsets)
    assert one.values.dtype == np.uint32
    assert one.offsets.dtype == np.int64
    assert len(ours.encode_batch([])) == 0
    assert ours.encode("").shape == (0,)


def test_added_tokens_match_as_in_tokenizers(trained: dict) -> None:
    peer = Peer.from_str(trained["llama3"][1].to_str())
    peer.add_tokens([PeerToken("<think>", special=False), PeerToken("<thi", special=False, normalized=False), "été"])
    peer.add_special_tokens(["<|im_start|>x", "|>"])
    ours = _reopened(peer)
    texts = ["a<think>b<|im_start|>xy<|im_start|>", "<|im_end|>|>", "<|im_end<thi<think", "un étéé|", "<<think>>"]
    for text in texts:
        expected = peer.encode(text)
        ids, offsets = ours.encode_with_offsets(text)
        assert ids.tolist() == expected.ids
        assert list(map(tuple, offsets.tolist())) == expected.offsets
        for skip in (False, True):
            assert ours.decode(ids, skip_special_tokens=skip) == peer.decode(expected.ids, skip_special_tokens=skip)
    assert ours.special_tokens["|>"] == peer.token_to_id("|>")


def test_a_file_with_post_processors_is_followed(trained: dict) -> None:
    document = json.loads(trained["llama3"][1].to_str())
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [2], "tokens": ["<|im_start|>"]}},
    }
    trim = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    document["post_processor"] = {"type": "Sequence", "processors": [trim, template]}
    peer = Peer.from_str(json.dumps(document))
    ours = _reopened(peer)
    for text in ("  Alle Menschen  sind\n frei ", "", "é  "):
        assert ours.encode(text, add_special_tokens=True).tolist() == peer.encode(text).ids
        assert ours.encode_batch([text], add_special_tokens=True)[0].tolist() == peer.encode(text).ids
        plain = peer.encode(text, add_special_tokens=False)
        assert list(map(tuple, ours.encode_with_offsets(text)[1].tolist())) == plain.offsets


def _reopened(peer: Peer) -> Tokenizer:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        peer.save(str(path))
        return Tokenizer.load(path)


def test_what_cannot_be_encoded_or_decoded(trained: dict) -> None:
    ours, _ = trained["llama3"]
    with pytest.raises(DataError, match=r"U\+D800, character 1\b"):
        ours.encode("é\ud800")
    with pytest.raises(DataError, match="of text 1"):
        ours.encode_batch(["a", "\udfff", "b"])
    for wrong in ([5, 3000], [-1], np.array([1 << 40])):
        with pytest.raises(DataError, match="not in the vocabulary of 3,000"):
            ours.decode(wrong)
    with pytest.raises(DataError, match="row of integers"):
        ours.decode([0.5])
    with pytest.raises(TypeError, match="str or bytes"):
        ours.encode_batch(["a", 7])
    with pytest.raises(TypeError, match="not one text"):
        ours.encode_batch("ab")
    with pytest.raises(ConfigError, match="pad_token '<pad>'"):
        ours.with_roles(pad_token="<pad>")


def test_the_vocabulary_can_be_asked(trained: dict) -> None:
    ours, peer = trained["gpt2"]
    assert ours.vocab_size == peer.get_vocab_size() == 3000
    assert ours.special_tokens == {token: number for number, token in enumerate(CHATML_TOKENS)}
    assert (ours.eos_token_id, ours.pad_token_id) == (0, None)
    assert ours.with_roles(pad_token="<|pad|>", eos_token="<|im_end|>").eos_token_id == 3
    assert ours.token_to_id("Ġde") == peer.token_to_id("Ġde")
    assert ours.token_to_id("no such token") is None
    assert [ours.id_to_token(number) for number in (0, 2999, 3000, -1)] == [
        "<|endoftext|>",
        peer.id_to_token(2999),
        None,
        None,
    ]
    copy = pickle.loads(pickle.dumps(ours))
    assert copy.fingerprint == ours.fingerprint
    assert copy.encode("Menschen").tolist() == ours.encode("Menschen").tolist()
