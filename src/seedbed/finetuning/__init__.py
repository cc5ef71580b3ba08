"""Fine-tuning: low-rank adapters, and what training takes in memory."""

from .adapters import LoRAConfig, add_adapter, disable_adapter, load_adapter, merge_adapter, save_adapter
from .memory import MemoryEstimate, estimate_memory

__all__ = [
    "LoRAConfig",
    "MemoryEstimate",
    "add_adapter",
    "disable_adapter",
    "estimate_memory",
    "load_adapter",
    "merge_adapter",
    "save_adapter",
]
