"""Files: opened by the ecosystem with equal results; hostile and foreign ones refused by file and key."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from seedbed.core.errors import FormatError
from seedbed.tokenizers import CHATML, CHATML_TOKENS, Tokenizer, tokenizer_json, train_bpe

_TEXT = "the cat sat on the mat, the cats sat there; that is that. " * 3


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_bpe([_TEXT], 290, "llama3", CHATML_TOKENS, pad_token="<|pad|>", chat_template=CHATML)


def test_transformers_opens_the_directory(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "ours")
    peer = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    for text in (_TEXT, "<|im_start|>user\n1234 été<|im_end|>", ""):
        assert peer(text)["input_ids"] == tokenizer.encode(text).tolist()
        assert peer.decode(peer(text)["input_ids"]) == text
    assert (peer.eos_token, peer.pad_token, peer.chat_template) == ("<|endoftext|>", "<|pad|>", CHATML)
    assert len(peer) == tokenizer.vocab_size
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "ours" / "tokenizer.json"))
    assert fast(_TEXT)["input_ids"] == tokenizer.encode(_TEXT).tolist()
    peer.save_pretrained(tmp_path / "theirs")
    back = Tokenizer.load(tmp_path / "theirs")
    assert back.fingerprint == tokenizer.fingerprint
    assert back.roles == tokenizer.roles


def test_saving_and_loading_keep_all(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    alone = Tokenizer.load(tmp_path / "tokenizer.json")
    assert alone.specification == tokenizer.specification
    assert alone.fingerprint == tokenizer.fingerprint
    assert alone.chat_template is None
    tokenizer.save(tmp_path / "folder")
    tokenizer.save(tmp_path / "again")
    assert Tokenizer.load(tmp_path / "folder").roles == tokenizer.roles
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "folder" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def _set(*keys: Any) -> Callable[[dict], None]:
    *path, last, value = keys

    def change(document: dict) -> None:
        node = document
        for key in path:
            node = node[key]
        node[last] = value

    return change


def _many_holes(document: dict) -> None:
    document["model"]["vocab"]["Ġthe"] = 2_000_000_000


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (_set("model", "type", "WordLevel"), "model.type"),
        (_set("model", "dropout", 0.1), "model.dropout"),
        (_set("model", "end_of_word_suffix", "</w>"), "model.end_of_word_suffix"),
        (_set("model", "vocab", []), "model.vocab"),
        (_set("model", "vocab", "a", 10), "both"),
        (_set("model", "vocab", "a", -1), "id -1"),
        (_set("model", "vocab", "a", True), "id True"),
        (lambda document: document["model"]["vocab"].pop("!"), "byte 0x21"),
        (_set("model", "vocab", "\ud800", 400), "model.vocab.*lone surrogate"),
        (_set("added_tokens", 0, "content", "\udfff"), "content.*lone surrogate"),
        (_many_holes, "2,000,000,000"),
        (_set("model", "merges", 3, ["Ġ", "nowhere"]), r"merges\[3\].*nowhere"),
        (_set("model", "merges", 3, "one"), r"merges\[3\]"),
        (_set("model", "merges", 3, [1, 2]), r"merges\[3\]"),
        (_set("model", "merges", None), "model.merges"),
        (_set("model", "new_option", 1), "model.new_option"),
        (_set("model", None), "model"),
        (_set("normalizer", {"type": "NFC"}), "normalizer.*NFC"),
        (_set("pre_tokenizer", {"type": "Whitespace"}), "pre_tokenizer.*Whitespace"),
        (_set("pre_tokenizer", None), "pre_tokenizer"),
        (_set("pre_tokenizer", "pretokenizers", 0, "pattern", {"Regex": r"(a)\1"}), r"pre_tokenizer.*\\1"),
        (_set("pre_tokenizer", "pretokenizers", 0, "behavior", "Sideways"), "Sideways"),
        (_set("pre_tokenizer", "pretokenizers", 1, "add_prefix_space", 1), "add_prefix_space"),
        (_set("decoder", {"type": "WordPiece"}), "decoder.*WordPiece"),
        (_set("post_processor", {"type": "BertProcessing"}), "BertProcessing"),
        (_set("post_processor", {"type": "TemplateProcessing", "single": [{"SpecialToken": 3}]}), "post_processor"),
        (_set("truncation", {"max_length": -5}), "truncation.*-5"),
        (_set("truncation", {"max_length": 5, "direction": "Up"}), "truncation.direction.*Up"),
        (_set("padding", {"strategy": {"Fixed": "a"}}), "padding.strategy"),
        (_set("added_tokens", 0, "lstrip", 1), r"added_tokens\[0\].lstrip.*neither true nor false"),
        (_set("added_tokens", 0, "id", 17), r"added_tokens\[0\].*17"),
        (_set("added_tokens", 0, "content", ""), r"added_tokens\[0\].content"),
        (_set("added_tokens", 1, "content", "<|endoftext|>"), r"added_tokens\[1\]"),
    ],
)
def test_what_cannot_be_represented_is_refused_by_name(
    tokenizer: Tokenizer, tmp_path: Path, change: Callable[[dict], None], key: str
) -> None:
    document = copy.deepcopy(tokenizer_json.to_json(tokenizer.specification))
    change(document)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document))
    with pytest.raises(FormatError, match=f"tokenizer.json: .*{key}"):
        Tokenizer.load(path)


def test_damaged_files(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    whole = path.read_bytes()
    deep = b"[" * 200_000
    for data in (b"", whole[: len(whole) // 2], whole[:-3], b"\xff\xfe", deep, b"[1]", b'{"model": {"a": 1, "a": 2}}'):
        path.write_bytes(data)
        with pytest.raises(FormatError, match=r"tokenizer\.json"):
            Tokenizer.load(path)
    with pytest.raises(FormatError, match="no such file"):
        Tokenizer.load(tmp_path / "nothing.json")
    tokenizer.save(tmp_path / "folder")
    config = tmp_path / "folder" / "tokenizer_config.json"
    for wrong in ({"eos_token": "<nope>"}, {"eos_token": 3}, {"chat_template": [1]}):
        config.write_text(json.dumps(wrong))
        with pytest.raises(FormatError, match=r"tokenizer_config\.json"):
            Tokenizer.load(tmp_path / "folder")


def test_files_that_claim_too_much(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    with path.open("wb") as file:
        file.truncate(1 << 30)  # a gigabyte that no disk holds
    with pytest.raises(FormatError, match=r"tokenizer\.json: is 1,073,741,824 bytes long"):
        Tokenizer.load(path)
    document = tokenizer_json.to_json(tokenizer.specification)
    document["added_tokens"] = [{"id": 300, "content": "x" * (1 << 22 | 1)}]
    path.write_text(json.dumps(document))
    with pytest.raises(FormatError, match="added_tokens' holds more than"):
        Tokenizer.load(path)


_DEEP: Any = []
for _ in range(900):
    _DEEP = [_DEEP]
_TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [2], "tokens": ["<|im_start|>"]}},
}
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
_ROBERTA = {**_BYTE_LEVEL, "type": "RobertaProcessing", "sep": ["<|im_end|>", 3], "cls": ["<|pad|>", 1]}
_VALUES = [
    *(None, True, False, 0, 1, -1, 7, 300, 1 << 31, 1 << 70, 0.5, float("nan"), "", "a", "a b", "Ġ", "\ud800", "\0"),
    *("Ġthe", "<|im_end|>", "BPE", "Left", "OnlyFirst", [], {}, [[]], [1, 2], ["a", "t"], _DEEP),
    *({"type": "ByteLevel"}, {"type": "Sequence"}, {"Fixed": 5}, {"Regex": "("}, _TEMPLATE, _ROBERTA, _BYTE_LEVEL),
]


@pytest.fixture(scope="module")
def rich(tokenizer: Tokenizer, wordpiece_document: dict[str, Any]) -> list[dict[str, Any]]:
    """Documents with something in all of their places."""
    return [_enriched(tokenizer_json.to_json(tokenizer.specification)), _enriched(wordpiece_document)]


def _enriched(document: dict[str, Any]) -> dict[str, Any]:
    peer = tokenizers.Tokenizer.from_str(json.dumps(document))
    peer.add_special_tokens(list(CHATML_TOKENS))
    peer.add_tokens([tokenizers.AddedToken(" <x>", lstrip=True), tokenizers.AddedToken("cat", single_word=True)])
    peer.enable_truncation(50)
    peer.enable_padding(length=60)
    found: dict[str, Any] = json.loads(peer.to_str())
    template = copy.deepcopy(_TEMPLATE)
    template["special_tokens"]["<|im_start|>"]["ids"] = [peer.token_to_id("<|im_start|>")]
    found["post_processor"] = {"type": "Sequence", "processors": [_BYTE_LEVEL, template]}
    return found


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_changed_values_never_crash(
    rich: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever stands anywhere, a file is refused as such or its tokenizer works, as that of `tokenizers` does."""
    document = copy.deepcopy(data.draw(st.sampled_from(rich)))
    for _ in range(data.draw(st.integers(1, 3))):
        node: Any = document
        while True:  # walk to somewhere at random and put something else there
            key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
            child = node[key]
            if not isinstance(child, dict | list) or not child or child is _DEEP or data.draw(st.booleans()):
                break
            node = child
        if data.draw(st.integers(0, 4)) == 0:
            del node[key]
        else:
            value = data.draw(st.sampled_from(_VALUES))
            node[key] = value if value is _DEEP else copy.deepcopy(value)
        if not document:
            break
    path = tmp_path_factory.mktemp("changed") / "tokenizer.json"
    path.write_text(json.dumps(document))
    try:
        loaded = Tokenizer.load(path)
    except FormatError as error:
        assert "tokenizer.json" in str(error)  # noqa: PT017
        return
    texts = [_TEXT, "", " the <x>cat<|im_end|> é\U0001f600\n"]
    loaded.decode_batch(loaded.encode_batch(texts, add_special_tokens=True))
    loaded.encode_pairs(texts, texts)
    loaded.save(path.with_name("again.json"))
    again = Tokenizer.load(path.with_name("again.json"))
    assert again.fingerprint == loaded.fingerprint
    try:
        peer = tokenizers.Tokenizer.from_file(str(path))
    except BaseException:  # a panic is no Exception
        return
    if any(peer.token_to_id(token.content) != token.id for token in loaded.specification.added):
        return  # it numbers them anew, whatever the file says
    peer.no_truncation()
    peer.no_padding()
    for text in texts:
        assert loaded.encode(text, True).tolist() == peer.encode(text).ids
        ids, offsets = loaded.encode_with_offsets(text)
        expected = peer.encode(text, add_special_tokens=False)
        assert (ids.tolist(), list(map(tuple, offsets.tolist()))) == (expected.ids, expected.offsets)
        assert again.encode(text).tolist() == ids.tolist()
