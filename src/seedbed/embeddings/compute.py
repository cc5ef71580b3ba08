"""How encoders run on a CPU: batches side by side, one thread each, and weights of fewer bits."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .. import _native
from ..core.errors import ConfigError

Weights = Literal["float32", "bfloat16", "int8"]
Module = TypeVar("Module", bound=nn.Module)
Rows = npt.NDArray[np.int64]


def batches_of_like_lengths(lengths: Sequence[int], batch_tokens: int) -> Iterator[Rows]:
    """Places of rows that are padded together: by rising length, each batch at most `batch_tokens` with its padding."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    for place, row in enumerate(order):
        if place > start and (place + 1 - start) * lengths[row] > batch_tokens:
            yield order[start:place]
            start = place
    if start < len(order):
        yield order[start:]


def run_batches(work: Callable[[Rows], None], batches: Sequence[Rows], device: torch.device) -> None:
    """Call `work` on every batch, without gradients.

    On a CPU as many batches at a time as PyTorch has threads, each on one: small matrices then wait for no other
    thread, and elementwise work is shared out as well as products are. A batch's result does not depend on the others.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 1

    def without_gradients(rows: Rows) -> None:
        with torch.inference_mode():
            work(rows)

    if threads == 1 or len(batches) == 1:
        for rows in batches:
            without_gradients(rows)
        return
    with ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(1)) as pool:  # each thread's own number
        for _ in pool.map(without_gradients, reversed(batches)):  # the longest first: they end together
            pass


def with_weights(model: Module, weights: str) -> Module:
    """`model`, or a copy of it for inference whose matrices have fewer bits.

    bfloat16: all of it. int8: linear layers, with a scale for every 32 columns of weights and of activations (as GGUF's
    Q8_0), multiplied by the processor's instructions for bytes where it has them.
    """
    if weights not in get_args(Weights):
        raise ConfigError(f"weights '{weights}' are unknown (known: {', '.join(get_args(Weights))})", where="weights")
    if weights == "float32":
        return model
    if weights == "bfloat16":
        return copy.deepcopy(model).to(torch.bfloat16)
    shared: dict[int, Any] = {id(one.weight): one.weight for one in model.modules() if isinstance(one, nn.Linear)}
    quantised = copy.deepcopy(model, shared)  # what is replaced need not be copied
    for name, module in list(quantised.named_modules()):
        if isinstance(module, nn.Linear):
            parent, _, own = name.rpartition(".")
            setattr(quantised.get_submodule(parent), own, Int8Linear(module))
    return quantised


class Int8Linear(nn.Module):
    """A linear layer in native code (native/embedding/int8_linear.hpp), for inference on one thread."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        if layer.weight.device.type != "cpu":
            raise ConfigError("int8 weights are for CPUs", where="weights", hint="Use bfloat16 on a GPU.")
        bias = None if layer.bias is None else layer.bias.detach().float().numpy()
        self.native = _native.Int8Linear(np.ascontiguousarray(layer.weight.detach().float().numpy()), bias)
        self.out_features = layer.out_features

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).contiguous().numpy()
        return torch.from_numpy(self.native.forward(rows)).view(*x.shape[:-1], self.out_features)
