"""Who takes a training step in the benchmark of training: our trainer, transformers and litgpt, with equal weights.

Each is a function of a batch (B, T + 1) of token ids that takes one whole step (forward, loss, backward, clipping,
AdamW) and gives the loss before it. Peers run the loop that their own trainers are around: fused AdamW, norm clipped at
1, gradients set to None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seedbed.datasets.loader import Batch
from seedbed.models import Decoder, ModelConfig, load_model
from seedbed.training import NextToken, Trainer, TrainerConfig

Step = Callable[[Tensor], float]

_RATE, _DECAY, _BETAS, _CLIP = 1e-4, 0.1, (0.9, 0.95), 1.0


class _Given:
    """A source that gives the batch that was put into it."""

    def __init__(self) -> None:
        self.batch: Any = None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self.batch

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any) -> None:
        """There is no state."""


def trainer_step(model: nn.Module, objective: Any, precision: str, compiled: bool = False) -> Callable[[Any], float]:
    """A step of our trainer on the batch that is given."""
    config = TrainerConfig(
        steps=1_000_000, optimizer="adamw", learning_rate=_RATE, weight_decay=_DECAY, beta1=_BETAS[0], beta2=_BETAS[1],
        clip_norm=_CLIP, schedule="constant", warmup_fraction=0, precision=precision, compile=compiled,
    )  # fmt: skip
    source = _Given()
    nowhere = Path("nowhere")  # nothing is written: `run` is not called
    trainer = Trainer(config, model, objective, source, scratch=nowhere, metrics_path=nowhere)

    def step(batch: Any) -> float:
        source.batch = batch
        return float(trainer.train_step()["loss"])

    return step


def ours(folder: Path, precision: str, compiled: bool) -> Step:
    model = load_model(folder)
    assert isinstance(model, Decoder)
    take = trainer_step(model, NextToken(), precision, compiled)

    def step(ids: Tensor) -> float:
        inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
        return take(Batch(inputs, targets, torch.ones(inputs.shape)))

    return step


def transformers(folder: Path, precision: str, compiled: bool, device: str = "cpu") -> Step:
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    model = model.to(device).train()
    model.config.use_cache = False
    run = torch.compile(model) if compiled else model

    def loss(ids: Tensor) -> Tensor:
        inputs = ids[:, :-1].contiguous()
        found: Tensor = run(input_ids=inputs, labels=inputs, shift_labels=ids[:, 1:].contiguous()).loss
        return found

    return plain_loop(model, loss, precision, device)


def litgpt(folder: Path, precision: str, compiled: bool) -> Step:
    from litgpt.config import Config
    from litgpt.model import GPT
    from litgpt.scripts.convert_hf_checkpoint import copy_weights_qwen_3
    from litgpt.utils import chunked_cross_entropy
    from safetensors.torch import load_file

    from seedbed.models.huggingface import load_config

    shape = load_config(folder)
    config = Config(
        name="Qwen3", block_size=shape.context_length, vocab_size=shape.vocab_size, padded_vocab_size=shape.vocab_size,
        n_layer=shape.layers, n_head=shape.heads, n_query_groups=shape.kv_heads, n_embd=shape.hidden_size,
        head_size=shape.head_dim, intermediate_size=shape.intermediate_size, rotary_percentage=1.0, bias=False,
        parallel_residual=False, norm_class_name="RMSNorm", mlp_class_name="LLaMAMLP", norm_eps=shape.norm_epsilon,
        rope_base=int(shape.rope_theta), norm_qk=True,
    )  # fmt: skip
    model = GPT(config)
    model.transformer.wte.weight = model.lm_head.weight  # as its `tie_embeddings` does
    weights: dict[str, Tensor] = {}
    theirs = load_file(folder / "model.safetensors")
    copy_weights_qwen_3(config, {}, weights, {"lm_head.weight": theirs["model.embed_tokens.weight"], **theirs})
    model.load_state_dict(weights)
    run = torch.compile(model) if compiled else model

    def loss(ids: Tensor) -> Tensor:
        found: Tensor = chunked_cross_entropy(run(ids[:, :-1].contiguous()), ids[:, 1:].contiguous())
        return found

    return plain_loop(model.train(), loss, precision)


def plain_loop(
    model: nn.Module, loss: Callable[[Any], Tensor], precision: str, device: str = "cpu"
) -> Callable[[Any], float]:
    """A step as in the loop that a peer's own trainer is around."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, betas=_BETAS, weight_decay=_DECAY, fused=True)

    def step(batch: Any) -> float:
        half = torch.autocast(device, torch.bfloat16) if precision == "bfloat16" else nullcontext()
        with half:
            found = loss(batch)
        found.backward()
        nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(found.detach())

    return step


CONTENDERS: dict[str, Callable[..., Step]] = {"ours": ours, "transformers": transformers, "litgpt": litgpt}
SHAPES = {
    "10m": ModelConfig(vocab_size=8192, hidden_size=320, layers=6, heads=5, context_length=256),
    "30m": ModelConfig(vocab_size=8192, hidden_size=512, layers=8, heads=8, context_length=256),
    "1m": ModelConfig(vocab_size=1024, hidden_size=128, layers=4, heads=2, context_length=128),
}
