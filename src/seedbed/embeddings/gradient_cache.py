"""Gradient caching (Gao et al. 2021): a contrastive loss over a large batch in the memory of a small one.

Every vector of a batch is a negative of every other, so the loss needs them all at once, but the encoder does not: the
batch is encoded in pieces without a graph, the loss gives the gradient of each vector, and each piece is encoded once
more with a graph, through which its own vectors' gradients flow. One more forward pass buys any batch size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.random import fork_rng

Inputs = TypeVar("Inputs")


def backward_in_pieces(
    encode: Callable[[Inputs], Tensor],
    sides: Sequence[Sequence[Inputs]],
    loss: Callable[..., Tensor],
) -> Tensor:
    """Add the gradient of `loss` to the parameters' `.grad`, as `loss(...).backward()` would.

    Args:
        encode: one piece's inputs to its vectors (n, C). Dropout falls alike both times.
        sides: for each argument of `loss` (queries, texts, ...) its inputs, in pieces.
        loss: of one tensor of vectors a side, the pieces joined, to a scalar.
    Returns: the loss, without a graph.
    """
    states: list[list[Tensor]] = []
    vectors: list[list[Tensor]] = []
    with torch.no_grad():
        for pieces in sides:
            states.append([])
            vectors.append([])
            for piece in pieces:
                states[-1].append(torch.get_rng_state())
                vectors[-1].append(encode(piece))
    joined = [torch.cat(side).requires_grad_() for side in vectors]
    with torch.enable_grad():
        value = loss(*joined)
    gradients = torch.autograd.grad(value, joined)
    for pieces, side_states, parts, gradient in zip(sides, states, vectors, gradients, strict=True):
        own = gradient.split([len(part) for part in parts])
        for number, piece in enumerate(pieces):
            with fork_rng(devices=[]), torch.enable_grad():
                torch.set_rng_state(side_states[number])
                again = encode(piece)
            again.backward(own[number])
    return value.detach()
