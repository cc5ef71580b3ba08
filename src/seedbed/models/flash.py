"""Attention with the softmax computed online, in memory that grows with T and not with T²: what a flash kernel does,
in plain PyTorch.

B batch, T queries, S keys, H query heads, G key-value heads, R query heads of each, D head width. N = B G, of which a
few are computed at a time; Q queries of a block (of all R heads), K keys of a block.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .masks import additive

_LOG2_E = 1 / math.log(2)


@torch.no_grad()
def attend_online(
    q_BTHD: Tensor,
    k_BSGD: Tensor,
    v_BSGD: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    *,
    scale: float | None = None,
    block: int = 512,
) -> Tensor:
    """`attention.attend_reference` (B, T, H, D) without ever holding all scores. Forward only.

    Queries go in blocks, and for each the keys go by in blocks. Of the scores so far a query keeps the largest, `top`,
    the sum of exp(score - top), and the mixture of values weighted likewise; when a larger score comes, what was kept
    shrinks by exp(old top - new top). Dividing at the end gives the softmax (Milakov and Gimelshein 2018; Dao et al.
    2022, algorithm 1). Memory beyond the output and a copy of keys and values: O(block²) scores.

    Scores are kept in units of log 2, since exp2 costs a third of exp. The heads that share keys stand as further
    queries of one product. On a CPU there are as many products at a time as threads, so that blocks stay in the caches.

    Args: as `attend_reference`; `block`: queries (of all heads that share keys) and keys held at once.
    """
    batch, length, heads, width = q_BTHD.shape
    total, groups = k_BSGD.shape[1], k_BSGD.shape[2]
    repeats = heads // groups
    scale = (width**-0.5 if scale is None else scale) * _LOG2_E
    q_NRTD = q_BTHD.unflatten(2, (groups, repeats)).permute(0, 2, 3, 1, 4).flatten(0, 1)
    k_NSD, v_NSD = (x.transpose(1, 2).contiguous().flatten(0, 1) for x in (k_BSGD, v_BSGD))
    # A view: it takes no memory.
    mask = None if mask is None else mask.expand(batch, heads, length, total).unflatten(1, (groups, repeats))
    out_NRTD = q_NRTD.new_empty(*q_NRTD.shape[:3], v_BSGD.shape[-1])
    rows, together = max(1, block // repeats), batch * groups
    if q_BTHD.device.type == "cpu":
        together = min(together, torch.get_num_threads())
    room = q_BTHD.new_empty(together * repeats * rows * block)
    ahead_QK = torch.ones(rows, rows + block, dtype=torch.bool, device=q_BTHD.device).triu_(1)
    for some in (slice(first, first + together) for first in range(0, batch * groups, together)):
        for start in range(0, length, rows):
            queries = slice(start, start + rows)
            q_NQD = (q_NRTD[some, :, queries] * scale).flatten(1, 2)
            mixture = _Mixture(q_NQD, v_NSD.shape[-1])
            # Behind the last query of the block a causal mask hides every key.
            seen = min(total, start + rows) if causal else total
            for first in range(0, seen, block):
                keys = slice(first, min(first + block, seen))
                k_NDK = k_NSD[some, keys].transpose(1, 2)
                shape = (*q_NQD.shape[:2], k_NDK.shape[-1])
                scores_NQK = torch.bmm(q_NQD, k_NDK, out=room[: math.prod(shape)].view(shape))
                scores_NRQK = scores_NQK.unflatten(1, (repeats, -1))
                if causal and keys.stop > start + 1:
                    _hide_what_is_ahead(scores_NRQK, start - first, ahead_QK)
                if mask is not None:
                    part = mask[..., queries, keys].flatten(0, 1)[some]
                    scores_NRQK += additive(part, scores_NQK.dtype) * _LOG2_E
                mixture.add(scores_NQK, v_NSD[some, keys])
            out_NRTD[some, :, queries] = mixture.result().unflatten(1, (repeats, -1))
    return out_NRTD.unflatten(0, (batch, groups)).permute(0, 3, 1, 2, 4).flatten(2, 3)


class _Mixture:
    """Values mixed by 2^score, of the keys so far."""

    def __init__(self, q_NQD: Tensor, width: int) -> None:
        shape = q_NQD.shape[:2]
        self.top = q_NQD.new_full((*shape, 1), float("-inf"))
        self.weight = q_NQD.new_zeros(*shape, 1)
        self.mixed = q_NQD.new_zeros(*shape, width)

    def add(self, scores_NQK: Tensor, v_NKD: Tensor) -> None:
        """The scores are overwritten."""
        top = torch.maximum(self.top, scores_NQK.amax(dim=-1, keepdim=True))
        shift = top.masked_fill(top == float("-inf"), 0.0)  # nothing seen yet: all weights are zero
        weights_NQK, kept = scores_NQK.sub_(shift).exp2_(), (self.top - shift).exp2_()
        self.weight.mul_(kept).add_(weights_NQK.sum(dim=-1, keepdim=True))
        self.mixed.mul_(kept).baddbmm_(weights_NQK, v_NKD)
        self.top = top

    def result(self) -> Tensor:
        return self.mixed.div_(self.weight)


def _hide_what_is_ahead(scores_NRQK: Tensor, offset: int, ahead_QK: Tensor) -> None:
    """Query q of the block stands at the place of its key q + `offset`. Keys that all queries see are not touched.

    Args:
        ahead_QK: True where a key's number is larger than a query's, for as many as are ever needed.
    """
    queries, keys = scores_NRQK.shape[-2:]
    seen = min(max(offset, 0), keys)
    scores_NRQK[..., seen:].masked_fill_(ahead_QK[:queries, seen - offset : keys - offset], float("-inf"))
