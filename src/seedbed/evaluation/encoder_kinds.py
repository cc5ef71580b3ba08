"""Recurrence, attention and transformer as sentence encoders: of as many parameters, from the same word vectors, taught
the same pairs by the same steps, and asked for documents that none of them has seen.

B texts, T tokens, C width of the vectors, H width of a recurrent state.
"""

from __future__ import annotations

import tempfile
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..core.errors import DataError
from ..core.randomness import numpy_generator, torch_generator
from ..datasets.examples import from_pairs
from ..datasets.pairs import make_pairs
from ..embeddings.batches import ExampleBatches, Rows
from ..embeddings.losses import cosines
from ..embeddings.objectives import LossConfig, Ranking
from ..embeddings.sentence import embed, pad, tokenize
from ..embeddings.starts import EncoderShape, new_encoder
from ..embeddings.students import represent
from ..indexes.base import Floats
from ..models.recurrent import AdditiveAttention
from ..tokenizers import train_wordpiece
from ..training import Trainer, TrainerConfig
from .known_items import KnownItems, known_items, nearest
from .statistics import paired_bootstrap

WORDS, RECURRENT, ATTENTIVE, TRANSFORMER = "words alone", "recurrent", "attentive", "transformer"
KINDS = (WORDS, RECURRENT, ATTENTIVE, TRANSFORMER)
_SHAPE = EncoderShape(hidden_size=96, layers=2, heads=4, intermediate_size=192, max_length=128)
_VOCABULARY = 4096
_QUERY_TOKENS, _TEXT_TOKENS = 32, 48  # in training; asked, texts are read up to the shape's length
_ASKED, _HELD_OUT, _MOST_HELD_OUT, _FEWEST = 300, 0.25, 500, 10


class RecurrentReader(nn.Module):
    """An LSTM in both directions. Its vector is made of its last states or, with attention, of all states as far as the
    last ones ask for them (Bahdanau et al. 2015)."""

    def __init__(self, embedding: Tensor, width: int, attention: bool, generator: torch.Generator) -> None:
        super().__init__()
        dim = embedding.shape[1]
        self.reader = nn.LSTM(dim, width, batch_first=True, bidirectional=True)
        self.attention = AdditiveAttention(2 * width) if attention else None
        self.projection = nn.Linear(2 * width, dim)
        for _, parameter in sorted(self.named_parameters()):
            if not parameter.is_meta:
                nn.init.uniform_(parameter, -(width**-0.5), width**-0.5, generator=generator)
        self.embedding = nn.Embedding.from_pretrained(embedding, freeze=False)

    def forward(self, ids_BT: Tensor, mask_BT: Tensor | None) -> Tensor:
        """(B, C)."""
        mask_BT = torch.ones_like(ids_BT, dtype=torch.bool) if mask_BT is None else mask_BT
        lengths_B = mask_BT.sum(dim=1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embedding(ids_BT), lengths_B, batch_first=True, enforce_sorted=False
        )
        states, (last_2BH, _) = self.reader(packed)
        last_BH = torch.cat((last_2BH[0], last_2BH[1]), dim=-1)
        if self.attention is None:
            return self.projection(last_BH)
        states_BTH, _ = nn.utils.rnn.pad_packed_sequence(states, batch_first=True, total_length=ids_BT.shape[1])
        scores_BT = self.attention(last_BH, states_BTH).masked_fill(~mask_BT, float("-inf"))
        return self.projection(torch.einsum("bt,bth->bh", scores_BT.softmax(dim=-1), states_BTH))


class WordMeans(nn.Module):
    """The mean of the tokens' vectors, projected: it knows no order."""

    def __init__(self, embedding: Tensor, generator: torch.Generator) -> None:
        super().__init__()
        dim = embedding.shape[1]
        self.embedding = nn.Embedding.from_pretrained(embedding, freeze=False)
        self.projection = nn.Linear(dim, dim)
        nn.init.orthogonal_(self.projection.weight, generator=generator)

    def forward(self, ids_BT: Tensor, mask_BT: Tensor | None) -> Tensor:
        """(B, C)."""
        mask_BT = torch.ones_like(ids_BT, dtype=torch.bool) if mask_BT is None else mask_BT
        weights_BT = mask_BT.float() / mask_BT.sum(dim=1, keepdim=True)
        return self.projection(torch.einsum("bt,btc->bc", weights_BT, self.embedding(ids_BT)))


