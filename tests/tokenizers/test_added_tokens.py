"""Added tokens with all their options: ids and offsets equal to `tokenizers`; thousands of them cost little."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Peer

from seedbed.tokenizers import Tokenizer, tokenizer_json, train_bpe

_CONTENTS = ["<a>", "<a", "a>", "b", "<m>", " <m>", "é", "_x", "ab", "<a><a>", "中", "\n"]
_PARTS = [
    *_CONTENTS,
    " ",
    "  ",
    "\t",
    "\u3000",
    "\u00a0",
    "\x1c",
    "a",
    "1",
    "½",
    "_",
    "-",
    "'s",
    "\u0301",
    "\u200d",
    "ⓐ",
    "x",
]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return tokenizer_json.to_json(train_bpe(["the cat sat on the mat"], 270, "llama3", ()).specification)


def _open(document: dict[str, Any], added: list[dict[str, Any]], folder: Path) -> tuple[Tokenizer, Peer]:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(document | {"added_tokens": added}))
    return Tokenizer.load(path), Peer.from_file(str(path))


_OPTIONS = st.fixed_dictionaries(
    {name: st.booleans() for name in ("special", "normalized", "single_word", "lstrip", "rstrip")}
)


@settings(max_examples=200, deadline=None)
@given(
    chosen=st.dictionaries(st.sampled_from(_CONTENTS), _OPTIONS, min_size=1),
    texts=st.lists(st.lists(st.sampled_from(_PARTS), max_size=14).map("".join), min_size=1, max_size=8),
    trim=st.booleans(),
)
def test_all_options_equal(
    document: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
    chosen: dict[str, dict[str, bool]],
    texts: list[str],
    trim: bool,
) -> None:
    start = len(document["model"]["vocab"])
    vocabulary = document["model"]["vocab"]
    new = [content for content in chosen if content not in vocabulary]
    numbers = vocabulary | {content: start + i for i, content in enumerate(new)}
    added = [{"id": numbers[content], "content": content, **options} for content, options in chosen.items()]
    added.sort(key=lambda token: token["id"])
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": trim, "use_regex": True}
    ours, peer = _open(document | {"post_processor": byte_level}, added, tmp_path_factory.mktemp("added"))
    for parse_special in (True, False):
        peer.encode_special_tokens = not parse_special
        for text in texts:
            expected = peer.encode(text)
            ids, offsets = ours.encode_with_offsets(text, parse_special=parse_special)
            assert ids.tolist() == expected.ids
            assert list(map(tuple, offsets.tolist())) == expected.offsets
            assert ours.encode(text, parse_special=parse_special).tolist() == expected.ids


_CASED = ["<A>", "Élan", "ab", "A b", " Foo", "Ü", "中", "e\u0301", "ﬁ"]
_CASED_PARTS = [*_CASED, " ", "\t", "e", "\u0301", "É", "<a>", "FOO", "foo", "a b", "\x00", "北", "İ", "-", "_", "1"]


@settings(max_examples=100, deadline=None)
@given(
    chosen=st.dictionaries(st.sampled_from(_CASED), _OPTIONS, min_size=1, max_size=4),
    texts=st.lists(st.lists(st.sampled_from(_CASED_PARTS), max_size=9).map("".join), min_size=1, max_size=8),
    strip=st.sampled_from([None, True, False]),
)
def test_content_is_looked_for_in_normalised_text(
    wordpiece_document: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
    chosen: dict[str, dict[str, bool]],
    texts: list[str],
    strip: bool | None,
) -> None:
    vocabulary = wordpiece_document["model"]["vocab"]
    new = [content for content in chosen if content not in vocabulary]
    numbers = vocabulary | {content: len(vocabulary) + i for i, content in enumerate(new)}
    added = [{"id": numbers[content], "content": content, **options} for content, options in chosen.items()]
    added.sort(key=lambda token: token["id"])
    normalizer = wordpiece_document["normalizer"] | {"strip_accents": strip}
    ours, peer = _open(wordpiece_document | {"normalizer": normalizer}, added, tmp_path_factory.mktemp("added"))
    for text in texts:
        expected = peer.encode(text)
        ids, offsets = ours.encode_with_offsets(text)
        assert ids.tolist() == ours.encode(text).tolist() == expected.ids
        assert list(map(tuple, offsets.tolist())) == expected.offsets


def test_thousands_cost_little(document: dict[str, Any], tmp_path: Path) -> None:
    generator = random.Random(3)
    start = len(document["model"]["vocab"])
    contents = {"<" + "".join(generator.choices("abcdef", k=8)) + ">" for _ in range(5000)}
    contents |= {f"{chr(33 + i % 90)}{chr(0x4E00 + i)}" for i in range(5000)}  # and ones that begin with anything
    options = dict.fromkeys(("special", "normalized", "single_word", "lstrip", "rstrip"), False)
    added = [{"id": start + i, "content": content, **options} for i, content in enumerate(sorted(contents))]
    many, _ = _open(document, added, tmp_path)
    few, _ = _open(document, added[:1], tmp_path)
    text = "the cat sat on <the> mat, 中国 and so on. " * 5000

    def seconds(tokenizer: Tokenizer) -> float:
        best = 1e9
        for _ in range(5):
            started = time.perf_counter()
            tokenizer.encode(text)
            best = min(best, time.perf_counter() - started)
        return best

    assert seconds(many) < 5 * seconds(few) + 1e-3
    assert many.decode(many.encode("a" + "".join(contents))) == "a" + "".join(contents)
