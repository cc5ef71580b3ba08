"""The demo's sentence encoder: from scratch on (query, text) pairs, with the other pairs of a batch as negatives."""

from __future__ import annotations

from pydantic import Field

from ..training.trainer import TrainerConfig
from .starts import EncoderShape


class ContrastiveConfig(EncoderShape):
    """How a sentence encoder is made and trained."""

    query_tokens: int = Field(24, ge=2, description="tokens of a query in training")
    text_tokens: int = Field(48, ge=2, description="tokens of a text in training")
    temperature: float = Field(0.05, gt=0, description="divides cosines in the loss")
    symmetric: bool = Field(True, description="also let each text choose among the queries")
    neighbours: int = Field(4, ge=1, description="pairs of one source that go into a batch together: hard negatives")
    training: TrainerConfig = TrainerConfig(
        steps=240, batch_size=128, optimizer="adamw", learning_rate=2e-3, weight_decay=0.01, checkpoint_every=100
    )
