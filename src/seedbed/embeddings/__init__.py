"""Embeddings: words, sentences, sparse and multi-vector encoders, their losses and training, passages, search."""

from .multivector import MultiVectorEncoder
from .sentence import SentenceEncoder, TruncationWarning
from .sparse import SparseEncoder
from .words import WordVectors

__all__ = ["MultiVectorEncoder", "SentenceEncoder", "SparseEncoder", "TruncationWarning", "WordVectors"]
