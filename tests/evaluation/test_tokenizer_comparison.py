"""Algorithms side by side: what is measured, shared and cut."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seedbed.core.errors import ConfigError, DataError
from seedbed.evaluation.tokenizer_comparison import (
    TRAINERS,
    compare_algorithms,
    cut,
    jaccard,
    read_splits,
    surface_texts,
)
from seedbed.reports.tokenizer_comparison_page import write_comparison
from seedbed.tokenizers import train_bpe

_TEXTS = [f"The gardener sows {word} in spring and reaps {word} in autumn." for word in ("peas", "kale", "rye", "dill")]


@pytest.mark.parametrize("algorithm", list(TRAINERS))
def test_every_algorithm_is_measured_and_cuts_without_loss(algorithm: str) -> None:
    found = compare_algorithms(_TEXTS * 20, _TEXTS, [300, 330], [algorithm])
    small, large = found.trained
    assert (small.wanted_size, large.wanted_size) == (300, 330)
    assert large.cost["bytes_per_token"] >= small.cost["bytes_per_token"] > 1
    assert small.cost["unknown_share"] == 0
    assert found.sentence == _TEXTS[0]
    assert "".join(small.pieces) == found.sentence
    assert found.overlaps == ()


def test_algorithms_share_tokens_and_the_page_shows_it(tmp_path: Path) -> None:
    found = compare_algorithms(_TEXTS * 20, _TEXTS, [300], sentence="The kale")
    pairs = len(TRAINERS) * (len(TRAINERS) - 1) // 2
    assert len(found.overlaps) == pairs
    assert all(0 < one.jaccard <= 1 for one in found.overlaps)
    write_comparison(found, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "compare.json").read_text())["trained"][0]["algorithm"] == next(
        iter(TRAINERS)
    )
    assert "One sentence" in (tmp_path / "out" / "index.html").read_text()
    assert (tmp_path / "out" / "compression.png").read_bytes().startswith(b"\x89PNG")


def test_surface_texts_and_their_overlap() -> None:
    tokenizer = train_bpe(["the the theme"] * 3, 264, "gpt2", ("<|endoftext|>",))
    found = surface_texts(tokenizer)
    assert {"the", "t", " ".strip()} <= found
    assert "<|endoftext|>" not in found
    assert jaccard({"a", "b"}, {"b", "c"}) == pytest.approx(1 / 3)
    assert "".join(cut(tokenizer, "thé 🌱 the")) == "thé 🌱 the"


def test_splits_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("\n\n".join(f"Passage {number}" for number in range(30)))
    train, held_out = read_splits(file)
    assert held_out == ["Passage 9", "Passage 19", "Passage 29"]
    assert len(train) == 27
    file.write_text("one\n\ntwo")
    with pytest.raises(DataError, match="2 texts are too few"):
        read_splits(file)


def test_what_cannot_be_compared() -> None:
    with pytest.raises(ConfigError, match=r"no algorithm 'lzw'. There are: bpe"):
        compare_algorithms(_TEXTS, _TEXTS, [300], ["lzw"])
    with pytest.raises(ConfigError, match="nothing to compare"):
        compare_algorithms(_TEXTS, _TEXTS, [])
