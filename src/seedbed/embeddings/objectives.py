"""What an encoder's training step minimises: examples' numbers to a loss.

N examples, M candidates (the N texts that answer, then the negatives), P texts of one example, C width.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ..core.config import Config
from ..core.errors import ConfigError
from ..datasets.examples import Example, Form, form_of
from . import losses
from .batches import Rows, numbered
from .compute import batches_of_like_lengths
from .cross_encoder import CrossEncoder, TokenPairs, pair_logits
from .gradient_cache import encode_in_pieces
from .sentence import TruncationWarning
from .students import Student, represent

LossName = Literal["auto", "ranking", "triplet", "cosent", "angle", "margin-mse", "kl", "bce"]

# Of each form of examples, the loss taken by default first.
_OF_FORM: dict[Form, tuple[LossName, ...]] = {
    "pairs": ("ranking", "triplet"),
    "scored": ("cosent", "angle"),
    "distilled": ("kl", "margin-mse"),
}
_OF_FORM_READ_TOGETHER: dict[Form, tuple[LossName, ...]] = {
    "pairs": ("ranking", "bce"),
    "scored": ("bce",),
    "distilled": ("kl", "margin-mse", "bce"),
}
_IGNORED = -1e9  # a logit where an example has fewer texts than another


class LossConfig(Config):
    """What is minimised."""

    loss: LossName = Field(
        "auto",
        description="ranking (InfoNCE), triplet; of scored pairs cosent, angle, bce; of a teacher's kl, margin-mse",
    )
    temperature: float | None = Field(None, gt=0, description="divides scores; left out, 0.05 for cosines, else 1")
    symmetric: bool = Field(False, description="ranking: also let each text choose among the queries")
    spread: bool = Field(False, description="kl: bring a query's scores between 0 and 1 first, as PyLate does")
    margin: float = Field(
        5.0, gt=0, description="triplet: how much farther the wrong text must be; without negatives the batch's closest"
    )
    matryoshka: tuple[int, ...] = Field((), description="bi-encoder: also learn from so many first components alone")
    flops_queries: float = Field(5e-3, ge=0, description="sparse: weight of the FLOPS regulariser on queries")
    flops_texts: float = Field(3e-3, ge=0, description="sparse: its weight on texts")
    flops_warmup: int = Field(100, ge=0, description="sparse: steps over which these weights grow, by the square")
    cached: bool = Field(False, description="gradient caching: a batch of any size in the memory of one piece")
    piece_tokens: int = Field(1024, ge=1, description="tokens that go through the model at once, about")


class Questions:
    """Examples by number: each distinct text once, and which texts are right for which query."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.form = form_of(examples)
        self.queries = [example.query for example in examples]
        self.texts = list(dict.fromkeys(text for example in examples for text in example.texts))
        number = {text: place for place, text in enumerate(self.texts)}
        self.columns = [np.array([number[text] for text in example.texts]) for example in examples]
        self._scores = [example.scores for example in examples]
        self._wordings = numbered(self.queries)
        self._right: dict[int, set[int]] = defaultdict(set)
        for wording, columns in zip(self._wordings, self.columns, strict=True):
            self._right[int(wording)].add(int(columns[0]))

    def __len__(self) -> int:
        return len(self.queries)

    def candidates(self, rows: Rows) -> Rows:
        """(M,): numbers of the texts that answer, then of the negatives, example by example."""
        own = [self.columns[row] for row in rows]
        return np.concatenate([[columns[0] for columns in own], *(columns[1:] for columns in own)]).astype(np.int64)

    def own(self, rows: Rows) -> Rows:
        """(N, P): places of each example's texts among the candidates; P is the fewest that one has."""
        counts = [len(self.columns[row]) - 1 for row in rows]
        starts = len(rows) + np.cumsum([0, *counts[:-1]])
        places = starts[:, None] + np.arange(min(counts))
        return np.concatenate((np.arange(len(rows))[:, None], places), axis=1).astype(np.int64)

    def scores(self, rows: Rows, width: int) -> Tensor:
        """(N, P), float32."""
        listed = [self._scores[row] for row in rows]
        return torch.tensor([one[:width] for one in listed if one is not None], dtype=torch.float32)

    def also_right(self, rows: Rows, candidates: Rows) -> npt.NDArray[np.bool_]:
        """(N, M): texts that some example gives as right for the same query."""
        return np.stack([np.isin(candidates, list(self._right[int(self._wordings[row])])) for row in rows])


