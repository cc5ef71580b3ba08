"""Attention with the softmax computed online, in memory that grows with T and not with T²: what a flash kernel does,
in plain PyTorch.

B batch, T queries, S keys, H query heads, G key-value heads, D head width, K keys of a block.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .masks import additive


def attend_online(
    q_BTHD: Tensor,
    k_BSGD: Tensor,
    v_BSGD: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    *,
    scale: float | None = None,
    block: int = 256,
) -> Tensor:
    """`attention.attend_reference` (B, T, H, D) without ever holding all scores.

    Queries go in blocks, and for each the keys go by in blocks. Of the scores so far a query keeps the largest, `top`,
    the sum of exp(score - top), and the mixture of values weighted likewise; when a larger score comes, what was kept
    shrinks by exp(old top - new top). Dividing at the end gives the softmax (Milakov and Gimelshein 2018; Dao et al.
    2022, algorithm 1). Memory beyond the output: O(block²) scores a head.

    Args: as `attend_reference`; `block`: queries and keys held at once.
    """
    batch, length, heads, width = q_BTHD.shape
    total, repeats = k_BSGD.shape[1], heads // k_BSGD.shape[2]
    scale = width**-0.5 if scale is None else scale
    mask = None if mask is None else mask.expand(*mask.shape[:-2], length, total)  # a view: it takes no memory
    out_BTHD = q_BTHD.new_empty(batch, length, heads, v_BSGD.shape[-1])
    for start in range(0, length, block):
        q_BHTD = q_BTHD[:, start : start + block].transpose(1, 2) * scale
        rows = torch.arange(start, start + q_BHTD.shape[2], device=q_BTHD.device)
        top = q_BHTD.new_full((*q_BHTD.shape[:3], 1), float("-inf"))
        total_weight = torch.zeros_like(top)
        mixed = q_BHTD.new_zeros(*q_BHTD.shape[:3], v_BSGD.shape[-1])
        # Behind the last query of the block a causal mask hides every key.
        for first in range(0, min(total, start + block) if causal else total, block):
            columns = torch.arange(first, min(first + block, total), device=q_BTHD.device)
            k_BHKD, v_BHKD = (
                x[:, first : first + block].repeat_interleave(repeats, dim=2).transpose(1, 2) for x in (k_BSGD, v_BSGD)
            )
            scores = q_BHTD @ k_BHKD.transpose(-1, -2)
            if causal:
                scores = scores.masked_fill(columns > rows[:, None], float("-inf"))
            if mask is not None:
                part = mask[..., start : start + block, first : first + block]
                scores = scores + additive(part, scores.dtype)
            new_top = torch.maximum(top, scores.amax(dim=-1, keepdim=True))
            shift = new_top.masked_fill(new_top == float("-inf"), 0.0)  # nothing seen yet: all weights are zero
            weights, kept = (scores - shift).exp(), (top - shift).exp()
            total_weight = total_weight * kept + weights.sum(dim=-1, keepdim=True)
            mixed = mixed * kept + weights @ v_BHKD
            top = new_top
        out_BTHD[:, start : start + block] = (mixed / total_weight).transpose(1, 2)
    return out_BTHD
