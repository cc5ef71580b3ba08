"""One vector a text against one a token: both go on from the run's encoder for as many steps on the same pairs, then
find the same documents; and what the tokens' vectors take to store."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from ...core.artifacts import Workspace, build_artifact, open_artifact
from ...core.errors import ConfigError
from ...datasets.examples import from_pairs
from ...datasets.pairs import make_pairs, read_corpus
from ...embeddings import MultiVectorEncoder, SentenceEncoder
from ...embeddings.sentence import TruncationWarning
from ...embeddings.starts import Kind, on_encoder
from ...embeddings.training import EncoderTrainingConfig, train
from ...evaluation.encoder_limits import token_storage
from ...evaluation.known_items import K, KnownItems, known_items
from ...evaluation.statistics import paired_bootstrap
from ...indexes import maxsim
from ...models import Encoder
from ...reports import index_charts, numbers
from ...training.trainer import TrainerConfig
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict

_EXACT = 16  # bits of a component that are not quantised


class LateInteractionSettings(Settings):
    steps: int = Field(100, ge=1, description="that both encoders are trained for, from the run's encoder")
    batch_size: int = Field(64, ge=2, description="pairs in a step")
    learning_rate: float = Field(1e-3, gt=0, description="highest of the training")
    dim: int = Field(128, ge=1, description="width of a token's vector")
    documents: int = Field(1000, ge=2, description="held-out ones that are searched, at most")
    queries: int = Field(300, ge=2, description="of them that are asked for, at most")
    fewest: int = Field(20, ge=2, description="of them without which nothing is measured")


def measure(bench: Bench, settings: LateInteractionSettings) -> Finding:
    documents = [row for split in ("test", "validation") for row in read_corpus(bench.run / "corpus", split)]
    items = known_items(documents, settings.documents, settings.queries, settings.seed, fewest=settings.fewest)
    one = trained(bench, settings, "bi-encoder")
    many = trained(bench, settings, "multi-vector")
    assert isinstance(one, SentenceEncoder)
    assert isinstance(many, MultiVectorEncoder)
    bench.advance("documents found, and bytes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        single, several = items.reciprocal_ranks(items.found_by(one)), by_tokens(many, items)
        storage = token_storage(many, items, poolings=(1, 4), seed=settings.seed)
    return judge(single, several, storage, 4 * one.dim, settings.seed)


def trained(bench: Bench, settings: LateInteractionSettings, kind: Kind) -> SentenceEncoder | MultiVectorEncoder:
    """An encoder of that kind that went on from the run's, kept in the scratch folder."""
    start = open_artifact(bench.run / "encoder", "encoder")
    own = SentenceEncoder.load(start.path)
    model = own.model
    if not isinstance(model, Encoder):
        raise ConfigError("late interaction needs a bidirectional encoder", where="encoder")
    config = EncoderTrainingConfig(
        kind=kind, query_tokens=24, text_tokens=48, neighbours=4, dim=settings.dim, seed=settings.seed,
        training=TrainerConfig(
            steps=settings.steps, batch_size=settings.batch_size, learning_rate=settings.learning_rate,
            optimizer="adamw", weight_decay=0.01, checkpoint_every=50, seed=settings.seed,
        ),
    )  # fmt: skip

    def produce(work: Workspace) -> Mapping[str, Any]:
        bench.advance(f"training of a {kind}")
        pairs = make_pairs(read_corpus(bench.run / "corpus", "train"))
        encoder = on_encoder(
            kind, model, own.tokenizer, max_length=own.max_length, dim=settings.dim, seed=settings.seed
        )
        metrics = train(config, encoder, from_pairs(pairs), work)
        encoder.save(work.path)
        return metrics

    inputs = {"encoder": start, "corpus": open_artifact(bench.run / "corpus", "corpus")}
    path = build_artifact(bench.scratch / kind, "encoder", config, inputs, produce, changed="restart").path
    return SentenceEncoder.load(path) if kind == "bi-encoder" else MultiVectorEncoder.load(path)


