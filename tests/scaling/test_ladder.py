"""The ladder resumes rung by rung, and the ledger cannot be rewritten unnoticed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from seedbed.core.errors import ConfigError, DataError, FormatError
from seedbed.core.ragged import Ragged
from seedbed.datasets.shards import TokenShards, write_token_shards
from seedbed.models.config import ModelConfig
from seedbed.scaling import ladder
from seedbed.scaling.design import design_ladder, ladder_cost
from seedbed.scaling.extrapolation import extrapolate, read_curve
from seedbed.scaling.ladder import LadderConfig, Rung, forecast, run_ladder
from seedbed.scaling.ledger import read_ledger, record_forecast, record_score, scored
from seedbed.scaling.runs import Run, read_columns, write_runs
from seedbed.training import TrainerConfig

_CONFIG = LadderConfig(rungs=tuple(Rung(hidden_size=width, layers=1, heads=2) for width in (4, 8, 16)), steps=(2, 4, 8))
_MODEL = ModelConfig(vocab_size=32, hidden_size=32, layers=2, heads=2, context_length=8)
_TRAINER = TrainerConfig(steps=50, batch_size=2)


class _Tokenizer:
    fingerprint, vocab_size = "t", 32

    def token_to_id(self, token: str) -> int:
        return 0

    def encode_batch(self, texts: list[str], threads: int | None = None, *, parse_special: bool = True) -> Ragged:
        return Ragged.from_rows([np.frombuffer(text.encode(), np.uint8) % 31 + 1 for text in texts])


@pytest.fixture
def shards(tmp_path: Path) -> TokenShards:
    return write_token_shards(["some words of text " * 3] * 6, _Tokenizer(), tmp_path / "shards")


def _evaluate(model: nn.Module) -> dict[str, float]:
    total = float(sum(one.double().abs().sum() for one in model.parameters()))
    return {"validation_loss": total, "bits_per_byte": total / 2}


def test_resumes_with_the_same_table(shards: TokenShards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    whole = run_ladder(_CONFIG, _MODEL, _TRAINER, shards, _evaluate, scratch=tmp_path / "whole")
    assert [(run.tokens, run.unique_tokens) for run in whole[:3]] == [(32, 32), (64, 64), (128, 128)]
    assert len({run.params for run in whole}) == 3
    trained = []

    def dies_at_the_sixth(model: nn.Module) -> dict[str, float]:
        if len(trained) == 5:
            raise KeyboardInterrupt
        trained.append(model)
        return _evaluate(model)

    with pytest.raises(KeyboardInterrupt):
        run_ladder(_CONFIG, _MODEL, _TRAINER, shards, dies_at_the_sixth, scratch=tmp_path / "killed")
    calls = []
    real = ladder.Decoder
    monkeypatch.setattr(ladder, "Decoder", lambda *options: calls.append(options) or real(*options))
    again = run_ladder(_CONFIG, _MODEL, _TRAINER, shards, _evaluate, scratch=tmp_path / "killed")
    assert again == whole
    assert len(calls) == 4
    assert (
        len(
            run_ladder(
                _CONFIG.replace(skip_largest=True), _MODEL, _TRAINER, shards, _evaluate, scratch=tmp_path / "whole"
            )
        )
        == 8
    )


def test_too_little_text(shards: TokenShards, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="longest run needs 1,600 tokens"):
        run_ladder(_CONFIG.replace(steps=(10, 20, 100)), _MODEL, _TRAINER, shards, _evaluate, scratch=tmp_path)
    with pytest.raises(ConfigError, match="must be different"):
        _CONFIG.replace(steps=(2, 2, 4))
    with pytest.raises(ConfigError, match="at least 2"):
        _CONFIG.replace(epochs=(1,))


def test_the_repetition_arm_reads_less_text_more_often(shards: TokenShards, tmp_path: Path) -> None:
    config = _CONFIG.replace(epochs=(2, 4), steps=(2, 4, 16))
    runs = run_ladder(config, _MODEL, _TRAINER, shards, _evaluate, scratch=tmp_path)
    assert len(runs) == 11
    assert [(run.name, run.tokens, run.unique_tokens) for run in runs[-2:]] == [
        ("8x1-16-2x", 256, 128), ("8x1-16-4x", 256, 64)
    ]  # fmt: skip
    assert runs[0].block_params < runs[0].params
    assert runs[0].flops > 6 * runs[0].block_params * runs[0].tokens


def test_forecast_and_table(tmp_path: Path) -> None:
    def loss(params: float, tokens: float) -> float:
        return 1.5 + 30 * params**-0.3 + 80 * tokens**-0.35

    runs = [
        Run("r", n, d, d, loss(n, d), loss(n, d) / 3)
        for n in (10**4, 3 * 10**4, 10**5)
        for d in (10**5, 3 * 10**5, 10**6)
    ]
    found = forecast(runs, 300_000, 4_000_000, 4_000_000)
    assert found.low < loss(3e5, 4e6) < found.high
    assert found.loss == pytest.approx(loss(3e5, 4e6), rel=0.03)
    assert found.bits_per_byte == pytest.approx(found.loss / 3)
    assert forecast(runs, 300_000, 4_000_000, 400_000).loss > found.loss
    with pytest.raises(ConfigError, match="larger model"):
        forecast(runs, 50_000, 10**6, 10**6)
    write_runs(tmp_path / "runs.csv", runs)
    assert read_columns(tmp_path / "runs.csv")["loss"] == [run.loss for run in runs]
    with pytest.raises(FormatError, match="no column 'epochs'"):
        read_columns(tmp_path / "runs.csv", ["epochs"])
    (tmp_path / "bad.csv").write_text("params,tokens,loss\n1,2,3\n1,,3\n")
    with pytest.raises(DataError, match=r"bad\.csv:3: '' in column 'tokens'"):
        read_columns(tmp_path / "bad.csv")
    (tmp_path / "bad.csv").write_text("params,tokens,loss\n1,2,3\n1,2,-3\n")
    with pytest.raises(DataError, match=r"bad\.csv:3: -3 in column 'loss' is not a positive number"):
        read_columns(tmp_path / "bad.csv")


def test_the_ledger_is_a_chain(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    first = record_forecast(path, {"loss": 3.0, "low": 2.9, "high": 3.1})
    assert record_forecast(path, {"loss": 3.0, "low": 2.9, "high": 3.1}) == first
    second = record_forecast(path, {"loss": 4.0, "low": 3.9, "high": 4.1})
    with open(path, "ab") as handle:
        handle.write(b'{"half')
    score = record_score(path, first, 3.2)
    assert score["error"] == pytest.approx(-0.0625)
    assert score["inside"] is False
    assert record_score(path, second, 4.0)["inside"] is True
    assert [entry["kind"] for entry in read_ledger(path)] == ["forecast", "forecast", "score", "score"]
    assert [(bet.loss, bet.fact) for bet in scored(read_ledger(path))] == [(3.0, 3.2), (4.0, 4.0)]
    with pytest.raises(DataError, match="no forecast abc"):
        record_score(path, "abc", 1.0)
    lines = path.read_text().splitlines()
    changed = json.loads(lines[0])
    changed["body"]["loss"] = 3.2
    for damaged, line in (([json.dumps(changed), *lines[1:]], 1), ([lines[0], *lines[2:]], 2), (["[]", *lines], 1)):
        path.write_text("\n".join(damaged) + "\n")
        with pytest.raises(FormatError, match=rf"ledger\.jsonl:{line}: this entry"):
            read_ledger(path)


def test_a_ladder_is_designed_for_its_main_run() -> None:
    main = _MODEL.replace(
        hidden_size=192, heads=6, kv_heads=6, head_dim=0, intermediate_size=0, layers=6, vocab_size=512
    )
    training = _TRAINER.replace(steps=2000)
    for share in (2.0, 0.3):
        config = design_ladder(main, training, share)
        assert ladder_cost(config, main, training) <= share
        assert max(rung.hidden_size for rung in config.rungs) < main.hidden_size
        assert len(config.rungs) == 5
    assert max(design_ladder(main, training, 2.0).steps) == 2000
    with pytest.raises(ConfigError, match="no ladder is as cheap"):
        design_ladder(main, training, 0.001)
    with pytest.raises(ConfigError, match="too small to have a ladder"):
        design_ladder(
            _MODEL.replace(hidden_size=4, heads=1, kv_heads=1, head_dim=0, intermediate_size=0), training, 1.0
        )


def test_a_run_in_progress_is_extrapolated(tmp_path: Path) -> None:
    """Curves with a decay that brings more to better models, of which one is half done."""
    random, steps = np.random.default_rng(0), 400
    share = np.arange(steps) / steps
    common = 0.03 * random.standard_normal(steps)  # all runs see the same batches

    def curve(gain: float) -> np.ndarray:
        decay = np.maximum(share - 0.6, 0) ** 1.5
        return 3.0 - gain + (3 - gain) * np.exp(-8 * share) - (0.6 + gain) * decay + common

    run, references = curve(0.45), [curve(gain) for gain in (0.1, 0.2, 0.3, 0.4, 0.5)]
    found = extrapolate(run[:200], steps, references)
    fact = run[-20:].mean()
    assert found.loss == pytest.approx(fact, rel=0.02)
    assert found.interval.low < fact < found.interval.high
    later = extrapolate(run[:360], steps, references)
    assert later.interval.high - later.interval.low < found.interval.high - found.interval.low
    for done, others, message in (
        (40, references, "10% of the run is too little"),
        (200, references[:3], "3 finished"),
    ):
        with pytest.raises(DataError, match=message):
            extrapolate(run[:done], steps, others)
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.5, "gradient_norm": 1}\n{"step": 1, "bits_per_byte": 2}\n{"step": 2, "lo')
    assert read_curve(path) == [2.5]
    path.write_text('{"step": 1, "loss": 2.5, "gradient_norm": 1}\n[]\nx\n')
    with pytest.raises(FormatError, match=r"metrics\.jsonl:3: this line"):
        read_curve(path)
