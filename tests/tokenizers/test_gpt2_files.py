"""GPT-2's own files and the directories of older versions of transformers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import transformers

from seedbed.core.errors import FormatError
from seedbed.tokenizers import CHATML_TOKENS, Tokenizer, train_bpe

_TEXT = "the cat sat on the mat, the cats sat there; that is that. " * 3


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A small tokenizer in the older layout."""
    model = train_bpe([_TEXT], 290, "gpt2", CHATML_TOKENS).specification.model
    (tmp_path / "vocab.json").write_text(json.dumps(model.vocabulary))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model.merges), ""]
    (tmp_path / "merges.txt").write_text("\n".join(lines))
    return tmp_path


def test_an_older_directory_equals(directory: Path, strange: list[str]) -> None:
    (directory / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "GPT2Tokenizer", "eos_token": {"__type": "AddedToken", "content": "<|im_end|>"}})
    )
    (directory / "special_tokens_map.json").write_text(json.dumps({"pad_token": "<|pad|>"}))
    (directory / "added_tokens.json").write_text(json.dumps({"<new>": 278, "<|pad|>": 1}))
    ours = Tokenizer.load(directory)
    assert ours.special_tokens == {"<|endoftext|>": 0, "<|pad|>": 1, "<|im_end|>": 3}
    assert (ours.eos_token_id, ours.vocab_size) == (3, 279)
    peer = transformers.GPT2Tokenizer.from_pretrained(directory)
    for text in [*strange[:200], "a<new>b<|im_end|>"]:
        assert ours.encode(text).tolist() == peer(text)["input_ids"]


def test_real_files_in_a_directory(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copy(shared_data("tokenizers/gpt2.encoder.json"), tmp_path / "vocab.json")
    shutil.copy(shared_data("tokenizers/gpt2.vocab.bpe"), tmp_path / "merges.txt")
    ours = Tokenizer.load(tmp_path)
    assert ours.encode("Hello world<|endoftext|>").tolist() == [15496, 995, 50256]
    assert ours.fingerprint == Tokenizer.from_gpt2(tmp_path / "vocab.json", tmp_path / "merges.txt").fingerprint


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("merges.txt", "#version: 0.2\nt h\nonlyone\n", r"merges\.txt:3: .*onlyone"),
        ("merges.txt", "t h\nq q\n", r"merges\.txt:2: .*'qq'"),
        ("merges.txt", "t h\nt h e\n", r"merges\.txt:2: "),
        ("merges.txt", "t \n", r"merges\.txt:1: "),
        ("merges.txt", b"\xff\xfe", r"merges\.txt: is not UTF-8"),
        ("vocab.json", "{", r"vocab\.json"),
        ("vocab.json", "{}", r"vocab\.json: lacks"),
        ("vocab.json", '{"a": 1, "b": 1}', r"vocab\.json.*both"),
        ("added_tokens.json", '{"<new>": 5}', r"added_tokens\.json.*the id 5"),
        ("added_tokens.json", '{"<new>": 2000000000}', r"added_tokens\.json.*2000000000"),
        ("added_tokens.json", '{"<new>": "x"}', r"added_tokens\.json.*'x'"),
        ("tokenizer_config.json", '{"tokenizer_class": "RobertaTokenizer"}', "config.*RobertaTokenizer"),
        ("tokenizer_config.json", '{"tokenizer_class": [1]}', "config"),
    ],
)
def test_damaged_files(directory: Path, name: str, content: str | bytes, problem: str) -> None:
    (directory / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(FormatError, match=problem):
        Tokenizer.load(directory)
