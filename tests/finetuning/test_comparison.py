"""Ways to fine-tune side by side, and what holds weights near their start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from seedbed.cli.app import app
from seedbed.core.errors import ConfigError, DataError
from seedbed.core.ragged import Ragged
from seedbed.core.randomness import numpy_generator, torch_generator
from seedbed.datasets.instructions import EncodedInstructions
from seedbed.datasets.jsonl import write_rows
from seedbed.finetuning import LoRAConfig, add_adapter
from seedbed.finetuning.comparison import Comparison, Point, Tuned, Way
from seedbed.finetuning.memorization import Canaries, Exposure
from seedbed.finetuning.packing import AnswerTokens, ExampleBatches
from seedbed.finetuning.regularizers import Anchored, fisher_diagonal
from seedbed.models import Decoder, ModelConfig, load_model, save_model
from seedbed.reports.finetuning_page import finetuning_page
from seedbed.tokenizers import Tokenizer, train_bpe
from seedbed.tokenizers.chat import CHATML, CHATML_TOKENS


def decoder() -> Decoder:
    return Decoder(ModelConfig(vocab_size=40, hidden_size=32, layers=1, heads=2), torch_generator(1, "comparison"))


def batches(size: int = 4) -> ExampleBatches:
    random = numpy_generator(0, "comparison")
    ids = Ragged.from_rows([random.integers(2, 40, length).astype(np.uint32) for length in (3, 9, 5, 7)])
    return ExampleBatches(ids, Ragged(np.ones(len(ids.values), bool), ids.offsets), size)


def test_a_penalty_counts_once_however_a_step_is_cut() -> None:
    model = decoder()
    objective = Anchored(AnswerTokens(), model, 3.0)
    assert float(objective.penalty(model).detach()) == 0
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.01
    count = sum(one.numel() for one in model.parameters())
    assert float(objective.penalty(model).detach()) == pytest.approx(1.5 * count * 1e-4, rel=1e-3)
    batch = next(batches())
    whole, tokens, extra = objective.loss(model, batch)
    parts = [objective.loss(model, part) for part in batch.split(4)]
    assert sum(float(loss.detach()) for loss, _, _ in parts) == pytest.approx(float(whole.detach()), rel=1e-5)
    plain, _, _ = AnswerTokens().loss(model, batch)
    assert float((whole - plain).detach()) == pytest.approx(
        float((objective.penalty(model) * tokens).detach()), rel=1e-3
    )
    assert float(extra["penalty"]) > 0
    with pytest.raises(ConfigError, match="not for adapters"):
        Anchored(AnswerTokens(), add_adapter(decoder(), LoRAConfig()), 1.0)


def test_fisher_information_is_the_mean_of_squared_gradients() -> None:
    model, expected, tokens = decoder(), torch.zeros(32, 32), 0.0
    for batch in batches(1).once():
        loss, count, _ = AnswerTokens().loss(model, batch)
        loss.backward()
        gradient = model.blocks[0].attention.o_proj.weight.grad
        assert gradient is not None
        expected, tokens = expected + gradient.square(), tokens + float(count)
        model.zero_grad()
    found = fisher_diagonal(model, AnswerTokens(), batches(1).once())
    torch.testing.assert_close(found["blocks.0.attention.o_proj.weight"], expected / tokens)
    assert found["blocks.0.attention.o_proj.weight"].max() > 0


def tuned(rate: float, learned: float, forgotten: float) -> Tuned:
    points = [Point(0, 2.0, 2.0, {"own": 1.0}), Point(9, 1.0, 2.0 - learned, {"own": 1.0 + forgotten})]
    return Tuned(Way(method="full", learning_rate=rate), points, 1.0, 10, 100)


def test_the_front_is_what_no_other_beats() -> None:
    ways = [tuned(1e-3, 0.5, 0.1), tuned(2e-3, 0.6, 0.3), tuned(3e-3, 0.4, 0.2), tuned(4e-3, 0.1, -0.1)]
    result = Comparison(ways, [], [], ["own"], 10, 10, 9, 1.0)
    assert [one.way.learning_rate for one in result.front()] == [4e-3, 1e-3, 2e-3]
    assert result.advised().way.learning_rate == 1e-3
    with pytest.raises(ValueError, match="rank"):
        Way(method="lora", learning_rate=1e-3)
    with pytest.raises(ValueError, match="full fine-tuning"):
        Way(method="lora", rank=4, learning_rate=1e-3, remedy="ewc")


@pytest.mark.parametrize(
    ("bits", "said"),
    [((0.5, 1.0), "nothing is held"), ((0.5, 6.0), "once in 64"), ((8.0, 8.0), "Seen 2 times, a secret is known")],
)
def test_the_page_says_what_exposures_come_to(bits: tuple[float, float], said: str) -> None:
    found = [Exposure(repeats, one, 8.0) for repeats, one in zip((1, 4), bits, strict=True)]
    result = Comparison([tuned(1e-3, 0.5, 0.1)], [], found, ["own"], 10, 10, 9, 1.0, canary_rows=9, canary_epochs=2.0)
    assert said in finetuning_page(result).html()


def test_a_secret_that_a_model_knows_by_heart_is_fully_exposed(files: Path) -> None:
    tokenizer = Tokenizer.load(files / "model")
    canaries = Canaries((0, 3), candidates=16, seed=2)
    empty = EncodedInstructions(Ragged.from_rows([], np.uint32), Ragged.from_rows([], np.bool_), 0, 0)
    rows = canaries.plant(empty, tokenizer, 64)
    assert len(rows) == 3
    model = Decoder(ModelConfig(vocab_size=tokenizer.vocab_size, hidden_size=64, layers=1, heads=2, context_length=64))
    blank = {one.repeats: one for one in canaries.exposures(model, tokenizer, 64)}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss, count, _ = AnswerTokens().loss(model, next(ExampleBatches(rows.ids, rows.answers, 3)))
        optimizer.zero_grad()
        (loss / count).backward()
        optimizer.step()
    taught = {one.repeats: one for one in canaries.exposures(model, tokenizer, 64)}
    assert taught[3].bits == taught[3].limit == 4
    assert taught[0].bits < 4
    # By hand: of the losses of all candidates how many lie below that of the planted one?
    secrets = canaries._secrets[0]
    nats = []
    for secret in secrets:
        row = canaries._encode([canaries._row(0, secret)], tokenizer, 64)
        ids = torch.from_numpy(row.ids[0].astype(np.int64))
        logprobs = model(ids[None, :-1]).log_softmax(-1)[0]
        answer = torch.from_numpy(row.answers[0])[1:]
        nats.append(-float(logprobs.gather(1, ids[1:, None])[answer].sum().detach()))
    assert taught[0].bits == pytest.approx(4 - np.log2(1 + sum(one < nats[0] for one in nats[1:])))
    assert 0 <= blank[3].bits <= 4
    with pytest.raises(DataError, match="no room for a canary"):
        canaries.plant(empty, tokenizer, 8)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    words = "the cat sat on a mat and looked at the dog that ran to the door of the house".split()
    random = numpy_generator(0, "files")
    text = " ".join(words[int(one)] for one in random.integers(0, len(words), 3000))
    tokenizer = train_bpe([text], vocab_size=300, special_tokens=CHATML_TOKENS)
    tokenizer = tokenizer.with_roles(eos_token="<|endoftext|>", pad_token="<|pad|>", chat_template=CHATML)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=64, layers=1, heads=2, context_length=64, eos_token_id=0,
        pad_token_id=1,
    )  # fmt: skip
    save_model(Decoder(config), tmp_path / "model", tokenizer)
    (tmp_path / "own.txt").write_text(text)
    rows: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": f"say {word}"}, {"role": "assistant", "content": f"{word} {word}"}]}
        for word in words * 2
    ]
    write_rows(tmp_path / "rows.jsonl", rows)
    return tmp_path


def test_the_command_compares_and_writes_its_page(files: Path) -> None:
    ways = [
        {"method": "full", "learning_rate": 1e-2},
        {"method": "full", "learning_rate": 1e-2, "remedy": "replay", "strength": 0.5},
        {"method": "qlora", "rank": 2, "learning_rate": 1e-2},
    ]
    base = ["finetune", "--measure-forgetting", "--model", str(files / "model"), "--data", str(files / "rows.jsonl")]
    (files / "ways.json").write_text(
        json.dumps(
            {
                "steps": 8,
                "batch_size": 8,
                "evaluations": 2,
                "sizes": [0.5],
                "canaries": [0, 2],
                "candidates": 8,
                "ways": ways,
            }
        )
    )
    more = ["--out", str(files / "out"), "--comparison", str(files / "ways.json")]
    result = CliRunner().invoke(app, [*base, *more, "--base-text", str(files / "own.txt")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "Take " in result.output
    found = json.loads((files / "out" / "comparison.json").read_text())
    assert [len(one["points"]) for one in found["tuned"]] == [3] * 3
    for one in found["tuned"]:
        assert one["points"][-1]["held_out"] < one["points"][0]["held_out"]
    plain, replayed = (one["points"][-1]["texts"]["own"] for one in found["tuned"][:2])
    assert replayed < plain
    assert [one["rows"] for one in found["sizes"]] == [17, 34]
    assert [one["repeats"] for one in found["exposures"]] == [0, 2]
    replayed = next(one for one in found["tuned"] if one["way"]["remedy"] == "replay")
    advised = "replay" if f"Take {Way(**replayed['way']).name}:" in " ".join(result.output.split()) else ""
    read = 32 if advised else 64  # of eight steps of eight, half of which may be replayed text
    assert found["canary_rows"] == min(34, read - 2)
    assert found["canary_epochs"] == pytest.approx(read / (found["canary_rows"] + 2))
    assert "QLoRA r2" in (files / "out" / "index.html").read_text()


@pytest.mark.parametrize(
    ("method", "targets"), [("dora", "all-linear"), ("qlora", "all-linear"), ("qlora", "[q_proj]")]
)
def test_adapters_of_each_method_are_trained_from_the_command(files: Path, method: str, targets: str) -> None:
    arguments = ["finetune", "--model", str(files / "model"), "--data", str(files / "rows.jsonl"), "--method", method]
    small = ["steps=4", "batch_size=4", "optimizer=adamw"]
    for one in small:
        arguments += ["-o", f"finetuning.adapter.{one}"]
    arguments += ["-o", "finetuning.max_new_tokens=4", "-o", "finetuning.noise=5", "--out", str(files / method)]
    arguments += ["-o", f"finetuning.lora.targets={targets}"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "answers held out:" in result.output
    assert isinstance(load_model(files / method), Decoder)
    settings = json.loads((files / method / "lora" / "adapter_config.json").read_text())
    assert settings["use_dora"] == (method == "dora")
