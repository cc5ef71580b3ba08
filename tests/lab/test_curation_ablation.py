"""An ablation trains on what each step leaves and scores on other text."""

from __future__ import annotations

from pathlib import Path

import pytest

from seedbed.core.config import build
from seedbed.core.errors import ConfigError
from seedbed.curation import CurationConfig
from seedbed.lab.curation_ablation import ablate
from seedbed.recipes import PretrainingConfig


def test_repeats_cost_bits(tmp_path: Path) -> None:
    docs, good = tmp_path / "docs", tmp_path / "good"
    docs.mkdir()
    good.mkdir()
    for n in range(40):
        text = f"River number {n} runs from hill {n * 3} to the sea, and the people of village {n * 7} fish in it."
        (docs / f"{n:02d}.txt").write_text(text)
        (good / f"{n:02d}.txt").write_text(text.replace("River", "Stream"))
    for n in range(120):
        (docs / f"copy-{n:03d}.txt").write_text("aaa bbb ccc ddd eee fff ggg hhh iii jjj kkk lll")
    training = {"steps": 12, "batch_size": 4, "learning_rate": 0.01, "checkpoint_every": 100, "evaluate_every": 100}
    shape = {"hidden_size": 16, "layers": 1, "heads": 1, "kv_heads": 1, "context_length": 32, "training": training}
    config = build(CurationConfig, {"preset": "prose", "split": {"seed": 1}})
    pretraining = build(PretrainingConfig, shape)
    found = ablate(config, [str(docs)], [str(good)], ["exact-duplicates"], pretraining, tmp_path / "out", 512)
    assert [one.without for one in found] == ["", "exact-duplicates"]
    assert found[0].documents < 40 < 120 < found[1].documents
    assert found[0].epochs > found[1].epochs
    assert 0 < found[0].bits_per_byte < found[1].bits_per_byte
    with pytest.raises(ConfigError, match="unknown step 'luck'"):
        ablate(config, [str(docs)], [str(good)], ["luck"], pretraining, tmp_path / "out")
