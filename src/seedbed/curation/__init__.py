"""Curation: from folders of files to a corpus, with every decision accounted for.

>>> from seedbed.curation import curate
>>> report = curate(sources=["docs/"], out="corpus", preset="prose")
"""

from .config import CurationConfig
from .corpus import SPLITS, Corpus
from .pipeline import curate_corpus
from .python_docs import PYTHON_DOCS
from .redecide import redecide_corpus
from .report import CurationReport, corpus_inputs, curate
from .sources import check_sources, fingerprint_sources

__all__ = [
    "PYTHON_DOCS",
    "SPLITS",
    "Corpus",
    "CurationConfig",
    "CurationReport",
    "check_sources",
    "corpus_inputs",
    "curate",
    "curate_corpus",
    "fingerprint_sources",
    "redecide_corpus",
]