class TransformerReader(nn.Module):
    """The mean of a bidirectional transformer's outputs."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids_BT: Tensor, mask_BT: Tensor | None) -> Tensor:
        """(B, C)."""
        return embed(self.encoder, ids_BT, mask_BT)


class Reading:
    """A reader as training sees encoders (`embeddings.students.Student`)."""

    alike, temperature = True, 0.05

    def __init__(self, module: nn.Module, tokenizer: Any) -> None:
        self.module, self._tokenizer = module, tokenizer

    def tokenize(self, texts: Sequence[str], query: bool, length: int) -> list[Rows]:
        return tokenize(self._tokenizer, texts, length)[0]

    def represent(self, rows: Sequence[Rows], query: bool) -> Tensor:
        vectors_BC: Tensor = self.module(*pad(rows))
        return vectors_BC

    def scores(self, queries: Tensor, texts: Tensor) -> Tensor:
        return cosines(queries, texts)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Floats:
        """(n, C), float32."""
        self.module.eval()
        rows = self.tokenize(texts, False, _SHAPE.max_length)
        return represent(self, rows, False, piece_tokens=4096).float().numpy()


def compare_kinds(
    documents: Sequence[Mapping[str, Any]],
    *,
    steps: int = 100,
    batch_size: int = 32,
    learning_rate: float = 2e-3,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """One row a kind: its parameters, MRR@10 of held-out known items before and after training and of the longer half
    of the texts, how it differs from the transformer (paired bootstrap), how far shuffling a text's words moves its
    vector (1 - cosine), and texts read per second. Empty where documents are too few.

    Args:
        documents: with `id`, `title`, `source` and `text`; a quarter of them is held out, at most 500.
    """
    order = numpy_generator(seed, "kinds").permutation(len(documents))
    count = min(max(1, round(_HELD_OUT * len(documents))), _MOST_HELD_OUT)
    held, kept = ([documents[place] for place in places] for places in (order[:count], order[count:]))
    try:
        items = known_items(held, len(held), _ASKED, seed, fewest=_FEWEST)
    except DataError:
        return []
    texts = [document["text"] for document in kept]
    tokenizer = train_wordpiece(texts, _VOCABULARY)
    examples = from_pairs(make_pairs(kept))
    trainer = TrainerConfig(
        steps=steps, batch_size=batch_size, optimizer="adamw", learning_rate=learning_rate, weight_decay=0.01,
        checkpoint_every=1 << 30, seed=seed,
    )  # fmt: skip
    found: list[dict[str, Any]] = []
    ranks: dict[str, npt.NDArray[np.float64]] = {}
    for kind in KINDS:
        reading = Reading(sized(kind, tokenizer, texts, seed), tokenizer)
        before = items.mrr(nearest(reading.encode(items.texts), reading.encode(items.queries), "cosine"))
        objective = Ranking(
            reading, examples, LossConfig(symmetric=True), query_tokens=_QUERY_TOKENS, text_tokens=_TEXT_TOKENS
        )
        with tempfile.TemporaryDirectory() as folder:
            Trainer(
                trainer, reading.module, objective, ExampleBatches(examples, batch_size, seed=seed),
                scratch=Path(folder), metrics_path=Path(folder) / "metrics.jsonl", name=kind,
            ).run()  # fmt: skip
        row, ranks[kind] = _asked(reading, items, seed)
        found.append({"kind": kind, "parameters": _parameters(reading.module), "before": before, **row})
    for row in found:
        difference = paired_bootstrap(ranks[TRANSFORMER], ranks[row["kind"]], seed=seed)
        row |= {"difference": difference.mean, "low": difference.low, "high": difference.high}
    return found


def sized(kind: str, tokenizer: Any, texts: Sequence[str], seed: int) -> nn.Module:
    """A reader of that kind, untrained, of as many parameters as the transformer has, as nearly as widths allow; word
    vectors alone have fewer. All start from the same word vectors (`embeddings.initial`)."""
    transformer = TransformerReader(new_encoder(_SHAPE.replace(seed=seed), tokenizer, texts))
    if kind == TRANSFORMER:
        return transformer
    embedding = transformer.encoder.embedding.weight.detach().clone()  # type: ignore[union-attr,operator]
    generator = torch_generator(seed, "kinds", kind)
    if kind == WORDS:
        return WordMeans(embedding, generator)
    widths = range(8, 257, 2)

    def parameters(width: int) -> int:
        with torch.device("meta"):
            return _parameters(RecurrentReader(embedding.to("meta"), width, kind == ATTENTIVE, generator))

    wanted = _parameters(transformer)
    place = min(max(1, bisect_left(widths, wanted, key=parameters)), len(widths) - 1)
    width = min(widths[place - 1 : place + 1], key=lambda one: abs(parameters(one) - wanted))
    return RecurrentReader(embedding, width, kind == ATTENTIVE, generator)


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _asked(reading: Reading, items: KnownItems, seed: int) -> tuple[dict[str, Any], npt.NDArray[np.float64]]:
    """What a trained reader finds and how it reads, and the reciprocal rank of each query."""
    start = time.perf_counter()
    held = reading.encode(items.texts)
    speed = len(items.texts) / (time.perf_counter() - start)
    ranks = items.reciprocal_ranks(nearest(held, reading.encode(items.queries), "cosine"))
    lengths = np.array([len(items.texts[place]) for place in items.answers])
    random = numpy_generator(seed, "shuffled")
    shuffled = reading.encode([" ".join(random.permutation(text.split())) for text in items.texts])
    sizes = np.linalg.norm(held, axis=1) * np.linalg.norm(shuffled, axis=1)
    moved = 1 - (held * shuffled).sum(axis=1) / np.maximum(sizes, 1e-12)
    row = {
        "mrr": float(ranks.mean()),
        "mrr_long": float(ranks[lengths >= np.median(lengths)].mean()),
        "order": float(moved.mean()),
        "texts_per_second": speed,
    }
    return row, ranks
