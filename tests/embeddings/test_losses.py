"""Losses of embedding models against sentence-transformers' on the same vectors, and gradient caching against none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seedbed.embeddings import losses
from seedbed.embeddings.gradient_cache import encode_in_pieces

N, C, P = 7, 12, 3


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def peers() -> Any:
    return pytest.importorskip("sentence_transformers.sentence_transformer.losses")


class NoModel(nn.Module):
    """What a loss of theirs asks of its model when it is given the vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.similarity_fn_name = "cosine"


def test_info_nce_with_hard_negatives_in_one_and_both_directions(peers: Any) -> None:
    queries, texts, negatives = draws(N, C), draws(N, C, seed=1), draws(N, C, seed=2)
    theirs = peers.MultipleNegativesRankingLoss(NoModel(), scale=20.0)
    expected = theirs.compute_loss_from_embeddings([queries, texts, negatives], None) * N
    torch.testing.assert_close(losses.info_nce(queries, torch.cat((texts, negatives))), expected)
    both = peers.MultipleNegativesRankingLoss(
        NoModel(), scale=20.0, directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"
    )
    expected = both.compute_loss_from_embeddings([queries, texts], None) * 2 * N
    torch.testing.assert_close(losses.info_nce(queries, texts, symmetric=True), expected)


def test_losses_of_pairs_and_triplets(peers: Any) -> None:
    first, second, third = (draws(N, C, seed=seed) for seed in range(3))
    labels = torch.tensor([0.0, 1.0, 0.5, 0.5, 0.2, 0.9, 0.9], dtype=torch.float64)
    expected = peers.TripletLoss(NoModel(), triplet_margin=2.0).compute_loss_from_embeddings(
        [first, second, third], labels
    )
    torch.testing.assert_close(
        losses.triplet(first, second, third, margin=2.0) / N, expected, rtol=1e-6, atol=0
    )  # theirs adds 1e-6
    expected = peers.CoSENTLoss(NoModel()).compute_loss_from_embeddings([first, second], labels)
    torch.testing.assert_close(losses.cosent(first, second, labels), expected)
    expected = peers.AnglELoss(NoModel()).compute_loss_from_embeddings([first, second], labels)
    torch.testing.assert_close(losses.angle(first, second, labels), expected)
    assert float(losses.cosent(first, second, torch.ones(N))) == 0.0  # no pair should rank above another


def test_distillation_from_a_cross_encoder(peers: Any) -> None:
    queries, texts = draws(N, C), draws(1 + P, N, C, seed=1)
    scores = (queries * texts).sum(-1).T
    teacher = draws(N, 1 + P, seed=2)
    expected = peers.MarginMSELoss(NoModel()).compute_loss_from_embeddings(
        [queries, *texts], teacher[:, :1] - teacher[:, 1:]
    )
    ours = losses.margin_mse(scores[:, 0], scores[:, 1:], teacher[:, :1] - teacher[:, 1:])
    torch.testing.assert_close(ours / (N * P), expected)
    expected = peers.DistillKLDivLoss(NoModel(), temperature=2.0).compute_loss_from_embeddings(
        [queries, *texts], teacher
    )
    torch.testing.assert_close(losses.distillation(scores, teacher, temperature=2.0) / N, expected)


