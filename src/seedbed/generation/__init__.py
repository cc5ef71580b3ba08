"""Generation: an engine with continuous batching, how tokens are chosen, guessed ahead and constrained, and beams."""

from .beam import Beam, beam_search
from .engine import Engine, greedy
from .export import GgufFile, export_gguf
from .requests import Generation, Request
from .sampling import Sampling
from .speculative import DraftModel, Lookup

__all__ = [
    "Beam", "DraftModel", "Engine", "Generation", "GgufFile", "Lookup", "Request", "Sampling", "beam_search",
    "export_gguf", "greedy",
]  # fmt: skip
