"""A step, and the one that works everywhere: the decoder's own forward pass in PyTorch.

B rows, T new tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from ..models import Decoder, KeyValueCache


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
    """The model's own forward pass, as in evaluation: any model, any cache, any device."""

    def __init__(self, model: Decoder) -> None:
        self.model = model

    @property
    def cache_dtype(self) -> torch.dtype:
        return self.model.embedding.weight.dtype

    @torch.inference_mode()
    def __call__(self, ids_BT: Tensor, cache: KeyValueCache) -> Tensor:
        with _evaluating(self.model):
            logits_BTV: Tensor = self.model(ids_BT, cache=cache)
        return logits_BTV

    @torch.inference_mode()
    def last(self, ids_BT: Tensor, columns_B: Tensor, cache: KeyValueCache) -> Tensor:
        with _evaluating(self.model):
            hidden_BTC = self.model.hidden(ids_BT, cache=cache)
            return self.model.head(hidden_BTC[torch.arange(len(ids_BT), device=ids_BT.device), columns_B])


@contextmanager
def _evaluating(model: Decoder) -> Iterator[None]:
    """The model in evaluation mode, for as long as it is run."""
    training = model.training
    if training:  # else nothing is done: it takes a walk through all modules
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()
