"""Embeddings: words, sentences, sparse and multi-vector encoders, their losses and training, passages, search."""

from .cross_encoder import CrossEncoder
from .multivector import MultiVectorEncoder
from .sentence import SentenceEncoder, TruncationWarning
from .sparse import SparseEncoder
from .words import WordVectors

__all__ = ["CrossEncoder", "MultiVectorEncoder", "SentenceEncoder", "SparseEncoder", "TruncationWarning", "WordVectors"]
