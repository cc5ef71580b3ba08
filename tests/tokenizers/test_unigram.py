"""Unigram: encoded as `tokenizers` does it, trained at least as well as SentencePiece does it."""

from __future__ import annotations

import copy
import io
import json
import random
import runpy
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Peer
from tokenizers import decoders, models, normalizers, pre_tokenizers

from seedbed.core.errors import ConfigError, DataError, FormatError
from seedbed.tokenizers import Tokenizer, Unigram, tokenizer_json, train_unigram
from seedbed.tokenizers.byte_fallback import BYTE_NAMES
from seedbed.tokenizers.json_reader import float_of_tokenizers

_LETTERS = "ab ▁é中\n"


@pytest.fixture(scope="module")
def naive() -> SimpleNamespace:
    """The functions of naive_unigram.py."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "naive_unigram.py")))


@pytest.fixture(scope="module")
def english(shared_data: Callable[[str], Path]) -> str:
    return shared_data("text/tinyshakespeare.txt").read_text()[:200_000]


@pytest.fixture(scope="module")
def trained(english: str) -> Tokenizer:
    return train_unigram(english.split("\n\n"), 2000)


def _peer(pieces: list[tuple[str, float]], scheme: str, split: bool, byte_fallback: bool, words: bool) -> Peer:
    peer = Peer(models.Unigram(pieces, 0, byte_fallback))
    metaspace = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)
    steps = [pre_tokenizers.WhitespaceSplit(), metaspace]
    peer.pre_tokenizer = pre_tokenizers.Sequence(steps) if words else metaspace
    peer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    return peer


def _load(peer: Peer, directory: Path) -> Tokenizer:
    peer.save(str(directory / "tokenizer.json"))
    return Tokenizer.load(directory / "tokenizer.json")


def _assert_equal(ours: Tokenizer, peer: Peer, text: str) -> None:
    encoding = peer.encode(text, add_special_tokens=False)
    ids, offsets = ours.encode_with_offsets(text)
    assert ids.tolist() == encoding.ids
    assert ours.encode(text).tolist() == encoding.ids
    assert [tuple(pair) for pair in offsets.tolist()] == encoding.offsets
    assert ours.decode(ids) == peer.decode(encoding.ids, skip_special_tokens=False)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_equals_tokenizers(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    tokens = data.draw(st.sets(st.text(_LETTERS, min_size=1, max_size=4), max_size=20))
    # Few different scores make for many ties.
    scores = [data.draw(st.sampled_from([-1.0, -2.0, -3.1, -0.7])) for _ in tokens]
    byte_fallback = data.draw(st.booleans())
    pieces = [("<unk>", 0.0), *zip(sorted(tokens), scores, strict=True)]
    pieces += [(name, -4.0) for name in BYTE_NAMES] if byte_fallback else []
    scheme, split = data.draw(st.sampled_from(["always", "first", "never"])), data.draw(st.booleans())
    words = scheme == "always" and split and data.draw(st.booleans())
    peer = _peer(pieces, scheme, split, byte_fallback, words)
    ours = _load(peer, tmp_path_factory.mktemp("unigram"))
    for _ in range(8):
        _assert_equal(ours, peer, data.draw(st.text(_LETTERS + "x<unk>", max_size=40)))


def test_equals_the_naive_twin(naive: SimpleNamespace, trained: Tokenizer, english: str) -> None:
    model = trained.specification.model
    assert isinstance(model, Unigram)
    scores = dict(model.pieces[3:])
    unknown = min(score for _, score in model.pieces) - 10
    for word in set(english[:20_000].split()):
        pieces, _ = naive.best_path("▁" + word, scores, unknown)
        pieces = [piece if piece in scores else "<unk>" for piece in pieces]
        assert [trained.id_to_token(number) for number in trained.encode(word).tolist()] == pieces


def test_equals_tokenizers_on_real_and_strange_text(
    trained: Tokenizer, languages: list[str], strange: list[str], english: str, tmp_path: Path
) -> None:
    peer = Peer.from_str(json.dumps(tokenizer_json.to_json(trained.specification)))
    for text in [*languages, *strange, english[:50_000]]:
        _assert_equal(trained, peer, text)
    by_whole_text = copy.deepcopy(tokenizer_json.to_json(trained.specification))
    by_whole_text["pre_tokenizer"] = {
        "type": "Metaspace",
        "replacement": "▁",
        "prepend_scheme": "first",
        "split": False,
    }
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(by_whole_text))
    ours, peer = Tokenizer.load(path), Peer.from_file(str(path))
    for text in [*strange[::3], english[:50_000]]:
        _assert_equal(ours, peer, text)


def test_a_text_without_a_space_costs_linear_time(trained: Tokenizer) -> None:
    generator = random.Random(5)
    text = "".join(generator.choices("abtheou", k=3_000_000))

    def seconds(size: int) -> float:
        started = time.perf_counter()
        ids = trained.encode(text[:size])
        assert trained.decode(ids) == text[:size]
        return time.perf_counter() - started

    assert min(seconds(3_000_000) for _ in range(2)) < 40 * min(seconds(300_000) for _ in range(3))


def test_a_long_word_goes_through_in_stretches(trained: Tokenizer, tmp_path: Path) -> None:
    """All the same pieces as without them: every way to go on is kept until it cannot win."""
    pieces = [("<unk>", 0.0), ("▁", -1.0), ("a", -1.0), ("aa", -1.9), ("aaa", -2.7), ("b", -3.0)]
    peer = _peer(pieces, "always", True, False, False)
    ours = _load(peer, tmp_path)
    for text in ("a" * 100_001, "ab" * 40_000 + "c" * 50_000, "aaab" * 30_000):
        _assert_equal(ours, peer, text)


def test_training_reaches_the_likelihood_of_sentencepiece(naive: SimpleNamespace, english: str) -> None:
    lines = [line for line in english.split("\n") if line]
    model = io.BytesIO()
    # The same pieces are open to both: SentencePiece would not join scripts and numbers.
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=1000, minloglevel=2, num_threads=2,
        split_by_unicode_script=False, split_by_number=False,
    )  # fmt: skip
    peer = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    theirs = {peer.id_to_piece(i): peer.get_score(i) for i in range(3, 1000)}
    ours = dict(train_unigram(lines, 1000).specification.model.pieces[3:])  # type: ignore[attr-defined]
    assert len(ours) == len(theirs)
    counts = Counter("▁" + word for line in lines for word in line.split())

    def likelihood(scores: dict[str, float]) -> float:
        return sum(count * naive.marginal(word, scores) for word, count in counts.items())

    assert likelihood(ours) >= likelihood(theirs)


def test_training_does_not_depend_on_threads_or_order(languages: list[str]) -> None:
    first = train_unigram(languages, 4000, threads=1)
    assert train_unigram(reversed(languages), 4000, threads=3).fingerprint == first.fingerprint
    assert first.token_to_id("<unk>") == 0
    assert list(first.special_tokens) == ["<unk>", "<s>", "</s>"]


def test_byte_fallback_and_white_space_bring_any_text_back(
    languages: list[str], strange: list[str], tmp_path: Path
) -> None:
    ours = train_unigram(
        languages, 1200, byte_fallback=True, normalization=None, whitespace_split=False, character_coverage=0.98
    )
    for text in [*languages, *strange]:
        text = text.replace("▁", "_")
        assert ours.decode(ours.encode(text, parse_special=False)) == text.removeprefix(" ")
    ours.save(tmp_path / "tokenizer.json")
    peer = Peer.from_file(str(tmp_path / "tokenizer.json"))
    for text in strange[::4]:
        _assert_equal(ours, peer, text)
    generator = random.Random(3)
    for _ in range(300):
        ids = generator.choices(range(ours.vocab_size), k=6)
        assert ours.decode(ids) == peer.decode(ids, skip_special_tokens=False)


def test_normalizers_and_added_tokens(english: str, tmp_path: Path) -> None:
    ours = train_unigram([english], 800)
    document = tokenizer_json.to_json(ours.specification)
    document["normalizer"] = normalizers_json = {
        "type": "Sequence",
        "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}],
    }
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document))
    peer = Peer.from_file(str(path))
    assert isinstance(peer.normalizer, normalizers.Sequence)
    loaded = Tokenizer.load(path)
    assert tokenizer_json.to_json(loaded.specification)["normalizer"] == normalizers_json
    for text in ("Ein ﬁne <s>Ⅷ KING</s>  ", "ÀÉ\u0301 ½ <unk>x"):
        _assert_equal(loaded, peer, text)


def _set(*keys: Any) -> Callable[[dict], None]:
    *path, last, value = keys

    def change(document: dict) -> None:
        node = document
        for key in path:
            node = node[key]
        node[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (_set("model", "vocab", None), "model.vocab"),
        (_set("model", "vocab", 5, ["a"]), r"model.vocab\[5\]"),
        (_set("model", "vocab", 5, ["<s>", -1.0]), r"model.vocab\[5\].*second time"),
        (_set("model", "vocab", 5, ["zzz", float("inf")]), r"model.vocab\[5\]"),
        (_set("model", "vocab", 5, ["zzz", True]), r"model.vocab\[5\]"),
        (_set("model", "vocab", 5, ["z\udde9", -1.0]), r"model.vocab\[5\].*lone surrogate"),
        (_set("model", "unk_id", None), "model.unk_id"),
        (_set("model", "unk_id", 1 << 40), "model.unk_id"),
        (_set("model", "new_option", 1), "model.new_option"),
        (_set("pre_tokenizer", None), "pre_tokenizer"),
        (_set("pre_tokenizer", "pretokenizers", 1, "replacement", "ab"), "pre_tokenizer.replacement"),
        (_set("pre_tokenizer", "pretokenizers", 1, "prepend_scheme", "often"), "prepend_scheme"),
        (_set("pre_tokenizer", "pretokenizers", 1, "split", False), "pre_tokenizer"),
        (_set("decoder", {"type": "WordPiece"}), "decoder.*WordPiece"),
        (_set("decoder", {"type": "Sequence", "decoders": [{"type": "Fuse"}]}), "decoder"),
        (_set("normalizer", {"type": "Precompiled", "precompiled_charsmap": ""}), "Precompiled"),
    ],
)
def test_what_cannot_be_represented_is_refused_by_name(
    trained: Tokenizer, tmp_path: Path, change: Callable[[dict], None], key: str
) -> None:
    document = copy.deepcopy(tokenizer_json.to_json(trained.specification))
    change(document)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document))
    with pytest.raises(FormatError, match=f"tokenizer.json: .*{key}"):
        Tokenizer.load(path)


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30}([eE][-+]?[0-9]{1,2})?|[eE]-[0-9]{1,3})", fullmatch=True))
@settings(max_examples=300, deadline=None)
def test_scores_are_the_numbers_that_tokenizers_reads(written: str) -> None:
    model = f'{{"type": "Unigram", "unk_id": 0, "byte_fallback": false, "vocab": [["a", {written}]]}}'
    others = ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")
    nothing = "".join(f'"{key}": null, ' for key in others)
    peer = Peer.from_str(f'{{"version": "1.0", "added_tokens": [], {nothing}"model": {model}}}')
    assert float_of_tokenizers(written) == json.loads(peer.to_str())["model"]["vocab"][0][1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocab_size": 3}, "vocab_size 3"),
        ({"vocab_size": 6}, "characters must be pieces"),
        ({"vocab_size": 200, "byte_fallback": True}, "vocab_size 200"),
        ({"special_tokens": ("<s>", "<s>")}, "twice"),
        ({"special_tokens": ("",)}, "empty"),
        ({"normalization": "NFX"}, "NFX"),
        ({"character_coverage": 0.0}, "character_coverage"),
        ({"shrinking_factor": 1.0}, "shrinking_factor"),
        ({"max_piece_length": 0}, "max_piece_length"),
    ],
)
def test_settings_that_cannot_be_used(arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train_unigram(["hello there"], **arguments)


def test_no_text_at_all() -> None:
    with pytest.raises(DataError, match="empty"):
        train_unigram(["", "  "], 100)
