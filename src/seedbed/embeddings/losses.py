"""Losses of embedding models: pure functions of vectors. N pairs, M candidates, C width."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(
    queries_NC: Tensor,
    texts_MC: Tensor,
    *,
    temperature: float = 0.05,
    symmetric: bool = False,
    false_negatives_NM: Tensor | None = None,
) -> Tensor:
    """Summed InfoNCE with in-batch negatives (van den Oord et al. 2018; multiple negatives ranking, Henderson 2017).

    -log softmax over all M texts of cosine(query i, text j) / temperature, at j = i. Divide by N for the mean (by 2N
    when symmetric, which adds each text's choice among the queries, as in CLIP).

    Args:
        texts_MC: text i answers query i; texts from N on are further negatives.
        false_negatives_NM: bool, True where a text also answers the query: not counted against it.
    """
    count = len(queries_NC)
    cosines_NM = F.normalize(queries_NC, dim=-1) @ F.normalize(texts_MC, dim=-1).T / temperature
    if false_negatives_NM is not None:
        own = torch.eye(count, len(texts_MC), dtype=torch.bool, device=queries_NC.device)
        cosines_NM = cosines_NM.masked_fill(false_negatives_NM & ~own, float("-inf"))
    labels = torch.arange(count, device=queries_NC.device)
    loss = F.cross_entropy(cosines_NM, labels, reduction="sum")
    if symmetric:
        loss = loss + F.cross_entropy(cosines_NM[:, :count].T, labels, reduction="sum")
    return loss
