"""Encoders as training sees them: token rows to tensors with gradients, and tensors to scores.

N queries, M texts, B rows of a piece, T and S tokens, C width of a vector, V vocabulary.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .batches import Rows
from .compute import batches_of_like_lengths
from .gradient_cache import encode_in_pieces
from .losses import cosines, maxsim
from .multivector import MultiVectorEncoder
from .sentence import SentenceEncoder, TruncationWarning, embed, pad, tokenize
from .sparse import SparseEncoder


class Student(Protocol):
    """An encoder that compares what it made of a query with what it made of a text.

    module: holds the parameters. alike: queries and texts are encoded in the same way. temperature: what scores are
    divided by unless told otherwise.
    """

    module: nn.Module
    alike: bool
    temperature: float

    def tokenize(self, texts: Sequence[str], query: bool, length: int) -> list[Rows]:
        """Token ids of each text, at most `length` of them."""
        ...

    def represent(self, rows: Sequence[Rows], query: bool) -> Tensor:
        """(B, ...), with gradient if there is one."""
        ...

    def scores(self, queries: Tensor, texts: Tensor) -> Tensor:
        """(N, M)."""
        ...


class DenseStudent:
    alike, temperature = True, 0.05

    def __init__(self, encoder: SentenceEncoder) -> None:
        self._encoder = encoder
        self.module: nn.Module = encoder.model

    def tokenize(self, texts: Sequence[str], query: bool, length: int) -> list[Rows]:
        read = self._encoder.prompted(texts, self._encoder.prompt_of(query))
        return tokenize(self._encoder.tokenizer, read, min(length, self._encoder.max_length))[0]

    def represent(self, rows: Sequence[Rows], query: bool) -> Tensor:
        return embed(self.module, *pad(rows, self._encoder.device), self._encoder.pooling)

    def scores(self, queries: Tensor, texts: Tensor) -> Tensor:
        return cosines(queries, texts)


class SparseStudent:
    alike, temperature = True, 1.0

    def __init__(self, encoder: SparseEncoder) -> None:
        self._encoder = encoder
        self.module: nn.Module = encoder.model

    def tokenize(self, texts: Sequence[str], query: bool, length: int) -> list[Rows]:
        return tokenize(self._encoder.tokenizer, texts, min(length, self._encoder.max_length))[0]

    def represent(self, rows: Sequence[Rows], query: bool) -> Tensor:
        return self._encoder.embed(*pad(rows, self._encoder.device))

    def scores(self, queries: Tensor, texts: Tensor) -> Tensor:
        return queries @ texts.T


class MultiVectorStudent:
    """Tokens that give no vector have one of zeros: no other has length 0."""

    alike, temperature = False, 1.0

    def __init__(self, encoder: MultiVectorEncoder) -> None:
        self._encoder = encoder
        self.module: nn.Module = _Projected(encoder.model, encoder.projection)

    def tokenize(self, texts: Sequence[str], query: bool, length: int) -> list[Rows]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)  # training counts them itself
            return self._encoder.tokenize(list(texts), query)

    def represent(self, rows: Sequence[Rows], query: bool) -> Tensor:
        ids_BT, mask_BT, kept_BT = self._encoder.batch(rows, query)
        return self._encoder.embed(ids_BT, mask_BT) * kept_BT[:, :, None]

    def scores(self, queries: Tensor, texts: Tensor) -> Tensor:
        return maxsim(queries, texts, None, (texts != 0).any(dim=-1))


class _Projected(nn.Module):
    """What a late-interaction encoder trains."""

    def __init__(self, model: nn.Module, projection: nn.Parameter) -> None:
        super().__init__()
        self.model, self.projection = model, projection


def student_of(encoder: SentenceEncoder | SparseEncoder | MultiVectorEncoder) -> Student:
    if isinstance(encoder, SentenceEncoder):
        return DenseStudent(encoder)
    return SparseStudent(encoder) if isinstance(encoder, SparseEncoder) else MultiVectorStudent(encoder)


def represent(
    student: Student, rows: Sequence[Rows], query: bool, *, piece_tokens: int, cached: bool = False
) -> Tensor:
    """What `student` makes of rows, in their order: encoded in pieces of like lengths, so that little is padded.

    Args:
        piece_tokens: of a piece, about. cached: see `gradient_cache`.
    """
    pieces = list(batches_of_like_lengths([len(row) for row in rows], piece_tokens))

    def encode(piece: npt.NDArray[np.int64]) -> Tensor:
        return student.represent([rows[place] for place in piece], query)

    encoded = encode_in_pieces(encode, pieces, cached=cached)
    if encoded[0].dim() == 3:
        width = max(one.shape[1] for one in encoded)
        encoded = [F.pad(one, (0, 0, 0, width - one.shape[1])) for one in encoded]
    if len(encoded) == 1 and (np.diff(pieces[0]) > 0).all():
        return encoded[0]
    back = torch.from_numpy(np.argsort(np.concatenate(pieces)))
    return torch.cat(encoded)[back.to(encoded[0].device)]
