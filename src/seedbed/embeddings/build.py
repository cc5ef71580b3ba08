"""The stages that grow a search engine: an encoder trained on the corpus, and an index of its passages."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

from ..core.artifacts import Workspace
from ..core.errors import DataError
from ..datasets.examples import from_pairs
from ..datasets.pairs import make_pairs, read_corpus
from ..indexes import HNSWIndex, MultiVectorIndex
from ..training.trainer import Trainer
from .batches import ExampleBatches
from .chunking import Passage, make_passages, token_counter
from .contrastive import ContrastiveConfig
from .heldout import SPLITS, choose_fusion, open_held_out
from .indexing import IndexConfig, new_indexes
from .late_chunking import passage_vectors
from .objectives import LossConfig, Ranking
from .passages import write_passages
from .rerank import token_vectors
from .search import BM25, DENSE, MULTIVECTOR, PASSAGES, SearchSettings, write_settings
from .sentence import SentenceEncoder, TruncationWarning
from .starts import new_encoder
from .students import student_of


def train_encoder(config: ContrastiveConfig, corpus: Path, tokenizer: Any, workspace: Workspace) -> dict[str, Any]:
    """Train an encoder on the corpus's train split and save it as a sentence-transformers directory.

    Returns:
        metrics: pairs, parameters, epochs, steps, loss (per choice, at the end), loss_start.
    """
    documents = read_corpus(corpus, "train")
    pairs = make_pairs(documents)
    if len(pairs) < 2:
        raise DataError("the corpus gives too few pairs to train an encoder on", where=corpus, hint="Use more text.")
    model = new_encoder(config, tokenizer, [document["text"] for document in documents])
    encoder = SentenceEncoder(model, tokenizer, config.max_length)
    examples = from_pairs(pairs)
    batches = ExampleBatches(examples, config.training.batch_size, neighbours=config.neighbours, seed=config.seed)
    loss = LossConfig(temperature=config.temperature, symmetric=config.symmetric)
    trainer = Trainer(
        config.training,
        model,
        Ranking(student_of(encoder), examples, loss, query_tokens=config.query_tokens, text_tokens=config.text_tokens),
        batches,
        scratch=workspace.scratch,
        metrics_path=workspace.path / "metrics.jsonl",
        name="encoder",
    )
    result = trainer.run()
    workspace.measurements.update(result.measurements)
    encoder.save(workspace.path)
    return {
        "pairs": len(pairs),
        "parameters": model.config.parameter_count(),
        "epochs": result.metrics["steps"] * config.training.batch_size / len(pairs),
        **result.metrics,
    }


def build_search_index(
    config: IndexConfig, corpus: Path, encoder: SentenceEncoder, workspace: Workspace
) -> dict[str, Any]:
    """Index the passages of all splits: BM25, vectors in an HNSW graph, and the fusion's weights chosen on validation.

    Returns:
        metrics: documents, passages, truncated_passages, dense_weight, fusion_constant, validation_mrr (of the fusion
            chosen), memory_bytes and
            memory_bytes_predicted (of the graph with its vectors), file_bytes.
    """
    splits = {split: read_corpus(corpus, split) for split in SPLITS}
    documents = [document for split in SPLITS for document in splits[split]]
    passages = make_passages(documents, token_counter(encoder.tokenizer), config.passage_tokens)
    if not passages:
        raise DataError("the corpus has no text to index", where=corpus)
    before = encoder.truncated
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # counted in the metrics
        start = time.perf_counter()
        vectors = passage_vectors(encoder, passages, late=config.late_chunking)
        workspace.measurements["passages_per_second"] = len(passages) / (time.perf_counter() - start)
    bm25, dense = new_indexes(config, encoder.dim)
    bm25.add([passage.searchable for passage in passages])
    start = time.perf_counter()
    dense.add(vectors)
    workspace.measurements["graph_seconds"] = time.perf_counter() - start

    write_passages(workspace.path / PASSAGES, passages)
    bm25.save(workspace.path / BM25)
    dense.save(workspace.path / DENSE)
    settings = SearchSettings(
        encoder_fingerprint=encoder.fingerprint,
        multivector_fingerprint=_index_tokens(config, encoder, passages, workspace) if config.multivector_bits else "",
        passage_tokens=config.passage_tokens,
        late_chunking=config.late_chunking,
        ef=config.ef,
    )
    write_settings(workspace.path, settings)
    held_out = open_held_out(workspace.path, corpus, "validation", encoder)
    fusion, validation_mrr = choose_fusion(held_out, config.dense_weights, config.fusion_constants)
    write_settings(workspace.path, settings.replace(fusion=fusion.model_dump()))
    return {
        "documents": len(documents),
        "passages": len(passages),
        "truncated_passages": encoder.truncated - before,
        "dense_weight": fusion.dense_weight,
        "fusion_constant": fusion.constant,
        "validation_mrr": validation_mrr,
        "memory_bytes": dense.memory_bytes(),
        "memory_bytes_predicted": HNSWIndex.predict_memory_bytes(len(passages), encoder.dim, config.m),
        "file_bytes": (workspace.path / DENSE).stat().st_size + (workspace.path / BM25).stat().st_size,
    }


def _index_tokens(config: IndexConfig, encoder: SentenceEncoder, passages: list[Passage], workspace: Workspace) -> str:
    """Index the encoder's own token vectors for late interaction; the fingerprint of what made them."""
    tokens = token_vectors(encoder)
    index = MultiVectorIndex(tokens.dim, config.multivector_bits, seed=config.seed, threads=config.threads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # the same that were cut for the other vectors
        index.add(tokens.encode_documents([passage.searchable for passage in passages]))
    index.save(workspace.path / MULTIVECTOR)
    return tokens.fingerprint
