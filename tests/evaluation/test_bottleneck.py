"""The bottleneck: tasks are what they say, models are of a size, and what is learnt is answered."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from seedbed.cli.app import app
from seedbed.core.errors import ConfigError
from seedbed.evaluation.bottleneck import END, MODELS, PAD, START, TASKS, PairBatches, answer, compare, pairs, sized
from seedbed.training import TrainerConfig


def test_tasks() -> None:
    source = np.array([1, 9, 2, 3, 12, 4])
    assert TASKS["copy"](source, 16).tolist() == [1, 9, 2, 3, 12, 4]
    assert TASKS["reverse"](source, 16).tolist() == [4, 12, 3, 2, 9, 1]
    # 1 and 3 stand before nouns.
    assert TASKS["translate"](source, 16).tolist() == [(word * 5 + 3) % 16 for word in (9, 1, 2, 12, 3, 4)]
    batch = pairs("copy", 16, [2, 4], np.random.default_rng(0))
    assert batch.mask_BS.sum(dim=1).tolist() == [2, 4]
    assert batch.target_BT[:, 0].tolist() == [START, START]
    assert batch.target_BT[0, 1:].tolist() == [*batch.source_BS[0, :2].tolist(), END, PAD, PAD]


def test_batches_go_on_where_they_were() -> None:
    batches = PairBatches("reverse", 16, 6, 4, seed=3)
    next(batches)
    state = batches.state_dict()
    again = PairBatches("reverse", 16, 6, 4, seed=3)
    again.load_state_dict(state)
    assert torch.equal(next(batches).source_BS, next(again).source_BS)


@pytest.mark.parametrize("name", MODELS)
def test_models_are_of_a_size_and_answer_as_they_score(name: str) -> None:
    torch.set_num_threads(1)
    model = sized(name, 30_000, 19).eval()
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(30_000, rel=0.15)
    asked = pairs("copy", 16, [5, 3], np.random.default_rng(1))
    chosen = answer(model, asked)
    with torch.no_grad():
        whole = torch.cat((asked.target_BT[:, :1], chosen), dim=1)
        scored = model(asked.source_BS, whole[:, :-1], asked.mask_BS).argmax(dim=-1)
    assert torch.equal(chosen, scored)


def test_a_transformer_learns_what_is_measured() -> None:
    settings = TrainerConfig(
        steps=200, batch_size=64, optimizer="adamw", learning_rate=4e-3, weight_decay=0.0, checkpoint_every=1 << 30
    )
    rows = compare(["copy"], ["transformer", "multiplicative"], parameters=20_000, symbols=4, longest=2, lengths=[1, 2],
                   trainer=settings, tries=64)  # fmt: skip
    assert [(one.model, one.length, one.seen) for one in rows[:2]] == [
        ("transformer", 1, True),
        ("transformer", 2, True),
    ]
    assert all(one.sequences > 0.9 for one in rows)
    with pytest.raises(ConfigError, match=r"there is no 'sort'\. Known: copy"):
        compare(["sort"])


def test_the_command_shows_accuracy_by_length(tmp_path: Path) -> None:
    arguments = [
        "inspect",
        "bottleneck",
        "--tasks",
        "reverse",
        "--steps",
        "1",
        "--parameters",
        "2000",
        "--longest",
        "4",
    ]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "rows.json")])
    assert result.exit_code == 0, result.output
    assert "5 (unseen)" in result.output
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert {row["model"] for row in rows} == set(MODELS)
    assert {row["length"] for row in rows} == {1, 2, 3, 4, 5}
