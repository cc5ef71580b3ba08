"""What a tokenizer is made of: a model with its vocabulary, added tokens, and what stands around a text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _native
from .assembly import Padding, Truncation
from .post_processor import PostProcessor


@dataclass(frozen=True)
class AddedToken:
    """A token that stands in the text as it is."""

    content: str
    id: int
    special: bool = True  # a control token, left out of decoded text when asked
    normalized: bool = False  # looked for in normalised text, behind those that are not
    single_word: bool = False  # only where no letter, digit or underscore stands beside it
    lstrip: bool = False  # it takes the white space before it
    rstrip: bool = False  # and behind it


class Model(ABC):
    """An algorithm with its vocabulary, and the normaliser, pre-tokeniser and decoder that belong to it."""

    vocabulary: dict[str, int]

    @property
    def unknown_id(self) -> int | None:
        """The id that stands for what the vocabulary cannot write; None where it can write everything."""
        return None

    @abstractmethod
    def bytes_of(self, token: str) -> bytes:
        """The bytes of text that a token of the vocabulary (or the content of an added one) stands for."""

    def first_bytes_of(self, token: str) -> bytes | None:
        """What a token stands for at the start of decoded text if it is not `bytes_of`; None if it is."""
        return None

    def decode(self, data: bytes, ids: NDArray[np.integer], tokens: Sequence[str | None]) -> str:
        """The text that ids stand for; bytes that are not UTF-8 become U+FFFD.

        Args:
            data: the bytes of all `ids` one behind another, as those of the first stand at the start.
            tokens: by id.
        """
        return data.decode("utf-8", errors="replace")

    @abstractmethod
    def algorithm(self, pieces: list[bytes], control_ids: set[int]) -> _native.Algorithm:
        """The native encoder of text without added tokens.

        Args:
            pieces: `bytes_of` each token by id, added ones included; empty where no token has the id.
            control_ids: of the special added tokens.
        """

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The keys `normalizer`, `pre_tokenizer`, `decoder` and `model` of a tokenizer.json."""


@dataclass(frozen=True)
class Specification:
    """All that decides which ids a text becomes."""

    model: Model
    added: tuple[AddedToken, ...] = ()
    post_processor: PostProcessor = field(default_factory=PostProcessor)
    # What the file asks for where nothing else is said. It is kept, and applied only by those who ask for it.
    truncation: Truncation | None = None
    padding: Padding | None = None
    size: int = field(init=False)  # largest id + 1

    def __post_init__(self) -> None:
        ids = [*self.model.vocabulary.values(), *(token.id for token in self.added)]
        object.__setattr__(self, "size", max(ids, default=-1) + 1)
