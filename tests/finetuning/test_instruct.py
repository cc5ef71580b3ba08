"""Fine-tuning: the loss falls on the answers alone, both methods leave models that open, and a killed run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seedbed.core.artifacts import Workspace
from seedbed.core.errors import ConfigError, DataError
from seedbed.datasets.instructions import encode_instructions, instruction_rows
from seedbed.datasets.loader import PaddedBatches
from seedbed.finetuning import load_adapter
from seedbed.finetuning.instruct import HELD_OUT_ROWS, InstructConfig, answer_loss, finetune, load_decoder
from seedbed.models import Decoder, ModelConfig, save_model
from seedbed.tokenizers import Tokenizer, train_bpe
from seedbed.tokenizers.chat import CHATML, CHATML_TOKENS
from seedbed.training import Trainer, TrainerConfig

_DOCUMENTS = [
    {"id": name, "title": name, "text": f"{name}(a, b)\n\nReturn the {name[2:]} of a."}
    for name in (f"m.{verb}{thing}" for verb in ("get", "set", "add") for thing in ("one", "two", "all", "key"))
]
_ROWS = instruction_rows(_DOCUMENTS)
_TRAINER = TrainerConfig(steps=12, batch_size=8, learning_rate=2e-2, optimizer="adamw", checkpoint_every=5)
_CONFIG = InstructConfig(full=_TRAINER, adapter=_TRAINER, max_new_tokens=8)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    tokenizer = train_bpe([str(one["text"]) for one in _DOCUMENTS], vocab_size=320, special_tokens=CHATML_TOKENS)
    tokenizer = tokenizer.with_roles(eos_token="<|endoftext|>", pad_token="<|pad|>", chat_template=CHATML)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=32, layers=1, heads=2, context_length=96, eos_token_id=0,
        pad_token_id=1,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("base")
    save_model(Decoder(config), path, tokenizer)
    return path


def _respond(model: Decoder, tokenizer: Tokenizer, prompts: list[np.ndarray], most: int) -> list[np.ndarray]:
    assert not model.training
    return [np.array([5, 3] if index else [5] * most) for index in range(len(prompts))]


def _finetune(base: Path, path: Path, config: InstructConfig = _CONFIG, **extra: Any) -> dict[str, Any]:
    path.mkdir(exist_ok=True)
    return finetune(config, base, _ROWS[:18], _ROWS[18:], Workspace(path), **extra)


def test_only_answers_and_their_end_count(base: Path) -> None:
    tokenizer = Tokenizer.load(base)
    encoded = encode_instructions(_ROWS[:3], tokenizer, 96)
    for row, ids, mask in zip(_ROWS, encoded.ids, encoded.answers, strict=False):
        assert tokenizer.decode(ids[mask]) == row["messages"][1]["content"] + "<|im_end|>"
    assert encode_instructions([*_ROWS[:3], _long()], tokenizer, 96).too_long == 1
    with pytest.raises(DataError, match="1 longer than 96 tokens"):
        encode_instructions([_long()], tokenizer, 96)


def _long() -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "one two " * 60}]}


def test_both_methods_learn_and_open(base: Path, tmp_path: Path) -> None:
    metrics = _finetune(base, tmp_path / "sft", respond=_respond)
    assert json.loads(json.dumps(metrics)) == metrics
    for method in ("full", "lora"):
        assert metrics[method]["answer_loss"] < metrics[method]["answer_loss_before"] - 0.1
        assert 0 < metrics[method]["ended_share"] < 1
    assert metrics["lora"]["trainable_parameters"] < metrics["full"]["trainable_parameters"]
    model, tokenizer = load_decoder(tmp_path / "sft"), Tokenizer.load(tmp_path / "sft")
    assert model.config.eos_token_id == tokenizer.eos_token_id == 3
    adapted = load_adapter(load_decoder(base), tmp_path / "sft" / "lora")
    assert not torch.equal(adapted(torch.arange(5)[None]), load_decoder(base)(torch.arange(5)[None]))
    assert len((tmp_path / "sft" / HELD_OUT_ROWS).read_text().splitlines()) == len(_ROWS[18:])


def test_training_stops_where_held_out_answers_are_best(base: Path, tmp_path: Path) -> None:
    adapter = InstructConfig().adapter
    assert adapter is not None
    full = adapter.replace(steps=60, batch_size=8, learning_rate=5e-2, evaluate_every=2, patience=2)
    metrics = _finetune(base, tmp_path / "stopped", _CONFIG.replace(full=full, adapter=None))["full"]
    rows = [json.loads(line) for line in (tmp_path / "stopped/metrics.jsonl").read_text().splitlines()]
    held_out = {row["step"]: row["answer_loss"] for row in rows if "answer_loss" in row}
    assert max(held_out) < 60
    assert metrics["best_step"] == min(held_out, key=lambda step: held_out[step])
    assert min(held_out.values()) < held_out[max(held_out)]
    kept = finetuned_loss(tmp_path / "stopped", base)
    assert kept == pytest.approx(min(held_out.values()), rel=1e-5)


def finetuned_loss(path: Path, base: Path) -> float:
    held_out = encode_instructions(_ROWS[18:], Tokenizer.load(base), 96)
    return answer_loss(load_decoder(path), PaddedBatches(held_out.ids, held_out.answers, 64, 96, 1).once())


def test_lora_alone_leaves_the_merged_model(base: Path, tmp_path: Path) -> None:
    metrics = _finetune(base, tmp_path / "sft", _CONFIG.replace(full=None))
    assert "full" not in metrics
    ids = torch.arange(9)[None]
    adapted = load_adapter(load_decoder(base), tmp_path / "sft" / "lora")
    torch.testing.assert_close(load_decoder(tmp_path / "sft")(ids), adapted(ids), atol=1e-5, rtol=1e-4)
    with pytest.raises(ConfigError, match="nothing to train"):
        _CONFIG.replace(full=None, adapter=None)


def test_replay_mixes_plain_text_in(base: Path, tmp_path: Path) -> None:
    config = _CONFIG.replace(replay=0.25, adapter=None)
    metrics = _finetune(base, tmp_path / "sft", config, texts=[str(one["text"]) for one in _DOCUMENTS])
    assert metrics["replayed_rows"] == 6  # a quarter of 18 + 6
    with pytest.raises(DataError, match="no text to replay"):
        _finetune(base, tmp_path / "none", config)


def test_a_killed_run_goes_on_bit_for_bit(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = _finetune(base, tmp_path / "whole")
    train_step, steps = Trainer.train_step, iter(range(12 + 7))  # the full run, and 7 steps of the adapter's

    def dies(self: Trainer) -> dict[str, float]:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return train_step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", dies)
        with pytest.raises(KeyboardInterrupt):
            _finetune(base, tmp_path / "killed")
    assert _finetune(base, tmp_path / "killed") == metrics
    for name in ("model.safetensors", "lora/adapter_model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
