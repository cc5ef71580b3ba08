"""Search: words (BM25) and meaning (vectors in an HNSW graph), and both together by reciprocal-rank fusion."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt
from pydantic import Field

from ..core.artifacts import write_atomically
from ..core.config import Config, build
from ..core.errors import ArtifactError, ConfigError, DataError, FormatError
from ..indexes import BM25Index, HNSWIndex, load_index
from ..indexes.base import Ids
from .chunking import Passage

Mode = Literal["hybrid", "dense", "bm25"]

DENSE, BM25, PASSAGES, SETTINGS = "dense.hnsw", "bm25.index", "passages.parquet", "search.json"


class FusionConfig(Config):
    """Weighted reciprocal-rank fusion (Cormack, Clarke & Büttcher 2009): sum of weight / (constant + rank)."""

    dense_weight: float = Field(0.4, ge=0, le=1, description="weight of the vectors' ranks; BM25 has the rest")
    constant: float = Field(10.0, ge=0, description="how little the first ranks stand out")
    depth: int = Field(100, ge=1, description="ranks of each list that count")


class SearchSettings(Config):
    """What an index directory says about itself."""

    encoder_fingerprint: str
    fusion: FusionConfig = FusionConfig()
    passage_tokens: int = Field(160, ge=1, description="most tokens of a passage")
    ef: int = Field(128, ge=1, description="candidates kept while walking the graph")


@dataclass(frozen=True)
class Hit:
    """A passage that was found. `score` orders the hits of one search and means nothing across modes."""

    score: float
    text: str
    source: str
    id: str
    title: str


class Searcher:
    """Searches an index directory.

    >>> searcher = Searcher.open("runs/docs/index", SentenceEncoder.load("runs/docs/encoder"))
    >>> searcher.search("how do I read a csv file", k=5)
    """

    def __init__(
        self,
        passages: Sequence[Passage],
        bm25: BM25Index,
        dense: HNSWIndex | None,
        encoder: Any,
        settings: SearchSettings,
    ) -> None:
        self.passages, self.bm25, self.dense, self.encoder, self.settings = passages, bm25, dense, encoder, settings

    @classmethod
    def open(cls, directory: str | Path, encoder: Any = None, *, mmap: bool = True) -> Self:
        """Open an index directory; without `encoder`, for BM25 alone.

        Raises:
            ArtifactError: files are missing, or the encoder is not the one that made the vectors.
        """
        directory = Path(directory)
        for name in (DENSE, BM25, PASSAGES, SETTINGS):
            if not (directory / name).exists():
                raise ArtifactError(f"this is no search index ({name} is missing)", where=directory)
        try:
            values = json.loads((directory / SETTINGS).read_text(encoding="utf-8"))
        except ValueError as error:
            raise FormatError(f"cannot be read ({error})", where=directory / SETTINGS) from None
        settings = build(SearchSettings, values, where=directory / SETTINGS)
        if encoder is not None and encoder.fingerprint != settings.encoder_fingerprint:
            raise ArtifactError(
                "its vectors were made by another encoder",
                where=directory,
                hint="Open it with that encoder, or build the index again.",
            )
        bm25, dense = load_index(directory / BM25, mmap=mmap), load_index(directory / DENSE, mmap=mmap)
        passages = read_passages(directory / PASSAGES)
        if not isinstance(bm25, BM25Index) or not isinstance(dense, HNSWIndex):
            raise FormatError("its files hold other indexes than their names say", where=directory)
        if not len(bm25) == len(dense) == len(passages):
            raise FormatError("its passages and its indexes do not belong together", where=directory)
        return cls(passages, bm25, dense, encoder, settings)

    def search(self, query: str, k: int = 10, mode: str = "hybrid") -> list[Hit]:
        """The k best passages; fewer where no more are found."""
        scores, ids = self.ranks([query], k, mode)
        hits = []
        for score, number in zip(scores[0], ids[0], strict=True):
            if number >= 0:
                passage = self.passages[int(number)]
                hits.append(Hit(float(score), passage.text, passage.source, passage.id, passage.title))
        return hits

    def ranks(
        self, queries: Sequence[str], k: int, mode: str = "hybrid", fusion: FusionConfig | None = None
    ) -> tuple[npt.NDArray[np.float32], Ids]:
        """Scores (q, k) and numbers of passages (q, k), padded with -inf and -1."""
        if mode not in get_args(Mode):
            raise ConfigError(f"search mode '{mode}' is unknown (known: {', '.join(get_args(Mode))})")
        if mode == "bm25":
            return self.bm25.search(queries, k)
        if self.encoder is None or self.dense is None:
            raise DataError(f"a search of mode '{mode}' needs the encoder", hint="Open the index with its encoder.")
        vectors = self.encoder.encode(list(queries), normalize=True)
        if mode == "dense":
            return self.dense.search(vectors, k, ef=max(self.settings.ef, k))
        fusion = fusion or self.settings.fusion
        depth = max(fusion.depth, k)
        by_words = self.bm25.search(queries, depth)[1]
        by_meaning = self.dense.search(vectors, depth, ef=max(self.settings.ef, depth))[1]
        return fuse([by_words, by_meaning], [1 - fusion.dense_weight, fusion.dense_weight], fusion.constant, k)


def fuse(
    rankings: Sequence[Ids], weights: Sequence[float], constant: float, k: int
) -> tuple[npt.NDArray[np.float32], Ids]:
    """Weighted reciprocal-rank fusion of rankings (q, n), padded with -1. Ties go to the smaller id."""
    rows = len(rankings[0])
    scores = np.full((rows, k), -np.inf, dtype=np.float32)
    ids = np.full((rows, k), -1, dtype=np.int64)
    for row in range(rows):
        sums: dict[int, float] = {}
        for ranking, weight in zip(rankings, weights, strict=True):
            for rank, item in enumerate(ranking[row].tolist(), start=1):
                if item >= 0 and weight > 0:
                    sums[item] = sums.get(item, 0.0) + weight / (constant + rank)
        best = sorted(sums.items(), key=lambda one: (-one[1], one[0]))[:k]
        for place, (item, score) in enumerate(best):
            scores[row, place], ids[row, place] = score, item
    return scores, ids


def write_passages(path: Path, passages: Sequence[Passage]) -> None:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    columns = {name: [getattr(one, name) for one in passages] for name in Passage.__dataclass_fields__}
    schema = arrow.schema([(name, arrow.string()) for name in columns])
    parquet.write_table(arrow.table(columns, schema=schema), path, compression="zstd")


def read_passages(path: Path) -> list[Passage]:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    try:
        columns = parquet.read_table(path, columns=list(Passage.__dataclass_fields__)).to_pydict()
    except (arrow.ArrowException, OSError, KeyError) as error:
        raise FormatError(f"cannot be read ({error})", where=path) from None
    return [Passage(*row) for row in zip(*columns.values(), strict=True)]


def write_settings(directory: Path, settings: SearchSettings) -> None:
    text = json.dumps(settings.model_dump(mode="json"), indent=2) + "\n"
    write_atomically(directory / SETTINGS, text.encode())
