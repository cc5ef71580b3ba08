"""Training a sentence encoder from scratch on (query, text) pairs, with the other pairs of a batch as negatives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from ..core.config import Config
from ..core.errors import DataError
from ..core.ragged import Ragged
from ..core.randomness import numpy_generator, torch_generator
from ..datasets.pairs import Pair
from ..models import Encoder, ModelConfig
from ..training.trainer import TrainerConfig
from .initial import cooccurrence_vectors
from .losses import info_nce
from .sentence import embed, pad, tokenize


class ContrastiveConfig(Config):
    """How a sentence encoder is made and trained."""

    hidden_size: int = Field(128, ge=8, description="width, which is also the dimension of the vectors")
    layers: int = Field(1, ge=1, description="transformer blocks")
    heads: int = Field(4, ge=1, description="attention heads")
    intermediate_size: int = Field(256, ge=8, description="width of the feed-forward layers")
    max_length: int = Field(192, ge=8, description="tokens that the encoder reads; what is longer is cut")
    query_tokens: int = Field(24, ge=2, description="tokens of a query in training")
    text_tokens: int = Field(48, ge=2, description="tokens of a text in training")
    temperature: float = Field(0.05, gt=0, description="divides cosines in the loss")
    symmetric: bool = Field(True, description="also let each text choose among the queries")
    neighbours: int = Field(4, ge=1, description="pairs of one source that go into a batch together: hard negatives")
    cooccurrence_window: int = Field(
        10, ge=0, description="start token vectors from co-occurrences so far apart; 0: no"
    )
    training: TrainerConfig = TrainerConfig(
        steps=240, batch_size=128, optimizer="adamw", learning_rate=2e-3, weight_decay=0.01, checkpoint_every=100
    )
    seed: int = Field(0, ge=0, description="of the weights and the order of the pairs")


@dataclass(frozen=True)
class PairBatch:
    """Token ids of queries and texts; text i answers query i. The masks are None where nothing is padded."""

    query_ids_BT: Tensor
    query_mask_BT: Tensor | None
    text_ids_BS: Tensor
    text_mask_BS: Tensor | None

    def to(self, device: torch.device | str) -> PairBatch:
        tensors = (self.query_ids_BT, self.query_mask_BT, self.text_ids_BS, self.text_mask_BS)
        return PairBatch(*(one if one is None else one.to(device) for one in tensors))  # type: ignore[arg-type]


class PairBatches:
    """Endless batches of pairs, exactly resumable; an epoch holds each pair once, up to what does not fill a batch.

    No document and no query stands twice in a batch, where it would be a false negative. Of each source,
    `neighbours` pairs go together: the texts of one module or file are the negatives hardest to tell apart.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        tokenizer: Any,
        batch_size: int,
        query_tokens: int,
        text_tokens: int,
        *,
        neighbours: int = 4,
        seed: int = 0,
    ) -> None:
        if len(pairs) < 2:
            raise DataError(f"{len(pairs)} pairs are too few to train an encoder on", hint="Use more text.")
        self._queries, _ = tokenize(tokenizer, [pair.query for pair in pairs], query_tokens)
        self._texts, _ = tokenize(tokenizer, [pair.text for pair in pairs], text_tokens)
        self._documents = _numbered([pair.document for pair in pairs])
        self._wordings = _numbered([pair.query for pair in pairs])
        self._groups = _numbered([pair.group for pair in pairs])
        self._batch_size, self._neighbours, self._seed = min(batch_size, len(pairs)), neighbours, seed
        self._epoch, self._place = 0, 0
        self._plan: tuple[int, list[list[int]]] = (-1, [])

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> PairBatch:
        if self._plan[0] != self._epoch:
            self._plan = (self._epoch, self._plan_epoch(self._epoch))
        rows = self._plan[1][self._place]
        self._place += 1
        if self._place == len(self._plan[1]):
            self._epoch, self._place = self._epoch + 1, 0
        return PairBatch(*pad([self._queries[row] for row in rows]), *pad([self._texts[row] for row in rows]))

    def _plan_epoch(self, epoch: int) -> list[list[int]]:
        random = numpy_generator(self._seed, "pairs", epoch)
        members: dict[int, list[int]] = defaultdict(list)
        for row in random.permutation(len(self._groups)):
            members[int(self._groups[row])].append(int(row))
        step = self._neighbours
        clumps = [rows[start : start + step] for rows in members.values() for start in range(0, len(rows), step)]
        waiting = [row for index in random.permutation(len(clumps)) for row in clumps[index]]
        batches: list[list[int]] = []
        while waiting:
            batch: list[int] = []
            later: list[int] = []
            documents: set[int] = set()
            wordings: set[int] = set()
            for position, row in enumerate(waiting):
                if len(batch) == self._batch_size:
                    later += waiting[position:]
                    break
                document, wording = int(self._documents[row]), int(self._wordings[row])
                if document in documents or wording in wordings:
                    later.append(row)
                else:
                    batch.append(row)
                    documents.add(document)
                    wordings.add(wording)
            if len(batch) < self._batch_size and batches:
                break
            batches.append(batch)
            waiting = later
        return batches

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self._epoch, "place": self._place}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._epoch, self._place = int(state["epoch"]), int(state["place"])


class Contrastive:
    """InfoNCE over a batch of pairs; the count is the number of choices. A batch is not cut: it holds the negatives."""

    def __init__(self, temperature: float, symmetric: bool) -> None:
        self._temperature, self._symmetric = temperature, symmetric

    def loss(self, model: nn.Module, batch: PairBatch) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
        queries = embed(model, batch.query_ids_BT, batch.query_mask_BT)
        texts = embed(model, batch.text_ids_BS, batch.text_mask_BS)
        loss = info_nce(queries, texts, temperature=self._temperature, symmetric=self._symmetric)
        return loss, torch.tensor(float(len(queries) * (2 if self._symmetric else 1))), {}


def new_encoder(config: ContrastiveConfig, tokenizer: Any, texts: Sequence[str]) -> Encoder:
    """An untrained encoder whose token vectors come from the co-occurrences in `texts`.

    Position vectors start at zero, so that positions which training texts do not reach change nothing.
    """
    shape = ModelConfig(
        kind="encoder",
        vocab_size=tokenizer.vocab_size,
        hidden_size=config.hidden_size,
        layers=config.layers,
        heads=config.heads,
        intermediate_size=config.intermediate_size,
        context_length=config.max_length,
        norm_epsilon=1e-12,
        pad_token_id=tokenizer.token_to_id("<|pad|>"),
    )
    model = Encoder(shape, torch_generator(config.seed, "encoder"))
    with torch.no_grad():
        for added in (model.position_embedding, model.type_embedding):
            assert added is not None
            added.weight.zero_()
        if config.cooccurrence_window:
            encoded: Ragged = tokenizer.encode_batch(list(texts))
            vectors = cooccurrence_vectors(
                encoded, shape.vocab_size, shape.hidden_size, window=config.cooccurrence_window, seed=config.seed
            )
            model.embedding.weight.copy_(torch.from_numpy(vectors) * 0.05)
    return model


def _numbered(names: Sequence[str]) -> npt.NDArray[np.int64]:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)
