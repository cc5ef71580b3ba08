"""Heads on transformers: classifiers of whole sequences, and the prediction of masked tokens.

B batch, T tokens, C model width, V vocabulary.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.errors import ConfigError
from ..core.randomness import torch_generator
from .block import norm
from .feedforward import Linear
from .transformer import Decoder, Encoder


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


class EncoderClassifier(nn.Module):
    """Scores of what an encoder reads, often a pair of texts: with one label, a cross-encoder.

    Shaped as BERT (section 3.2: the first token through the pooler's dense and tanh) where the encoder has post-norm
    blocks, else as ModernBERT (dense, GELU and norm). A new head is drawn from `generator`.

    Args:
        pooling: of ModernBERT's shape, what the head reads: "cls", the first token, or "mean", of all.
    """

    def __init__(
        self,
        encoder: Encoder,
        labels: int = 1,
        *,
        pooling: Literal["cls", "mean"] = "cls",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        config = encoder.config
        self.labels, self.pooling = labels, pooling
        modern = config.norm_position == "pre"
        if not modern and pooling != "cls":
            raise ConfigError(f"BERT's classifier reads the first token, not the {pooling}", where="pooling")
        self.dense = Linear(config.hidden_size, config.hidden_size, bias=not modern)
        self.norm = norm(config) if modern else None
        self.score = Linear(config.hidden_size, labels)
        if not self.dense.weight.is_meta:
            generator = generator or torch_generator(0, "encoder-classifier")
            for layer in (self.dense, self.score):
                nn.init.normal_(layer.weight, std=0.02, generator=generator)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
            if encoder.pooler is not None and not modern:  # as it was trained before
                self.dense.load_state_dict(encoder.pooler.state_dict())
        if encoder.pooler is not None:
            encoder.pooler, encoder.config = None, config.replace(pooler=False)
        self.encoder, self.config = encoder, encoder.config

    def forward(self, ids_BT: Tensor, mask_BT: Tensor | None = None, types_BT: Tensor | None = None) -> Tensor:
        """(B, labels); arguments as `Encoder`."""
        hidden_BTC = self.encoder(ids_BT, mask_BT, types_BT)
        if self.norm is None:
            return self.score(self.dense(hidden_BTC[:, 0]).tanh())
        if self.pooling == "cls":
            pooled_BC = hidden_BTC[:, 0]
        elif mask_BT is None:
            pooled_BC = hidden_BTC.mean(dim=1)
        else:
            weights_BT1 = mask_BT.to(hidden_BTC.dtype)[:, :, None]
            pooled_BC = (hidden_BTC * weights_BT1).sum(dim=1) / weights_BT1.sum(dim=1)
        return self.score(self.norm(F.gelu(self.dense(pooled_BC))))


class MaskedLanguageModel(nn.Module):
    """An encoder that predicts hidden tokens: dense, GELU and norm, then the embedding's transpose and a bias (BERT,
    section 3.1; ModernBERT)."""

    def __init__(self, encoder: Encoder, generator: torch.Generator | None = None) -> None:
        super().__init__()
        config = self.config = encoder.config
        self.encoder = encoder
        self.dense = Linear(config.hidden_size, config.hidden_size, bias=config.feedforward_bias)
        self.norm = norm(config)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        if not self.dense.weight.is_meta:
            generator = generator or torch_generator(0, "masked-language-model")
            nn.init.normal_(self.dense.weight, std=config.hidden_size**-0.5, generator=generator)
            if self.dense.bias is not None:
                nn.init.zeros_(self.dense.bias)

    def forward(self, ids_BT: Tensor, mask_BT: Tensor | None = None, types_BT: Tensor | None = None) -> Tensor:
        """Logits (B, T, V); arguments as `Encoder`."""
        return self.head(self.encoder(ids_BT, mask_BT, types_BT))

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of hidden states (..., C): those of the masked places alone cost less than all."""
        return F.linear(self.transform(hidden), self.encoder.embedding.weight, self.bias)

    def transform(self, hidden: Tensor) -> Tensor:
        """What the embedding's transpose and the bias are put on, (..., C)."""
        found: Tensor = self.norm(F.gelu(self.dense(hidden)))
        return found
