"""Embeddings: words, sentences, sparse and multi-vector encoders, their losses and training, passages, search."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cross_encoder import CrossEncoder
    from .multivector import MultiVectorEncoder
    from .sentence import SentenceEncoder, TruncationWarning
    from .sparse import SparseEncoder
    from .words import WordVectors

__all__ = ["CrossEncoder", "MultiVectorEncoder", "SentenceEncoder", "SparseEncoder", "TruncationWarning", "WordVectors"]

_HOMES = {
    "CrossEncoder": "cross_encoder",
    "MultiVectorEncoder": "multivector",
    "SentenceEncoder": "sentence",
    "SparseEncoder": "sparse",
    "TruncationWarning": "sentence",
    "WordVectors": "words",
}


def __getattr__(name: str) -> Any:
    # On demand: a search by words needs no PyTorch, whose import takes longer than the search.
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
