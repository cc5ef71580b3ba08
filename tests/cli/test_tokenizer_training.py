"""`seedbed tokenizer count`, `merge` and `train`: texts and counts lead to the same tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from seedbed.cli.app import app
from seedbed.cli.tokenizer_training import parse_memory
from seedbed.core.errors import ConfigError
from seedbed.curation import curate
from seedbed.tokenizers import Tokenizer, train_bpe, train_unigram, train_wordpiece

from ..tiny import write_documents


def _call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["tokenizer", *map(str, arguments)])


@pytest.fixture
def halves(tmp_path: Path) -> list[Path]:
    """Two sources: a text file and rows of JSON."""
    text, rows = tmp_path / "one.txt", tmp_path / "two.jsonl"
    text.write_text("the cat sat on the mat with the other cats\n" * 30)
    rows.write_text("".join(json.dumps({"text": f"the theory of other mats, number {n}"}) + "\n" for n in range(40)))
    return [text, rows]


def test_counts_of_halves_train_as_the_whole(halves: list[Path], tmp_path: Path) -> None:
    for path in halves:
        result = _call("count", path, "--out", path.with_suffix(".counts"), "--memory", "1MB", "--threads", 1)
        assert result.exit_code == 0, result.output
        assert "words that occur" in result.output
    counted = [path.with_suffix(".counts") for path in halves]
    assert _call("merge", *counted, "--out", tmp_path / "all.counts").exit_code == 0
    ways = {"texts": halves, "counts": counted, "merged": [tmp_path / "all.counts"], "mixed": [counted[0], halves[1]]}
    for name, sources in ways.items():
        result = _call("train", *sources, "--vocab-size", 320, "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
    found = {Tokenizer.load(tmp_path / name).fingerprint for name in ways}
    texts = [halves[0].read_text(), *(json.loads(line)["text"] for line in halves[1].read_text().splitlines())]
    assert found == {train_bpe(texts, 320).fingerprint}


def test_wordpiece_from_counts_and_texts(halves: list[Path], tmp_path: Path) -> None:
    options = ("--algorithm", "wordpiece", "--vocab-size", 80)
    result = _call("count", halves[0], "--algorithm", "wordpiece", "--cased", "--out", tmp_path / "one.counts")
    assert result.exit_code == 0, result.output
    for name, source in (("counts", tmp_path / "one.counts"), ("texts", halves[0])):
        result = _call("train", source, halves[1], *options, "--cased", "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
    texts = [halves[0].read_text(), *(json.loads(line)["text"] for line in halves[1].read_text().splitlines())]
    expected = train_wordpiece(texts, 80, lowercase=False).fingerprint
    assert {Tokenizer.load(tmp_path / name).fingerprint for name in ("counts", "texts")} == {expected}
    mixed = _call("train", tmp_path / "one.counts", halves[1], "--out", tmp_path / "x")  # cut for bpe
    assert "different cuts" in mixed.output


def test_unigram_from_counts_and_texts(halves: list[Path], tmp_path: Path) -> None:
    options = ("--algorithm", "unigram")
    result = _call("count", halves[0], *options, "--out", tmp_path / "one.counts")
    assert result.exit_code == 0, result.output
    result = _call("train", tmp_path / "one.counts", halves[1], *options, "--vocab-size", 80, "--out", tmp_path / "x")
    assert result.exit_code == 0, result.output
    texts = [halves[0].read_text(), *(json.loads(line)["text"] for line in halves[1].read_text().splitlines())]
    assert Tokenizer.load(tmp_path / "x").fingerprint == train_unigram(texts, 80).fingerprint


def test_a_corpus_is_read_by_its_training_split(tmp_path: Path) -> None:
    documents = tmp_path / "documents"
    write_documents(documents)
    curate(sources=[str(documents)], out=str(tmp_path / "corpus"), preset="none")
    result = _call("train", tmp_path / "corpus", "--vocab-size", 300, "--special", "<a>", "--out", tmp_path / "t.json")
    assert result.exit_code == 0, result.output
    assert Tokenizer.load(tmp_path / "t.json").special_tokens == {"<a>": 0}


def test_what_cannot_be_is_said(halves: list[Path], tmp_path: Path) -> None:
    for arguments, message in (
        (("count", "missing.txt", "--out", tmp_path / "x"), "missing.txt"),
        (("count", halves[0], "--out", tmp_path / "x", "--memory", "much"), "'much' is no amount of memory"),
        (("train", halves[0], "--algorithm", "runes", "--out", tmp_path / "x"), "unknown algorithm 'runes'"),
        (("merge", halves[0], "--out", tmp_path / "x"), "is no counts file"),
    ):
        result = _call(*arguments)
        assert result.exit_code != 0
        assert message in str(result.exception or result.output) + result.output
    assert not (tmp_path / "x").exists()
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 " * 50)
    result = _call("count", *halves, tmp_path / "latin.txt", "--out", tmp_path / "x")
    assert result.exit_code == 0
    assert "Not read: not_utf8 (1)" in result.output


def test_amounts_of_memory() -> None:
    assert [parse_memory(text) for text in ("2000000", "2048KB", "1.5 GiB", "2t")] == [
        2_000_000,
        2 << 20,
        3 << 29,
        2 << 40,
    ]
    for wrong in ("-1GB", "1KB", "GB"):
        with pytest.raises(ConfigError):
            parse_memory(wrong)
