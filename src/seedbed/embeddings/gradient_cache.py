"""Gradient caching (Gao et al. 2021): a contrastive loss over a large batch in the memory of a small one.

Every vector of a batch is a negative of every other, so the loss needs them all at once, but the encoder does not: the
batch is encoded in pieces without a graph, the loss gives the gradient of each vector, and each piece is encoded once
more with a graph, through which its own vectors' gradients flow. One more forward pass buys any batch size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from torch import Tensor
from torch.utils.checkpoint import checkpoint

Inputs = TypeVar("Inputs")


def encode_in_pieces(encode: Callable[[Inputs], Tensor], pieces: Iterable[Inputs], *, cached: bool) -> list[Tensor]:
    """Each piece's vectors, whose graph is kept or, `cached`, made again when the gradient flows back.

    Args:
        encode: one piece's inputs to its vectors. Dropout falls alike both times.
    """
    if not cached:
        return [encode(piece) for piece in pieces]
    found: list[Tensor] = [checkpoint(encode, piece, use_reentrant=False) for piece in pieces]
    return found
