"""One vector from a sequence of hidden states. B batch, T tokens, C model width."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from ..core.errors import ConfigError

Pooling = Literal["mean", "cls", "last"]


def check_pooling(pooling: str) -> Pooling:
    if pooling not in get_args(Pooling):
        raise ConfigError(f"pooling '{pooling}' is unknown (known: {', '.join(get_args(Pooling))})")
    return pooling  # type: ignore[return-value]


def pool(hidden_BTC: Tensor, mask_BT: Tensor, pooling: Pooling = "mean") -> Tensor:
    """(B, C): the mean of the real tokens, the first, or the last real one. Padding is on the right."""
    if pooling == "cls":
        return hidden_BTC[:, 0]
    if pooling == "last":
        last_B = mask_BT.long().sum(1).clamp(min=1) - 1
        return hidden_BTC[torch.arange(len(hidden_BTC), device=hidden_BTC.device), last_B]
    weights_BT1 = mask_BT.to(hidden_BTC.dtype)[:, :, None]
    return (hidden_BTC * weights_BT1).sum(1) / weights_BT1.sum(1).clamp(min=1e-9)
