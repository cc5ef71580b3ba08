"""Embeddings: sentence encoders, their losses and training, passages, and search over BM25 and vectors together."""

from .sentence import SentenceEncoder, TruncationWarning

__all__ = ["SentenceEncoder", "TruncationWarning"]
