"""Who may see whom, and at what price: windows, attention sinks, ALiBi, and T5's relative positions.

B batch, T queries, S keys, H heads. A distance is query column - key column: positive looks back.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Segments:
    """A causal mask for one row (B = 1) of sequences one behind another, none of which sees another's tokens.

    Attention is then computed for each by itself: nothing is spent on pairs that may not see each other.
    """

    lengths: tuple[int, ...]

    def positions(self, device: torch.device | str = "cpu") -> Tensor:
        """Each token's place in its sequence (1, T)."""
        return torch.cat([torch.arange(length, device=device) for length in self.lengths])[None]

    def mask(self, device: torch.device | str = "cpu") -> Tensor:
        """Bool (1, 1, T, T), True where a query may attend to a key."""
        blocks = [torch.ones(length, length, dtype=torch.bool, device=device).tril() for length in self.lengths]
        return torch.block_diag(*blocks).bool()[None, None]


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A bool mask (True = may attend) as what is added to scores: 0 or -inf. An additive one is returned as it is."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, float("-inf"))


def document_mask(documents_BT: Tensor, causal: bool) -> Tensor:
    """Bool (B, 1, T, T), True where a query may attend to a key: both are of one document, and with `causal` the key is
    not ahead."""
    seen = documents_BT[:, None, :, None] == documents_BT[:, None, None, :]
    return seen.tril_() if causal else seen


def document_positions(documents_BT: Tensor) -> Tensor:
    """Each token's place in its document (B, T)."""
    places = torch.arange(documents_BT.shape[1], device=documents_BT.device).expand_as(documents_BT)
    begins = torch.ones_like(documents_BT, dtype=torch.bool)
    begins[:, 1:] = documents_BT[:, 1:] != documents_BT[:, :-1]
    return places - torch.where(begins, places, 0).cummax(dim=1).values


def prefix_mask(prefix_B: Tensor, length: int) -> Tensor:
    """Bool (B, 1, T, T): causal, but the first `prefix_B` tokens of a row are seen by all of it (Raffel et al. 2020,
    section 3.2.1)."""
    places = torch.arange(length, device=prefix_B.device)
    return (places[:, None] >= places)[None, None] | (places < prefix_B[:, None])[:, None, None, :]


def outside_window(distance: Tensor, window: int, sinks: int, causal: bool) -> Tensor:
    """True where a key is too far away: causal, `window` or more tokens back; else more than window / 2 either way.

    The first `sinks` keys are never too far (StreamingLLM, Xiao et al. 2024). The last axis of `distance` is the keys'.
    """
    far = distance >= window if causal else distance.abs() > window // 2
    if sinks:
        far = far & (torch.arange(distance.shape[-1], device=distance.device) >= sinks)
    return far


def alibi_slopes(heads: int) -> Tensor:
    """The slope of each head (H,): 2^(-8/n), 2^(-16/n), ... for n heads, n a power of two; other counts take the rest
    from every second slope of twice as many (Press et al. 2022, and its published code)."""
    nearest = 1 << int(math.log2(heads))
    slopes = [2.0 ** (-8.0 * (i + 1) / nearest) for i in range(nearest)]
    slopes += [2.0 ** (-4.0 * (2 * i + 1) / nearest) for i in range(heads - nearest)]
    return torch.tensor(slopes)


@functools.cache
def alibi_slopes_on(heads: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The same, kept on a device: a step that is recorded there may not bring anything to it."""
    with torch.inference_mode(False):  # it outlives a call made for inference alone
        return alibi_slopes(heads).to(device, dtype)


def relative_bucket(distance: Tensor, buckets: int, furthest: int, causal: bool) -> Tensor:
    """The bucket of each distance, int64 (T5, Raffel et al. 2020, section 2.1): near ones have their own, far ones
    share in logarithmic steps up to `furthest`. Not causal, the second half is for keys ahead; causal, they are in
    bucket 0."""
    if causal:
        ahead = torch.zeros_like(distance)
        distance = distance.clamp(min=0)
    else:
        buckets //= 2
        ahead = (distance < 0).long() * buckets
        distance = distance.abs()
    exact = buckets // 2
    ratio = torch.log(distance.clamp(min=1).float() / exact) / math.log(furthest / exact)
    far = (exact + (ratio * (buckets - exact)).long()).clamp(max=buckets - 1)
    return ahead + torch.where(distance < exact, distance, far)
