"""Generation: an engine with a key-value cache, and how tokens are chosen."""

from .engine import Engine, Generation, greedy
from .sampling import Sampling

__all__ = ["Engine", "Generation", "Sampling", "greedy"]
