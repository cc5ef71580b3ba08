"""Training of all kinds of encoders: objectives against sentence-transformers' losses, mining, resuming, whole runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seedbed.core.artifacts import Workspace, open_artifact
from seedbed.core.errors import ConfigError, DataError
from seedbed.datasets.examples import (
    Example,
    examples_of,
    form_of,
    from_pairs,
    inverse_cloze,
    read_examples,
    themselves,
)
from seedbed.datasets.pairs import make_pairs
from seedbed.embeddings import CrossEncoder, MultiVectorEncoder, SentenceEncoder, SparseEncoder
from seedbed.embeddings.dropout import with_dropout
from seedbed.embeddings.mining import MiningConfig, mine
from seedbed.embeddings.objectives import LossConfig, PairScoring, Ranking
from seedbed.embeddings.sentence import tokenize
from seedbed.embeddings.starts import EncoderShape, Kind, new_encoder, on_encoder, open_start
from seedbed.embeddings.students import represent, student_of
from seedbed.embeddings.training import EncoderTrainingConfig, scored_by, train
from seedbed.evaluation.encoder_gain import Asked, Gain, Rated, closeness, rank
from seedbed.evaluation.encoder_training import train_encoder
from seedbed.evaluation.statistics import paired_bootstrap
from seedbed.models import Decoder, ModelConfig, save_model
from seedbed.tokenizers import Tokenizer, train_wordpiece

from .conftest import documents

SHAPE = EncoderShape(hidden_size=32, layers=1, heads=2, intermediate_size=48, max_length=48, cooccurrence_window=4)
KINDS: tuple[Kind, ...] = ("bi-encoder", "cross-encoder", "sparse", "multi-vector")
SENTENCES = [
    ("read a csv file", ("The csv module reads rows.", "Sockets close when they are done with.")),
    ("close the socket", ("Sockets close when they are done with. Streams too, and all that hangs on them.",)),
    ("sort a list", ("Sort in place, or a copy.", "A queue is first in, first out.", "Threads")),
]


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    torch.set_num_threads(1)
    return train_wordpiece([row["text"] for row in documents()], 600, threads=1)


def encoder(kind: Kind, words: Tokenizer) -> Any:
    model = new_encoder(SHAPE, words, [row["text"] for row in documents()])
    return on_encoder(kind, model, words, max_length=48, dim=16, seed=1)


def examples(scores: bool = False) -> list[Example]:
    return [
        Example(query, texts, tuple(float(3 - i) for i in range(len(texts))) if scores else None, document=texts[0])
        for query, texts in SENTENCES
    ]


class NoModel(nn.Module):
    similarity_fn_name = "cosine"


def ranking(one: Any, rows: list[Example], **options: Any) -> Ranking:
    sparse = isinstance(one, SparseEncoder)
    return Ranking(student_of(one), rows, LossConfig(**options), query_tokens=16, text_tokens=32, sparse=sparse)


def test_ranking_of_a_bi_encoder_equals_sentence_transformers(words: Tokenizer) -> None:
    peers = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    one, rows = encoder("bi-encoder", words), [row for row in examples() if len(row.texts) > 1]
    batch = np.arange(2)
    value, count, _ = ranking(one, rows, piece_tokens=16).loss(one.model, batch)
    sides = [[row.query for row in rows], [row.texts[0] for row in rows], [row.texts[1] for row in rows]]
    vectors = [represent(student_of(one), tokenize(words, side, 32)[0], False, piece_tokens=999) for side in sides]
    third = represent(student_of(one), tokenize(words, [rows[1].texts[2]], 32)[0], False, piece_tokens=999)
    theirs = peers.MultipleNegativesRankingLoss(NoModel(), scale=20.0)
    expected = theirs.compute_loss_from_embeddings([*vectors[:2], torch.cat((vectors[2], third))], None)
    torch.testing.assert_close(value / count, expected, rtol=1e-5, atol=1e-5)


def test_a_sparse_encoder_is_regularised_as_in_splade_and_warms_up(words: Tokenizer) -> None:
    dense = pytest.importorskip("sentence_transformers.sparse_encoder.losses")
    one, rows = encoder("sparse", words), examples()[:2]
    queries, texts = (
        represent(student_of(one), tokenize(words, side, 32)[0], False, piece_tokens=999)
        for side in ([row.query for row in rows], [rows[0].texts[0], rows[1].texts[0], rows[0].texts[1]])
    )
    base = nn.functional.cross_entropy(queries @ texts.T, torch.arange(2))
    penalty = [dense.FlopsLoss(NoModel()).compute_loss_from_embeddings(side) for side in (queries, texts)]
    objective = ranking(one, rows, flops_queries=0.2, flops_texts=0.1, flops_warmup=4)
    for step in range(6):
        value, count, _ = objective.loss(one.model, np.arange(2))
        grown = min(1.0, (step + 1) / 4) ** 2
        torch.testing.assert_close(value / count, base + grown * (0.2 * penalty[0] + 0.1 * penalty[1]))
    again = ranking(one, rows, flops_queries=0.2, flops_texts=0.1, flops_warmup=4)
    again.load_state_dict({"step": 1})
    torch.testing.assert_close(
        again.loss(one.model, np.arange(2))[0] / 2, base + 0.25 * (0.2 * penalty[0] + 0.1 * penalty[1])
    )


def test_late_interaction_equals_sentence_transformers_contrast_and_distillation(words: Tokenizer) -> None:
    one = encoder("multi-vector", words)
    rows = [Example(row.query, row.texts[:2], (1.5, 0.5)) for row in examples() if len(row.texts) > 1]
    texts = [row.texts[0] for row in rows] + [row.texts[1] for row in rows]
    queries, found = one.encode_queries([row.query for row in rows]), one.encode_documents(texts)
    scores = torch.tensor([[float((q @ t.T).max(axis=1).sum()) for t in found] for q in queries])
    plain = [Example(row.query, row.texts) for row in rows]
    value, count, _ = ranking(one, plain, piece_tokens=20).loss(one.model, np.arange(2))
    torch.testing.assert_close(
        value / count, nn.functional.cross_entropy(scores, torch.arange(2)), rtol=1e-4, atol=1e-4
    )
    own = scores.gather(1, torch.tensor([[0, 2], [1, 3]]))
    expected = nn.functional.kl_div(
        own.log_softmax(-1), torch.tensor([[1.5, 0.5]] * 2).softmax(-1), reduction="batchmean"
    )
    value, count, _ = ranking(one, rows).loss(one.model, np.arange(2))
    torch.testing.assert_close(value / count, expected, rtol=1e-4, atol=1e-4)


def test_losses_of_a_cross_encoder_equal_sentence_transformers(tmp_path: Path, words: Tokenizer) -> None:
    package = pytest.importorskip("sentence_transformers")
    peers = pytest.importorskip("sentence_transformers.cross_encoder.losses")
    one, rows = encoder("cross-encoder", words), [row for row in examples(scores=True) if len(row.texts) > 1]
    one.activation = "identity"
    one.save(tmp_path)
    peer = package.CrossEncoder(str(tmp_path), device="cpu")

    def ours(name: str, given: list[Example]) -> float:
        objective = PairScoring(one, given, LossConfig(loss=name))
        value, count, _ = objective.loss(one.model, np.arange(len(given)))
        return float(value.detach() / count)

    queries, texts = [row.query for row in rows], [list(row.texts) for row in rows]
    teacher = [torch.tensor(row.scores) for row in rows]
    pairs = [[row.query for row in rows for _ in row.texts], [text for row in rows for text in row.texts]]
    labels = torch.tensor([1.0 if place == 0 else 0.0 for row in rows for place in range(len(row.texts))])
    plain = [Example(row.query, row.texts) for row in rows]
    assert ours("bce", plain) == pytest.approx(float(peers.BinaryCrossEntropyLoss(peer)(pairs, labels)), rel=1e-5)
    ranked = peers.MultipleNegativesRankingLoss(peer, scale=1.0, activation_fn=nn.Identity())
    each = [float(ranked([[row.query], *([text] for text in row.texts)], labels)) for row in rows]
    assert ours("ranking", plain) == pytest.approx(np.mean(each), rel=1e-5)
    two = [Example(row.query, row.texts[:2], row.scores[:2] if row.scores else None) for row in rows]
    inputs = [queries, *([row.texts[place] for row in two] for place in range(2))]
    margins = peers.MarginMSELoss(peer)(inputs, [one[:2] for one in teacher])
    assert ours("margin-mse", two) == pytest.approx(float(margins), rel=1e-5)
    # Cross-entropy with the teacher is the divergence from it and the teacher's own entropy.
    entropy = torch.stack([torch.distributions.Categorical(logits=one[:2]).entropy() for one in teacher]).mean()
    crossed = peers.ListNetLoss(peer)([queries, [one[:2] for one in texts]], [one[:2] for one in teacher])
    assert ours("kl", two) == pytest.approx(float(crossed - entropy), rel=1e-4)


def test_losses_of_a_cross_encoder_equal_their_formulas(words: Tokenizer) -> None:
    one, rows = encoder("cross-encoder", words), examples(scores=True)
    rows = [row for row in rows if len(row.texts) > 1]
    one.activation = "identity"
    logits = [torch.from_numpy(one.score([(row.query, text) for text in row.texts])) for row in rows]
    teacher = [torch.tensor(row.scores) for row in rows]

    def loss(name: str, plain: bool) -> Tensor:
        given = [Example(row.query, row.texts) for row in rows] if plain else rows
        value, count, _ = PairScoring(one, given, LossConfig(loss=name, piece_tokens=30)).loss(one.model, np.arange(2))
        return value / count

    wrong = torch.cat([row[1:] for row in logits])
    right = torch.stack([row[0] for row in logits])
    expected = -torch.cat((right.sigmoid().log(), (-wrong).sigmoid().log())).mean()
    torch.testing.assert_close(loss("bce", True), expected, rtol=1e-4, atol=1e-5)
    expected = torch.stack([-row.log_softmax(0)[0] for row in logits]).mean()
    torch.testing.assert_close(loss("ranking", True), expected, rtol=1e-4, atol=1e-5)
    pairs = [(ours[:2], theirs[:2]) for ours, theirs in zip(logits, teacher, strict=True)]
    margins = torch.stack([((ours[0] - ours[1]) - (theirs[0] - theirs[1])) ** 2 for ours, theirs in pairs])
    torch.testing.assert_close(loss("margin-mse", False), margins.mean(), rtol=1e-4, atol=1e-5)
    parts = [(theirs.softmax(0) * (theirs.log_softmax(0) - ours.log_softmax(0))).sum() for ours, theirs in pairs]
    torch.testing.assert_close(loss("kl", False), torch.stack(parts).mean(), rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match=r"mining\.negatives"):
        PairScoring(one, [Example("a", ("b",))] * 2, LossConfig())


def test_a_teachers_scores_are_learned_from(words: Tokenizer, tmp_path: Path) -> None:
    teacher, one = encoder("cross-encoder", words), encoder("bi-encoder", words)
    scored = scored_by(teacher, examples())
    assert [row.query for row in scored] == [row.query for row in examples() if len(row.texts) > 1]
    teacher.activation = "identity"
    expected = teacher.score([(scored[0].query, text) for text in scored[0].texts])
    np.testing.assert_allclose(scored[0].scores or (), expected, rtol=1e-4)
    metrics = train(
        EncoderTrainingConfig(training={"steps": 2, "batch_size": 2, "optimizer": "adamw"}), one, examples(),
        Workspace(tmp_path), teacher=teacher,
    )  # fmt: skip
    assert metrics["examples"] == len(scored)
    with pytest.raises(ConfigError, match=r"mining\.negatives"):
        scored_by(teacher, [Example("a", ("b",))])


def test_without_negatives_triplets_take_the_batchs_hardest(words: Tokenizer) -> None:
    one = encoder("bi-encoder", words)
    rows = [Example(query, (texts[0].partition(".")[0],)) for query, texts in SENTENCES]
    rows += [Example("sort a list", ("A queue of threads",))]
    value, _, _ = ranking(one, rows, loss="triplet", margin=0.5).loss(one.model, np.arange(4))
    queries, texts = ([one.encode(text, normalize=False)[0] for text in side]
                      for side in ([row.query for row in rows], [row.texts[0] for row in rows]))  # fmt: skip
    total = 0.0
    for row, query in enumerate(queries):
        others = [place for place in range(4) if place != row and rows[place].query != rows[row].query]
        nearest = min(np.linalg.norm(query - texts[place]) for place in others)
        total += max(0.0, np.linalg.norm(query - texts[row]) - nearest + 0.5)
    assert float(value.detach()) == pytest.approx(total, rel=1e-4)


def test_gradient_caching_pieces_and_order_change_no_gradient(words: Tokenizer) -> None:
    found = []
    for options in ({"piece_tokens": 4096}, {"piece_tokens": 12}, {"piece_tokens": 12, "cached": True}):
        one = encoder("bi-encoder", words)
        one.model.double()
        ranking(one, examples(), matryoshka=(8, 16), **options).loss(one.model, np.arange(3))[0].backward()
        found.append({name: weight.grad for name, weight in one.model.named_parameters() if weight.grad is not None})
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


def test_a_text_that_answers_another_query_is_no_negative(words: Tokenizer) -> None:
    one = encoder("bi-encoder", words)
    shared = [Example("read", ("a csv",)), Example("close", ("a socket",)), Example("read", ("the rows",))]
    value, _, _ = ranking(one, shared).loss(one.model, np.arange(2))
    mixed, _, _ = ranking(one, shared).loss(one.model, np.arange(3))
    alone, _, _ = ranking(one, shared).loss(one.model, np.array([0]))
    assert alone.item() == pytest.approx(0.0, abs=1e-6)
    scores = torch.from_numpy(one.encode(["read", "close", "read"]) @ one.encode(["a csv", "a socket", "the rows"]).T)
    scores[0, 2] = scores[2, 0] = -float("inf")
    expected = nn.functional.cross_entropy(scores / 0.05, torch.arange(3), reduction="sum")
    torch.testing.assert_close(mixed, expected, rtol=1e-4, atol=1e-4)
    assert value.item() > 0


def test_mining_leaves_out_right_and_too_close_texts(words: Tokenizer) -> None:
    one = encoder("bi-encoder", words)
    rows = from_pairs(make_pairs(documents()))[:60]
    texts = list(dict.fromkeys(row.texts[0] for row in rows))
    vectors, queries = one.encode(texts), one.encode([row.query for row in rows])
    for index in ("dense", "bm25"):
        mined, too_close = mine(rows, MiningConfig(negatives=3, index=index, closeness=0.9), one)
        assert too_close > 0
        for row, before, query in zip(mined, rows, queries, strict=True):
            assert row.texts[0] == before.texts[0]
            own = query @ vectors[texts.index(row.texts[0])]
            for text in row.texts[1:]:
                assert query @ vectors[texts.index(text)] <= 0.9 * own + 1e-5
                assert text != row.texts[0]
    by_words, _ = mine(rows, MiningConfig(negatives=2))
    assert {len(row.texts) for row in by_words} <= {1, 2, 3}
    assert max(len(row.texts) for row in by_words) == 3


def test_dropout_falls_in_training_alone_and_goes_away(words: Tokenizer) -> None:
    one = encoder("bi-encoder", words)
    rows = tokenize(words, ["read a csv file"], 32)[0]
    student = student_of(one)
    before = represent(student, rows, False, piece_tokens=99)
    with with_dropout(one.model, 0.5):
        assert torch.equal(represent(student, rows, False, piece_tokens=99), before)
        one.model.train()
        assert not torch.allclose(represent(student, rows, False, piece_tokens=99), before)
    assert torch.equal(represent(student, rows, False, piece_tokens=99), before)
    one.model.eval()


def test_examples_are_read_and_bad_rows_named(tmp_path: Path) -> None:
    rows: list[Any] = [
        {"query": "a", "text": "b"},
        {"anchor": "a", "positive": "b", "negative": "c"},
        {"sentence1": "a", "sentence2": "b", "score": 0.5},
        {"query": "a", "text": "b", "negatives": ["c", "d"], "scores": [3, 2, 1]},
        {"query": "a"},
        {"query": "a", "text": "b", "negatives": ["c"], "scores": [1]},
        {"query": "a", "text": "b", "score": float("inf")},
        {"query": "a", "text": "b", "negatives": "c"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    read = read_examples(path)
    found = examples_of(read.rows)
    assert [(one.texts, one.scores) for one in found] == [
        (("b",), None), (("b", "c"), None), (("b",), (0.5,)), (("b", "c", "d"), (3.0, 2.0, 1.0)),
    ]  # fmt: skip
    assert [one.line for one in read.rejected] == [5, 6, 7, 8]
    with pytest.raises(DataError, match="several forms"):
        form_of(found)


def test_examples_without_labels() -> None:
    text = "One sentence stands here. Another stands beside it. No."
    rows = [{"id": "d", "text": text, "title": "", "source": "s"}]
    found = [inverse_cloze(rows, seed=seed)[0] for seed in range(40)]
    assert {one.query for one in found} == {"One sentence stands here.", "Another stands beside it."}
    lower = [{**rows[0], "text": "one sentence stands here, by b. j. smith . another stands beside it . no ."}]
    assert {one.query for one in themselves(lower)} == {
        "one sentence stands here, by b. j. smith .", "another stands beside it .",
    }  # fmt: skip
    assert [pair.query for pair in make_pairs([{**lower[0], "text": "one sentence stands here . another does ."}])] == [
        "one sentence stands here "
    ]
    stayed = sum(one.query in one.texts[0] for one in found)
    assert 0 < stayed < 12
    assert [(one.query, one.texts) for one in themselves(rows)] == [
        ("One sentence stands here.", ("One sentence stands here.",)),
        ("Another stands beside it.", ("Another stands beside it.",)),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_from_documents_and_says_so(tmp_path: Path, kind: Kind, monkeypatch: Any) -> None:
    torch.set_num_threads(1)
    source = tmp_path / "docs.jsonl"
    source.write_text("\n".join(json.dumps(row) for row in documents()))
    values = {
        "kind": kind, "vocab_size": 600, "dim": 16, "mining.negatives": 2 if kind == "cross-encoder" else 0,
        "shape.hidden_size": 32, "shape.heads": 2, "shape.intermediate_size": 48, "shape.max_length": 48,
        "text_tokens": 48, "training.steps": 6, "training.batch_size": 8, "training.checkpoint_every": 2,
        "training.learning_rate": 1e-3,
    }  # fmt: skip

    def run(out: Path) -> Any:
        return train_encoder(out, sources=[str(source)], overrides=values, threads=1)

    whole = run(tmp_path / "whole")
    held = whole.metrics["held_out"]
    assert held["measure"] == "MRR@10"
    assert 0 <= held["before"] <= 1
    assert held["sentence"].startswith("MRR@10 of")
    if kind == "bi-encoder":
        from seedbed.training.trainer import Trainer

        step, calls = Trainer.train_step, []

        def dying(self: Any) -> Any:
            calls.append(1)
            if len(calls) == 5:
                raise KeyboardInterrupt
            return step(self)

        monkeypatch.setattr(Trainer, "train_step", dying)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed")
        monkeypatch.setattr(Trainer, "train_step", step)
        assert run(tmp_path / "killed").fingerprint == whole.fingerprint
    classes = {
        "bi-encoder": SentenceEncoder, "cross-encoder": CrossEncoder, "sparse": SparseEncoder,
        "multi-vector": MultiVectorEncoder,
    }  # fmt: skip
    opened = open_start(kind, tmp_path / "whole", max_length=48, dim=16, seed=0)
    assert type(opened) is classes[kind]
    assert open_artifact(tmp_path / "whole").stage == "encoder"


def test_training_raises_the_held_out_rank(tmp_path: Path, words: Tokenizer) -> None:
    one = encoder("bi-encoder", words)
    pairs = from_pairs(make_pairs(documents()))
    asked = Asked([row.query for row in pairs[::5]], [row.texts[0] for row in pairs[::5]],
                  [{place: 1.0} for place in range(len(pairs[::5]))])  # fmt: skip
    before = asked.per_query(one)
    config = EncoderTrainingConfig(
        training={"steps": 40, "batch_size": 32, "optimizer": "adamw", "learning_rate": 3e-3}
    )
    metrics = train(config, one, [row for place, row in enumerate(pairs) if place % 5], Workspace(tmp_path))
    after = asked.per_query(one)
    difference = paired_bootstrap(before, after)
    assert difference.low > 0
    assert "Training helped" in Gain("MRR@10", before.mean(), after.mean(), difference).sentence
    assert metrics["examples"] == len(pairs) - len(pairs[::5])


def test_starts_of_other_kinds_and_what_cannot_be(tmp_path: Path, words: Tokenizer) -> None:
    encoder("bi-encoder", words).save(tmp_path / "dense")
    for kind in KINDS:
        started = open_start(kind, tmp_path / "dense", max_length=32, dim=8, seed=0)
        assert rank(started, ["read csv"], ["a csv", "a socket", "x"], 2).shape == (1, 2)
        found = closeness(started, [Example("read", ("a csv",)), Example("close", ("a socket",))])
        assert found.shape == (2,)
    config = ModelConfig(vocab_size=words.vocab_size, hidden_size=32, layers=1, heads=2, context_length=64)
    save_model(Decoder(config), tmp_path / "base", words)
    base = open_start("bi-encoder", tmp_path / "base", max_length=32, dim=8, seed=0)
    assert isinstance(base, SentenceEncoder)
    assert (base.pooling, base.max_length) == ("last", 32)
    for options, message in (
        ({"training": {"accumulation": 2}}, "cached"),
        ({"objective": {"matryoshka": [32]}}, "below 32"),
        ({"objective": {"loss": "kl"}}, "possible: ranking, triplet"),
    ):
        with pytest.raises(ConfigError, match=message):
            train(EncoderTrainingConfig(**options), base, examples(), Workspace(tmp_path))  # type: ignore[arg-type]


def test_a_persons_scores_are_asked_by_spearman(words: Tokenizer) -> None:
    stats = pytest.importorskip("scipy.stats")
    one = encoder("bi-encoder", words)
    given = (("read csv", "a csv", 5.0), ("close", "a socket", 3.0), ("sort", "thread", 1.0), ("zip", "zip it", 4.0))
    rows = [Example(text, (other,), (score,)) for text, other, score in given]
    found = closeness(one, rows)
    expected = stats.spearmanr(found, [5.0, 3.0, 1.0, 4.0]).statistic
    assert Rated(rows).per_query(one).mean() == pytest.approx(expected)
