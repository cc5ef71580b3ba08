"""What an n-gram model pays for a split, by the same accounting as a neural model."""

from __future__ import annotations

import numpy as np

from ..datasets.shards import TokenShards
from ..models.ngram import NGramModel
from .likelihood import Likelihood, account, scored_tokens


def ngram_likelihood(model: NGramModel, shards: TokenShards, max_tokens: int | None = None) -> Likelihood:
    return account(-np.log(model.probabilities(scored_tokens(shards, max_tokens))), shards)
