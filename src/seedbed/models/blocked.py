"""Causal attention for training in bfloat16 on a CPU: matrix products over blocks of queries, forwards and backwards.

PyTorch's fused kernel for CPUs multiplies bfloat16 no faster than float32, and its backward pass takes twice as long as
these products. They skip the keys ahead of a block, which a causal mask hides anyway, and keep the softmax's weights,
so memory grows with T²: `fits` says up to which length that is worth it.

B batch, T tokens, H heads, D head width, N = B H. Q queries of a block, S keys up to its end.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_BLOCK = 128  # queries
_LONGEST = 1024  # tokens


def fits(q_BTHD: Tensor, k_BSHD: Tensor) -> bool:
    """Whether `attend_blocks` is the right one for these queries and keys, causal and without any other mask."""
    return (
        q_BTHD.dtype == torch.bfloat16
        and q_BTHD.device.type == "cpu"
        and torch.is_grad_enabled()
        and q_BTHD.shape == k_BSHD.shape
        and q_BTHD.shape[1] <= _LONGEST
    )


def attend_blocks(q_BTHD: Tensor, k_BTHD: Tensor, v_BTHD: Tensor, scale: float) -> Tensor:
    """`attention.attend_reference`, causal, (B, T, H, D)."""
    queries_NTD, keys_NTD, values_NTD = (x.transpose(1, 2).flatten(0, 1) for x in (q_BTHD * scale, k_BTHD, v_BTHD))
    mixed_NTD, _ = _attend(queries_NTD, keys_NTD, values_NTD)
    return mixed_NTD.unflatten(0, (q_BTHD.shape[0], -1)).transpose(1, 2)


# An operation of its own is opaque to the compiler, which would turn writing into slices into copies.
@torch.library.custom_op("seedbed::attend_blocks", mutates_args=())
def _attend(q_NTD: Tensor, k_NTD: Tensor, v_NTD: Tensor) -> tuple[Tensor, Tensor]:
    """What is mixed (N, T, D), and the weights (N, all blocks' Q S one behind another)."""
    mixed_NTD, weights = torch.empty_like(v_NTD, memory_format=torch.contiguous_format), _weights_like(q_NTD)
    for start, end, part in _blocks(q_NTD.shape[1]):
        scores_NQS = torch.bmm(q_NTD[:, start:end], k_NTD[:, :end].transpose(1, 2))
        ahead = torch.full((end - start, end - start), float("-inf"), dtype=q_NTD.dtype).triu_(1)
        scores_NQS[..., start:] += ahead
        weights_NQS = weights[:, part].view(scores_NQS.shape)
        torch.softmax(scores_NQS, dim=-1, out=weights_NQS)
        torch.bmm(weights_NQS, v_NTD[:, :end], out=mixed_NTD[:, start:end])
    return mixed_NTD, weights


@torch.library.custom_op("seedbed::attend_blocks_backward", mutates_args=())
def _attend_backward(
    gradient_NTD: Tensor, weights: Tensor, q_NTD: Tensor, k_NTD: Tensor, v_NTD: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    gradient_NTD = gradient_NTD.contiguous()
    q_gradient, k_gradient, v_gradient = (
        torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q_NTD, k_NTD, v_NTD)
    )
    for number, (start, end, part) in enumerate(reversed(_blocks(q_NTD.shape[1]))):
        queries = slice(start, end)
        weights_NQS = weights[:, part].view(-1, end - start, end)
        slopes_NQS = torch.bmm(gradient_NTD[:, queries], v_NTD[:, :end].transpose(1, 2))
        slopes_NQS = torch._softmax_backward_data(slopes_NQS, weights_NQS, -1, weights_NQS.dtype)
        torch.bmm(slopes_NQS, k_NTD[:, :end], out=q_gradient[:, queries])
        # The last block sees all keys, so that it is the first to write and the others add.
        for into, left, right in (
            (v_gradient, weights_NQS, gradient_NTD[:, queries]), (k_gradient, slopes_NQS, q_NTD[:, queries])
        ):  # fmt: skip
            if number == 0:
                torch.bmm(left.transpose(1, 2), right, out=into)
            else:
                into[:, :end] += torch.bmm(left.transpose(1, 2), right)
    return q_gradient, k_gradient, v_gradient


def _blocks(length: int) -> list[tuple[int, int, slice]]:
    """First query, end, and where the block's weights lie."""
    found, used = [], 0
    for start in range(0, length, _BLOCK):
        end = min(start + _BLOCK, length)
        found.append((start, end, slice(used, used + (end - start) * end)))
        used += (end - start) * end
    return found


def _weights_like(q_NTD: Tensor) -> Tensor:
    return q_NTD.new_empty(q_NTD.shape[0], _blocks(q_NTD.shape[1])[-1][2].stop)


@_attend.register_fake
def _(q_NTD: Tensor, k_NTD: Tensor, v_NTD: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(v_NTD, memory_format=torch.contiguous_format), _weights_like(q_NTD)


@_attend_backward.register_fake
def _(
    gradient_NTD: Tensor, weights: Tensor, q_NTD: Tensor, k_NTD: Tensor, v_NTD: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q_NTD, k_NTD, v_NTD))
    return q, k, v


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1], *inputs)


def _backward(ctx: Any, gradient_NTD: Tensor, _: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    found: tuple[Tensor, Tensor, Tensor] = _attend_backward(gradient_NTD, *ctx.saved_tensors)
    return found


_attend.register_autograd(_backward, setup_context=_keep)
