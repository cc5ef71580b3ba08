"""Training: equal to the naive twin and to `tokenizers`, whatever the number of threads."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seedbed.core.errors import ConfigError, DataError
from seedbed.tokenizers import CHATML_TOKENS, train_bpe
from seedbed.tokenizers.bytelevel import BYTE_ORDER
from seedbed.tokenizers.pretokenizers import split


def _assert_equal(
    texts: list[str], vocab_size: int, pattern: str, specials: list[str], train_peer: Callable, **kw: int
):
    ours = train_bpe(texts, vocab_size, pattern, specials, **kw)
    peer = train_peer(texts, vocab_size, pattern, specials, **kw)
    assert ours.specification.model.vocabulary == peer.get_vocab()
    merges = json.loads(peer.to_str())["model"]["merges"]
    assert [list(pair) for pair in ours.specification.model.merges] == merges
    return ours


@settings(max_examples=60, deadline=None)
@given(text=st.text("ab c\n'é", max_size=300), extra=st.integers(0, 40))
def test_equals_the_naive_twin_and_tokenizers(
    naive: SimpleNamespace, train_peer: Callable, text: str, extra: int
) -> None:
    text += "ab"
    ours = _assert_equal([text], 257 + extra, "gpt2", ["<|endoftext|>"], train_peer)
    byte_ids = {byte: index + 1 for index, byte in enumerate(BYTE_ORDER)}
    words = Counter(piece.encode() for piece in split(text, "gpt2"))
    merges = naive.train(words, byte_ids, 1, 257 + extra, 2)
    name = ours.specification.model.vocabulary
    assert [(name[left], name[right]) for left, right in ours.specification.model.merges] == [
        pair for pair, _ in merges
    ]
    for word in words:
        assert ours.encode(word.decode()).tolist() == naive.encode(word, byte_ids, merges)


def test_equals_tokenizers_on_english(shared_data: Callable[[str], Path], train_peer: Callable) -> None:
    text = shared_data("text/tinyshakespeare.txt").read_text()[:150_000]
    texts = text.split("\n\n")
    _assert_equal(texts, 3000, "llama3", list(CHATML_TOKENS), train_peer)
    _assert_equal(texts, 600, "gpt2", [], train_peer, min_frequency=0)
    _assert_equal(texts, 100_000, "o200k", [], train_peer, min_frequency=30)


def test_equals_tokenizers_on_all_languages(languages: list[str], train_peer: Callable) -> None:
    ours = _assert_equal(languages, 3000, "llama3", ["<|endoftext|>"], train_peer)
    for threads in (1, 2, 5):
        again = train_bpe(iter(languages), 3000, "llama3", ["<|endoftext|>"], threads=threads)
        assert again.fingerprint == ours.fingerprint


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocab_size": 200}, "256 bytes and 1 special tokens need 257"),
        ({"vocab_size": 259, "special_tokens": CHATML_TOKENS}, "need 260"),
        ({"vocab_size": 300, "pattern": "klingon"}, "klingon"),
        ({"vocab_size": 300, "special_tokens": ("<a>", "<a>")}, "twice"),
        ({"vocab_size": 300, "special_tokens": ("hello",)}, "'hello' comes out of the merges"),
        ({"vocab_size": 300, "special_tokens": ("!",)}, "name of a byte"),
        ({"vocab_size": 300, "eos_token": "<eos>"}, "<eos>"),
    ],
)
def test_settings_that_cannot_be_used(arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train_bpe(["hello hello hello"], **arguments)


def test_text_that_cannot_be_used() -> None:
    for nothing in ([], ["", ""]):
        with pytest.raises(DataError, match="empty"):
            train_bpe(nothing, 300)
    with pytest.raises(DataError, match=r"U\+DC80, character 2 of text 1"):
        train_bpe(["fine", "no\udc80"], 300)
    with pytest.raises(DataError, match="unbroken"):
        train_bpe(["x" * (1 << 20 | 1)], 300)
    assert train_bpe(["ab"], 10_000).vocab_size == 257  # too little to learn from: the bytes remain
