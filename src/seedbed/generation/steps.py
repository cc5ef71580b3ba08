"""Steps: how an engine runs its decoder over new tokens. In native code where that serves, recorded on a GPU, else by
PyTorch."""

from __future__ import annotations

import copy

import torch

from ..core.errors import ConfigError
from ..models import Decoder
from .native import PACKED, NativeStep, native_supports, unpacked_twin
from .recorded_step import RecordedStep
from .torch_step import Step, TorchStep

__all__ = ["NativeStep", "RecordedStep", "Step", "TorchStep", "choose_step"]

_FLOATS = ("float32", "bfloat16", "float16")
_WEIGHTS = (*_FLOATS, "int8", "int4")


def choose_step(model: Decoder, dtype: str | torch.dtype | None = None, compile: bool = False) -> Step:
    """The fastest step for `model` where it lies.

    Args:
        dtype: of the weights that are read: "float32", "bfloat16", "float16", or quantised "int8" and "int4"; None: the
            model's own, which is read at every step, so it may train in between. Copies in another precision are made
            anew for prompts that come after the model has changed where the step is native, and else never.
        compile: insist on a compiled step, which the native and the recorded one are.

    Raises:
        ConfigError: an unknown precision, or `compile` where only PyTorch's pass serves.
    """
    own = str(model.embedding.weight.dtype).removeprefix("torch.")
    name = own if dtype is None else str(dtype).removeprefix("torch.")
    if dtype is not None and name not in _WEIGHTS:
        raise ConfigError(
            f"'{name}' is no precision of weights", where="dtype", hint=f"Choose of {', '.join(_WEIGHTS)}."
        )
    if native_supports(model) and (name == "float32" or name in PACKED):
        return NativeStep(model, name)
    step = RecordedStep if model.embedding.weight.is_cuda and not model.config.experts else TorchStep
    if compile and step is TorchStep:
        raise ConfigError(
            "only dense decoders, on a CPU those in float32, have a compiled step",
            where="compile",
            hint="Leave it out.",
        )
    if name == own:
        return step(model)
    if name in _FLOATS:
        return step(copy.deepcopy(model).to(getattr(torch, name)))
    return step(unpacked_twin(model, name))
