"""What the page says of the run before anybody has asked anything, and examples to begin with, taken from the run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from ... import __version__
from ...core.errors import DataError
from ...curation import Corpus
from ...datasets.instructions import question_of, read_instructions
from ...datasets.pairs import held_out_queries
from ...finetuning.instruct import HELD_OUT_ROWS
from ...reports.evidence import Evidence
from .materials import Materials

if TYPE_CHECKING:
    from ...embeddings.search import Searcher

_EXAMPLES = 6
_READ = 400  # held-out documents and rows that examples are chosen from
_LONGEST = 90  # characters of an example
_OPENING_WORDS = 7
_MODES = ("hybrid", "bm25", "dense", "sparse", "multivector")

T = TypeVar("T")


def overview(materials: Materials) -> dict[str, Any]:
    """Name, sources, models, ways of search, and examples for every tab."""
    run = materials.run
    return {
        "name": run.path.resolve().name,
        "version": __version__,
        "sources": Evidence(run.path).sources,
        "models": [_model(materials, stage) for stage in materials.voices],
        "modes": [] if materials.searcher is None else modes_of(materials.searcher),
        "passages": 0 if materials.searcher is None else len(materials.searcher.passages),
        "report": materials.has("report"),
        "questions": _questions(materials),
        "queries": _queries(materials),
        "openings": _openings(materials),
    }


def modes_of(searcher: Searcher) -> list[str]:
    """Ways to search that this searcher has an index and an encoder for."""
    has = {
        "bm25": True,
        "dense": searcher.dense is not None and searcher.encoder is not None,
        "sparse": searcher.sparse is not None and searcher.sparse_encoder is not None,
        "multivector": searcher.multivector is not None and searcher.multivector_encoder is not None,
    }
    has["hybrid"] = has["dense"]
    return [mode for mode in _MODES if has[mode]]


def _model(materials: Materials, stage: str) -> dict[str, Any]:
    voice = materials.voices[stage]
    config = voice.engine.model.config
    return {
        "id": stage,
        "chats": voice.chats,
        "parameters": config.parameter_count(),
        "context": voice.engine.max_length,
        "layers": config.layers,
        "heads": config.heads,
    }


def _questions(materials: Materials) -> list[str]:
    """Questions that fine-tuning did not see."""
    path = materials.run.path / "sft" / HELD_OUT_ROWS
    if not path.exists():
        return []
    try:
        rows = read_instructions(path).rows
    except DataError:  # another's fine-tuning may have kept none, and then there is nothing to suggest
        return []
    asked = [question for row in rows if (question := question_of(row)) is not None]
    return _spread(one for one in asked if len(one) <= _LONGEST)


def _queries(materials: Materials) -> list[str]:
    """Opening sentences of documents that training did not see."""
    if not materials.has("corpus"):
        return []
    documents = list(islice(Corpus.open(materials.run.path / "corpus").rows("validation"), _READ))
    return _spread(pair.query for pair in held_out_queries(documents, []) if len(pair.query) <= _LONGEST)


def _openings(materials: Materials) -> list[str]:
    """Beginnings that the base model can go on from."""
    if not materials.has("corpus"):
        return []
    texts = islice(Corpus.open(materials.run.path / "corpus").texts("validation"), _READ)
    prose = (text.strip().split("\n\n")[-1].split() for text in texts)
    return _spread(" ".join(words[:_OPENING_WORDS]) for words in prose if len(words) > _OPENING_WORDS)


def _spread(found: Iterable[T]) -> list[T]:
    """Some of all, from everywhere."""
    listed: Sequence[T] = list(dict.fromkeys(found))
    step = max(1, len(listed) // _EXAMPLES)
    return list(listed[step // 2 :: step][:_EXAMPLES])
