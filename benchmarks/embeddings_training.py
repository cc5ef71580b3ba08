"""Training encoders and encoding for late interaction, beside sentence-transformers, from MiniLM's weights.

    python -m benchmarks.embeddings_training [--batch 32] [--rounds 5] [--documents 1000] [--threads 2]
                                             [--json benchmarks/results]

A step is tokenising, forward, backward and AdamW on one batch of pairs, the same for both, at the same lengths: pairs
of an opening sentence and the rest of a passage, cut at 256 tokens, and of short sentences. sentence-transformers is
measured as it comes, with the dropout of MiniLM's config, and without any, as ours trains. PyLate's released version
does not open with this sentence-transformers, whose MultiVectorEncoder, built by PyLate's authors on its design, is
what documents are encoded beside. Rounds are interleaved; ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.embeddings import folder, passages
from benchmarks.index_data import sentences
from benchmarks.measuring import circumstances, interleaved, ratios, spread, write_results
from seedbed.core.console import console, table
from seedbed.datasets.examples import Example
from seedbed.datasets.pairs import held_out_queries
from seedbed.embeddings import MultiVectorEncoder, SentenceEncoder
from seedbed.embeddings.objectives import LossConfig, Ranking
from seedbed.embeddings.students import student_of

Work = Callable[[], object]

_LENGTH = 256
_PEER = "sentence-transformers"


def pairs_of(name: str, count: int) -> list[Example]:
    """Pairs that are trained on: openings with passages, or sentences with the ones that follow them."""
    if name == "passages":
        documents = [
            {"id": str(place), "text": text, "title": "", "source": ""}
            for place, text in enumerate(passages(4 * count))
        ]
        found = [Example(pair.query, (pair.text,), document=pair.document) for pair in held_out_queries(documents)]
    else:
        listed = sentences(2 * count)
        found = [
            Example(first, (second,), document=second) for first, second in zip(listed[::2], listed[1::2], strict=True)
        ]
    return found[:count]


class OurSteps:
    """Steps on one batch after another, without a trainer's logging and checkpoints."""

    def __init__(self, examples: list[Example], batch: int) -> None:
        self._encoder = SentenceEncoder.load(folder())
        self._examples, self._batch = examples, batch
        self._optimizer = torch.optim.AdamW(self._encoder.model.parameters(), lr=2e-5, fused=True)
        self._place = 0

    def __call__(self) -> float:
        rows = [self._examples[(self._place + row) % len(self._examples)] for row in range(self._batch)]
        self._place += self._batch
        self._encoder.model.train()
        objective = Ranking(
            student_of(self._encoder), rows, LossConfig(), query_tokens=_LENGTH, text_tokens=_LENGTH
        )  # fmt: skip
        value, count, _ = objective.loss(self._encoder.model, np.arange(len(rows)))
        (value / count).backward()
        torch.nn.utils.clip_grad_norm_(self._encoder.model.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return (value / count).item()


class TheirSteps:
    """The same with sentence-transformers' model, collation and loss."""

    def __init__(self, examples: list[Example], batch: int, dropout: bool) -> None:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

        self._model = SentenceTransformer(str(folder()), device="cpu")
        self._model.max_seq_length = _LENGTH
        if not dropout:
            for module in self._model.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
        self._loss = MultipleNegativesRankingLoss(self._model)
        self._examples, self._batch = examples, batch
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=2e-5, fused=True)
        self._place = 0

    def __call__(self) -> float:
        rows = [self._examples[(self._place + row) % len(self._examples)] for row in range(self._batch)]
        self._place += self._batch
        self._model.train()
        features = [self._model.preprocess([row.query for row in rows]),
                    self._model.preprocess([row.texts[0] for row in rows])]  # fmt: skip
        value = self._loss(features, None)
        value.backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return value.item()


def steps(name: str, batch: int, rounds: int) -> dict[str, Work]:
    examples = pairs_of(name, batch * (rounds + 1))
    return {
        _PEER: TheirSteps(examples, batch, dropout=True),
        f"{_PEER}, no dropout": TheirSteps(examples, batch, dropout=False),
        "seedbed": OurSteps(examples, batch),
    }


def late_interaction(count: int) -> dict[str, Work]:
    from sentence_transformers import MultiVectorEncoder as Theirs

    minilm = SentenceEncoder.load(folder())
    ours = MultiVectorEncoder.from_model(minilm.model, minilm.tokenizer, 128)  # type: ignore[arg-type]
    place = tempfile.mkdtemp()
    ours.save(place)
    theirs = Theirs(place, device="cpu")
    smaller = MultiVectorEncoder.load(place, weights="int8")
    texts = passages(count)
    first, second = ours.encode_documents(texts[:8]), theirs.encode_document(texts[:8])
    for row, other in zip(first, second, strict=True):
        np.testing.assert_allclose(row, other, atol=1e-4)
    return {
        _PEER: lambda: theirs.encode_document(texts, batch_size=32),
        "seedbed": lambda: ours.encode_documents(texts),
        "seedbed int8": lambda: smaller.encode_documents(texts),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Training encoders, and late interaction, beside the peers.")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="folder for embeddings_training.json, such as benchmarks/results")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")  # of texts that are cut: all cut them alike
    if not console.is_terminal:
        console.width = 150
    jobs: dict[str, tuple[int, Callable[[], dict[str, Work]]]] = {
        f"training on {name}, pairs/s": (options.batch, lambda name=name: steps(name, options.batch, options.rounds))  # type: ignore[misc]
        for name in ("passages", "sentences")
    }
    if options.documents:
        jobs["late interaction, passages/s"] = (options.documents, lambda: late_interaction(options.documents))
    content: dict[str, Any] = {}
    for title, (size, prepare) in jobs.items():
        works = prepare()
        if size == options.batch:
            for work in works.values():
                work()  # buffers of the optimizer
        times = interleaved(works, options.rounds)
        rows = [
            (name, f"{size / statistics.median(times[name]):,.1f}", spread(ratios(times[name], times[_PEER]), 2))
            for name in works
        ]
        table(("", title.rpartition(", ")[2], f"× {_PEER}"), rows, title=title)
        content[title] = {
            name: {"seconds": times[name], "times as fast": ratios(times[name], times[_PEER])} for name in works
        }
    if options.json:
        packages = ["seedbed", _PEER, "torch", "transformers"]
        result = {"circumstances": circumstances(packages), "options": vars(options) | {"json": ""}, "jobs": content}
        write_results(options.json / "embeddings_training.json", result)


if __name__ == "__main__":
    main()
