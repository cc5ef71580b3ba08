"""Steps: how an engine runs its decoder over new tokens, by PyTorch as it is.

B rows, T new tokens, V vocabulary.
"""

from __future__ import annotations

import copy
from typing import Protocol

import torch
from torch import Tensor

from ..core.errors import ConfigError
from ..models import Decoder, KeyValueCache

WEIGHTS = ("float32", "bfloat16", "float16", "int8", "int4")


class Step(Protocol):
    """A decoder's pass over new tokens. Both forms give every row of `cache` its T new tokens, behind those that it
    holds; what is only padding is taken back by `cache.set_lengths`.
    """

    @property
    def cache_dtype(self) -> torch.dtype:
        """What the caches given to it must hold."""

    def __call__(self, ids_BT: Tensor, cache: KeyValueCache) -> Tensor:
        """Logits (B, T, V): `Decoder.forward(ids_BT, cache=cache)`."""

    def last(self, ids_BT: Tensor, columns_B: Tensor, cache: KeyValueCache) -> Tensor:
        """Logits (B, V) of one column per row: of a prompt only its last token's are needed."""


class TorchStep:
    """The model's own forward pass: any model, any cache, any device."""

    def __init__(self, model: Decoder) -> None:
        self.model = model

    @property
    def cache_dtype(self) -> torch.dtype:
        return self.model.embedding.weight.dtype

    @torch.inference_mode()
    def __call__(self, ids_BT: Tensor, cache: KeyValueCache) -> Tensor:
        logits_BTV: Tensor = self.model(ids_BT, cache=cache)
        return logits_BTV

    @torch.inference_mode()
    def last(self, ids_BT: Tensor, columns_B: Tensor, cache: KeyValueCache) -> Tensor:
        hidden_BTC = self.model.hidden(ids_BT, cache=cache)
        return self.model.head(hidden_BTC[torch.arange(len(ids_BT), device=ids_BT.device), columns_B])


def choose_step(model: Decoder, dtype: str | torch.dtype | None = None, compile: bool = False) -> Step:
    """The fastest step for `model` where it lies.

    Args:
        dtype: of the weights that are read: "float32", "bfloat16", "float16", or quantised "int8" and "int4"; None: the
            model's own, which is read at every step, so it may train in between; others are a copy as of now.
        compile: let torch.compile build the step.
    """
    name = str(dtype).removeprefix("torch.")
    if dtype is not None and name not in WEIGHTS:
        raise ConfigError(
            f"'{name}' is no precision of weights", where="dtype", hint=f"Choose of {', '.join(WEIGHTS)}."
        )
    if dtype is None or name == str(model.embedding.weight.dtype).removeprefix("torch."):
        return TorchStep(model)
    if name in ("float32", "bfloat16", "float16"):
        return TorchStep(copy.deepcopy(model).to(getattr(torch, name)))
    raise ConfigError(f"weights as {name} are not read here", where="dtype", hint="Leave it out.")
