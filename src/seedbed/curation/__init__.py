"""Curation: from folders of files to a corpus, with every decision accounted for.

>>> from seedbed.curation import curate
>>> report = curate(sources=["docs/"], out="corpus", preset="prose")
"""

from .corpus import SPLITS, Corpus
from .pipeline import CurationConfig, curate_corpus
from .python_docs import PYTHON_DOCS
from .report import CurationReport, curate
from .sources import check_sources, fingerprint_sources

__all__ = [
    "PYTHON_DOCS",
    "SPLITS",
    "Corpus",
    "CurationConfig",
    "CurationReport",
    "check_sources",
    "curate",
    "curate_corpus",
    "fingerprint_sources",
]
