"""What is computed on a GPU is what is computed on a CPU. Skipped where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seedbed.alignment.grpo import GroupBatches, GRPOConfig, GRPOObjective
from seedbed.alignment.rollouts import Reference
from seedbed.core.randomness import torch_generator
from seedbed.datasets.loader import PackedBatches
from seedbed.datasets.shards import TokenShards, write_token_shards
from seedbed.finetuning import LoRAConfig, add_adapter, quantize_nf4
from seedbed.generation import Engine, Sampling
from seedbed.generation.steps import RecordedStep, TorchStep
from seedbed.models import Decoder, ModelConfig
from seedbed.tokenizers import train_bpe
from seedbed.tokenizers.chat import CHATML, CHATML_TOKENS
from seedbed.training import NextToken, Trainer, TrainerConfig
from seedbed.training.objectives import linear_cross_entropy
from tests.models.shaking import shaken
from tests.training.tiny_run import Tokenizer as Letters

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

_SHAPE: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 64, "layers": 2, "heads": 4, "kv_heads": 2, "context_length": 128
}  # fmt: skip
_VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "windows, sinks, caps": {"window": 5, "sink_tokens": 2, "global_every": 2, "softcap": 3.0, "learned_sinks": True},
    "latent": {"latent": {"rank": 16, "rope_head_dim": 8}, "qk_norm": False},
    "alibi": {"positions": "alibi"},
    "learned": {"positions": "learned", "norm": "layer", "activation": "gelu"},
    "experts": {"experts": 4},
}


def _model(**changes: Any) -> Decoder:
    model: Decoder = shaken(Decoder(ModelConfig(**{**_SHAPE, **changes})))
    return model


def _shards(folder: Path) -> TokenShards:
    texts = ["".join(map(chr, np.random.default_rng(row).integers(97, 112, 200))) for row in range(40)]
    return write_token_shards(texts, Letters(), folder)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", _VARIANTS)
def test_logits_are_those_of_the_cpu(name: str) -> None:
    model, ids_BT = _model(**_VARIANTS[name]), torch.randint(300, (3, 100), generator=torch_generator(0, "ids"))
    with torch.no_grad():
        expected = model(ids_BT)
        found = model.cuda()(ids_BT.cuda()).cpu()
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", _VARIANTS)
def test_recorded_decoding_says_what_plain_decoding_says(name: str) -> None:
    model = _model(**_VARIANTS[name]).cuda()
    prompts = [np.arange(1 + 7 * place) % 300 for place in range(9)]
    sampling = [Sampling(temperature=0, max_new_tokens=3 + 6 * place) for place in range(9)]
    engines = [Engine(model, batch_size=4) for _ in range(2)]
    assert isinstance(engines[0]._step, RecordedStep) == (name != "experts")
    engines[1]._step = TorchStep(model)
    for _ in range(2):
        found, expected = (engine.generate(prompts, sampling) for engine in engines)
        for mine, theirs in zip(found, expected, strict=True):
            assert np.array_equal(mine.ids, theirs.ids)
            assert mine.logprobs == pytest.approx(theirs.logprobs, abs=1e-4)
        with torch.no_grad():  # as training would
            for one in model.parameters():
                one.mul_(1.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_fused_loss_is_the_plain_one(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    hidden, weight = (torch.randn(rows, 64) * 0.3 for rows in (1000, 500))
    targets, weights, bias = torch.randint(500, (1000,)), torch.rand(1000), torch.randn(500)
    results = []
    for device, kind in (("cpu", torch.float64), ("cuda", dtype)):
        leaves = [one.to(device, kind).requires_grad_() for one in (hidden, weight, bias)]
        loss = linear_cross_entropy(*leaves[:2], targets.to(device), weights.to(device), 0.01, leaves[2])
        results.append([loss.detach(), *torch.autograd.grad(loss, leaves)])
    for found, expected in zip(results[1], results[0], strict=True):
        apart = (found.cpu().double() - expected).norm() / expected.norm()
        assert float(apart) < (1e-5 if dtype == torch.float32 else 1e-2)


def test_nf4_is_equal_bit_for_bit() -> None:
    for shape in ((128, 192), (37, 75), (1, 64)):
        weight = torch.randn(shape, generator=torch_generator(1, "weight")) * 0.02
        ours, theirs = quantize_nf4(weight), quantize_nf4(weight.cuda())
        assert torch.equal(ours.codes, theirs.codes.cpu())
        for dtype in (torch.float32, torch.bfloat16):
            assert torch.allclose(ours.dequantize(dtype), theirs.dequantize(dtype).cpu(), rtol=1e-2, atol=1e-7)


@pytest.mark.parametrize("changes", [{}, {"precision": "bfloat16", "compile": True}, {"optimizer": "adamw"}])
def test_training_learns_and_resumes(changes: dict[str, Any], tmp_path: Path) -> None:
    shards = _shards(tmp_path / "shards")

    def run(folder: Path, steps: int, device: str = "cuda") -> tuple[Decoder, dict[str, float]]:
        config = TrainerConfig(steps=20, batch_size=8, learning_rate=0.01, checkpoint_every=5, **changes)
        model = Decoder(ModelConfig(**{**_SHAPE, "vocab_size": 32}), torch_generator(0, "model")).to(device)
        batches = PackedBatches(shards, 8, 64)
        folder.mkdir(exist_ok=True)
        trainer = Trainer(
            config, model, NextToken(), batches, scratch=folder, metrics_path=folder / "metrics.jsonl", name="test"
        )
        if steps < 20:
            trainer._is_over = lambda: trainer._step >= steps  # type: ignore[method-assign]
        return model, trainer.run().metrics

    whole, metrics = run(tmp_path / "whole", 20)
    run(tmp_path / "parts", 10)
    parts, again = run(tmp_path / "parts", 20)
    assert again["loss"] == pytest.approx(metrics["loss"], rel=1e-3)
    apart = max(float((a - b).abs().max()) for a, b in zip(whole.parameters(), parts.parameters(), strict=True))
    assert apart == 0
    if not changes:
        assert run(tmp_path / "cpu", 20, "cpu")[1]["loss"] == pytest.approx(metrics["loss"], rel=0.02)


@pytest.mark.parametrize("way", ["full", "lora", "dora", "qlora"])
def test_policies_learn_online(way: str) -> None:
    texts = ["what is two and two", "say a word", "name a colour of the sky"] * 4
    tokenizer = train_bpe(texts, vocab_size=300, special_tokens=CHATML_TOKENS)
    tokenizer = tokenizer.with_roles(eos_token="<|im_end|>", pad_token="<|pad|>", chat_template=CHATML)
    end, pad = (tokenizer.token_to_id(one) for one in ("<|im_end|>", "<|pad|>"))
    policy: Any = _model(vocab_size=tokenizer.vocab_size, eos_token_id=end, pad_token_id=pad).cuda()
    if way == "qlora":
        quantize_nf4(policy)
    if way != "full":
        add_adapter(policy, LoRAConfig(rank=4, magnitudes=way == "dora"))
    config = GRPOConfig(rollouts=8, group=4, epochs=1, minibatches=1, max_new_tokens=8)
    batches = GroupBatches(
        config, policy, Reference(policy), lambda some: np.array([len(one.text) for one in some], np.float32),
        tokenizer, texts,
    )  # fmt: skip
    objective = GRPOObjective(config)
    before = [one.detach().clone() for one in policy.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW([one for one in policy.parameters() if one.requires_grad], lr=1e-3)
    for _ in range(2):
        batch: Any = next(batches)
        batch = batch.to(torch.device("cuda")) if hasattr(batch, "to") else batch
        total, count, _ = objective.loss(policy.train(), batch)
        (total / count).backward()
        optimizer.step()
        optimizer.zero_grad()
    after = [one for one in policy.parameters() if one.requires_grad]
    assert all(bool(one.isfinite().all()) for one in after)
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
