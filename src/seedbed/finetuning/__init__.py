"""Fine-tuning: low-rank adapters."""

from .adapters import LoRAConfig, add_adapter, disable_adapter, load_adapter, merge_adapter, save_adapter

__all__ = ["LoRAConfig", "add_adapter", "disable_adapter", "load_adapter", "merge_adapter", "save_adapter"]
