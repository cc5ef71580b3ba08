"""Embeddings: sentence and late-interaction encoders, their losses and training, passages, and search over them."""

from .multivector import MultiVectorEncoder
from .sentence import SentenceEncoder, TruncationWarning

__all__ = ["MultiVectorEncoder", "SentenceEncoder", "TruncationWarning"]
