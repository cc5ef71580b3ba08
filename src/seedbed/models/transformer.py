"""The three transformers: decoder-only, encoder-only, encoder-decoder.

B batch, T tokens, S source tokens, C model width, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.errors import ConfigError, DataError
from .block import Stack, embedding, initialise, norm
from .cache import KeyValueCache
from .config import ModelConfig
from .feedforward import Linear
from .masks import Segments, additive, document_mask, document_positions


class Decoder(Stack):
    """Decoder-only language model: embedding, blocks, norm, head (the embedding's transpose when tied).

    Args:
        config: of kind "decoder".
        generator: draws the weights (CPU); the same generator state gives the same weights. None: a fixed seed.
    """

    def __init__(self, config: ModelConfig, generator: torch.Generator | None = None) -> None:
        require_kind(config, "decoder")
        super().__init__(config, config.layers, causal=True)
        self.embedding = embedding(config.vocab_size, config.hidden_size)
        self.lm_head = None if config.tie_embeddings else Linear(config.hidden_size, config.vocab_size, bias=False)
        initialise(self, config.layers, generator)

    def hidden(
        self,
        ids_BT: Tensor,
        positions_BT: Tensor | None = None,
        mask: Tensor | Segments | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """The last norm's output (B, T, C).

        Args:
            ids_BT: int token ids below the vocabulary's size.
            positions_BT: int64 positions; by default 0..T-1, or those after what the cache holds.
            mask: bool (True = may attend) or additive, broadcastable to (B, H, T, S), or `Segments`. None: causal,
                which right-padded batches need no mask under.
            cache: earlier tokens' keys and values; the new ones are added.
        """
        return super().forward(self.embedding(ids_BT), positions_BT, mask, cache)

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of hidden states (..., C)."""
        return _logits(hidden, self.head_weight, self.config)

    @property
    def head_weight(self) -> Tensor:
        """The head's matrix (V, C): for losses that need not hold all logits at once."""
        return self.embedding.weight if self.lm_head is None else self.lm_head.weight

    def forward(  # type: ignore[override]
        self,
        ids_BT: Tensor,
        positions_BT: Tensor | None = None,
        mask: Tensor | Segments | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Logits (B, T, V); arguments as `hidden`."""
        return self.head(self.hidden(ids_BT, positions_BT, mask, cache))


class Encoder(Stack):
    """Bidirectional encoder (BERT, Devlin et al. 2019): embeddings of words, positions and token types, then blocks.

    Args as `Decoder`. With `config.pooler` it carries BERT's pooler, which hidden states do not pass through.
    """

    def __init__(self, config: ModelConfig, generator: torch.Generator | None = None) -> None:
        require_kind(config, "encoder")
        super().__init__(config, config.layers, causal=False)
        self.embedding = embedding(config.vocab_size, config.hidden_size)
        self.type_embedding = embedding(config.token_types, config.hidden_size) if config.token_types else None
        self.embedding_norm = norm(config) if config.embedding_norm else None
        self.pooler = Linear(config.hidden_size, config.hidden_size) if config.pooler else None
        initialise(self, config.layers, generator)

    def forward(  # type: ignore[override]
        self,
        ids_BT: Tensor,
        mask_BT: Tensor | None = None,
        types_BT: Tensor | None = None,
        documents_BT: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (B, T, C).

        Args:
            ids_BT: int token ids, at most `context_length` of them.
            mask_BT: True (or 1) at real tokens, False at padding. None: all are real, which is faster.
            types_BT: token types; None: all 0.
            documents_BT: which of a row's documents each token is of: none sees another's tokens. Instead of a mask.
        """
        length = ids_BT.shape[1]
        if length > self.config.context_length:
            raise DataError(f"{length} tokens are more than the encoder's context of {self.config.context_length}")
        x_BTC = self.embedding(ids_BT)
        if self.type_embedding is not None:
            x_BTC = x_BTC + (self.type_embedding.weight[0] if types_BT is None else self.type_embedding(types_BT))
        if documents_BT is not None:
            assert mask_BT is None
            apart = additive(document_mask(documents_BT, causal=False), x_BTC.dtype)
            return super().forward(x_BTC, document_positions(documents_BT), apart)
        mask = None if mask_BT is None else padding_mask(mask_BT, x_BTC.dtype)
        return super().forward(x_BTC, mask=mask)

    def add_positions(self, x_BTC: Tensor, positions_BT: Tensor | None, reach: int) -> Tensor:
        x_BTC = super().add_positions(x_BTC, positions_BT, reach)
        return x_BTC if self.embedding_norm is None else self.embedding_norm(x_BTC)


class EncoderDecoder(nn.Module):
    """The transformer of Vaswani et al. 2017 (by default) and T5: an encoder reads the source, a decoder that attends
    to what it made of it writes the target. The embedding is shared.

    Args as `Decoder`.
    """

    def __init__(self, config: ModelConfig, generator: torch.Generator | None = None) -> None:
        require_kind(config, "encoder-decoder")
        super().__init__()
        self.config = config
        self.embedding = embedding(config.vocab_size, config.hidden_size)
        self.encoder = Stack(config, config.encoder_layers, causal=False)
        self.decoder = Stack(config, config.layers, causal=True, cross=True)
        self.lm_head = None if config.tie_embeddings else Linear(config.hidden_size, config.vocab_size, bias=False)
        initialise(self, config.layers, generator)

    def encode(self, source_BS: Tensor, source_mask_BS: Tensor | None = None) -> Tensor:
        """What the encoder makes of source ids: (B, S, C). Mask: True (or 1) at real tokens; None: all are."""
        x_BSC = self.embedding(source_BS)
        mask = None if source_mask_BS is None else padding_mask(source_mask_BS, x_BSC.dtype)
        return self.encoder(x_BSC, mask=mask)

    def decode(
        self,
        target_BT: Tensor,
        memory_BSC: Tensor,
        source_mask_BS: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Logits (B, T, V) of the tokens behind target ids (B, T), whose first is the start token. With a `cache` the
        ids are those behind the ones that it holds."""
        hidden_BTC = self.decode_hidden(target_BT, memory_BSC, source_mask_BS, cache)
        return _logits(hidden_BTC, self.head_weight, self.config)

    def decode_hidden(
        self,
        target_BT: Tensor,
        memory_BSC: Tensor,
        source_mask_BS: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """What the head reads (B, T, C); arguments as `decode`."""
        x_BTC = self.embedding(target_BT)
        mask = None if source_mask_BS is None else padding_mask(source_mask_BS, x_BTC.dtype)
        hidden_BTC: Tensor = self.decoder(x_BTC, cache=cache, memory_BSC=memory_BSC, memory_mask=mask)
        return hidden_BTC

    @property
    def head_weight(self) -> Tensor:
        """The head's matrix (V, C)."""
        return self.embedding.weight if self.lm_head is None else self.lm_head.weight

    def forward(self, source_BS: Tensor, target_BT: Tensor, source_mask_BS: Tensor | None = None) -> Tensor:
        """Logits (B, T, V): teacher forcing, targets shifted right by the caller."""
        return self.decode(target_BT, self.encode(source_BS, source_mask_BS), source_mask_BS)


def padding_mask(mask_BS: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive (B, 1, 1, S) of a mask that is True (or 1) at real tokens."""
    return additive(mask_BS.bool()[:, None, None, :], dtype)


def _logits(hidden: Tensor, weight: Tensor, config: ModelConfig) -> Tensor:
    if config.scale_head:
        hidden = hidden * config.hidden_size**-0.5
    logits = F.linear(hidden, weight)
    return config.logit_softcap * torch.tanh(logits / config.logit_softcap) if config.logit_softcap else logits


def require_kind(config: ModelConfig, kind: str) -> None:
    if config.kind != kind:
        raise ConfigError(f"expected a config of kind '{kind}', got '{config.kind}'", where="kind")
