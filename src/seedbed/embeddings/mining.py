"""Hard negatives: texts that a search ranks high for a query and that do not answer it.

What ranks high and answers all the same would teach the wrong thing, so candidates about as close to the query as its
own text are left out (NV-Retriever: Moreira et al. 2024, section 4.2, "positive-aware").
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from ..core.config import Config
from ..datasets.examples import Example
from ..indexes import BM25Index, FlatIndex
from .objectives import Questions
from .sentence import SentenceEncoder, TruncationWarning

_SPARE = 20  # found for each query beyond those asked for, before those too close go


class MiningConfig(Config):
    """Which texts become hard negatives."""

    negatives: int = Field(0, ge=0, description="hard negatives mined for each query; 0: none")
    index: Literal["dense", "bm25"] = Field("bm25", description="what finds them: an encoder's vectors, or words")
    skip: int = Field(0, ge=0, description="best ranks passed over")
    closeness: float = Field(
        0.95, gt=0, description="left out: texts whose score is above this share of the right one's"
    )


def mine(
    examples: Sequence[Example], config: MiningConfig, encoder: SentenceEncoder | None = None
) -> tuple[list[Example], int]:
    """The examples with mined negatives behind the texts that they have, and how many candidates were left out as too
    close to the right text.

    Scores are the encoder's cosines; without an encoder they are BM25's. Examples for which too few are found have
    fewer.
    """
    if not config.negatives:
        return list(examples), 0
    questions = Questions(examples)
    depth = min(config.skip + config.negatives + _SPARE, len(questions.texts))
    right = np.array([columns[0] for columns in questions.columns])
    if encoder is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)
            queries = encoder.encode_queries(questions.queries, normalize=True)
            texts = encoder.encode_documents(questions.texts, normalize=True)
    if config.index == "dense" and encoder is not None:
        flat = FlatIndex(encoder.dim, "cosine")
        flat.add(texts)
        scores, found = flat.search(queries, depth)
    else:
        words = BM25Index()
        words.add(questions.texts)
        scores, found = words.search(questions.queries, depth)
    if encoder is not None:
        own = np.einsum("nc,nc->n", queries, texts[right])
        scores = np.einsum("nc,nkc->nk", queries, texts[found])
    else:
        own = _own_scores(scores, found, right)
    result, too_close = [], 0
    for row, example in enumerate(examples):
        known = questions.also_right(np.array([row]), found[row])[0] | (found[row] < 0)
        known |= np.isin(found[row], questions.columns[row])
        known[: config.skip] = True
        close = ~known & (scores[row] > config.closeness * own[row])
        usable = found[row][~known & ~close][: config.negatives]
        too_close += int(close.sum())
        result.append(replace(example, texts=(*example.texts, *(questions.texts[number] for number in usable))))
    return result, too_close


def _own_scores(
    scores: npt.NDArray[np.float32], found: npt.NDArray[np.int64], right: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """The right text's score in each row; where it was not found, the least found, which it lies below."""
    is_right = found == right[:, None]
    least = np.where(np.isfinite(scores), scores, np.inf).min(axis=1)
    own = np.where(is_right, scores, 0.0).sum(axis=1)
    return np.where(is_right.any(axis=1), own, least).astype(np.float32)
