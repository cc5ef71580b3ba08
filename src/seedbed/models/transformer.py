"""Transformers: a Qwen3-shaped decoder, a BERT-shaped encoder, and a classifier on top of a decoder.

B batch, T tokens, C model width, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.errors import ConfigError, DataError
from ..core.randomness import torch_generator
from .attention import Attention
from .cache import KeyValueCache
from .config import ModelConfig
from .feedforward import GELU, Linear, SwiGLU
from .normalization import LayerNorm, RMSNorm
from .positions import Rotary, Rotation


class DecoderBlock(nn.Module):
    """x + attention(norm(x)), then x + feedforward(norm(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size, config.norm_epsilon)
        self.attention = Attention(
            config.hidden_size,
            config.heads,
            config.kv_heads,
            config.head_dim,
            qkv_bias=config.qkv_bias,
            qk_norm_epsilon=config.norm_epsilon if config.qk_norm else None,
        )
        self.feedforward_norm = RMSNorm(config.hidden_size, config.norm_epsilon)
        self.feedforward = SwiGLU(config.hidden_size, config.intermediate_size)

    def forward(
        self,
        x_BTC: Tensor,
        rotation: Rotation,
        mask: Tensor | None,
        cache: KeyValueCache | None,
        layer: int,
    ) -> Tensor:
        attended = self.attention(
            self.attention_norm(x_BTC), rotation=rotation, mask=mask, causal=mask is None, cache=cache, layer=layer
        )
        x_BTC = x_BTC + attended
        return x_BTC + self.feedforward(self.feedforward_norm(x_BTC))


class Decoder(nn.Module):
    """Decoder-only language model: embedding, pre-norm blocks, norm, head (the embedding's transpose when tied).

    Args:
        config: of kind "decoder".
        generator: draws the weights (CPU); the same generator state gives the same weights. None: a fixed seed.
    """

    def __init__(self, config: ModelConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        _require_kind(config, "decoder")
        self.config = config
        self.embedding = _embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(DecoderBlock(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.hidden_size, config.norm_epsilon)
        self.lm_head = None if config.tie_embeddings else Linear(config.hidden_size, config.vocab_size, bias=False)
        self.rotary = Rotary(config.head_dim, config.rope_theta)
        initialise(self, config.layers, generator)

    def hidden(
        self,
        ids_BT: Tensor,
        positions_BT: Tensor | None = None,
        mask: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """The last norm's output (B, T, C).

        Args:
            ids_BT: int token ids below the vocabulary's size.
            positions_BT: int64 rotary positions; by default 0..T-1, or those after what the cache holds.
            mask: bool (True = may attend) or additive, broadcastable to (B, H, T, S). None: causal, which right-padded
                batches need no mask under.
            cache: earlier tokens' keys and values; the new ones are added.
        """
        x_BTC = self.embedding(ids_BT)
        if cache is not None:
            column_positions, cache_mask = cache.begin(ids_BT.shape[1], x_BTC.dtype)
            mask = cache_mask if mask is None else mask
            if positions_BT is None and cache.used:
                positions_BT = column_positions
        if positions_BT is None:
            rotation = self.rotary.sequence(ids_BT.shape[1], x_BTC)
        else:
            rotation = self.rotary.at(positions_BT, self._position_limit(positions_BT, cache), x_BTC)
        for layer, block in enumerate(self.blocks):
            x_BTC = block(x_BTC, rotation, mask, cache, layer)
        if cache is not None:
            cache.finish()
        return self.norm(x_BTC)

    def _position_limit(self, positions_BT: Tensor, cache: KeyValueCache | None) -> int:
        if cache is not None:
            return max(cache.capacity, self.config.context_length)
        return max(self.config.context_length, int(positions_BT.max()) + 1)

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of hidden states (..., C)."""
        return F.linear(hidden, self.head_weight)

    @property
    def head_weight(self) -> Tensor:
        """The head's matrix (V, C): for losses that need not hold all logits at once."""
        return self.embedding.weight if self.lm_head is None else self.lm_head.weight

    def forward(
        self,
        ids_BT: Tensor,
        positions_BT: Tensor | None = None,
        mask: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Logits (B, T, V); arguments as `hidden`."""
        return self.head(self.hidden(ids_BT, positions_BT, mask, cache))


class EncoderBlock(nn.Module):
    """norm(x + attention(x)), then norm(x + feedforward(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention = Attention(
            config.hidden_size, config.heads, config.kv_heads, config.head_dim, qkv_bias=True, output_bias=True
        )
        self.attention_norm = LayerNorm(config.hidden_size, config.norm_epsilon)
        self.feedforward = GELU(config.hidden_size, config.intermediate_size)
        self.feedforward_norm = LayerNorm(config.hidden_size, config.norm_epsilon)

    def forward(self, x_BTC: Tensor, mask: Tensor | None) -> Tensor:
        x_BTC = self.attention_norm(x_BTC + self.attention(x_BTC, mask=mask))
        return self.feedforward_norm(x_BTC + self.feedforward(x_BTC))


class Encoder(nn.Module):
    """Bidirectional encoder (BERT, Devlin et al. 2019): word, position and token-type embeddings, post-norm blocks.

    Args as `Decoder`. With `config.pooler` it carries BERT's pooler, which hidden states do not pass through.
    """

    def __init__(self, config: ModelConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        _require_kind(config, "encoder")
        self.config = config
        self.embedding = _embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = _embedding(config.context_length, config.hidden_size)
        self.type_embedding = _embedding(config.token_types, config.hidden_size)
        self.embedding_norm = LayerNorm(config.hidden_size, config.norm_epsilon)
        self.blocks = nn.ModuleList(EncoderBlock(config) for _ in range(config.layers))
        self.pooler = Linear(config.hidden_size, config.hidden_size) if config.pooler else None
        initialise(self, config.layers, generator)

    def forward(self, ids_BT: Tensor, mask_BT: Tensor | None = None, types_BT: Tensor | None = None) -> Tensor:
        """Hidden states (B, T, C).

        Args:
            ids_BT: int token ids, at most `context_length` of them.
            mask_BT: True (or 1) at real tokens, False at padding. None: all are real, which is faster.
            types_BT: token types; None: all 0.
        """
        length = ids_BT.shape[1]
        if length > self.config.context_length:
            raise DataError(f"{length} tokens are more than the encoder's context of {self.config.context_length}")
        types = self.type_embedding.weight[0] if types_BT is None else self.type_embedding(types_BT)
        x_BTC = self.embedding(ids_BT) + types + self.position_embedding.weight[:length]
        x_BTC = self.embedding_norm(x_BTC)
        mask = None
        if mask_BT is not None:
            padding = ~mask_BT.bool()[:, None, None, :]
            mask = torch.zeros(padding.shape, dtype=x_BTC.dtype, device=padding.device)
            mask = mask.masked_fill_(padding, float("-inf"))
        for block in self.blocks:
            x_BTC = block(x_BTC, mask)
        return x_BTC


class SequenceClassifier(nn.Module):
    """Scores of whole sequences, read at the last token that is not padding: with one label, a reward model.

    Saved as `Qwen3ForSequenceClassification`. The head starts at zero, so that an untrained model scores all alike.
    """

    def __init__(self, decoder: Decoder, labels: int = 1) -> None:
        super().__init__()
        if decoder.config.pad_token_id is None:
            raise ConfigError("a sequence classifier finds the last token by the padding", where="pad_token_id")
        self.config, self.labels = decoder.config, labels
        self.decoder = decoder
        self.score = Linear(decoder.config.hidden_size, labels, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, ids_BT: Tensor) -> Tensor:
        """(B, labels), for right- or left-padded ids; a row of padding alone counts as one token."""
        columns = torch.arange(ids_BT.shape[1], device=ids_BT.device)
        last_B = ((ids_BT != self.config.pad_token_id) * columns).argmax(dim=-1)
        hidden_BTC = self.decoder.hidden(ids_BT)
        return self.score(hidden_BTC[torch.arange(len(ids_BT), device=ids_BT.device), last_B])


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
            if isinstance(module, DecoderBlock | EncoderBlock):
                for writer in (module.attention.o_proj, module.feedforward.down_proj):
                    writer.weight.mul_((2 * layers) ** -0.5)


def _embedding(rows: int, width: int) -> nn.Embedding:
    return nn.Embedding(rows, width, _weight=torch.empty(rows, width))


def _require_kind(config: ModelConfig, kind: str) -> None:
    if config.kind != kind:
        raise ConfigError(f"expected a config of kind '{kind}', got '{config.kind}'", where="kind")
