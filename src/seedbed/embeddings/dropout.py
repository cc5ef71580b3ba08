"""Dropout put on from outside: models here have none, and by it alone SimCSE tells two readings of a text apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..models.block import Block
from ..models.transformer import Encoder


@contextmanager
def with_dropout(model: nn.Module, share: float) -> Iterator[None]:
    """While it lasts and in training mode, `share` of what is added to the residual stream falls out: where BERT has
    its hidden dropout (behind the embeddings and behind each sublayer), not on attention's weights."""

    def drop(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return F.dropout(output, share, module.training)

    places: list[nn.Module] = []
    for module in model.modules():
        if isinstance(module, Encoder):
            places.append(module.embedding_norm or module.embedding)
        elif isinstance(module, Block):
            places += module.residual_writers()
    hooks = [place.register_forward_hook(drop) for place in places] if share else []
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
