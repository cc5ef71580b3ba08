"""The stages that grow a search engine: an encoder trained on the corpus, and an index of its passages."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

from pydantic import Field

from ..core.artifacts import Workspace
from ..core.config import Config
from ..core.errors import DataError
from ..datasets.pairs import make_pairs, read_corpus
from ..indexes import AnalyzerConfig, BM25Index, HNSWIndex
from ..training.trainer import Trainer
from .chunking import make_passages, token_counter
from .contrastive import Contrastive, ContrastiveConfig, PairBatches, new_encoder
from .heldout import SPLITS, choose_fusion, open_held_out
from .passages import write_passages
from .search import BM25, DENSE, PASSAGES, SearchSettings, write_settings
from .sentence import SentenceEncoder, TruncationWarning


class IndexConfig(Config):
    """How passages are cut and indexed."""

    passage_tokens: int = Field(160, ge=8, description="most tokens of a passage")
    k1: float = Field(1.2, ge=0, description="BM25: how slowly repetitions saturate")
    b: float = Field(0.75, ge=0, le=1, description="BM25: how much long passages are discounted")
    # Documentation is full of names, which the lightest stemmer leaves alone; on prose "english" ranks better.
    analyzer: AnalyzerConfig = AnalyzerConfig(stemmer="plural")
    m: int = Field(16, ge=2, le=512, description="HNSW: links of a passage on each layer")
    ef_construction: int = Field(200, ge=1, description="HNSW: candidates weighed when a passage is linked in")
    ef: int = Field(128, ge=1, description="HNSW: candidates kept while searching")
    dense_weights: tuple[float, ...] = Field(
        (0.2, 0.3, 0.4, 0.5, 0.6), min_length=1, description="weights of the vectors to choose from on held-out queries"
    )
    fusion_constants: tuple[float, ...] = Field(
        (2.0, 10.0, 60.0), min_length=1, description="constants of the rank fusion to choose from"
    )
    threads: int = Field(
        1, ge=1, description="threads that build the graph; with 1 the same vectors give the same bytes"
    )
    seed: int = Field(0, ge=0, description="of the graph's layers")


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
    batches = PairBatches(
        pairs,
        tokenizer,
        config.training.batch_size,
        config.query_tokens,
        config.text_tokens,
        neighbours=config.neighbours,
        seed=config.seed,
    )
    trainer = Trainer(
        config.training,
        model,
        Contrastive(config.temperature, config.symmetric),
        batches,
        scratch=workspace.scratch,
        metrics_path=workspace.path / "metrics.jsonl",
        name="encoder",
    )
    result = trainer.run()
    workspace.measurements.update(result.measurements)
    SentenceEncoder(model, tokenizer, config.max_length).save(workspace.path)
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
        vectors = encoder.encode([passage.searchable for passage in passages], normalize=True)
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
        encoder_fingerprint=encoder.fingerprint, passage_tokens=config.passage_tokens, ef=config.ef
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


def new_indexes(config: IndexConfig, dim: int) -> tuple[BM25Index, HNSWIndex]:
    dense = HNSWIndex(dim, "cosine", config.m, config.ef_construction, threads=config.threads, seed=config.seed)
    return BM25Index(config.k1, config.b, config.analyzer), dense
