"""How a search index is made: its settings, and the passages of documents into each of its parts."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ..core.config import Config
from ..indexes import AnalyzerConfig, BM25Index, HNSWIndex, MultiVectorIndex, SparseIndex
from ..indexes.base import Ids
from .chunking import Passage

if TYPE_CHECKING:
    from .multivector import MultiVectorEncoder
    from .sentence import SentenceEncoder
    from .sparse import SparseEncoder


class IndexConfig(Config):
    """How passages are cut and indexed."""

    passage_tokens: int = Field(160, ge=8, description="most tokens of a passage")
    k1: float = Field(1.2, ge=0, description="BM25: how slowly repetitions saturate")
    b: float = Field(0.75, ge=0, le=1, description="BM25: how much long passages are discounted")
    # Documentation is full of names, which the lightest stemmer leaves alone; on prose "english" ranks better.
    analyzer: AnalyzerConfig = AnalyzerConfig(stemmer="plural")
    late_chunking: bool = Field(False, description="read documents whole, so that passages' vectors know the rest")
    m: int = Field(16, ge=2, le=512, description="HNSW: links of a passage on each layer")
    ef_construction: int = Field(200, ge=1, description="HNSW: candidates weighed when a passage is linked in")
    ef: int = Field(128, ge=1, description="HNSW: candidates kept while searching")
    multivector_bits: Literal[0, 1, 2, 4] = Field(
        0, description="late interaction: bits of a component of the encoder's own token vectors; 0 for none"
    )
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


def new_indexes(config: IndexConfig, dim: int) -> tuple[BM25Index, HNSWIndex]:
    dense = HNSWIndex(dim, "cosine", config.m, config.ef_construction, threads=config.threads, seed=config.seed)
    return BM25Index(config.k1, config.b, config.analyzer), dense


class Encoders:
    """The encoders of an index's parts, each None where there is no such part."""

    def __init__(
        self,
        dense: SentenceEncoder | None = None,
        sparse: SparseEncoder | None = None,
        multivector: MultiVectorEncoder | None = None,
    ) -> None:
        self.dense, self.sparse, self.multivector = dense, sparse, multivector

    @property
    def fingerprints(self) -> dict[str, str]:
        """Names of the settings to fingerprints, "" for none."""
        named = {"encoder": self.dense, "sparse": self.sparse, "multivector": self.multivector}
        return {f"{name}_fingerprint": one.fingerprint if one else "" for name, one in named.items()}

    @property
    def truncated(self) -> int:
        return sum(one.truncated for one in (self.dense, self.sparse, self.multivector) if one)

    def new_indexes(self, config: IndexConfig) -> dict[str, Any]:
        """Mode to an empty index."""
        made: dict[str, Any] = {"bm25": BM25Index(config.k1, config.b, config.analyzer)}
        if self.dense:
            made["dense"] = new_indexes(config, self.dense.dim)[1]
        if self.sparse:
            made["sparse"] = SparseIndex(self.sparse.model.config.vocab_size)
        if self.multivector:
            made["multivector"] = MultiVectorIndex(
                self.multivector.dim, config.multivector_bits or 4, seed=config.seed, threads=config.threads
            )
        return made

    def add(self, indexes: dict[str, Any], passages: Sequence[Passage], numbers: Ids, *, late: bool = False) -> None:
        """Passages into every index, under their numbers. Texts that were cut are counted, not warned about.

        Args:
            late: `IndexConfig.late_chunking`; of whole documents, whose passages follow one another.
        """
        from .sentence import TruncationWarning

        texts = [passage.searchable for passage in passages]
        if not texts:
            return
        indexes["bm25"].add(texts, numbers)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)
            if self.dense:
                from .late_chunking import passage_vectors

                indexes["dense"].add(passage_vectors(self.dense, passages, late=late), numbers)
            if self.sparse:
                indexes["sparse"].add(self.sparse.encode(texts), numbers)
            if self.multivector:
                indexes["multivector"].add(self.multivector.encode_documents(texts), numbers)