class Ranking:
    """Training of an encoder that compares: queries against the texts of the whole batch, or against scores.

    Args:
        guide: vectors of all queries and of all texts, by a model trained before: a text that it holds closer to a
            query than the query's own is no negative (GISTEmbed).
        sparse: add the FLOPS regulariser, whose weight grows with the square of the step (SPLADE v2: Formal et al.
            2021, section 3.1).
    """

    def __init__(
        self,
        student: Student,
        examples: Sequence[Example],
        config: LossConfig,
        *,
        query_tokens: int,
        text_tokens: int,
        guide: tuple[Tensor, Tensor] | None = None,
        sparse: bool = False,
    ) -> None:
        self._student, self._config, self._guide, self._sparse = student, config, guide, sparse
        self._questions = Questions(examples)
        self._loss = chosen_loss(config.loss, self._questions.form, _OF_FORM)
        self._temperature = config.temperature or student.temperature
        self._queries = student.tokenize(self._questions.queries, True, query_tokens)
        self._texts = student.tokenize(self._questions.texts, False, text_tokens)
        self._step = 0

    def loss(self, model: nn.Module, batch: Rows) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
        candidates = self._questions.candidates(batch)
        queries, texts = self._encode(batch, candidates)
        excluded = torch.from_numpy(self._questions.also_right(batch, candidates)).to(queries.device)
        if self._guide is not None:
            guided = (self._guide[0][torch.from_numpy(batch)], self._guide[1][torch.from_numpy(candidates)])
            excluded |= losses.false_negatives(*guided).to(excluded.device)
        if self._config.matryoshka:
            dims = [*self._config.matryoshka, queries.shape[-1]]
            value = losses.matryoshka(lambda q, t: self._value(q, t, batch, excluded), (queries, texts), dims)
        else:
            value = self._value(queries, texts, batch, excluded)
        count = len(batch) * (2 if self._loss == "ranking" and self._config.symmetric else 1)
        extras: dict[str, Tensor] = {}
        if self._sparse:
            grown = min(1.0, (self._step + 1) / max(self._config.flops_warmup, 1)) ** 2
            penalty = self._config.flops_queries * losses.flops(queries) + self._config.flops_texts * losses.flops(
                texts
            )
            value = value + grown * penalty * count
            extras["nonzero"] = (texts.detach() > 0).float().sum(dim=1).mean() * count
        self._step += 1
        return value, torch.tensor(float(count)), extras

    def _encode(self, batch: Rows, candidates: Rows) -> tuple[Tensor, Tensor]:
        options: dict[str, Any] = {"piece_tokens": self._config.piece_tokens, "cached": self._config.cached}
        queries, texts = [self._queries[row] for row in batch], [self._texts[row] for row in candidates]
        if self._student.alike:  # one pass: lengths of both sides are sorted together
            both = represent(self._student, queries + texts, False, **options)
            return both[: len(queries)], both[len(queries) :]
        return represent(self._student, queries, True, **options), represent(self._student, texts, False, **options)

    def _value(self, queries: Tensor, texts: Tensor, batch: Rows, excluded_NM: Tensor) -> Tensor:
        """Summed over the examples."""
        if self._loss in ("cosent", "angle"):
            function = losses.cosent if self._loss == "cosent" else losses.angle
            labels_N = self._questions.scores(batch, 1)[:, 0].to(queries.device)
            return function(queries, texts, labels_N) * len(batch)
        own_NP = torch.from_numpy(self._questions.own(batch)).to(queries.device)
        if self._loss == "triplet":
            if own_NP.shape[1] < 2:
                wrong_N = losses.hardest(queries, texts, excluded_NM)
                return losses.triplet(queries, texts[own_NP[:, 0]], texts[wrong_N], margin=self._config.margin)
            parts = [
                losses.triplet(queries, texts[own_NP[:, 0]], texts[wrong_N], margin=self._config.margin)
                for wrong_N in own_NP.T[1:]
            ]
            return torch.stack(parts).mean(dim=0)
        scores_NM = self._student.scores(queries, texts)
        if self._loss == "ranking":
            return losses.choice(scores_NM / self._temperature, self._config.symmetric, excluded_NM)
        teacher_NP = self._questions.scores(batch, own_NP.shape[1]).to(queries.device)
        student_NP = scores_NM.gather(1, own_NP)
        return _distilled(self._config, self._loss, student_NP, teacher_NP, self._temperature)

    def state_dict(self) -> dict[str, Any]:
        return {"step": self._step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._step = int(state["step"])


class PairScoring:
    """Training of a cross-encoder on queries with their own texts."""

    def __init__(self, encoder: CrossEncoder, examples: Sequence[Example], config: LossConfig) -> None:
        self._encoder, self._examples, self._config = encoder, examples, config
        form = form_of(examples)
        self._loss = chosen_loss(config.loss, form, _OF_FORM_READ_TOGETHER)
        if form == "pairs" and any(len(example.texts) < 2 for example in examples):
            raise ConfigError(
                "a cross-encoder learns from right and wrong texts", hint="Mine some: mining.negatives=4."
            )

    def loss(self, model: nn.Module, batch: Rows) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
        examples = [self._examples[row] for row in batch]
        logits = self._logits([(one.query, text) for one in examples for text in one.texts])
        labels = torch.tensor([label for one in examples for label in _labels(one)], device=logits.device)
        if self._loss == "bce":
            value = F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
            return value, torch.tensor(float(len(labels))), {}
        counts = [len(one.texts) for one in examples]
        count = torch.tensor(float(len(examples)))
        if self._loss == "ranking":
            logits_NP = _rows(logits, counts, _IGNORED)
            right_N = torch.zeros(len(examples), dtype=torch.int64, device=logits.device)
            temperature = self._config.temperature or 1.0
            return F.cross_entropy(logits_NP / temperature, right_N, reduction="sum"), count, {}
        width = min(counts)
        logits_NP, labels_NP = (_rows(one, counts, 0.0)[:, :width] for one in (logits, labels))
        return _distilled(self._config, self._loss, logits_NP, labels_NP, self._config.temperature or 1.0), count, {}

    def _logits(self, pairs: Sequence[tuple[str, str]]) -> Tensor:
        cut = self._encoder.truncated
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)
            tokens = self._encoder.tokenize(pairs)
        self._encoder.truncated = cut
        pieces = list(batches_of_like_lengths([len(row) for row in tokens.ids], self._config.piece_tokens))

        def encode(pair_tokens: TokenPairs) -> Tensor:
            return pair_logits(self._encoder.model, pair_tokens, self._encoder.device)

        encoded = encode_in_pieces(encode, [tokens.at(piece) for piece in pieces], cached=self._config.cached)
        back = torch.from_numpy(np.argsort(np.concatenate(pieces)))
        return torch.cat(encoded)[back.to(encoded[0].device)]


