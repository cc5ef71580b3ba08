"""Perplexity as a score: by hand, across a file, and as a rule."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seedbed.core.errors import ConfigError, DataError, FormatError
from seedbed.curation import curate
from seedbed.curation.perplexity import PerplexityModel
from seedbed.curation.quality import texts_of
from seedbed.curation.storage import read_rows


@pytest.fixture(scope="module")
def speeches(shared_data: Callable[[str], Path]) -> list[str]:
    return list(texts_of([str(shared_data("text/inaugural.zip"))]))[:12]


def test_each_text_is_scored_by_itself(speeches: list[str]) -> None:
    model = PerplexityModel.train(speeches[:4], vocab_size=500, order=3)
    texts = [speeches[5][:300], "", "The people.", speeches[6][:200]]
    found = model.perplexities(texts)
    end = model.ngrams.end_of_text_id
    for text, value in zip(texts, found, strict=True):
        if text:
            stream = np.concatenate([[end, end], model.tokenizer.encode(text)])
            costs = -np.log(model.ngrams.probabilities(stream)[2:])
            assert value == pytest.approx(np.exp(costs.sum() / len(text)))
        else:
            assert np.isnan(value)
    assert len(model.perplexities([])) == 0


def test_a_rule_on_it(speeches: list[str], tmp_path: Path) -> None:
    model = PerplexityModel.train(speeches[:8], vocab_size=1000)
    path = tmp_path / "perplexity.model"
    model.save(path)
    again = PerplexityModel.load(path)
    np.testing.assert_array_equal(again.perplexities(speeches[8:]), model.perplexities(speeches[8:]))
    generator = random.Random(0)
    docs = tmp_path / "docs"
    docs.mkdir()
    for number in range(40):
        words = speeches[8 + number % 4].split()[number * 20 : number * 20 + 60]
        (docs / f"{number:02d}-good.txt").write_text(" ".join(words))
        letters = "".join(words)
        (docs / f"{number:02d}-noise.txt").write_text(
            " ".join("".join(generator.choices(letters, k=6)) for _ in range(60))
        )
    report = curate(docs, tmp_path / "out", rules={"max_perplexity": 12}, perplexity_model=str(path))
    rejected = list(read_rows(report.path / "rejected"))
    assert {row["id"] for row in rejected} == {f"{number:02d}-noise.txt" for number in range(40)}
    assert {row["rule"] for row in rejected} == {"max_perplexity"}
    scores = {row["id"]: row["perplexity"] for row in read_rows(report.path / "scores")}
    assert scores["00-good.txt"] < 12 < scores["00-noise.txt"]


def test_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="max_perplexity needs a perplexity_model"):
        curate(tmp_path, tmp_path / "out", rules={"max_perplexity": 9})
    with pytest.raises(DataError, match="less than 10,000 characters"):
        PerplexityModel.train(["short"])
    (tmp_path / "bad").write_bytes(b"PK no zip")
    with pytest.raises(FormatError, match="no perplexity model"):
        PerplexityModel.load(tmp_path / "bad")
