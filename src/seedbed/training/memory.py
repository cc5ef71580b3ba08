"""What a training step will hold in memory, found without holding it.

The step itself (forward, loss, backward, optimizer) runs on fake tensors, which have shapes and no data, and every
storage is counted from its birth to its death. So the answer follows the code, whatever the config: no formula has to
know which tensors a layer keeps for its gradient.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..core.devices import memory_bytes
from ..core.errors import ResourceError
from ..models.config import ModelConfig
from ..models.transformer import Decoder
from .execution import autocast, execute_blocks
from .objectives import linear_cross_entropy
from .optimizers import build_optimizers
from .trainer import TrainerConfig

Adapt = Callable[[nn.Module], nn.Module]

_TOKENS_WALKED = 1 << 17  # of a micro-batch; the loss of more is walked block by block for minutes
_FLOATS_KEPT = 32  # numbers that a block keeps for its gradient per token and unit of width, generously


@dataclass(frozen=True)
class StepMemory:
    """Bytes of tensors. The process itself (interpreter, libraries) comes on top, and so do the holes that the system's
    allocator leaves between tensors: `calibration` measures both."""

    weights: int
    gradients: int
    optimizer: int
    activations: int  # what the forward pass leaves for the backward pass, and the loss's own buffers
    peak: int

    @property
    def trained_parts(self) -> int:
        return self.gradients + self.optimizer


class LiveMemory(TorchDispatchMode):
    """Counts the bytes of all storages that operations make, while they live."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for one in tree_leaves(result):
            if isinstance(one, Tensor):
                self._add(one.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = id(storage)
        if key in self._known:
            return
        size = storage.nbytes()

        def gone(_: object) -> None:
            self.bytes -= size
            self._known.pop(key, None)

        self._known[key] = weakref.ref(storage, gone)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)


def step_memory(config: ModelConfig, training: TrainerConfig, *, adapt: Adapt | None = None) -> StepMemory:
    """Memory of training a decoder by `Trainer` on packed batches, on the CPU's kernels, not compiled.

    Args:
        adapt: put on the model before its optimizers are made: an adapter, say.

    The experts of a mixture get an equal share of the tokens: one feed-forward stands for those that a token meets.
    """
    if config.experts:
        whole = _decoder_bytes(config)
        config = config.replace(experts=0, intermediate_size=config.intermediate_size * config.experts_per_token)
        memory = step_memory(config, training, adapt=adapt)
        hidden = whole - _decoder_bytes(config)  # experts that a token does not meet: weights, gradients and states
        kept = hidden * (1 + round((memory.gradients + memory.optimizer) / memory.weights))
        share = hidden / memory.weights
        return StepMemory(
            memory.weights + hidden, round(memory.gradients * (1 + share)), round(memory.optimizer * (1 + share)),
            memory.activations, memory.peak + kept,
        )  # fmt: skip
    rows = -(-training.batch_size // training.accumulation)
    with FakeTensorMode(allow_non_fake_inputs=True), LiveMemory() as live:
        model: nn.Module = Decoder(config)
        model = model if adapt is None else adapt(model)
        optimizers = build_optimizers(
            model, training.optimizer, weight_decay=training.weight_decay, betas=(training.beta1, training.beta2),
            momentum=training.momentum, embedding_factor=training.embedding_factor, precision=training.precision,
        )  # fmt: skip
        execute_blocks(model, recompute=training.recompute)
        weights = _bytes(model.parameters())
        trained = [one for one in model.parameters() if one.requires_grad]
        activations = 0
        for step in range(2):  # the optimizers' states exist from the first step's end
            if step == 1:
                live.peak = live.bytes
            for _ in range(min(training.accumulation, 2)):
                before = live.bytes
                with autocast(training.precision, torch.device("cpu")):
                    loss = _loss(model, rows, config.context_length)
                activations = live.bytes - before
                loss.backward()
                del loss
            torch._foreach_div_([one.grad for one in trained if one.grad is not None], 2.0)
            nn.utils.clip_grad_norm_(trained, training.clip_norm)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        states = [
            one for optimizer in optimizers for one in tree_leaves(dict(optimizer.state)) if isinstance(one, Tensor)
        ]
        return StepMemory(weights, _bytes(trained), _bytes(states), activations, live.peak)


def require_memory(config: ModelConfig, training: TrainerConfig) -> None:
    """Refuse, before anything is allocated, a decoder and a batch that this machine's memory cannot hold: the system
    would kill the process in the middle of a step, with no error to read.

    Raises:
        ResourceError: the step's peak is more than the memory that is free.
    """
    free = memory_bytes()[1]
    tokens = -(-training.batch_size // training.accumulation) * config.context_length
    rough = 16 * config.parameter_count() + _FLOATS_KEPT * 4 * tokens * config.hidden_size * config.layers
    if rough < free / 8:
        return  # far below: no closer look is needed
    peak = _large_peak(config, training) if tokens > _TOKENS_WALKED else step_memory(config, training).peak
    if peak > free:
        raise ResourceError(
            f"a step needs {peak / (1 << 30):,.1f} GiB, and {free / (1 << 30):,.1f} GiB are free",
            where=f"batch_size {training.batch_size}, accumulation {training.accumulation}",
            hint="Raise accumulation, set recompute, or choose a smaller batch, context or model.",
        )


def _large_peak(config: ModelConfig, training: TrainerConfig) -> int:
    """About the peak of a step of many rows, from steps of few: walking all of them would take minutes."""
    few, more = (step_memory(config, training.replace(batch_size=rows, accumulation=1)) for rows in (1, 2))
    rows = -(-training.batch_size // training.accumulation)
    activations = few.activations + (more.activations - few.activations) * (rows - 1)
    return few.weights + few.gradients + few.optimizer + activations


def _loss(model: Any, rows: int, length: int) -> Tensor:
    ids = torch.zeros(rows, length, dtype=torch.int64)
    targets, ones = torch.zeros_like(ids), torch.ones(rows, length)
    hidden = model.hidden(ids).flatten(0, 1)
    return linear_cross_entropy(hidden, model.head_weight, targets.flatten(), ones.flatten())


def _bytes(tensors: Any) -> int:
    return sum({id(one): one.untyped_storage().nbytes() for one in tensors}.values())


def _decoder_bytes(config: ModelConfig) -> int:
    return 4 * config.parameter_count()


def cache_bytes(config: ModelConfig, tokens: int, batch_size: int = 1, bytes_per_number: int = 4) -> int:
    """Keys and values (or latents) of `tokens` tokens for each of `batch_size` sequences; windows hold no more than
    themselves."""
    per_token = sum(heads * width for heads, width in config.cache_shapes())
    held = [
        min(tokens, config.window + config.sink_tokens) if config.windowed(layer) else tokens
        for layer in range(config.layers)
    ]
    return batch_size * sum(held) * per_token * bytes_per_number
