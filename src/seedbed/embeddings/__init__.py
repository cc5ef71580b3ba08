"""Embeddings: sentence, sparse and late-interaction encoders, their losses and training, passages, search."""

from .multivector import MultiVectorEncoder
from .sentence import SentenceEncoder, TruncationWarning
from .sparse import SparseEncoder

__all__ = ["MultiVectorEncoder", "SentenceEncoder", "SparseEncoder", "TruncationWarning"]
