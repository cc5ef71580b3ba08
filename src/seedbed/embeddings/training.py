"""Training of encoders: bi-encoders, cross-encoders, sparse and multi-vector ones, from a file of examples or from a
user's own documents without anyone's labels."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ..core.artifacts import Workspace
from ..core.config import Config
from ..core.console import show
from ..core.errors import ConfigError, DataError
from ..datasets.examples import Example, form_of, from_pairs, inverse_cloze, themselves
from ..datasets.pairs import make_pairs
from ..tokenizers import train_wordpiece
from ..training.trainer import Trainer, TrainerConfig
from .batches import ExampleBatches
from .chunking import make_passages, token_counter
from .cross_encoder import CrossEncoder
from .dropout import with_dropout
from .mining import MiningConfig, mine
from .objectives import LossConfig, PairScoring, Questions, Ranking
from .sentence import SentenceEncoder, TruncationWarning
from .sparse import SparseEncoder
from .starts import AnyEncoder, EncoderShape, Kind, new_encoder, on_encoder
from .students import student_of

Unsupervised = Literal["auto", "titles", "inverse-cloze", "simcse"]
Document = Mapping[str, Any]

_SIMCSE_DROPOUT = 0.1


class EncoderTrainingConfig(Config):
    """How an encoder is trained."""

    kind: Kind = Field("bi-encoder", description="bi-encoder, cross-encoder, sparse or multi-vector")
    unsupervised: Unsupervised = Field(
        "auto",
        description="what examples are made of: titles (and openings) with the rest, inverse-cloze, simcse; auto: the "
        "first where documents have titles, else the second",
    )
    objective: LossConfig = LossConfig()
    mining: MiningConfig = MiningConfig()
    guide: bool = Field(
        False, description="bi-encoder: texts that the start holds closer to a query than its own are no negatives"
    )
    query_tokens: int = Field(64, ge=2, description="tokens of a query in training (multi-vector: the encoder's own)")
    text_tokens: int = Field(256, ge=2, description="tokens of a text in training, and of a passage of a document")
    neighbours: int = Field(1, ge=1, description="examples of one document that go into a batch together")
    dropout: float | None = Field(
        None, ge=0, lt=1, description="of what sublayers add; left out, 0.1 for simcse else 0"
    )
    dim: int = Field(128, ge=1, description="multi-vector: width of a token's vector, of a new projection")
    shape: EncoderShape = EncoderShape(max_length=256)
    vocab_size: int = Field(8192, ge=100, description="from scratch: pieces of words")
    held_out: float = Field(0.1, gt=0, lt=1, description="share of the documents, or queries, that training never sees")
    held_out_queries: int = Field(1000, ge=1, description="at most so many of their queries are asked")
    held_out_texts: int = Field(20_000, ge=1, description="at most so many texts are searched for the answers")
    training: TrainerConfig = TrainerConfig(
        steps=200, batch_size=32, optimizer="adamw", learning_rate=2e-5, weight_decay=0.01, beta2=0.999,
        warmup_fraction=0.1, decay_fraction=0.9, checkpoint_every=50,
    )  # fmt: skip
    seed: int = Field(0, ge=0, description="of what is held out, drawn and ordered")


def from_scratch(config: EncoderTrainingConfig, texts: Sequence[str]) -> AnyEncoder:
    """An untrained encoder with a WordPiece tokenizer of these texts."""
    tokenizer = train_wordpiece(texts, config.vocab_size)
    model = new_encoder(config.shape, tokenizer, texts)
    length = config.shape.max_length
    return on_encoder(config.kind, model, tokenizer, max_length=length, dim=config.dim, seed=config.seed)


def passages_of(documents: Sequence[Document], tokenizer: Any, max_tokens: int) -> list[dict[str, str]]:
    """Documents cut into passages, each a document of its own whose `source` is the document."""
    passages = make_passages(documents, token_counter(tokenizer), max_tokens)
    return [{"id": one.id, "text": one.text, "title": one.title, "source": one.document} for one in passages]


def make_examples(
    documents: Sequence[Document], passages: Sequence[Document], config: EncoderTrainingConfig
) -> list[Example]:
    """Examples without labels; a cross-encoder, which needs wrong texts, gets them by mining."""
    chosen = config.unsupervised
    if chosen == "auto":
        titled = sum(bool(document["title"]) for document in documents)
        chosen = "titles" if 2 * titled > len(documents) else "inverse-cloze"
    if chosen == "simcse":
        if config.kind == "cross-encoder":
            raise ConfigError("a cross-encoder cannot learn from a text and itself", where="unsupervised")
        return themselves(passages)
    if chosen == "titles":
        return from_pairs(make_pairs(documents))
    return inverse_cloze(passages, seed=config.seed)


def train(
    config: EncoderTrainingConfig,
    encoder: AnyEncoder,
    examples: Sequence[Example],
    workspace: Workspace,
    *,
    teacher: CrossEncoder | None = None,
) -> dict[str, Any]:
    """Train `encoder` in place on the examples; killed and started again in the same workspace, it goes on.

    Args:
        teacher: scores each query's texts, right and wrong, and is learned from (`objective.loss` kl or margin-mse).

    Returns:
        metrics: examples, mined (negatives), left_out (as too close to the right text), epochs, and the trainer's.
    """
    _check(config, encoder)
    before = sum(len(example.texts) for example in examples)
    guide = encoder if isinstance(encoder, SentenceEncoder) else None
    examples, too_close = mine(examples, config.mining, guide)
    mined = sum(len(example.texts) for example in examples) - before
    if isinstance(encoder, CrossEncoder) and form_of(examples) == "pairs":
        examples = [example for example in examples if len(example.texts) > 1]
    if teacher is not None:
        examples = scored_by(teacher, examples)
    if len(examples) < 2:
        raise DataError(f"{len(examples)} examples are too few to train an encoder on", hint="Use more text.")
    objective = _objective(config, encoder, examples)
    simcse = all(example.texts == (example.query,) for example in examples)
    dropout = config.dropout if config.dropout is not None else (_SIMCSE_DROPOUT if simcse else 0.0)
    module = encoder.model if isinstance(encoder, CrossEncoder) else student_of(encoder).module
    batches = ExampleBatches(examples, config.training.batch_size, neighbours=config.neighbours, seed=config.seed)
    with with_dropout(module, dropout):
        trainer: Trainer[Any] = Trainer(
            config.training,
            module,
            objective,
            batches,
            scratch=workspace.scratch,
            metrics_path=workspace.path / "metrics.jsonl",
            name=config.kind,
        )
        result = trainer.run()
    encoder.model.eval()
    workspace.measurements.update(result.measurements)
    seen = result.metrics["steps"] * min(config.training.batch_size, len(examples))
    return {
        "examples": len(examples),
        "mined": mined,
        "left_out": too_close,
        "epochs": seen / len(examples),
        **result.metrics,
    }


def scored_by(teacher: CrossEncoder, examples: Sequence[Example]) -> list[Example]:
    """The examples that have wrong texts, with the logits that a cross-encoder gives to all of their texts.

    Raises:
        ConfigError: none has one.
    """
    usable = [example for example in examples if len(example.texts) > 1]
    if not usable:
        raise ConfigError("a teacher tells right from wrong texts", hint="Mine some: mining.negatives=4.")
    show(f"the teacher reads {sum(len(example.texts) for example in usable):,} pairs")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        scores = teacher.score([(one.query, text) for one in usable for text in one.texts], activation="identity")
    ends = np.cumsum([len(example.texts) for example in usable])
    return [
        replace(example, scores=tuple(scores[end - len(example.texts) : end].tolist()))
        for example, end in zip(usable, ends.tolist(), strict=True)
    ]


def _check(config: EncoderTrainingConfig, encoder: AnyEncoder) -> None:
    if config.training.accumulation > 1:
        raise ConfigError(
            "a batch cannot be cut, as its texts are each other's negatives",
            where="training.accumulation",
            hint="Set objective.cached=true to save memory.",
        )
    if config.objective.matryoshka:
        if not isinstance(encoder, SentenceEncoder):
            raise ConfigError("only a bi-encoder's vectors are cut", where="objective.matryoshka")
        if max(config.objective.matryoshka) >= encoder.dim:
            raise ConfigError(f"lengths must be below {encoder.dim}", where="objective.matryoshka")
    if config.guide and not isinstance(encoder, SentenceEncoder):
        raise ConfigError("a guide is the bi-encoder that training starts from", where="guide")
    if config.mining.index == "dense" and config.mining.negatives and not isinstance(encoder, SentenceEncoder):
        raise ConfigError("only a bi-encoder mines by its vectors", where="mining.index", hint="Take bm25.")


def _objective(config: EncoderTrainingConfig, encoder: AnyEncoder, examples: Sequence[Example]) -> Any:
    if isinstance(encoder, CrossEncoder):
        return PairScoring(encoder, examples, config.objective)
    lengths = {"query_tokens": config.query_tokens, "text_tokens": config.text_tokens}
    guide = _guide(encoder, examples) if config.guide and isinstance(encoder, SentenceEncoder) else None
    sparse = isinstance(encoder, SparseEncoder)
    return Ranking(student_of(encoder), examples, config.objective, **lengths, guide=guide, sparse=sparse)


def _guide(encoder: SentenceEncoder, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    questions = Questions(examples)
    show(f"the guide reads {len(questions.queries) + len(questions.texts):,} texts")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        queries = encoder.encode_queries(questions.queries, normalize=True)
        texts = encoder.encode_documents(questions.texts, normalize=True)
    return torch.from_numpy(queries), torch.from_numpy(texts)
