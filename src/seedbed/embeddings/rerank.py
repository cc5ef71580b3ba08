"""Ranking again what a search has found: by late interaction (MaxSim) or by a cross-encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..core.errors import ConfigError
from ..core.ragged import Ragged
from ..indexes.base import Floats, Found, Ids
from .fusion import fuse

if TYPE_CHECKING:
    from .cross_encoder import CrossEncoder
    from .multivector import MultiVectorEncoder
    from .sentence import SentenceEncoder

OWN_TOKENS = "maxsim"
_CONSTANT = 60.0  # of reciprocal-rank fusion (Cormack et al. 2009)
_MODULES = "modules.json"


class Reranker(Protocol):
    """Scores candidates anew.

    Attributes:
        name: for people.
        weight: of the new order against the first one, between which reciprocal ranks are fused; 1: it alone counts.
        depth: candidates that are looked at.
    """

    @property
    def name(self) -> str: ...

    @property
    def weight(self) -> float: ...

    @property
    def depth(self) -> int: ...

    def scores(self, queries: Sequence[str], text_of: Callable[[int], str], candidates: Ids) -> Floats:
        """Scores (q, n) of candidates (q, n), -inf where they are -1."""
        ...


@dataclass(frozen=True)
class MaxSimReranker:
    """By MaxSim of the exact vectors of a late-interaction encoder."""

    encoder: MultiVectorEncoder
    weight: float = 1.0
    depth: int = 100
    name: str = "MaxSim"

    def scores(self, queries: Sequence[str], text_of: Callable[[int], str], candidates: Ids) -> Floats:
        from ..indexes.multivector import maxsim

        wanted = np.unique(candidates[candidates >= 0]).tolist()
        vectors = self.encoder.encode_documents([text_of(number) for number in wanted])
        places = {number: place for place, number in enumerate(wanted)}
        out = np.full(candidates.shape, -np.inf, dtype=np.float32)
        for row, asked in enumerate(self.encoder.encode_queries(list(queries))):
            there = np.flatnonzero(candidates[row] >= 0)
            if len(there):
                documents = Ragged.from_rows((vectors[places[int(candidates[row, at])]] for at in there), np.float32)
                out[row, there] = maxsim(Ragged(asked, np.array([0, len(asked)])), documents)[0]
        return out


@dataclass(frozen=True)
class CrossEncoderReranker:
    """By a model that reads the query and a text together."""

    encoder: CrossEncoder
    weight: float = 1.0
    depth: int = 100
    name: str = "cross-encoder"

    def scores(self, queries: Sequence[str], text_of: Callable[[int], str], candidates: Ids) -> Floats:
        rows, places = np.nonzero(candidates >= 0)
        pairs = [
            (queries[row], text_of(int(candidates[row, at])))
            for row, at in zip(rows.tolist(), places.tolist(), strict=True)
        ]
        out = np.full(candidates.shape, -np.inf, dtype=np.float32)
        if pairs:
            out[rows, places] = self.encoder.score(pairs)
        return out


def token_vectors(encoder: SentenceEncoder) -> MultiVectorEncoder:
    """A sentence encoder's own hidden states, of every token, as vectors to compare by MaxSim.

    Raises:
        ConfigError: it is a decoder, whose tokens do not see what follows them.
    """
    import torch

    from ..models import Encoder
    from .late_interaction import LateInteractionConfig
    from .multivector import MultiVectorEncoder

    if not isinstance(encoder.model, Encoder):
        raise ConfigError("late interaction by an encoder's own tokens needs a bidirectional encoder")
    length = encoder.max_length
    config = LateInteractionConfig(
        query_prefix=None, document_prefix=None, query_length=length, document_length=length, do_query_expansion=False
    )
    return MultiVectorEncoder(encoder.model, encoder.tokenizer, torch.eye(encoder.dim), config)


def open_reranker(name: str | Path, encoder: SentenceEncoder | None, depth: int = 100) -> Reranker:
    """A reranker: "maxsim" for the search's own encoder, whose order is then fused with the first one, since nothing
    taught its tokens to be compared; or the folder of a late-interaction encoder or of a cross-encoder.

    Raises:
        ConfigError: there is no such folder, or no encoder.
        FormatError: the folder holds no such model.
    """
    if str(name) == OWN_TOKENS:
        if encoder is None:
            raise ConfigError("to rank again by an encoder's own tokens the search needs its encoder")
        return MaxSimReranker(token_vectors(encoder), weight=0.5, depth=depth, name="MaxSim of the encoder's tokens")
    path = Path(name)
    if not path.is_dir():
        raise ConfigError(
            f"there is no reranker '{name}'", hint=f"Give {OWN_TOKENS}, or the folder of a model that ranks again."
        )
    if _is_late_interaction(path):
        from .multivector import MultiVectorEncoder

        return MaxSimReranker(MultiVectorEncoder.load(path), depth=depth)
    from .cross_encoder import CrossEncoder

    return CrossEncoderReranker(CrossEncoder.load(path), depth=depth)


def _is_late_interaction(path: Path) -> bool:
    from ..core.json_files import read_json

    listing = path / _MODULES
    return listing.exists() and len(read_json(listing, list)) > 1


def rank_again(reranker: Reranker, queries: Sequence[str], text_of: Callable[[int], str], found: Found) -> Found:
    """What was `found` (q, n), its first `depth` ordered anew and the rest behind them."""
    ids = found[1][:, : reranker.depth]
    scores = reranker.scores(queries, text_of, ids)
    if reranker.weight < 1:
        again = np.take_along_axis(ids, np.argsort(-scores, axis=1, kind="stable"), axis=1)
        return fuse([found[1], again], [1 - reranker.weight, reranker.weight], _CONSTANT, found[1].shape[1])
    order = np.argsort(-scores, axis=1, kind="stable")
    out = np.full_like(found[0], -np.inf), found[1].copy()
    out[0][:, : ids.shape[1]] = np.take_along_axis(scores, order, axis=1)
    out[1][:, : ids.shape[1]] = np.take_along_axis(ids, order, axis=1)
    return out
