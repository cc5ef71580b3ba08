"""Losses of embedding models: pure functions of vectors, each equal to sentence-transformers' (tested).

A loss of single examples is summed over them: divide by their number for the mean, over a batch or over all machines.
N pairs, M candidates, C width, P negatives of one query, S and T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    return choice(cosines(queries_NC, texts_MC) / temperature, symmetric, false_negatives_NM)


def choice(scores_NM: Tensor, symmetric: bool = False, false_negatives_NM: Tensor | None = None) -> Tensor:
    """`info_nce` of scores that are there already, whatever they are: cosines, MaxSim, products of sparse vectors."""
    count = len(scores_NM)
    if false_negatives_NM is not None:
        own = torch.eye(*scores_NM.shape, dtype=torch.bool, device=scores_NM.device)
        scores_NM = scores_NM.masked_fill(false_negatives_NM & ~own, float("-inf"))
    labels = torch.arange(count, device=scores_NM.device)
    loss = F.cross_entropy(scores_NM, labels, reduction="sum")
    if symmetric:
        loss = loss + F.cross_entropy(scores_NM[:, :count].T, labels, reduction="sum")
    return loss


def false_negatives(guide_queries_NC: Tensor, guide_texts_MC: Tensor, margin: float = 0.0) -> Tensor:
    """Texts that a guide, a model trained before, holds closer to a query than the query's own text, less `margin`
    (GISTEmbed: Solatorio 2024, section 3): bool (N, M), for `info_nce`."""
    scores_NM = cosines(guide_queries_NC, guide_texts_MC)
    return scores_NM > scores_NM.diagonal()[:, None] - margin


def triplet(anchors_NC: Tensor, positives_NC: Tensor, negatives_NC: Tensor, *, margin: float = 5.0) -> Tensor:
    """Summed max(0, |a - p| - |a - n| + margin) of Euclidean distances (FaceNet: Schroff et al. 2015, equation 1)."""
    distance = torch.linalg.vector_norm
    apart = distance(anchors_NC - positives_NC, dim=-1) - distance(anchors_NC - negatives_NC, dim=-1)
    return F.relu(apart + margin).sum()


def hardest(anchors_NC: Tensor, texts_MC: Tensor, false_negatives_NM: Tensor | None = None) -> Tensor:
    """(N,): of each anchor i the closest text but text i, its own (batch-hard: Hermans et al. 2017, section 2)."""
    distances_NM = torch.cdist(anchors_NC.detach(), texts_MC.detach())
    excluded_NM = torch.eye(*distances_NM.shape, dtype=torch.bool, device=distances_NM.device)
    if false_negatives_NM is not None:
        excluded_NM = excluded_NM | false_negatives_NM
    return distances_NM.masked_fill(excluded_NM, float("inf")).argmin(dim=1)


def cosent(first_NC: Tensor, second_NC: Tensor, labels_N: Tensor, *, scale: float = 20.0) -> Tensor:
    """CoSENT (Su 2022): log(1 + sum over pairs i, j with label i < label j of exp(scale * (cosine i - cosine j))).

    One value for the batch, not a sum. It only asks that pairs rank as their labels do.
    """
    return _ranking(F.cosine_similarity(first_NC, second_NC, dim=-1) * scale, labels_N)


def angle(first_NC: Tensor, second_NC: Tensor, labels_N: Tensor, *, scale: float = 20.0) -> Tensor:
    """AnglE (Li and Li 2024, section 3.3): `cosent` of angles in complex space, whose gradient does not vanish where
    the cosine is near 1 or -1. Vectors are complex numbers, their first halves the real parts; C is even."""
    (a, b), (c, d) = first_NC.chunk(2, dim=-1), second_NC.chunk(2, dim=-1)
    # (a + ib) / (c + id), of length 1 after dividing by |a + ib| / |c + id|
    length = (c**2 + d**2).sum(dim=-1, keepdim=True)
    real, imaginary = (a * c + b * d) / length, (b * c - a * d) / length
    ratio = (a**2 + b**2).sum(dim=-1, keepdim=True).sqrt() / length.sqrt()
    turned_NC = torch.cat((real, imaginary), dim=-1) / ratio
    return _ranking(turned_NC.sum(dim=-1).abs() * scale, labels_N)


def _ranking(scores_N: Tensor, labels_N: Tensor) -> Tensor:
    wrong_NN = scores_N[:, None] - scores_N[None, :]
    wrong_NN = wrong_NN.masked_fill(labels_N[:, None] >= labels_N[None, :], float("-inf"))
    return torch.cat((wrong_NN.new_zeros(1), wrong_NN.flatten())).logsumexp(dim=0)


def margin_mse(positive_N: Tensor, negative_NP: Tensor, teacher_margin_NP: Tensor) -> Tensor:
    """Summed squared error of the student's margin, score of the right text less that of each wrong one, against a
    cross-encoder's (Hofstätter et al. 2020, equation 3)."""
    return F.mse_loss(positive_N[:, None] - negative_NP, teacher_margin_NP, reduction="sum")


