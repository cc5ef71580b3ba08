"""Attention: an explicit reference, the fast path, and the modules that serve every transformer here.

B batch, T queries, S keys, H query heads, G key-value heads, D head width, C model width, R latent width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocked import attend_blocks, fits
from .cache import KeyValueCache
from .config import ModelConfig
from .feedforward import Linear
from .masks import Segments, additive
from .normalization import RMSNorm
from .positions import Rotation, rotate


def attend_reference(
    q_BTHD: Tensor,
    k_BSGD: Tensor,
    v_BSGD: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    *,
    scale: float | None = None,
    softcap: float = 0.0,
    sinks_H: Tensor | None = None,
) -> Tensor:
    """Scaled dot-product attention as in the paper (Vaswani et al. 2017, section 3.2.1), step by step.

    Args:
        mask: broadcastable to (B, H, T, S); bool (True where a query may attend to a key) or added to the scores.
        causal: query t sees keys 0..t.
        scale: of the scores; 1 / sqrt(D) unless given.
        softcap: scores become softcap * tanh(score / softcap) (Gemma 2, section 2); 0 for none.
        sinks_H: a learned score per head of a key whose value is zero: where a head's weight goes that no token should
            have (gpt-oss 2025, section 2.2).
    Returns: (B, T, H, D of the values).
    """
    weights_BHTS = attention_weights(q_BTHD, k_BSGD, mask, causal, scale=scale, softcap=softcap, sinks_H=sinks_H)
    v_BSHD = v_BSGD.repeat_interleave(q_BTHD.shape[2] // v_BSGD.shape[2], dim=2)
    return torch.einsum("bhts,bshd->bthd", weights_BHTS, v_BSHD)


def attention_weights(
    q_BTHD: Tensor,
    k_BSGD: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    *,
    scale: float | None = None,
    softcap: float = 0.0,
    sinks_H: Tensor | None = None,
) -> Tensor:
    """How much of each value every query takes (B, H, T, S); arguments as `attend_reference`."""
    k_BSHD = k_BSGD.repeat_interleave(q_BTHD.shape[2] // k_BSGD.shape[2], dim=2)
    scale = q_BTHD.shape[-1] ** -0.5 if scale is None else scale
    scores_BHTS = torch.einsum("bthd,bshd->bhts", q_BTHD, k_BSHD) * scale
    if softcap:
        scores_BHTS = softcap * torch.tanh(scores_BHTS / softcap)
    if causal:
        seen = torch.ones(scores_BHTS.shape[-2:], dtype=torch.bool, device=scores_BHTS.device).tril()
        scores_BHTS = scores_BHTS.masked_fill(~seen, float("-inf"))
    if mask is not None:
        scores_BHTS = scores_BHTS + additive(mask, scores_BHTS.dtype)
    if sinks_H is not None:
        sink = sinks_H.view(1, -1, 1, 1).expand(*scores_BHTS.shape[:3], 1).to(scores_BHTS)
        return torch.cat((scores_BHTS, sink), dim=-1).softmax(dim=-1)[..., :-1]
    return scores_BHTS.softmax(dim=-1)


def attend(
    q_BTHD: Tensor,
    k_BSGD: Tensor,
    v_BSGD: Tensor,
    mask: Tensor | Segments | None = None,
    causal: bool = False,
    *,
    scale: float | None = None,
    softcap: float = 0.0,
    sinks_H: Tensor | None = None,
) -> Tensor:
    """`attend_reference` on PyTorch's fused kernels, which know no softcap: with one, the reference it is."""
    if isinstance(mask, Segments):
        if not softcap and sinks_H is None:
            return _attend_apart(q_BTHD, k_BSGD, v_BSGD, mask, scale)
        mask = mask.mask(q_BTHD.device)
    if softcap:
        return attend_reference(q_BTHD, k_BSGD, v_BSGD, mask, causal, scale=scale, softcap=softcap, sinks_H=sinks_H)
    if sinks_H is not None:
        k_BSGD, v_BSGD, mask = _with_sink(q_BTHD, k_BSGD, v_BSGD, mask, causal, sinks_H)
        causal = False
    batch, length, heads, width = q_BTHD.shape
    groups = k_BSGD.shape[2]
    if causal and mask is None and fits(q_BTHD, k_BSGD):
        return attend_blocks(q_BTHD, k_BSGD, v_BSGD, width**-0.5 if scale is None else scale)
    if length == 1 and groups < heads and (mask is None or (mask.dim() == 4 and mask.shape[1] == 1)):
        # One query: the heads of a group stand as its queries, so keys and values are read once, not repeated.
        q_BGRD = q_BTHD.view(batch, groups, heads // groups, width)
        mixed = F.scaled_dot_product_attention(
            q_BGRD, k_BSGD.transpose(1, 2), v_BSGD.transpose(1, 2), attn_mask=mask, scale=scale
        )
        return mixed.reshape(batch, 1, heads, v_BSGD.shape[-1])
    mixed = F.scaled_dot_product_attention(
        q_BTHD.transpose(1, 2),
        k_BSGD.transpose(1, 2),
        v_BSGD.transpose(1, 2),
        attn_mask=mask,
        is_causal=causal,
        scale=scale,
        enable_gqa=groups < heads,
    )
    return mixed.transpose(1, 2)


def _attend_apart(q_BTHD: Tensor, k_BTGD: Tensor, v_BTGD: Tensor, segments: Segments, scale: float | None) -> Tensor:
    """Each sequence of the row by itself."""
    parts = (x.transpose(1, 2).split(segments.lengths, dim=2) for x in (q_BTHD, k_BTGD, v_BTGD))
    grouped = k_BTGD.shape[2] < q_BTHD.shape[2]
    mixed = [
        F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=grouped)
        for q, k, v in zip(*parts, strict=True)
    ]
    return torch.cat(mixed, dim=2).transpose(1, 2)


