"""Indexes: flat, HNSW, quantised graph and BM25 behind one protocol (base.Index), saved in one file each (storage)."""

from .analysis import Analyzer, AnalyzerConfig
from .base import Index
from .bm25 import BM25Index
from .flat import FlatIndex
from .graph import GraphIndex
from .hnsw import HNSWIndex
from .loading import load_index

__all__ = ["Analyzer", "AnalyzerConfig", "BM25Index", "FlatIndex", "GraphIndex", "HNSWIndex", "Index", "load_index"]
