"""How a step is executed, put on a model from outside: reduced precision, compilation, activations computed again.

Nothing here changes what is computed beyond rounding, nor the names in a state dict.
"""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..core.errors import ConfigError

Precision = Literal["float32", "bfloat16"]


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Matrix products in `precision`; weights, gradients and optimizer states stay float32."""
    if precision == "float32":
        return nullcontext()
    # Each weight is used once or twice a step: copies kept over it would cost their memory for nothing.
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def execute_blocks(model: nn.Module, *, compiled: bool = False, recompute: bool = False) -> None:
    """Have the blocks of `model` (the members of its `nn.ModuleList`s that are no experts) compiled by `torch.compile`,
    or their activations thrown away and computed again in the backward pass (Chen et al. 2016), which costs a third
    more time and leaves one (B, T, C) per block.

    Blocks are alike, so the compiler works once and not once a layer.

    Raises:
        ConfigError: the model has no blocks.
    """
    if not (compiled or recompute):
        return
    blocks = outer_blocks(model)
    if not blocks:
        raise ConfigError("the model has no blocks to compile or to compute again", where=type(model).__name__)
    for block in blocks:
        if recompute:
            block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
        if compiled:
            block.compile()


def release_blocks(model: nn.Module) -> None:
    """The blocks as they were before `execute_blocks`: what comes after training has other shapes, and each would be
    compiled anew."""
    for block in outer_blocks(model):
        block.__dict__.pop("forward", None)
        block._compiled_call_impl = None


def outer_blocks(model: nn.Module) -> list[nn.Module]:
    """Members of the outermost `nn.ModuleList`s."""
    found: list[nn.Module] = []
    for child in model.children():
        found += list(child) if isinstance(child, nn.ModuleList) else outer_blocks(child)
    return found
