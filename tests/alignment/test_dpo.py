"""Learning from pairs: a shared prompt changes nothing, each loss learns, and a killed run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from seedbed.alignment.dpo import (
    DPOConfig,
    DPOObjective,
    Kind,
    LabelledBatches,
    answer_logprobs,
    reference_logprobs,
)
from seedbed.alignment.policy_stage import align_dpo
from seedbed.core.artifacts import Workspace
from seedbed.core.errors import ConfigError
from seedbed.core.ragged import Ragged
from seedbed.datasets.preferences import EncodedPreferences, encode_labelled, encode_preferences, parse_labelled
from seedbed.datasets.shared_prompts import SharedPromptBatches
from seedbed.finetuning import LoRAConfig
from seedbed.finetuning.instruct import load_decoder
from seedbed.models import Decoder, ModelConfig
from seedbed.tokenizers import Tokenizer
from seedbed.training import Trainer, TrainerConfig

_ROWS = [
    {"prompt": f"What is `m.{name}`?", "chosen": f"`m.{name}` is it.", "rejected": "No, no, no, no.",
     "chosen_ended": True, "rejected_ended": row % 2 == 0}
    for row, name in enumerate(("getone", "setone", "addall", "popkey", "getkey", "addone", "popall", "setkey"))
]  # fmt: skip
_TRAINING = TrainerConfig(
    steps=6, batch_size=4, learning_rate=3e-3, optimizer="adamw", weight_decay=0.0, checkpoint_every=2
)
_TINY = DPOConfig(
    training=_TRAINING, held_out_share=0.4, evaluation_prompts=2, evaluation_samples=1, max_new_tokens=4, beta=0.5
)


def _pairs(sft: Path) -> EncodedPreferences:
    return encode_preferences(_ROWS, Tokenizer.load(sft), 96, 3)


@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_answers_that_share_a_prompt_are_what_they_are_alone(positions: str) -> None:
    config = ModelConfig(
        vocab_size=50, hidden_size=32, layers=2, heads=2, context_length=32, positions=positions, pad_token_id=1
    )  # type: ignore[arg-type]
    model, generator = Decoder(config).eval(), np.random.default_rng(0)
    sizes = [(5, 3, 6), (9, 7, 1), (2, 4, 4)]
    columns = [[generator.integers(5, 50, row[side]) for row in sizes] for side in range(3)]
    pairs = EncodedPreferences(*(Ragged.from_rows(column) for column in columns), too_long=0)
    batch = next(iter(SharedPromptBatches(pairs, 3, 1).once()))
    with torch.no_grad():
        sums, counts = answer_logprobs(model, batch)
        for row, (prompt, chosen, rejected) in enumerate(zip(*columns, strict=True)):
            for side, answer in enumerate((chosen, rejected)):
                alone = torch.from_numpy(np.concatenate([prompt, answer]).astype(np.int64))[None]
                logprobs = model(alone)[0].log_softmax(-1)[len(prompt) - 1 : -1]
                expected = logprobs.gather(-1, torch.from_numpy(answer)[:, None]).sum()
                assert float(sums[row, side]) == pytest.approx(float(expected), abs=1e-4)
                assert int(counts[row, side]) == len(answer)
    np.testing.assert_allclose(reference_logprobs(model, pairs, 1), sums.numpy(), atol=1e-5)


def test_models_that_see_by_columns_are_refused() -> None:
    config = ModelConfig(vocab_size=50, hidden_size=16, layers=1, heads=2, context_length=32, positions="alibi")
    with pytest.raises(ConfigError, match="alibi"):
        reference_logprobs(Decoder(config), EncodedPreferences(*[Ragged.from_rows([np.ones(2)])] * 3, too_long=0), 1)


def test_a_batch_cut_into_pieces_gives_the_same_gradient(sft: Path) -> None:
    model = load_decoder(sft)
    batch = next(iter(SharedPromptBatches(_pairs(sft), 8, 1).once()))
    objective, gradients = DPOObjective(_TINY), []
    for parts in (1, 8):
        model.zero_grad()
        for piece in batch.split(parts):
            objective.loss(model, piece)[0].backward()
        gradients.append(torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None]))
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["dpo", "ipo", "orpo", "simpo", "kto"])
def test_every_loss_learns_what_was_chosen(sft: Path, tmp_path: Path, kind: Kind) -> None:
    config = _TINY.replace(loss=kind, beta={"ipo": 0.5, "simpo": 2.0}.get(kind, 0.3), adapter=LoRAConfig(rank=4))
    policy, tokenizer = load_decoder(sft), Tokenizer.load(sft)
    pairs = _pairs(sft)
    train = _labelled(tokenizer) if kind == "kto" else pairs
    before = reference_logprobs(policy, pairs, 1)
    shuffled = SharedPromptBatches(train, 8, 1, 0, reference_logprobs(policy, train, 1))
    batches = LabelledBatches(shuffled, policy) if kind == "kto" else shuffled
    trainer = _TRAINING.replace(steps=12, batch_size=8, checkpoint_every=100)
    Trainer(
        trainer, policy, DPOObjective(config), batches, scratch=tmp_path, metrics_path=tmp_path / "metrics.jsonl"
    ).run()
    gain = reference_logprobs(policy.eval(), pairs, 1) - before
    assert (gain[:, 0] - gain[:, 1]).mean() > 1


def test_ktos_reference_point_is_the_whole_batchs(sft: Path, tmp_path: Path) -> None:
    """Cut into micro-batches, a run has the same weights; the divergence is what the formula says of the batch."""
    tokenizer, config = Tokenizer.load(sft), _TINY.replace(loss="kto", beta=0.3)
    train = replace(_labelled(tokenizer), desirable=np.arange(16) % 8 != 1)
    start = reference_logprobs(load_decoder(sft), train, 1)
    ended = []
    for accumulation in (1, 4):
        policy, place = load_decoder(sft), tmp_path / str(accumulation)
        place.mkdir()
        trainer = _TRAINING.replace(steps=4, batch_size=16, accumulation=accumulation, checkpoint_every=100)
        batches = LabelledBatches(SharedPromptBatches(train, 16, 1, 0, start), policy)
        result = Trainer(
            trainer, policy, DPOObjective(config), batches, scratch=place, metrics_path=place / "metrics.jsonl"
        ).run()
        assert result.metrics["steps"] == 4
        rows = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
        ended.append((torch.cat([one.detach().flatten() for one in policy.parameters()]), rows))
    (whole, rows), (cut, cut_rows) = ended
    torch.testing.assert_close(whole, cut, atol=1e-4, rtol=1e-4)
    assert rows[-1]["divergence"] > 0
    assert [row["divergence"] for row in cut_rows] == pytest.approx([row["divergence"] for row in rows], rel=1e-3)
    others = reference_logprobs(policy, train, 1)[:, 1] - start[:, 1]
    batch = next(LabelledBatches(SharedPromptBatches(train, 16, 1, 0, start), policy))
    assert batch.divergence_B.tolist() == pytest.approx([max(others.mean(), 0.0)] * 16, rel=1e-4)


def test_a_labelled_answer_stands_beside_one_to_another_prompt(sft: Path) -> None:
    pairs = _labelled(Tokenizer.load(sft))
    for row in range(len(pairs)):
        others = [other for other in range(len(pairs)) if np.array_equal(pairs.chosen[other], pairs.rejected[row])]
        assert any(not np.array_equal(pairs.prompts[other], pairs.prompts[row]) for other in others)


def _labelled(tokenizer: Tokenizer) -> EncodedPreferences:
    rows = [
        parse_labelled({"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"})
        for row in _ROWS for side in ("chosen", "rejected")
    ]  # fmt: skip
    return encode_labelled(rows, tokenizer, 96, 3)


def _files(path: Path) -> dict[str, bytes]:
    apart = {".scratch", "measurements.jsonl"}  # the clock's
    found = (file for file in sorted(path.rglob("*")) if file.is_file() and not apart & set(file.parts))
    return {str(file.relative_to(path)): file.read_bytes() for file in found}


def test_a_killed_run_goes_on_bit_for_bit_and_an_adapter_is_saved(
    sft: Path, tmp_path: Path, killed_after: Callable[[int], AbstractContextManager[None]]
) -> None:
    config = _TINY.replace(adapter=LoRAConfig(rank=4))
    whole, killed = Workspace(tmp_path / "whole"), Workspace(tmp_path / "killed")
    for work in (whole, killed):
        work.path.mkdir()
    metrics = align_dpo(config, sft, _ROWS, None, whole)
    with killed_after(3):
        align_dpo(config, sft, _ROWS, None, killed)
    again = align_dpo(config, sft, _ROWS, None, Workspace(killed.path, resumed=True))
    assert again == metrics
    assert _files(killed.path) == _files(whole.path)
    assert "lora/adapter_model.safetensors" in _files(whole.path)
    assert metrics["held_out"]["margin"] > 0
    assert metrics["before"]["divergence"] == pytest.approx(0, abs=1e-6)
    assert metrics["after"]["divergence"] > 0
