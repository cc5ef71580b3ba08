"""Mixtures of sources: shares by weight and temperature, held-out splits untouched, every document accounted for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seedbed.core.errors import ConfigError
from seedbed.curation import curate, redecide_corpus
from seedbed.curation.mixing import MixingConfig, taken


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    for name, count in (("large", 800), ("small", 50)):
        (folder / name).mkdir(parents=True)
        for n in range(count):
            (folder / name / f"{n:03d}.txt").write_text(
                f"In the {name} one, text {n:03d} says its own {n * n:06d} things."
            )
    return folder


def _train(corpus: Path) -> dict[str, int]:
    from seedbed.curation import Corpus

    sources = [row["source"].split("/")[0] for row in Corpus.open(corpus).rows("train", ["source"])]
    return {name: sources.count(name) for name in ("large", "small")}


def test_shares(docs: Path, tmp_path: Path) -> None:
    plain = curate(docs, tmp_path / "plain")
    before = _train(tmp_path / "plain")
    even = curate(docs, tmp_path / "even", mixing={"temperature": 1e9})
    after = _train(tmp_path / "even")
    assert after["small"] == before["small"]
    assert 0.6 * before["small"] < after["large"] < 1.5 * before["small"]
    for split in ("validation", "test"):
        assert plain.metrics["kept"][split] == even.metrics["kept"][split]
    assert even.read == even.kept + sum(drop["documents"] for drop in even.metrics["drops"])
    assert even.metrics["drops"][0]["rule"] == "mixture"
    curate(docs, tmp_path / "heavy", mixing={"weights": {"large": 0}})
    assert _train(tmp_path / "heavy") == {"large": 0, "small": before["small"]}
    again = redecide_corpus(tmp_path / "heavy", tmp_path / "again", mixing={"weights": {}})
    assert again.metrics == plain.metrics
    with pytest.raises(ConfigError, match="weights are not negative"):
        curate(docs, tmp_path / "wrong", mixing={"weights": {"large": -1}})


def test_rates_by_hand() -> None:
    sizes = {"a": 100, "b": 400, "empty": 0}
    assert MixingConfig().rates(sizes) == {"a": 1.0, "b": 1.0}
    assert MixingConfig(temperature=2).rates(sizes) == {"a": 1.0, "b": 0.5}
    assert MixingConfig(weights={"a": 3}).rates(sizes) == {"a": 1.0, "b": pytest.approx(1 / 3)}


def test_as_many_are_taken_as_the_rate_says() -> None:
    draws = np.random.default_rng(0).integers(0, 2**64, 100_000, dtype=np.uint64)
    # Documents of the training split have no small draws, which must not matter.
    for one in (draws, draws | np.uint64(1 << 63)):
        for rate in (0.0, 0.1, 0.5, 1.0):
            assert taken(one, np.full(len(one), rate)).mean() == pytest.approx(rate, abs=0.01)
