"""Fine-tuning: low-rank adapters, four-bit weights, and what training takes in memory."""

from .adapter_files import load_adapter, save_adapter
from .adapters import (
    adapter_names,
    add_adapter,
    disable_adapter,
    merge_adapter,
    remove_adapter,
    unmerge_adapter,
    use_adapters,
)
from .lora import LoRAConfig
from .memory import MemoryEstimate, estimate_memory
from .quantization import NF4, NF4Linear, quantize_nf4
from .quantized_files import load_quantized, save_quantized

__all__ = [
    "NF4",
    "LoRAConfig",
    "MemoryEstimate",
    "NF4Linear",
    "adapter_names",
    "add_adapter",
    "disable_adapter",
    "estimate_memory",
    "load_adapter",
    "load_quantized",
    "merge_adapter",
    "quantize_nf4",
    "remove_adapter",
    "save_adapter",
    "save_quantized",
    "unmerge_adapter",
    "use_adapters",
]
