"""The limits of alignment on a run of seconds: what is measured is there, and says what it must."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from seedbed.alignment.limits import FLAWS, Samples, curve, planted_hack
from seedbed.alignment.ppo import PPOConfig
from seedbed.alignment.remedies import stopped_at_the_peak
from seedbed.alignment.rollouts import Answer
from seedbed.cli.app import app

from ..tiny import RECIPE, write_documents

_SIZES = ("coefficients=[0.0]", "iterations=4", "steps=8", "prompts=4", "samples=4", "policy_samples=2",
          "max_new_tokens=6", "shares=[0.5,1.0]", "ensemble=2")  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("limits")
    (folder / "tiny.yaml").write_text(json.dumps(RECIPE))  # JSON is YAML
    found = CliRunner().invoke(
        app, ["grow", str(write_documents(folder / "docs")), "--recipe", str(folder / "tiny.yaml"), "--out",
              str(folder / "run")],
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    return folder / "run"


def test_measure_writes_a_page_of_what_it_measured(run: Path) -> None:
    options = [part for size in (*(f"limits.{one}" for one in _SIZES), "grpo.rollouts=4", "grpo.group=2",
                                 "grpo.max_new_tokens=6", "dpo.max_new_tokens=6", "dpo.evaluation_prompts=2",
                                 "dpo.training.batch_size=4") for part in ("-o", size)]  # fmt: skip
    found = CliRunner().invoke(app, ["align", "measure", "--run", str(run), *options])
    assert found.exit_code == 0, found.output
    study = json.loads((run / "limits/alignment.json").read_text())
    assert [one["name"] for one in study["curves"]] == ["best of n", "PPO, price 0", "GRPO, no price", "DPO"]
    best = study["curves"][0]["points"]
    assert [point["n"] for point in best] == [1, 2, 4]
    assert best[2]["d"] == pytest.approx(math.sqrt(math.log(4) - 3 / 4))
    assert best[0]["proxy"] <= best[1]["proxy"] <= best[2]["proxy"]
    rows = [json.loads(line) for line in (run / "limits/ppo-0/metrics.jsonl").read_text().splitlines()]
    drawn = study["curves"][1]["points"]
    assert sorted(point["gold"] for point in drawn) == sorted(row["gold"] for row in rows)
    exact, k1 = (next(row for row in study["estimators"] if row["estimator"] == name) for name in ("exact", "k1"))
    assert exact["mean"] >= 0
    assert abs(k1["mean"] - exact["mean"]) < 4 * k1["deviation"]
    assert study["diversity"][0]["divergence"] == pytest.approx(0, abs=1e-6)
    remedies = {row["policy"]: row for row in study["remedies"]}
    gold = {row["policy"]: row["gold"] for row in study["diversity"]}
    for name, row in remedies.items():
        assert row["gain"] == pytest.approx(row["gold"] - gold["fine-tuned"])
        if row["against"]:
            assert row["over"] == pytest.approx(row["gold"] - remedies[row["against"]]["gold"])
            assert name not in gold
    assert {"PPO, price 0", "PPO, price for 5 nats", "PPO, 2 reward models less 1 deviations"} < set(remedies)
    free, bonus = (
        [json.loads(line) for line in (run / f"limits/{name}/metrics.jsonl").read_text().splitlines()]
        for name in ("ppo-0", "ppo-entropy-bonus-0.01")
    )
    assert free[0]["gold"] == bonus[0]["gold"]
    assert free[-1]["entropy"] != bonus[-1]["entropy"]
    assert {row["flaw"] for row in study["hacks"]} == set(FLAWS)
    assert "The limits of alignment" in (run / "limits/index.html").read_text()


def test_a_planted_flaw_is_found_and_costs_gold() -> None:
    """A proxy that is the gold reward and noise; long answers are worth nothing more."""
    generator = np.random.default_rng(0)
    answers = [Answer(f"ask {row // 16}", np.ones(1), np.ones(1), "word " * int(generator.integers(1, 30)), True,
                      np.zeros(1)) for row in range(640)]  # fmt: skip
    gold = generator.normal(size=(40, 16))
    base = Samples(answers, gold, (gold + 0.3 * generator.normal(size=gold.shape)).astype(np.float32))
    row = planted_hack("length", FLAWS["length"], base)
    assert row["found"] == "length"
    assert row["gold_misled"] < row["gold_honest"] - 0.2
    assert row["feature_misled"] > row["feature_first"] + 3


def test_a_run_stops_where_its_curve_peaks_and_took_the_same_steps_until_there() -> None:
    d = np.linspace(0.2, 4.0, 10)
    gold = d * (0.3 - 0.2 * np.log(d)) + 0.5  # peaks at exp(0.5)
    points = [
        {"iteration": place + 1, "d": x, "proxy": 0.0, "gold": y}
        for place, (x, y) in enumerate(zip(d, gold, strict=True))
    ]
    config = PPOConfig(iterations=10, epochs=2, minibatches=2)
    stopped = stopped_at_the_peak(config, curve("PPO", points, "rl"))
    assert stopped is not None
    assert stopped.iterations == int(np.argmax(d >= math.exp(0.5)))  # a point is of the policy before its updates
    whole, part = config.trainer(), stopped.trainer()
    assert part.steps == 4 * stopped.iterations
    for step in range(part.steps):
        assert part.learning_rate_at(step) == pytest.approx(whole.learning_rate_at(step), rel=1e-12)
    rising = [point | {"gold": point["d"]} for point in points]
    assert stopped_at_the_peak(config, curve("PPO", rising, "rl")) is None
