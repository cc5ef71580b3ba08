"""Objectives: what a step minimises. B batch, T tokens, N = B * T positions, C model width, V vocabulary.

An objective gives sums and the count that they are sums over, never means: the trainer divides once, by the count of
the whole step, so that results do not depend on how a step is cut into micro-batches.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..datasets.corruption import SpanBatch
from ..datasets.loader import Batch
from ..models.masks import document_mask, document_positions, prefix_mask

_ROWS_AT_A_TIME = 256  # positions whose logits exist at the same time, on a CPU
_LOGITS_AT_A_TIME = 1 << 28  # on other devices, which smaller blocks do not fill

B_contra = TypeVar("B_contra", contravariant=True)


class Objective(Protocol[B_contra]):
    """One step's loss. An objective with state of its own also has `state_dict` and `load_state_dict`."""

    def loss(self, model: nn.Module, batch: B_contra) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
        """The summed loss (scalar with gradient), what to divide it by (scalar), and further *sums* to log."""
        ...


class NextToken:
    """Cross-entropy of the next token, in nats, over the positions with weight.

    A batch that tells documents apart, or gives prefixes, is attended to accordingly: then this is training on packed
    documents, or a prefix language model.

    Args:
        z_loss: weight of the squared log-partition function, which keeps logits small (Chowdhery et al. 2022).
    """

    def __init__(self, z_loss: float = 0.0) -> None:
        self._z_loss = z_loss

    def loss(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
        if _head_weight(model) is None:
            logits = model(batch.ids_BT, **_sight(batch)).flatten(0, 1).float()
            weights = batch.weights_BT.flatten()
            total = (F.cross_entropy(logits, batch.targets_BT.flatten(), reduction="none") * weights).sum()
            if self._z_loss:
                total = total + self._z_loss * (logits.logsumexp(-1).square() * weights).sum()
            return total, weights.sum(), {}
        return _told(model, model.hidden(batch.ids_BT, **_sight(batch)), batch, self._z_loss)


class MaskedTokens:
    """Cross-entropy of the hidden tokens (Devlin et al. 2019), for a `MaskedLanguageModel` on batches by `MaskTokens`.

    The head and its logits are computed at these positions alone. Documents packed into one row do not see each other.
    """

    def __init__(self, z_loss: float = 0.0) -> None:
        self._z_loss = z_loss

    def loss(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
        hidden = model.encoder(batch.ids_BT, documents_BT=batch.documents_BT).flatten(0, 1)
        weights = batch.weights_BT.flatten()
        hidden, targets, some = _weighty(hidden, batch.targets_BT.flatten(), weights)
        total = linear_cross_entropy(
            model.transform(hidden), model.encoder.embedding.weight, targets, some, self._z_loss, model.bias
        )
        return total, weights.sum(), {}


class SpanCorruption:
    """Cross-entropy of what fills the holes (Raffel et al. 2020), for an `EncoderDecoder` on batches of spans."""

    def __init__(self, z_loss: float = 0.0) -> None:
        self._z_loss = z_loss

    def loss(self, model: Any, batch: SpanBatch) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
        return _told(model, model.decode_hidden(batch.ids_BT, model.encode(batch.source_BS)), batch, self._z_loss)


def _told(model: Any, hidden_BTC: Tensor, batch: Any, z_loss: float) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
    """What an objective gives, from the hidden states that foretell a batch's targets."""
    weight = _head_weight(model)
    assert weight is not None
    weights = batch.weights_BT.flatten()
    hidden, targets, some = _weighty(hidden_BTC.flatten(0, 1), batch.targets_BT.flatten(), weights)
    return linear_cross_entropy(_scaled(model, hidden), weight, targets, some, z_loss), weights.sum(), {}


def _weighty(hidden: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The positions with weight alone: prompts and padding need no logits."""
    kept = weights.nonzero()[:, 0]
    return (hidden, targets, weights) if len(kept) == len(weights) else (hidden[kept], targets[kept], weights[kept])


def _sight(batch: Batch) -> dict[str, Tensor]:
    """Arguments of a decoder beside the ids: what its tokens see of one another."""
    if batch.documents_BT is not None:
        places = document_positions(batch.documents_BT)
        return {"positions_BT": places, "mask": document_mask(batch.documents_BT, causal=True)}
    if batch.prefix_B is not None:
        return {"mask": prefix_mask(batch.prefix_B, batch.ids_BT.shape[1])}
    return {}


def _head_weight(model: Any) -> Tensor | None:
    """The (V, C) matrix that makes logits from hidden states, where the model tells and nothing is done to them."""
    weight = getattr(model, "head_weight", None)
    capped = getattr(getattr(model, "config", None), "logit_softcap", 0.0)
    known = hasattr(model, "hidden") or hasattr(model, "decode_hidden")
    return weight if isinstance(weight, Tensor) and known and not capped else None


def _scaled(model: Any, hidden: Tensor) -> Tensor:
    """Hidden states as the head multiplies them."""
    config: Any = getattr(model, "config", None)
    return hidden * config.hidden_size**-0.5 if getattr(config, "scale_head", False) else hidden


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    weights: Tensor,
    z_loss: float = 0.0,
    bias: Tensor | None = None,
) -> Tensor:
    """sum_n weights[n] * (-log softmax(hidden[n] @ weight.T + bias)[targets[n]] + z_loss * logsumexp(...)^2).

    The (N, V) logits are never there at once: gradients are made with the loss, a block of rows at a time, which needs
    no second forward pass and keeps a block in the cache.

    Args:
        hidden: (N, C). weight: (V, C). targets: (N,) int64. weights: (N,), without gradient.
        bias: (V,).
    """
    total: Tensor = _LinearCrossEntropy.apply(hidden, weight, targets, weights, z_loss, bias)
    return total


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor, z_loss: float, bias: Tensor | None
    ) -> Tensor:
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        slopes = None
        if any(ctx.needs_input_grad):
            slopes = _Slopes(hidden, weight if ctx.needs_input_grad[1] else None, bias, dtype)
        with torch.autocast(kind, enabled=False):  # rounded here once, not at each block
            total = _blockwise(hidden.to(dtype), weight.to(dtype), targets, weights, z_loss, bias, slopes)
        ctx.slopes, ctx.dtype = slopes, hidden.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        slopes, ctx.slopes = ctx.slopes, None
        if slopes is None:
            raise RuntimeError("the gradient of this loss was handed out already: it is scaled where it lies")
        hidden = slopes.hidden.mul_(gradient).to(ctx.dtype)
        # There is none of a weight that is frozen, as with adapters.
        weight, bias = (None if one is None else one.mul_(gradient) for one in (slopes.weight, slopes.bias))
        return hidden, weight, None, None, None, bias


class _Slopes:
    """The gradients of a sum of losses: of `hidden` in the products' dtype, the others added up in their own. There is
    none of a weight that does not train."""

    def __init__(self, hidden: Tensor, weight: Tensor | None, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.hidden = torch.empty_like(hidden, dtype=dtype)
        self.weight = None if weight is None else torch.zeros_like(weight)
        self.bias = None if bias is None else torch.zeros_like(bias)

    def add(self, rows: slice, slope: Tensor, hidden: Tensor, weight: Tensor) -> None:
        if self.bias is not None:
            self.bias += slope.sum(dim=0)
        slope = slope.to(hidden.dtype)
        torch.mm(slope, weight, out=self.hidden[rows])
        if self.weight is None:
            return
        if self.weight.dtype == hidden.dtype:
            self.weight.addmm_(slope.T, hidden)
        else:
            self.weight += slope.T @ hidden


def _blockwise(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    weights: Tensor,
    z_loss: float,
    bias: Tensor | None,
    slopes: _Slopes | None,
) -> Tensor:
    total = torch.zeros((), device=hidden.device)
    on_cpu = hidden.device.type == "cpu"
    size = _ROWS_AT_A_TIME if on_cpu else max(_ROWS_AT_A_TIME, _LOGITS_AT_A_TIME // len(weight))
    of_block = _loss_and_slope_in_place if on_cpu else _loss_and_slope()
    for start in range(0, len(hidden), size):
        rows = slice(start, start + size)
        loss, slope = of_block(hidden[rows] @ weight.T, targets[rows, None], weights[rows, None], z_loss, bias)
        total += loss
        if slopes is not None:
            slopes.add(rows, slope, hidden[rows], weight)
    return total


def _loss_and_slope_in_place(
    logits_NV: Tensor, targets_N1: Tensor, weights_N1: Tensor, z_loss: float, bias_V: Tensor | None
) -> tuple[Tensor, Tensor]:
    """`loss_and_slope` for CPUs, in float32, over the logits: in place and with one exponential, as these passes cost
    as much there as the products."""
    logits_NV = logits_NV.float()
    if bias_V is not None:
        logits_NV += bias_V
    chosen = logits_NV.gather(1, targets_N1)
    top = logits_NV.amax(-1, keepdim=True)
    mass = logits_NV.sub_(top).exp_().sum(-1, keepdim=True)
    partition = top + mass.log()
    loss = ((partition - chosen + z_loss * partition.square()) * weights_N1).sum()
    slope = logits_NV.mul_(weights_N1 * (1 + 2 * z_loss * partition) / mass)
    return loss, slope.scatter_add_(1, targets_N1, -weights_N1)


@functools.cache
def _loss_and_slope() -> Callable[..., tuple[Tensor, Tensor]]:
    return torch.compile(loss_and_slope, dynamic=True)


def loss_and_slope(
    logits_NV: Tensor, targets_N1: Tensor, weights_N1: Tensor, z_loss: float, bias_V: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The loss of a block of rows (scalar), and its gradient with respect to the logits (N, V), in their precision. For
    devices whose time goes into reading logits: compiled, they are read twice and written once."""
    wide = logits_NV.float() if bias_V is None else logits_NV.float() + bias_V
    partition = wide.logsumexp(-1, keepdim=True)
    loss = ((partition - wide.gather(1, targets_N1) + z_loss * partition.square()) * weights_N1).sum()
    chosen = torch.arange(wide.shape[1], device=wide.device) == targets_N1
    slope = (wide - partition).exp() * (weights_N1 * (1 + 2 * z_loss * partition))
    return loss, torch.where(chosen, slope - weights_N1, slope).to(logits_NV.dtype)


@torch.no_grad()
def token_nats(model: Any, ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
    """Cross-entropy of each target, (B, T) float32 nats, without holding all the logits at once."""
    weight = _head_weight(model)
    if weight is None:
        logits = model(ids_BT).float()
        return F.cross_entropy(logits.flatten(0, 1), targets_BT.flatten(), reduction="none").view_as(targets_BT)
    hidden = _scaled(model, model.hidden(ids_BT).flatten(0, 1))
    blocks = [
        F.cross_entropy((rows @ weight.T).float(), targets, reduction="none")
        for rows, targets in zip(
            hidden.split(_ROWS_AT_A_TIME), targets_BT.flatten().split(_ROWS_AT_A_TIME), strict=True
        )
    ]
    return torch.cat(blocks).view_as(targets_BT)