def by_tokens(encoder: MultiVectorEncoder, items: KnownItems) -> npt.NDArray[np.float64]:
    """(q,) reciprocal ranks among the first ten by exact MaxSim."""
    scores = maxsim(encoder.encode_queries(items.queries), encoder.encode_documents(items.texts))
    return items.reciprocal_ranks(np.argsort(-scores, axis=1, kind="stable")[:, :K])


def judge(
    single: npt.NDArray[np.float64], several: npt.NDArray[np.float64], storage: list[dict[str, Any]], one_bytes: int,
    seed: int,
) -> Finding:  # fmt: skip
    """The finding of reciprocal ranks (q,) by one vector and by MaxSim, and of `token_storage`'s table."""
    difference = paired_bootstrap(single, several, seed=seed)
    exact = next(row for row in storage if row["bits"] == _EXACT and row["pooling"] == 1)
    smallest = min((row for row in storage if row["mrr"] > single.mean()), key=lambda row: row["bytes"], default=None)
    dearer = exact["bytes"] > one_bytes
    verdict: Verdict = (
        "holds" if difference.low > 0 and dearer else "holds in part" if difference.mean > 0 else "does not hold"
    )  # fmt: skip
    low, high = (numbers.fixed(one, 3, sign=True) for one in (difference.low, difference.high))
    sentences = (
        f"Trained alike from the run’s encoder, one vector finds documents with an MRR@{K} of {single.mean():.3f} and "
        f"MaxSim over tokens with {several.mean():.3f} (difference {low} to {high} with 95% confidence).",
        f"A document takes {one_bytes:,} bytes as one vector and {exact['bytes']:,.0f} as tokens in sixteen bits; "
        + (
            f"the smallest that still finds more than one vector takes {smallest['bytes']:,.0f}, with "
            f"{smallest['bits']} bits and {smallest['pooling']} tokens merged into one (MRR {smallest['mrr']:.3f})."
            if smallest else "no way to store them finds more than one vector."
        ),
    )  # fmt: skip
    rows: list[list[Any]] = [["one vector, 32 bits", one_bytes, float(single.mean())]]
    rows += [[f"tokens, {_merged(row['pooling'])}, {row['bits']} bits", row["bytes"], row["mrr"]] for row in storage]
    order = ("one vector", *(_merged(pooling) for pooling in sorted({row["pooling"] for row in storage})))
    points = [{"bytes": one_bytes, "mrr": float(single.mean()), "series": order[0]}]
    points += [{"bytes": row["bytes"], "mrr": row["mrr"], "series": _merged(row["pooling"])} for row in storage]
    chart = index_charts.lines(
        points, "bytes", "mrr", order, "bytes a document", f"MRR@{K}", form="~s", y_axis=".2f"
    )  # fmt: skip
    return Finding(
        verdict, sentences, ("Stored as", "Bytes a document", f"MRR@{K}"), rows, [("", chart)],
        {"one_vector": float(single.mean()), "maxsim": float(several.mean()), "low": difference.low,
         "bytes": exact["bytes"]},
        f"{len(single)} opening sentences of held-out documents. MaxSim: for each token of a query its best token of "
        "the document, summed. Fewer bits: residuals from a centroid (ColBERTv2).",
    )  # fmt: skip


def _merged(pooling: int) -> str:
    return "each" if pooling == 1 else f"{pooling} merged"


EXHIBIT = Exhibit(
    question="Does a vector for each token find more than one for the whole text, and what does it cost?",
    claim="Late interaction finds more than a single vector, and takes many times the storage until its vectors are "
    "quantised and merged.",
    formula="MaxSim(q, d) = Σᵢ maxⱼ qᵢ·dⱼ; a token takes 4 + D·bits / 8 bytes.",
    source="Khattab and Zaharia 2020 (ColBERT), section 3.3; Santhanam et al. 2022 (ColBERTv2), section 3.3",
    settings=LateInteractionSettings,
    measure=measure,
    needs=("corpus", "encoder"),
)
