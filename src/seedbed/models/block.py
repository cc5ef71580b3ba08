"""The block of every transformer, the stack of blocks, and how their weights are drawn.

B batch, T tokens, S tokens of a memory, C model width, H heads.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..core.errors import DataError
from ..core.randomness import torch_generator
from .attention import Attention, LatentSelfAttention, Sight
from .cache import KeyValueCache, Placement, Visibility
from .config import ModelConfig
from .feedforward import MixtureOfExperts, feedforward
from .masks import Segments, additive, alibi_slopes_on, outside_window, relative_bucket
from .normalization import LayerNorm, RMSNorm
from .positions import Rotary, Rotation, sinusoids


class Block(nn.Module):
    """Pre-norm: x + sublayer(norm(x)); post-norm: norm(x + sublayer(x)). The sublayers are self-attention,
    cross-attention in the decoder of an encoder-decoder, and a feed-forward.

    Args:
        cross: with cross-attention.
        normed: the input comes normalised, so the first pre-norm is left out (ModernBERT).
    """

    def __init__(self, config: ModelConfig, cross: bool = False, normed: bool = False) -> None:
        super().__init__()
        self.pre = config.norm_position == "pre"
        self.attention_norm = nn.Identity() if normed else norm(config)
        self.attention = LatentSelfAttention(config) if config.latent else Attention(config)
        self.cross_norm = norm(config) if cross else None
        self.cross_attention = Attention(config) if cross else None
        self.feedforward_norm = norm(config)
        self.feedforward = MixtureOfExperts(config) if config.experts else feedforward(config)

    def forward(
        self,
        x_BTC: Tensor,
        sight: Sight,
        cache: KeyValueCache | None = None,
        layer: int = 0,
        memory_BSC: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        def attend(x: Tensor) -> Tensor:
            return self.attention(x, sight, cache=cache, layer=layer)

        def look_up(x: Tensor) -> Tensor:
            assert self.cross_attention is not None
            return self.cross_attention(x, Sight(mask=memory_mask), memory_BSC=memory_BSC, cache=cache, layer=layer)

        x_BTC = self._sublayer(x_BTC, attend, self.attention_norm)
        if self.cross_norm is not None:
            x_BTC = self._sublayer(x_BTC, look_up, self.cross_norm)
        return self._sublayer(x_BTC, self.feedforward, self.feedforward_norm)

    def _sublayer(self, x_BTC: Tensor, sublayer: Callable[[Tensor], Tensor], norm: nn.Module) -> Tensor:
        return x_BTC + sublayer(norm(x_BTC)) if self.pre else norm(x_BTC + sublayer(x_BTC))

    def residual_writers(self) -> list[nn.Module]:
        """The layers whose output is added to the residual stream."""
        writers: list[nn.Module] = [self.attention.o_proj]
        if self.cross_attention is not None:
            writers.append(self.cross_attention.o_proj)
        if isinstance(self.feedforward, MixtureOfExperts):
            return [*writers, *(expert.get_submodule("down_proj") for expert in self.feedforward.experts)]
        return [*writers, self.feedforward.down_proj]


class Stack(nn.Module):
    """Blocks one above another, with the positions that they share and, pre-norm, the last norm."""

    def __init__(self, config: ModelConfig, layers: int, causal: bool, cross: bool = False) -> None:
        super().__init__()
        self.config, self.causal = config, causal
        normed = config.embedding_norm and config.norm_position == "pre"
        self.blocks = nn.ModuleList(Block(config, cross, normed and layer == 0) for layer in range(layers))
        self.norm = norm(config) if config.norm_position == "pre" else None
        learned, relative = config.positions == "learned", config.positions == "relative"
        self.position_embedding = embedding(config.context_length, config.hidden_size) if learned else None
        self.relative_bias = embedding(config.relative_buckets, config.heads) if relative else None
        width = config.latent.rope_head_dim if config.latent else config.head_dim
        self.rotary = Rotary(width, config.rope_theta, config.rope_scaling)
        self.local_rotary = Rotary(width, config.local_rope_theta) if config.local_rope_theta else self.rotary

    def add_positions(self, x_BTC: Tensor, positions_BT: Tensor | None, reach: int) -> Tensor:
        """Embeddings with learned or sinusoidal positions (below `reach`) added; others come in by attention."""
        config, length = self.config, x_BTC.shape[1]
        if config.positions == "sinusoidal":
            places = torch.arange(length, device=x_BTC.device) if positions_BT is None else positions_BT
            return x_BTC * config.hidden_size**0.5 + sinusoids(places, config.hidden_size).to(x_BTC)
        if self.position_embedding is None:
            return x_BTC
        if reach > config.context_length:
            raise DataError(f"{reach} tokens are more than the context of {config.context_length}")
        weight = self.position_embedding.weight
        return x_BTC + (weight[:length] if positions_BT is None else weight[positions_BT])

    def forward(
        self,
        x_BTC: Tensor,
        positions_BT: Tensor | None = None,
        mask: Tensor | Segments | None = None,
        cache: KeyValueCache | None = None,
        memory_BSC: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        """(B, T, C) of embedded tokens (B, T, C). Arguments as `Decoder.hidden`; `memory_BSC` is what cross-attention
        reads, as far as the additive `memory_mask` (B, 1, 1, S) allows."""
        length, placement = x_BTC.shape[1], None
        reach = length if positions_BT is None else int(positions_BT.max()) + 1  # all positions lie below
        if cache is not None:
            used, placement = cache.used, cache.begin(length)
            if positions_BT is None and used:
                positions_BT, reach = placement.positions_BT, used + length
        x_BTC = self.add_positions(x_BTC, positions_BT, reach)
        whole, local = self._sights(x_BTC, self._rotations(x_BTC, positions_BT, reach), placement, mask)
        for layer, block in enumerate(self.blocks):
            sight = local if self.config.windowed(layer) else whole
            x_BTC = block(x_BTC, sight, cache, layer, memory_BSC, memory_mask)
        if cache is not None:
            cache.finish()
        return x_BTC if self.norm is None else self.norm(x_BTC)

    def _sights(
        self,
        x_BTC: Tensor,
        rotations: tuple[Rotation | None, Rotation | None],
        placement: Placement | None,
        mask: Tensor | Segments | None,
    ) -> tuple[Sight, Sight]:
        """What layers without and with a window see."""
        whole = self._sight(x_BTC, rotations[0], None if placement is None else placement.whole, mask, False)
        if not self.config.window:
            return whole, whole
        return whole, self._sight(x_BTC, rotations[1], None if placement is None else placement.local, mask, True)

    def _sight(
        self,
        x_BTC: Tensor,
        rotation: Rotation | None,
        seen: Visibility | None,
        mask: Tensor | Segments | None,
        windowed: bool,
    ) -> Sight:
        config = self.config
        if mask is None and seen is not None:
            mask = seen.mask(x_BTC.dtype)
        causal = self.causal and mask is None
        # A cache that keeps no more than the window has hidden the rest already.
        windowed = windowed and not (seen is not None and seen.layout.window)
        if not windowed and config.positions not in ("alibi", "relative"):
            return Sight(rotation, mask, causal)
        if isinstance(mask, Segments):
            mask = mask.mask(x_BTC.device)
        if seen is None:
            places = torch.arange(x_BTC.shape[1], device=x_BTC.device)
            distance = (places[:, None] - places)[None, None]
        else:
            distance = seen.distance[:, None]  # (B or 1, 1, T, S)
        bias = self._bias(distance, x_BTC)
        if mask is not None:
            bias = bias + additive(mask, x_BTC.dtype)
        elif self.causal:
            bias = bias.masked_fill(distance < 0, float("-inf"))
        if windowed:
            far = outside_window(distance, config.window, config.sink_tokens, self.causal)
            bias = bias.masked_fill(far, float("-inf"))
        return Sight(rotation, bias, False)

    def _bias(self, distance: Tensor, like: Tensor) -> Tensor:
        """What positions add to the scores: (B or 1, H or 1, T, S)."""
        config = self.config
        if config.positions == "alibi":
            slopes = alibi_slopes_on(config.heads, like.device, like.dtype)
            return -slopes[:, None, None] * distance.abs()
        if self.relative_bias is None:
            return torch.zeros(distance.shape, dtype=like.dtype, device=like.device)
        buckets = relative_bucket(distance[:, 0], config.relative_buckets, config.relative_distance, self.causal)
        return self.relative_bias(buckets).permute(0, 3, 1, 2)

    def _rotations(
        self, x_BTC: Tensor, positions_BT: Tensor | None, reach: int
    ) -> tuple[Rotation | None, Rotation | None]:
        """Those of layers without and with a window."""
        if self.config.positions != "rotary":
            return None, None

        def rotation(rotary: Rotary) -> Rotation:
            if positions_BT is None:
                return rotary.sequence(reach, x_BTC)
            if reach > self.config.context_length:
                return rotary.beyond(positions_BT, x_BTC)
            return rotary.at(positions_BT, self.config.context_length, x_BTC)

        whole = rotation(self.rotary)
        return whole, whole if self.local_rotary is self.rotary else rotation(self.local_rotary)


def norm(config: ModelConfig) -> nn.Module:
    if config.norm == "rms":
        return RMSNorm(config.hidden_size, config.norm_epsilon)
    return LayerNorm(config.hidden_size, config.norm_epsilon, config.norm_bias)


def embedding(rows: int, width: int) -> nn.Embedding:
    """A lookup table whose rows are not drawn yet."""
    return nn.Embedding(rows, width, _weight=torch.empty(rows, width))


def initialise(model: nn.Module, layers: int, generator: torch.Generator | None) -> None:
    """Draw all matrices from `generator`, in the order of their names.

    Embeddings: normal 0.02. Linear layers: normal with 1/sqrt(fan in), and those that write to the residual stream
    divided by sqrt(2 * layers), so that its variance does not grow with depth (GPT-2). Biases: zero. Norms: one.
    """
    if generator is None:
        generator = torch_generator(0, "model")
    for _, module in sorted(model.named_modules()):
        if isinstance(module, nn.Embedding) and not module.weight.is_meta:
            nn.init.normal_(module.weight, std=0.02, generator=generator)
        elif isinstance(module, nn.Linear) and not module.weight.is_meta:
            nn.init.normal_(module.weight, std=module.in_features**-0.5, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Block):
                for writer in module.residual_writers():
                    writer.weight.mul_((2 * layers) ** -0.5)  # type: ignore[operator]