def _with_sink(
    q_BTHD: Tensor, k_BSGD: Tensor, v_BSGD: Tensor, mask: Tensor | None, causal: bool, sinks_H: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Keys, values and mask with one more key, of zeros: its score is zero and the mask adds the sink's; its value adds
    nothing."""
    length, heads, keys = q_BTHD.shape[1], q_BTHD.shape[2], k_BSGD.shape[1]
    whole = q_BTHD.new_zeros(1, 1, length, keys)
    if causal:
        whole = whole + additive(torch.ones(length, keys, dtype=torch.bool, device=whole.device).tril(), whole.dtype)
    if mask is not None:
        whole = whole + additive(mask, whole.dtype)
    whole = whole.expand(whole.shape[0], heads, length, keys)
    sink = sinks_H.view(1, heads, 1, 1).expand(whole.shape[0], heads, length, 1).to(whole)
    k_BSGD, v_BSGD = (F.pad(x, (0, 0, 0, 0, 0, 1)) for x in (k_BSGD, v_BSGD))
    return k_BSGD, v_BSGD, torch.cat((whole, sink), dim=-1)


@dataclass(frozen=True)
class Sight:
    """What the queries of one layer see: a rotation of queries and keys, and a mask (None: all, or causal)."""

    rotation: Rotation | None = None
    mask: Tensor | Segments | None = None
    causal: bool = False


class Attention(nn.Module):
    """Multi-head, grouped-query and multi-query attention; self or cross; causal, masked or full."""

    attend = staticmethod(attend)  # `inspection` puts one into its place that keeps the weights

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, self.head_dim = config.hidden_size, config.head_dim
        self.scale = None if config.scale_scores else 1.0
        self.softcap = config.softcap
        self.q_proj = Linear(width, config.heads * self.head_dim, bias=config.qkv_bias)
        self.k_proj = Linear(width, config.kv_heads * self.head_dim, bias=config.qkv_bias)
        self.v_proj = Linear(width, config.kv_heads * self.head_dim, bias=config.qkv_bias)
        self.o_proj = Linear(config.heads * self.head_dim, width, bias=config.output_bias)
        # RMSNorm of each query and key head (Dehghani et al. 2023)
        self.q_norm = RMSNorm(self.head_dim, config.norm_epsilon) if config.qk_norm else None
        self.k_norm = RMSNorm(self.head_dim, config.norm_epsilon) if config.qk_norm else None
        self.sinks = nn.Parameter(torch.zeros(config.heads)) if config.learned_sinks else None

    def forward(
        self,
        x_BTC: Tensor,
        sight: Sight,
        *,
        memory_BSC: Tensor | None = None,
        cache: KeyValueCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        """(B, T, C). Keys and values come from `memory_BSC` (cross-attention) or from `x_BTC`; with a `cache` they are
        added to it and the queries see all that `layer` of it holds, as far as the mask allows. A memory's keys and
        values are computed once and kept in the cache."""
        q_BTHD = self.q_proj(x_BTC).unflatten(-1, (-1, self.head_dim))
        if self.q_norm is not None:
            q_BTHD = self.q_norm(q_BTHD)
        if sight.rotation is not None:
            q_BTHD = rotate(q_BTHD, sight.rotation)
        if memory_BSC is None:
            k_BSGD, v_BSGD = self._keys_and_values(x_BTC, sight.rotation)
            if cache is not None:
                k_BSGD, v_BSGD = cache.extend(layer, k_BSGD, v_BSGD)
        elif cache is None:
            k_BSGD, v_BSGD = self._keys_and_values(memory_BSC, None)
        else:
            k_BSGD, v_BSGD = cache.memory(layer, lambda: self._keys_and_values(memory_BSC, None))
        mixed = self.attend(
            q_BTHD, k_BSGD, v_BSGD, sight.mask, sight.causal, scale=self.scale, softcap=self.softcap, sinks_H=self.sinks
        )
        return self.o_proj(mixed.flatten(2))

    def _keys_and_values(self, source_BSC: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor]:
        k_BSGD = self.k_proj(source_BSC).unflatten(-1, (-1, self.head_dim))
        v_BSGD = self.v_proj(source_BSC).unflatten(-1, (-1, self.head_dim))
        if self.k_norm is not None:
            k_BSGD = self.k_norm(k_BSGD)
        return (k_BSGD if rotation is None else rotate(k_BSGD, rotation)), v_BSGD


class LatentSelfAttention(nn.Module):
    """Multi-head latent attention (DeepSeek-V2, section 2.1): per token the cache holds one latent, from which all
    heads' keys and values come, and one rotary key that all heads share.

    With a cache the projections to keys and values move over to the queries and the result ("absorbed"), so that the
    latents are attended to as they lie there.
    """

    attend = staticmethod(attend)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        latent = config.latent
        assert latent is not None
        width, self.heads, self.head_dim = config.hidden_size, config.heads, config.head_dim
        self.rank, self.rope_dim = latent.rank, latent.rope_head_dim
        self.scale = (self.head_dim + self.rope_dim) ** -0.5
        self.softcap = config.softcap
        queries = self.heads * (self.head_dim + self.rope_dim)
        self.q_down = Linear(width, latent.query_rank, bias=False) if latent.query_rank else None
        self.q_norm = RMSNorm(latent.query_rank, config.norm_epsilon) if latent.query_rank else None
        self.q_proj = Linear(latent.query_rank or width, queries, bias=False)
        self.kv_down = Linear(width, self.rank + self.rope_dim, bias=False)
        self.kv_norm = RMSNorm(self.rank, config.norm_epsilon)
        self.k_up = Linear(self.rank, self.heads * self.head_dim, bias=False)
        self.v_up = Linear(self.rank, self.heads * self.head_dim, bias=False)
        self.o_proj = Linear(self.heads * self.head_dim, width, bias=config.output_bias)
        self.sinks = nn.Parameter(torch.zeros(config.heads)) if config.learned_sinks else None

    def forward(
        self,
        x_BTC: Tensor,
        sight: Sight,
        *,
        cache: KeyValueCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        """(B, T, C); arguments as `Attention`."""
        assert sight.rotation is not None
        below = x_BTC if self.q_down is None or self.q_norm is None else self.q_norm(self.q_down(x_BTC))
        q_BTHD = self.q_proj(below).unflatten(-1, (self.heads, -1))
        q_BTHD, turned_BTHD = q_BTHD.split((self.head_dim, self.rope_dim), dim=-1)
        latent_BSR, key_BSD = self.kv_down(x_BTC).split((self.rank, self.rope_dim), dim=-1)
        latent_BS1R, key_BS1D = self.kv_norm(latent_BSR).unsqueeze(2), rotate(key_BSD.unsqueeze(2), sight.rotation)
        turned_BTHD = rotate(turned_BTHD, sight.rotation)
        if cache is not None:
            latent_BS1R, key_BS1D = cache.extend(layer, latent_BS1R, key_BS1D)
        extra = {"scale": self.scale, "softcap": self.softcap, "sinks_H": self.sinks}
        if cache is None:
            k_BSHD = self.k_up(latent_BS1R.squeeze(2)).unflatten(-1, (self.heads, -1))
            v_BSHD = self.v_up(latent_BS1R.squeeze(2)).unflatten(-1, (self.heads, -1))
            k_BSHD = torch.cat((k_BSHD, key_BS1D.expand(*k_BSHD.shape[:3], -1)), dim=-1)
            mixed = self.attend(
                torch.cat((q_BTHD, turned_BTHD), dim=-1), k_BSHD, v_BSHD, sight.mask, sight.causal, **extra
            )
        else:
            k_up_HDR, v_up_HDR = (up.weight.unflatten(0, (self.heads, -1)) for up in (self.k_up, self.v_up))
            q_BTHR = torch.einsum("bthd,hdr->bthr", q_BTHD, k_up_HDR)
            q_BTHD, k_BS1D = torch.cat((q_BTHR, turned_BTHD), dim=-1), torch.cat((latent_BS1R, key_BS1D), dim=-1)
            mixed_BTHR = self.attend(q_BTHD, k_BS1D, latent_BS1R, sight.mask, sight.causal, **extra)
            mixed = torch.einsum("bthr,hdr->bthd", mixed_BTHR, v_up_HDR)
        return self.o_proj(mixed.flatten(2))
