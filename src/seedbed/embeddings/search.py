"""Search: by words (BM25), by meaning (vectors in a graph), by learned sparse vectors, by late interaction, by several
together; ranked again where that is wanted, within the documents that a filter admits, and with reasons."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, get_args

import numpy as np
from pydantic import Field

from ..core.artifacts import write_atomically
from ..core.config import Config, build
from ..core.errors import ArtifactError, ConfigError, DataError, FormatError
from ..indexes import BM25Index, HNSWIndex, MultiVectorIndex, SparseIndex, load_index
from ..indexes.base import Found, Ids, check_size
from .chunking import Passage
from .filters import Filter, admitted
from .fusion import FusionConfig
from .highlights import Why, sparse_matches, token_matches, word_matches
from .passages import Passages
from .rerank import MaxSimReranker, Reranker, open_reranker, rank_again, token_vectors

if TYPE_CHECKING:
    from .multivector import MultiVectorEncoder
    from .sentence import SentenceEncoder
    from .sparse import SparseEncoder

_Index = TypeVar("_Index")
_Encoder = TypeVar("_Encoder")
Mode = Literal["hybrid", "dense", "bm25", "sparse", "multivector"]

DENSE, BM25, PASSAGES, SETTINGS = "dense.hnsw", "bm25.index", "passages.parquet", "search.json"
SPARSE, MULTIVECTOR = "sparse.index", "multivector.index"
FILES = {"bm25": BM25, "dense": DENSE, "sparse": SPARSE, "multivector": MULTIVECTOR}
_KINDS = {"bm25": BM25Index, "dense": HNSWIndex, "sparse": SparseIndex, "multivector": MultiVectorIndex}
_ENCODERS = {"dense": "encoder", "sparse": "sparse encoder", "multivector": "late-interaction encoder"}


class SearchSettings(Config):
    """What an index directory says about itself.

    An empty fingerprint: there is no such index. `generation` is part of the files' names from the second on: an update
    writes new files, and then this one, which names them.
    """

    encoder_fingerprint: str
    sparse_fingerprint: str = ""
    multivector_fingerprint: str = ""
    fusion: FusionConfig = FusionConfig()
    passage_tokens: int = Field(160, ge=1, description="most tokens of a passage")
    late_chunking: bool = Field(False, description="vectors of passages know their whole document")
    ef: int = Field(128, ge=1, description="candidates kept while walking the graph")
    folder: str = Field("", description="where the documents lie that an update reads")
    generation: int = Field(0, ge=0, description="how often it has been updated")

    def fingerprint_of(self, mode: str) -> str:
        return {"dense": self.encoder_fingerprint, "sparse": self.sparse_fingerprint}.get(
            mode, self.multivector_fingerprint
        )

    def file(self, name: str) -> str:
        stem, dot, suffix = name.rpartition(".")
        return name if self.generation == 0 else f"{stem}.{self.generation}{dot}{suffix}"


@dataclass(frozen=True)
class Hit:
    """A passage that was found.

    Attributes:
        score: orders the hits of one search and means nothing across modes.
        missing: the document was in the folder when it was indexed and is no longer; `text` is as it was.
        why: where it was asked for.
    """

    score: float
    text: str
    source: str
    id: str
    title: str
    language: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    missing: bool = False
    why: Why | None = None


class Searcher:
    """Searches an index directory.

    >>> searcher = Searcher.open("runs/docs/index", SentenceEncoder.load("runs/docs/encoder"))
    >>> searcher.search("how do I read a csv file", k=5, filter={"source": {"~": "library/*"}})

    Args:
        passages: under the ids of the indexes; a list is numbered from 0.
        bm25, dense, sparse, multivector: None where there is none.
        encoder, sparse_encoder, multivector_encoder: of queries; a way to search without its encoder refuses.
    """

    def __init__(
        self,
        passages: Sequence[Passage] | Passages,
        bm25: BM25Index,
        dense: HNSWIndex | None,
        encoder: SentenceEncoder | None,
        settings: SearchSettings,
        *,
        sparse: SparseIndex | None = None,
        sparse_encoder: SparseEncoder | None = None,
        multivector: MultiVectorIndex | None = None,
        multivector_encoder: MultiVectorEncoder | None = None,
    ) -> None:
        self.passages = passages if isinstance(passages, Passages) else Passages(passages)
        self.bm25, self.dense, self.sparse, self.multivector = bm25, dense, sparse, multivector
        self.encoder, self.sparse_encoder = encoder, sparse_encoder
        self.multivector_encoder = multivector_encoder
        self.settings = settings

    @classmethod
    def open(
        cls,
        directory: str | Path,
        encoder: SentenceEncoder | None = None,
        *,
        sparse_encoder: SparseEncoder | None = None,
        multivector_encoder: MultiVectorEncoder | None = None,
        modes: Collection[str] | None = None,
        mmap: bool = True,
    ) -> Self:
        """Open an index directory; without encoders, for BM25 alone.

        Args:
            multivector_encoder: None for the own tokens of `encoder`, where the vectors are these.
            modes: the ways of search that will be used, so that other files are not opened; None: all.

        Raises:
            ArtifactError: files are missing, or an encoder is not the one that made the vectors.
        """
        directory = Path(directory)
        settings = read_settings(directory)
        if multivector_encoder is None and encoder is not None and settings.multivector_fingerprint:
            own = token_vectors(encoder)
            multivector_encoder = own if own.fingerprint == settings.multivector_fingerprint else None
        given = {"dense": encoder, "sparse": sparse_encoder, "multivector": multivector_encoder}
        for mode, one in given.items():
            if one is not None and settings.fingerprint_of(mode) and one.fingerprint != settings.fingerprint_of(mode):
                raise ArtifactError(
                    f"its vectors were made by another {_ENCODERS[mode]}",
                    where=directory,
                    hint="Open it with that encoder, or build the index again.",
                )
        wanted = {mode for mode in FILES if mode == "bm25" or settings.fingerprint_of(mode)}
        if modes is not None and "hybrid" not in modes:
            wanted &= {"bm25", *modes}
        try:
            indexes = {mode: load_part(directory, mode, settings, mmap) for mode in wanted}
            passages = Passages.open(directory / settings.file(PASSAGES))
        except FormatError:
            if read_settings(directory).generation == settings.generation:
                raise
            # An update has put other files in their place.
            return cls.open(
                directory, encoder, sparse_encoder=sparse_encoder, multivector_encoder=multivector_encoder,
                modes=modes, mmap=mmap,
            )  # fmt: skip
        if any(len(index) != len(passages) for index in indexes.values()):
            raise FormatError("its passages and its indexes do not belong together", where=directory)
        return cls(
            passages,
            indexes["bm25"],
            indexes.get("dense"),
            encoder,
            settings,
            sparse=indexes.get("sparse"),
            sparse_encoder=sparse_encoder,
            multivector=indexes.get("multivector"),
            multivector_encoder=multivector_encoder,
        )

    def search(
        self,
        query: str,
        k: int = 10,
        mode: str = "hybrid",
        *,
        filter: Filter | None = None,
        rerank: Reranker | str | Path | None = None,
        explain: bool = False,
        fusion: FusionConfig | None = None,
    ) -> list[Hit]:
        """The k best passages; fewer where no more are found.

        Args:
            mode: "hybrid" (BM25 and the ways that `fusion` weighs), "dense", "bm25", "sparse" or "multivector".
            filter: which passages may be returned (`filters` says how it is written).
            rerank: ranks what was found again: a Reranker, "maxsim" or a model's folder (`rerank.open_reranker`).
            explain: say of each hit why it was found.
            fusion: None for the index's own.

        Raises:
            ConfigError: the mode, the filter or the reranker is unknown.
            DataError: the index or the encoder of a mode is not there.
        """
        if not isinstance(query, str):
            raise DataError(f"a query is text, not {type(query).__name__}")
        k = min(check_size("k", k, 0, 1 << 31), len(self.passages))
        fusion = fusion or self.settings.fusion
        again = open_reranker(rerank, self.encoder) if isinstance(rerank, str | Path) else rerank
        allowed = None if filter is None else admitted(filter, self.passages)
        depth = k if again is None else max(k, again.depth)
        parts = self._parts([query], depth, mode, fusion, allowed)
        found = parts[mode] if mode != "hybrid" else fusion.combine(parts, depth)
        if again is not None:
            found = rank_again(again, [query], lambda number: self.passages[number].searchable, found)
        hits = []
        for score, number in zip(found[0][0, :k].tolist(), found[1][0, :k].tolist(), strict=True):
            if number >= 0:
                passage = self.passages[number]
                why = self._why(query, number, passage, parts, again) if explain else None
                hits.append(self._hit(score, passage, why))
        return hits

    def ranks(
        self,
        queries: Sequence[str],
        k: int,
        mode: str = "hybrid",
        fusion: FusionConfig | None = None,
        *,
        filter: Filter | None = None,
    ) -> Found:
        """Scores (q, k) and numbers of passages (q, k), padded with -inf and -1."""
        fusion = fusion or self.settings.fusion
        allowed = None if filter is None else admitted(filter, self.passages)
        parts = self._parts(queries, k, mode, fusion, allowed)
        return parts[mode] if mode != "hybrid" else fusion.combine(parts, k)

    def _parts(
        self, queries: Sequence[str], k: int, mode: str, fusion: FusionConfig, allowed: Ids | None
    ) -> dict[str, Found]:
        """What each way of search that takes part finds."""
        if mode not in get_args(Mode):
            raise ConfigError(f"search mode '{mode}' is unknown (known: {', '.join(get_args(Mode))})")
        if mode != "hybrid":
            return {mode: self._found(mode, queries, k, allowed)}
        depth = max(fusion.depth, k)
        return {one: self._found(one, queries, depth, allowed) for one in fusion.weights}

    def _found(self, mode: str, queries: Sequence[str], k: int, allowed: Ids | None) -> Found:
        asked = list(queries)
        if mode == "dense":
            dense, encoder = self._pair(mode, self.dense, self.encoder)
            return dense.search(
                encoder.encode_queries(asked, normalize=True), k, ef=max(self.settings.ef, k), filter=allowed
            )
        if mode == "sparse":
            sparse, sparse_encoder = self._pair(mode, self.sparse, self.sparse_encoder)
            return sparse.search(sparse_encoder.encode(asked), k, filter=allowed)
        if mode == "multivector":
            many, token_encoder = self._pair(mode, self.multivector, self.multivector_encoder)
            return many.search(token_encoder.encode_queries(asked), k, candidates=max(128, k), filter=allowed)
        return self.bm25.search(asked, k, filter=allowed)

    def _pair(self, mode: str, index: _Index | None, encoder: _Encoder | None) -> tuple[_Index, _Encoder]:
        if index is None and not self.settings.fingerprint_of(mode):
            raise DataError(f"this index has nothing to search by mode '{mode}'", hint="Build it with that encoder.")
        if index is None or encoder is None:
            raise DataError(
                f"a search of mode '{mode}' needs the {_ENCODERS[mode]}", hint="Open the index with its encoder."
            )
        return index, encoder

    def _why(
        self, query: str, number: int, passage: Passage, parts: Mapping[str, Found], again: Reranker | None
    ) -> Why:
        ranks = {}
        for mode, (scores, ids) in parts.items():
            for place in np.flatnonzero(ids[0] == number):
                ranks[mode] = int(place) + 1, float(scores[0, place])
        matches = word_matches(self.bm25, query, number, passage.title, passage.text) if "bm25" in ranks else []
        if "sparse" in ranks and self.sparse_encoder is not None:
            matches += sparse_matches(self.sparse_encoder, query, passage.searchable)
        tokens = again.encoder if isinstance(again, MaxSimReranker) else self.multivector_encoder
        if tokens is not None and ("multivector" in ranks or isinstance(again, MaxSimReranker)):
            matches += token_matches(tokens, query, passage.text)
        return Why(ranks, tuple(matches))

    def _hit(self, score: float, passage: Passage, why: Why | None) -> Hit:
        metadata = json.loads(passage.metadata) if passage.metadata else {}
        return Hit(
            score, passage.text, passage.source, passage.id, passage.title, passage.language, metadata,
            self._missing(passage.source), why,
        )  # fmt: skip

    def _missing(self, source: str) -> bool:
        folder = self.settings.folder
        return bool(folder) and not (Path(folder) / source.partition("!")[0]).exists()


def read_settings(directory: Path) -> SearchSettings:
    """What an index directory says about itself.

    Raises:
        ArtifactError: it is none.
    """
    try:
        values = json.loads((directory / SETTINGS).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactError(f"this is no search index ({SETTINGS} is missing)", where=directory) from None
    except ValueError as error:
        raise FormatError(f"cannot be read ({error})", where=directory / SETTINGS) from None
    settings = build(SearchSettings, values, where=directory / SETTINGS)
    files = {PASSAGES, *(name for mode, name in FILES.items() if mode == "bm25" or settings.fingerprint_of(mode))}
    for name in sorted(settings.file(one) for one in files):
        if not (directory / name).exists():
            raise ArtifactError(f"this is no search index ({name} is missing)", where=directory)
    return settings


def load_part(directory: Path, mode: str, settings: SearchSettings, mmap: bool = True) -> Any:
    """The index of one mode in an index directory."""
    index = load_index(directory / settings.file(FILES[mode]), mmap=mmap)
    if not isinstance(index, _KINDS[mode]):
        raise FormatError("its files hold other indexes than their names say", where=directory)
    return index


def write_settings(directory: Path, settings: SearchSettings) -> None:
    text = json.dumps(settings.model_dump(mode="json"), indent=2) + "\n"
    write_atomically(directory / SETTINGS, text.encode())
