"""What training a model will take in memory, whole or in part: full, LoRA, QLoRA, and with the optimizer elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from ..models.config import ModelConfig
from ..training.calibration import Calibration
from ..training.memory import cache_bytes, step_memory
from ..training.trainer import TrainerConfig
from .adapters import add_adapter
from .lora import LoRAConfig

Method = Literal["full", "lora", "qlora", "offload"]
METHODS: tuple[Method, ...] = ("full", "lora", "qlora", "offload")

# NF4: four bits, an 8-bit scale for each 64 weights, and a float for each 256 scales (Dettmers et al. 2023, section 3).
_NF4_BYTES = (4 + 8 / 64 + 32 / (64 * 256)) / 8
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes, by what holds them. `peak` is the process's, with the allocator's holes where a calibration knows them."""

    method: Method
    weights: int
    gradients: int
    optimizer: int
    activations: int
    cache: int  # of generation, beside training: samples on a schedule, rollouts
    process: int
    peak: int
    host: int  # what "offload" keeps in the machine's own memory beside the device's

    def fits(self, available: int) -> bool:
        return self.peak <= available


def estimate_memory(
    model: ModelConfig,
    training: TrainerConfig | None = None,
    method: Method = "full",
    *,
    adapter: LoRAConfig | None = None,
    calibration: Calibration | None = None,
    cache_tokens: int = 0,
) -> MemoryEstimate:
    """Peak memory of training a decoder in float32, before anything is allocated.

    Args:
        method: "full"; "lora"; "qlora": LoRA on matrices kept as NF4, each unpacked when it is used; "offload": full,
            with the optimizer's states and step on the host (ZeRO-Offload, Ren et al. 2021).
        calibration: of this machine and shape; without one, `peak` is of tensors alone.
        cache_tokens: tokens in the key-value cache of generation at the same time.
    """
    training = TrainerConfig() if training is None else training
    if method in ("lora", "qlora"):
        training = training.replace(optimizer="adamw")
        found = step_memory(model, training, adapt=lambda decoder: _adapted(decoder, adapter or LoRAConfig()))
    else:
        found = step_memory(model, training)
    weights, peak, optimizer, host = found.weights, found.peak, found.optimizer, 0
    if method == "qlora":
        saved = round(model.parameter_count(embeddings=False) * (_FLOAT_BYTES - _NF4_BYTES))
        weights, peak = weights - saved, peak - saved + _FLOAT_BYTES * _largest_matrix(model)
    if method == "offload":
        optimizer, peak, host = 0, peak - found.optimizer, found.optimizer
    cache = cache_bytes(model, cache_tokens, training.batch_size) if cache_tokens else 0
    overhead, process = (calibration.overhead, calibration.process_bytes) if calibration else (1.0, 0)
    whole = round((peak + cache) * overhead) + process
    return MemoryEstimate(method, weights, found.gradients, optimizer, found.activations, cache, process, whole, host)


def _adapted(decoder: nn.Module, adapter: LoRAConfig) -> nn.Module:
    return add_adapter(decoder, adapter)


def _largest_matrix(model: ModelConfig) -> int:
    """Weights of a block's largest matrix."""
    queries = model.heads * model.head_dim
    return model.hidden_size * max(queries, model.intermediate_size)