def chosen_loss(asked: LossName, form: Form, known: Mapping[Form, tuple[LossName, ...]]) -> LossName:
    """The loss asked for, or that of the examples' form.

    Raises:
        ConfigError: the examples do not have what it needs.
    """
    if asked == "auto":
        return known[form][0]
    if asked not in known[form]:
        raise ConfigError(
            f"the loss '{asked}' cannot learn from examples that are {form} (possible: {', '.join(known[form])})",
            where="loss",
        )
    return asked


def _distilled(
    config: LossConfig, loss: LossName, student_NP: Tensor, teacher_NP: Tensor, temperature: float
) -> Tensor:
    if loss == "kl":
        student_NP = losses.between_zero_and_one(student_NP) if config.spread else student_NP
        return losses.distillation(student_NP / temperature, teacher_NP)
    wrong = losses.margin_mse(student_NP[:, 0], student_NP[:, 1:], teacher_NP[:, :1] - teacher_NP[:, 1:])
    return wrong / (student_NP.shape[1] - 1)


def _labels(example: Example) -> Sequence[float]:
    return example.scores or (1.0, *(0.0 for _ in example.texts[1:]))


def _rows(values: Tensor, counts: Sequence[int], filled: float) -> Tensor:
    """(N, P) of values example by example, each with its own count."""
    return nn.utils.rnn.pad_sequence(list(values.split(list(counts))), batch_first=True, padding_value=filled)