def distillation(student_NM: Tensor, teacher_NM: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Summed KL divergence from the teacher's distribution over a query's M candidates to the student's, times
    temperature² so that the gradient's size does not hang on it (Hinton et al. 2015, section 2)."""
    student, teacher = student_NM / temperature, teacher_NM / temperature
    divergence = F.kl_div(student.log_softmax(-1), teacher.log_softmax(-1), reduction="sum", log_target=True)
    return divergence * temperature**2


def between_zero_and_one(scores_NM: Tensor) -> Tensor:
    """Each query's scores from 0 for its least to 1 for its largest, as PyLate distils sums of many products."""
    least, most = scores_NM.amin(dim=-1, keepdim=True), scores_NM.amax(dim=-1, keepdim=True)
    return (scores_NM - least) / (most - least + 1e-8)


def matryoshka(
    loss: Callable[..., Tensor],
    vectors: Sequence[Tensor],
    dims: Sequence[int],
    weights: Sequence[float] | None = None,
) -> Tensor:
    """The weighted sum of `loss(*vectors)` over prefixes of the vectors (Kusupati et al. 2022, equation 1).

    Args:
        dims: lengths of the prefixes, each at most C. weights: one each; 1 unless given.
    """
    chosen = [1.0] * len(dims) if weights is None else weights
    parts = [weight * loss(*(one[..., :dim] for one in vectors)) for dim, weight in zip(dims, chosen, strict=True)]
    return torch.stack(parts).sum()


def maxsim(
    queries_NSC: Tensor, texts_MTC: Tensor, query_mask_NS: Tensor | None = None, text_mask_MT: Tensor | None = None
) -> Tensor:
    """Late interaction (Khattab and Zaharia 2020, equation 3): scores (N, M), for each token of the query its best
    product with a token of the text, summed. Masks: True (or 1) at real tokens."""
    products_NMST = torch.einsum("nsc,mtc->nmst", queries_NSC, texts_MTC)
    if text_mask_MT is not None:
        products_NMST = products_NMST.masked_fill(~text_mask_MT.bool()[None, :, None, :], float("-inf"))
    best_NMS = products_NMST.amax(dim=-1)
    if query_mask_NS is not None:
        best_NMS = best_NMS * query_mask_NS[:, None, :]
    return best_NMS.sum(dim=-1)


def flops(weights_NV: Tensor) -> Tensor:
    """The FLOPS regulariser (Paria et al. 2020, equation 4): what a dot product with these sparse vectors costs, the
    sum over the vocabulary of the squared mean weight. One value for the batch."""
    return weights_NV.abs().mean(dim=0).square().sum()


def cosines(first_NC: Tensor, second_MC: Tensor) -> Tensor:
    """(N, M)."""
    return F.normalize(first_NC, dim=-1) @ F.normalize(second_MC, dim=-1).T
