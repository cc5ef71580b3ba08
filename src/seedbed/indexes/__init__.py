"""Indexes of vectors, of words and of documents of many vectors, behind one protocol (base.Index), a file each."""

from .analysis import Analyzer, AnalyzerConfig
from .base import Index
from .bm25 import BM25Index
from .flat import FlatIndex
from .graph import GraphIndex
from .hnsw import HNSWIndex
from .ivf import IVFIndex
from .loading import load_index, load_vectors
from .lsh import LSHIndex
from .multivector import MultiVectorIndex, maxsim
from .pq import PQIndex
from .sparse import SparseIndex

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
    "MultiVectorIndex",
    "PQIndex",
    "SparseIndex",
    "load_index",
    "load_vectors",
    "maxsim",
]
