"""An encoder fitted to one's own data, and held-out queries that say whether it helped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..core.artifacts import Artifact, Workspace, build_artifact, fingerprint_folder, sha256_file
from ..core.config import build, merge_overrides
from ..core.devices import set_threads
from ..core.errors import ConfigError
from ..curation.blobs import ReadingConfig
from ..curation.documents import Document as Read
from ..curation.sources import fingerprint_sources, read_sources
from ..datasets.examples import Example, examples_of, read_examples
from ..datasets.jsonl import usable_rows
from ..embeddings import CrossEncoder
from ..embeddings.starts import open_start
from ..embeddings.training import Document, EncoderTrainingConfig, from_scratch, make_examples, passages_of, train
from .collections import Collection, read_beir
from .encoder_gain import Gain, HeldOut, ask_of_collection, ask_of_examples, ask_of_passages, split
from .statistics import paired_bootstrap

# A new encoder learns more in a step than one that was trained before may forget in it.
_FROM_SCRATCH = {"training.learning_rate": 2e-3, "training.batch_size": 128, "training.steps": 300}


def train_encoder(
    out: str | Path, *, start: str | Path | None = None, data: str | Path | None = None, sources: Sequence[str] = (),
    test: str | Path | None = None, teacher: str | Path | None = None, overrides: Mapping[str, Any] | None = None,
    threads: int = 0,
) -> Artifact:  # fmt: skip
    """Train an encoder on a JSONL of examples (`data`) or on documents of one's own (`sources`), and ask it held-out
    queries before and after: the metrics say whether it helped.

    Args:
        start: a directory to begin from; left out, an encoder is trained from scratch.
        test: a folder in BEIR's layout to ask in place of held-out parts of the data.
        teacher: the directory of a cross-encoder that scores each query's texts, to be learned from.
        overrides: dotted keys of `embeddings.training.EncoderTrainingConfig`.
    """
    if (data is None) == (not sources):
        raise ConfigError("an encoder learns from a file of examples or from documents", hint="Give one of both.")
    base = EncoderTrainingConfig().model_dump(mode="json")
    defaults = _FROM_SCRATCH if start is None else {}
    config = build(EncoderTrainingConfig, merge_overrides(base, {**defaults, **(overrides or {})}))
    set_threads(threads)
    examples = [] if data is None else examples_of(usable_rows(read_examples(data)))
    pieces = read_sources(sources, ReadingConfig()) if sources else iter(())
    documents = [asdict(piece) for piece in pieces if isinstance(piece, Read)]
    collection = None if test is None else read_beir(test)

    def produce(work: Workspace) -> dict[str, Any]:
        return fit_encoder(
            config, None if start is None else Path(start), work, documents=documents, examples=examples,
            collection=collection, teacher=None if teacher is None else CrossEncoder.load(teacher),
        )  # fmt: skip

    inputs = {"data": fingerprint_sources(sources) if data is None else sha256_file(Path(data))}
    folders = {"start": start, "test": test, "teacher": teacher}
    inputs |= {name: fingerprint_folder(folder) for name, folder in folders.items() if folder is not None}
    return build_artifact(out, "encoder", config, inputs, produce)


def fit_encoder(
    config: EncoderTrainingConfig,
    start: Path | None,
    workspace: Workspace,
    *,
    documents: Sequence[Document] = (),
    examples: Sequence[Example] = (),
    collection: Collection | None = None,
    teacher: CrossEncoder | None = None,
) -> dict[str, Any]:
    """Train an encoder on examples or, without them, on what is made of documents, and save it into the workspace.

    Args:
        start: a directory to begin from (`starts.open_start`); None: from scratch.
        collection: a test collection asked before and after, in place of held-out parts of the data.
        teacher: see `train_encoder`.
    Returns: metrics: those of `training.train`, and `held_out` (measure, before, after, difference, low, high, p_value,
        queries, sentence).
    """
    kept, held = split(examples or documents, config)
    texts = [text for example in examples for text in (example.query, *example.texts)]
    encoder = (
        from_scratch(config, texts or [document["text"] for document in documents])
        if start is None
        else open_start(config.kind, start, max_length=config.text_tokens, dim=config.dim, seed=config.seed)
    )
    asked: HeldOut
    if examples:
        learned, asked = list(kept), ask_of_examples(held, examples, config)
    else:
        inside, outside = (passages_of(part, encoder.tokenizer, config.text_tokens) for part in (kept, held))
        learned, asked = make_examples(kept, inside, config), ask_of_passages(outside, inside, config)
    if collection is not None:
        asked = ask_of_collection(collection)
    before = asked.per_query(encoder)
    metrics = train(config, encoder, learned, workspace, teacher=teacher)
    after = asked.per_query(encoder)
    encoder.save(workspace.path)
    difference = paired_bootstrap(before, after, seed=config.seed)
    gain = Gain(asked.measure, float(before.mean()), float(after.mean()), difference)
    return metrics | {"held_out": gain.as_metrics()}
