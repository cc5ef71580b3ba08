"""Objectives: what a step minimises. B batch, T tokens, N = B * T positions, C model width, V vocabulary.

An objective gives sums and the count that they are sums over, never means: the trainer divides once, by the count of
the whole step, so that results do not depend on how a step is cut into micro-batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..datasets.loader import Batch

_ROWS_AT_A_TIME = 256  # positions whose logits exist at the same time

B_contra = TypeVar("B_contra", contravariant=True)


class Objective(Protocol[B_contra]):
    """One step's loss. An objective with state of its own also has `state_dict` and `load_state_dict`."""

    def loss(self, model: nn.Module, batch: B_contra) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
        """The summed loss (scalar with gradient), what to divide it by (scalar), and further *sums* to log."""
        ...


class NextToken:
    """Cross-entropy of the next token, in nats, over the positions with weight.

    Args:
        z_loss: weight of the squared log-partition function, which keeps logits small (Chowdhery et al. 2022).
    """

    def __init__(self, z_loss: float = 0.0) -> None:
        self._z_loss = z_loss

    def loss(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
        weight = _head_weight(model)
        weights = batch.weights_BT.flatten()
        if weight is None:
            logits = model(batch.ids_BT).flatten(0, 1).float()
            total = (F.cross_entropy(logits, batch.targets_BT.flatten(), reduction="none") * weights).sum()
            if self._z_loss:
                total = total + self._z_loss * (logits.logsumexp(-1).square() * weights).sum()
        else:
            hidden, targets = model.hidden(batch.ids_BT).flatten(0, 1), batch.targets_BT.flatten()
            kept = weights.nonzero()[:, 0]
            if len(kept) < len(weights):  # prompts and padding need no logits
                hidden, targets, weights = hidden[kept], targets[kept], weights[kept]
            total = linear_cross_entropy(hidden, weight, targets, weights, self._z_loss)
        return total, weights.sum(), {}


def _head_weight(model: Any) -> Tensor | None:
    """The (V, C) matrix that makes logits from `model.hidden(...)`, where the model tells; else None."""
    weight = getattr(model, "head_weight", None)
    return weight if isinstance(weight, Tensor) and hasattr(model, "hidden") else None


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor, z_loss: float = 0.0
) -> Tensor:
    """sum_n weights[n] * (-log softmax(hidden[n] @ weight.T)[targets[n]] + z_loss * logsumexp(...)^2).

    The (N, V) logits are never there at once: gradients are made with the loss, a block of rows at a time, which needs
    no second forward pass and keeps a block in the cache.

    Args:
        hidden: (N, C). weight: (V, C). targets: (N,) int64. weights: (N,), without gradient.
    """
    total: Tensor = _LinearCrossEntropy.apply(hidden, weight, targets, weights, z_loss)
    return total


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor, z_loss: float) -> Tensor:
        needs_gradient = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        hidden_gradient = torch.empty_like(hidden) if needs_gradient else None
        weight_gradient = torch.zeros_like(weight) if needs_gradient else None
        total = torch.zeros((), device=hidden.device)
        for start in range(0, len(hidden), _ROWS_AT_A_TIME):
            rows = slice(start, start + _ROWS_AT_A_TIME)
            logits = (hidden[rows] @ weight.T).float()
            row_weights, row_targets = weights[rows, None], targets[rows, None]
            chosen = logits.gather(1, row_targets)
            # In place and with one exponential: on a CPU these passes over the logits cost as much as the products.
            top = logits.amax(-1, keepdim=True)
            mass = logits.sub_(top).exp_().sum(-1, keepdim=True)
            partition = top + mass.log()
            total += ((partition - chosen + z_loss * partition.square()) * row_weights).sum()
            if hidden_gradient is not None and weight_gradient is not None:
                slope = logits.mul_(row_weights * (1 + 2 * z_loss * partition) / mass)
                slope.scatter_add_(1, row_targets, -row_weights)
                slope = slope.to(hidden.dtype)
                torch.mm(slope, weight, out=hidden_gradient[rows])
                weight_gradient.addmm_(slope.T, hidden[rows])
        if needs_gradient:
            ctx.save_for_backward(hidden_gradient, weight_gradient)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        return hidden_gradient * gradient, weight_gradient * gradient, None, None, None


@torch.no_grad()
def token_nats(model: Any, ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
    """Cross-entropy of each target, (B, T) float32 nats, without holding all the logits at once."""
    weight = _head_weight(model)
    if weight is None:
        logits = model(ids_BT).float()
        return F.cross_entropy(logits.flatten(0, 1), targets_BT.flatten(), reduction="none").view_as(targets_BT)
    hidden = model.hidden(ids_BT).flatten(0, 1)
    blocks = [
        F.cross_entropy((rows @ weight.T).float(), targets, reduction="none")
        for rows, targets in zip(
            hidden.split(_ROWS_AT_A_TIME), targets_BT.flatten().split(_ROWS_AT_A_TIME), strict=True
        )
    ]
    return torch.cat(blocks).view_as(targets_BT)