class Given(nn.Module):
    """A late-interaction model of a peer's loss that was given its vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.skiplist: list[int] = []

    def forward(self, features: dict[str, Any], task: str = "") -> dict[str, Any]:
        return features


def given(vectors: Tensor, mask: Tensor) -> dict[str, Any]:
    ids = torch.ones(mask.shape, dtype=torch.int64)
    return {"token_embeddings": vectors, "attention_mask": mask, "input_ids": ids}


SINGLE = {"check_dtype": False, "rtol": 1e-5, "atol": 1e-6}  # their late interaction computes in float32


def test_late_interaction_equals_sentence_transformers() -> None:
    peers = pytest.importorskip("sentence_transformers.multi_vector_encoder.losses")
    queries, columns = draws(N, 5, C), [draws(N, 6, C, seed=seed) for seed in range(1, 2 + P)]
    query_mask = torch.arange(5) < torch.arange(1, N + 1).clamp(max=5)[:, None]
    masks = [torch.arange(6) < torch.roll(torch.arange(N), seed).clamp(1, 6)[:, None] for seed in range(1 + P)]
    sides = [given(queries, query_mask), *(given(*one) for one in zip(columns, masks, strict=True))]
    texts, text_mask = torch.cat(columns), torch.cat(masks)
    scores_NM = losses.maxsim(queries, texts, query_mask, text_mask)
    expected = peers.MultiVectorMultipleNegativesRankingLoss(Given())(sides)
    torch.testing.assert_close(losses.choice(scores_NM) / N, expected, **SINGLE)
    scores_NP = torch.stack([scores_NM[torch.arange(N), torch.arange(N) + N * p] for p in range(1 + P)], dim=1)
    teacher = draws(N, 1 + P, seed=9)
    expected = peers.MultiVectorDistillKLDivLoss(Given(), temperature=2.0)(sides, teacher)
    torch.testing.assert_close(losses.distillation(scores_NP, teacher, temperature=2.0) / N, expected, **SINGLE)
    expected = peers.MultiVectorMarginMSELoss(Given())(sides, teacher)
    ours = losses.margin_mse(scores_NP[:, 0], scores_NP[:, 1:], teacher[:, :1] - teacher[:, 1:])
    torch.testing.assert_close(ours / (N * P), expected, **SINGLE)


def test_late_interaction_equals_pylates(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pylate.scores")
    cards = pytest.importorskip("sentence_transformers.sentence_transformer.model_card")
    monkeypatch.setattr(cards, "generate_model_card", None, raising=False)  # PyLate 1.0 imports what has been renamed
    peers = pytest.importorskip("pylate.losses")
    # PyLate's losses normalise vectors, and count a masked token as one of product 0: here none is masked.
    queries, texts = (torch.nn.functional.normalize(draws(n, t, C, seed=n), dim=-1) for n, t in ((N, 5), (2 * N, 6)))
    sides = [given(one, torch.ones(one.shape[:2])) for one in (queries, texts[:N], texts[N:])]
    scores = losses.maxsim(queries, texts)
    torch.testing.assert_close(losses.choice(scores) / N, peers.Contrastive(Given())(sides))
    teacher = draws(N, 2, seed=9)
    own_N = torch.arange(N)
    scores_NP = torch.stack((scores[own_N, 2 * own_N], scores[own_N, 2 * own_N + 1]), dim=1)
    for spread in (False, True):
        together = [sides[0], given(texts, torch.ones(texts.shape[:2]))]
        expected = peers.Distillation(Given(), normalize_scores=spread)(together, teacher)
        student_NP = losses.between_zero_and_one(scores_NP) if spread else scores_NP
        torch.testing.assert_close(losses.distillation(student_NP, teacher) / N, expected, rtol=1e-6, atol=1e-8)


def test_a_guide_unmasks_false_negatives_as_in_sentence_transformers(peers: Any) -> None:
    tokenizers = pytest.importorskip("transformers").PreTrainedTokenizerBase

    class Model(Given):
        tokenizer, max_seq_length = tokenizers(), 8

        def __init__(self, sides: list[Tensor]) -> None:
            super().__init__()
            self.sides = sides

        def forward(self, features: dict[str, Any], task: str = "") -> dict[str, Any]:
            return {"sentence_embedding": self.sides[features["side"]]}

    vectors, guide = ([draws(N, C, seed=seed + one) for one in range(2)] for seed in (0, 5))
    Model.tokenizer.get_vocab = dict  # type: ignore[method-assign]
    options = {"contrast_anchors": False, "contrast_positives": False}
    loss = peers.GISTEmbedLoss(Model(vectors), Model(guide), temperature=0.05, margin=0.1, **options)
    features = [{"side": side, "input_ids": torch.ones(N, 1, dtype=torch.int64)} for side in range(2)]
    masked = losses.false_negatives(*guide, margin=0.1)
    assert 0 < int(masked.sum()) < N * N
    torch.testing.assert_close(losses.info_nce(*vectors, false_negatives_NM=masked) / N, loss(features, torch.ones(N)))


def test_a_guide_unmasks_false_negatives() -> None:
    queries, texts = draws(N, C), draws(N, C, seed=1)
    texts[4] = queries[2] + 0.01 * texts[4]  # answers query 2 better than its own text does
    guide = losses.false_negatives(queries, texts)
    assert guide[2, 4]
    assert not guide.diagonal().any()
    scores = losses.cosines(queries, texts) / 0.05
    by_hand = torch.zeros((), dtype=torch.float64)
    for row in range(N):
        kept = [column for column in range(N) if scores[row, column] <= scores[row, row]]
        by_hand += torch.logsumexp(scores[row, kept], 0) - scores[row, row]
    torch.testing.assert_close(losses.info_nce(queries, texts, false_negatives_NM=guide), by_hand)
    assert losses.info_nce(queries, texts, false_negatives_NM=guide) < losses.info_nce(queries, texts)


def test_matryoshka_is_the_sum_over_prefixes() -> None:
    queries, texts = draws(N, C), draws(N, C, seed=1)
    expected = 0.5 * losses.info_nce(queries[:, :4], texts[:, :4]) + 2.0 * losses.info_nce(queries, texts)
    torch.testing.assert_close(losses.matryoshka(losses.info_nce, (queries, texts), (4, C), (0.5, 2.0)), expected)


def test_maxsim_equals_the_double_loop_and_flops_their_formula() -> None:
    queries, texts = draws(2, 4, C), draws(3, 5, C, seed=1)
    query_mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    text_mask = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 1, 0, 0]])
    scores = losses.maxsim(queries, texts, query_mask, text_mask)
    for n, query in enumerate(queries):
        for m, text in enumerate(texts):
            kept = text[text_mask[m] == 1]
            expected = sum(max(float(q @ t) for t in kept) for q in query[query_mask[n] == 1])
            assert float(scores[n, m]) == pytest.approx(expected)
    sparse = pytest.importorskip("sentence_transformers.sparse_encoder.losses")
    weights = draws(N, C).abs()
    torch.testing.assert_close(losses.flops(weights), sparse.FlopsLoss(NoModel()).compute_loss_from_embeddings(weights))


def test_gradient_caching_equals_the_plain_gradient_and_drops_alike_both_times() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(C, C), nn.Tanh(), nn.Dropout(0.5), nn.Linear(C, C)).double()
    queries, texts = draws(N, C), draws(N + 4, C, seed=1)
    gradients, passes = [], []
    for cached in (False, True):
        model.zero_grad()
        seen: list[bool] = []  # whether each pass through the model had a graph

        def encode(piece: Tensor, seen: list[bool] = seen) -> Tensor:
            seen.append(torch.is_grad_enabled())
            return model(piece)

        torch.manual_seed(3)
        sides = [torch.cat(encode_in_pieces(encode, side.split(4), cached=cached)) for side in (queries, texts)]
        value = losses.info_nce(*sides, symmetric=True)
        value.backward()
        gradients.append([value.detach(), *(parameter.grad.clone() for parameter in model.parameters())])
        passes.append(len(seen))
    torch.testing.assert_close(gradients[1], gradients[0])
    assert passes == [5, 10]  # each piece once more
