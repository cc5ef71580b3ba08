"""Generation: an engine with a key-value cache, and how tokens are chosen."""

from .engine import Engine, Generation, greedy
from .export import GgufFile, export_gguf
from .sampling import Sampling

__all__ = ["Engine", "Generation", "GgufFile", "Sampling", "export_gguf", "greedy"]
