"""Attention: an explicit reference, the fast path, and the one module that serves every transformer here.

B batch, T queries, S keys, H query heads, G key-value heads, D head width, C model width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .cache import KeyValueCache
from .feedforward import Linear
from .normalization import RMSNorm
from .positions import Rotation, rotate


def attend_reference(
    q_BTHD: Tensor, k_BSGD: Tensor, v_BSGD: Tensor, mask: Tensor | None = None, causal: bool = False
) -> Tensor:
    """Scaled dot-product attention as in the paper (Vaswani et al. 2017, section 3.2.1), step by step.

    Args:
        mask: bool, broadcastable to (B, H, T, S); True where a query may attend to a key.
        causal: query t sees keys 0..t.
    Returns: (B, T, H, D).
    """
    repeats = q_BTHD.shape[2] // k_BSGD.shape[2]
    k_BSHD, v_BSHD = k_BSGD.repeat_interleave(repeats, dim=2), v_BSGD.repeat_interleave(repeats, dim=2)
    scores_BHTS = torch.einsum("bthd,bshd->bhts", q_BTHD, k_BSHD) / q_BTHD.shape[-1] ** 0.5
    if causal:
        mask = torch.ones(scores_BHTS.shape[-2:], dtype=torch.bool, device=scores_BHTS.device).tril()
    if mask is not None:
        scores_BHTS = scores_BHTS.masked_fill(~mask, float("-inf"))
    return torch.einsum("bhts,bshd->bthd", scores_BHTS.softmax(dim=-1), v_BSHD)


def attend(q_BTHD: Tensor, k_BSGD: Tensor, v_BSGD: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """`attend_reference` on PyTorch's fused kernels."""
    batch, length, heads, width = q_BTHD.shape
    groups = k_BSGD.shape[2]
    if length == 1 and groups < heads and (mask is None or (mask.dim() == 4 and mask.shape[1] == 1)):
        # One query: the heads of a group stand as its queries, so keys and values are read once, not repeated.
        q_BGRD = q_BTHD.view(batch, groups, heads // groups, width)
        mixed = F.scaled_dot_product_attention(q_BGRD, k_BSGD.transpose(1, 2), v_BSGD.transpose(1, 2), attn_mask=mask)
        return mixed.reshape(batch, 1, heads, width)
    mixed = F.scaled_dot_product_attention(
        q_BTHD.transpose(1, 2),
        k_BSGD.transpose(1, 2),
        v_BSGD.transpose(1, 2),
        attn_mask=mask,
        is_causal=causal,
        enable_gqa=groups < heads,
    )
    return mixed.transpose(1, 2)


class Attention(nn.Module):
    """Multi-head, grouped-query and multi-query attention; self or cross; causal, masked or full.

    Args:
        width: C. heads, kv_heads, head_dim: H, G, D.
        qkv_bias, output_bias: whether the projections have biases.
        qk_norm_epsilon: RMSNorm of each query and key head (Dehghani et al. 2023); None for none.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        *,
        qkv_bias: bool = False,
        output_bias: bool = False,
        qk_norm_epsilon: float | None = None,
    ) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.q_proj = Linear(width, heads * head_dim, bias=qkv_bias)
        self.k_proj = Linear(width, kv_heads * head_dim, bias=qkv_bias)
        self.v_proj = Linear(width, kv_heads * head_dim, bias=qkv_bias)
        self.o_proj = Linear(heads * head_dim, width, bias=output_bias)
        self.q_norm = None if qk_norm_epsilon is None else RMSNorm(head_dim, qk_norm_epsilon)
        self.k_norm = None if qk_norm_epsilon is None else RMSNorm(head_dim, qk_norm_epsilon)

    def forward(
        self,
        x_BTC: Tensor,
        *,
        memory_BSC: Tensor | None = None,
        rotation: Rotation | None = None,
        mask: Tensor | None = None,
        causal: bool = False,
        cache: KeyValueCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        """(B, T, C). Keys and values come from `memory_BSC` (cross-attention) or from `x_BTC`; with a `cache` they are
        added to it and the queries see all that `layer` of it holds, as far as `mask` allows."""
        source = x_BTC if memory_BSC is None else memory_BSC
        q_BTHD = self.q_proj(x_BTC).unflatten(-1, (-1, self.head_dim))
        k_BSGD = self.k_proj(source).unflatten(-1, (-1, self.head_dim))
        v_BSGD = self.v_proj(source).unflatten(-1, (-1, self.head_dim))
        if self.q_norm is not None and self.k_norm is not None:
            q_BTHD, k_BSGD = self.q_norm(q_BTHD), self.k_norm(k_BSGD)
        if rotation is not None:
            q_BTHD, k_BSGD = rotate(q_BTHD, rotation), rotate(k_BSGD, rotation)
        if cache is not None:
            k_BSGD, v_BSGD = cache.extend(layer, k_BSGD, v_BSGD)
        return self.o_proj(attend(q_BTHD, k_BSGD, v_BSGD, mask, causal).flatten(2))
