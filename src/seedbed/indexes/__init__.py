"""Indexes behind one protocol (base.Index), saved in one file each (storage): exact and approximate, and BM25."""

from .analysis import Analyzer, AnalyzerConfig
from .base import Index
from .bm25 import BM25Index
from .flat import FlatIndex
from .graph import GraphIndex
from .hnsw import HNSWIndex
from .ivf import IVFIndex
from .loading import load_index
from .lsh import LSHIndex
from .pq import PQIndex

__all__ = [
    "Analyzer",
    "AnalyzerConfig",
    "BM25Index",
    "FlatIndex",
    "GraphIndex",
    "HNSWIndex",
    "IVFIndex",
    "Index",
    "LSHIndex",
    "PQIndex",
    "load_index",
]
