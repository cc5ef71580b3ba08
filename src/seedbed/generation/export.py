"""GGUF: a decoder and its tokenizer in one file, from which llama.cpp computes the same logits and the same ids.

The container is the package `gguf`'s; what is in it is said here and in gguf_tokenizer.py. A model or a tokenizer that
llama.cpp would compute otherwise is refused: it never warns.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import ConfigError, DataError, FormatError, ResourceError, disk_errors
from ..models import Decoder, ModelConfig
from ..models.families import family_of, plain_rope
from ..models.positions import rotary_frequencies
from .gguf_tokenizer import add_tokenizer

if TYPE_CHECKING:
    import gguf

    from ..tokenizers import Tokenizer

# How weights are stored: the name of the matrices' type, and of the file's.
TYPES = {
    "f32": ("F32", "ALL_F32"),
    "bf16": ("BF16", "MOSTLY_BF16"),
    "f16": ("F16", "MOSTLY_F16"),
    "q8_0": ("Q8_0", "MOSTLY_Q8_0"),
    "q5_1": ("Q5_1", "MOSTLY_Q5_1"),
    "q5_0": ("Q5_0", "MOSTLY_Q5_0"),
    "q4_1": ("Q4_1", "MOSTLY_Q4_1"),
    "q4_0": ("Q4_0", "MOSTLY_Q4_0"),
}
_ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "GPT2LMHeadModel": "gpt2",
}
# Our module path, outside of the blocks and in them -> theirs.
_MODULES = {
    "embedding": "token_embd",
    "position_embedding": "position_embd",
    "norm": "output_norm",
    "lm_head": "output",
}
_BLOCK = {
    "attention_norm": "attn_norm",
    "attention.q_proj": "attn_q",
    "attention.k_proj": "attn_k",
    "attention.v_proj": "attn_v",
    "attention.o_proj": "attn_output",
    "attention.q_norm": "attn_q_norm",
    "attention.k_norm": "attn_k_norm",
    "feedforward_norm": "ffn_norm",
    "feedforward.gate_proj": "ffn_gate",
    "feedforward.up_proj": "ffn_up",
    "feedforward.down_proj": "ffn_down",
}


@dataclass(frozen=True)
class GgufFile:
    """What was written: the file's size, and how many tensors have which type."""

    path: Path
    bytes: int
    types: dict[str, int]


def export_gguf(
    model: Decoder, tokenizer: Tokenizer | None, path: str | Path, type: str = "q8_0", name: str | None = None
) -> GgufFile:
    """Write `model` and `tokenizer` to a GGUF file.

    Matrices are stored as `type` ("f32", "bf16", "f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"), in blocks of 32 where
    that is a quantised one: those whose rows do not divide into blocks are kept in F16. Vectors and position tables
    are kept in F32. The same model gives the same bytes.

    Args:
        tokenizer: None writes a file without one, which is given ids and gives ids.
        name: of the model, shown by llama.cpp; by default the file's.

    A model with a window sees all of a text up to the window's length, as llama.cpp's models of its kind always do: the
    file says that its context ends there.

    Raises:
        ConfigError: an unknown type, or a tokenizer that llama.cpp has no equal of (it says what to do).
        FormatError: a model that llama.cpp computes otherwise or not at all.
        DataError: weights that are not finite, or too large for the type.
        ResourceError: the package `gguf` is not installed.
    """
    if type not in TYPES:
        raise ConfigError(f"'{type}' is no type of GGUF weights", where="type", hint=f"Known: {', '.join(TYPES)}.")
    package = _package()
    path = Path(path)
    architecture = _architecture(model)
    temporary = path.with_name(f".{path.name}.writing")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = package.GGUFWriter(temporary, architecture)
        try:
            writer.add_name(name or path.stem)
            _add_config(writer, model.config, architecture)
            add_tokenizer(writer, tokenizer, model.config)
            writer.add_file_type(package.LlamaFileType[TYPES[type][1]])
            writer.add_quantization_version(package.GGML_QUANT_VERSION)
            types = _write_tensors(writer, model, architecture, type)
            writer.close()
            temporary.rename(path)
        finally:
            writer.close()
            temporary.unlink(missing_ok=True)
    return GgufFile(path, path.stat().st_size, types)


def _package() -> Any:
    try:
        import gguf
    except ImportError:
        raise ResourceError(
            "writing GGUF needs the package gguf", hint="Install it: pip install 'seedbed[gguf]'."
        ) from None
    return gguf


def _architecture(model: Decoder) -> str:
    """llama.cpp's name of what computes the same."""
    if not isinstance(model, Decoder):
        raise FormatError("only decoders are written as GGUF, and this is no decoder")
    config = plain_rope(model.config)
    family = family_of(model)
    architecture = _ARCHITECTURES[family.architecture]
    if architecture == "qwen2" and config.heads * config.head_dim != config.hidden_size:
        architecture = "llama"  # which has biases, too, and asks no such thing of its heads
    scaling = config.rope_scaling
    if scaling is not None and scaling.kind == "llama3" and architecture != "llama":
        raise FormatError(
            f"llama.cpp's {architecture} cannot have rotary positions of kind llama3", hint="Use linear, ntk or yarn."
        )
    if scaling is not None and scaling.kind == "yarn" and (scaling.beta_fast, scaling.beta_slow) != (32.0, 1.0):
        raise FormatError("llama.cpp's YaRN has a ramp from 32 turns to 1, and this model's has another")
    return architecture


def _add_config(writer: gguf.GGUFWriter, config: ModelConfig, architecture: str) -> None:
    config = plain_rope(config)
    context = min(config.context_length, config.window or config.context_length)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(context)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    if architecture == "gpt2":
        writer.add_layer_norm_eps(config.norm_epsilon)
        return
    writer.add_layer_norm_rms_eps(config.norm_epsilon)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    scaling = config.rope_scaling
    if scaling is None or scaling.kind == "llama3":  # llama3 is a tensor of factors
        return
    package = _package()
    writer.add_rope_scaling_type(package.RopeScalingType[scaling.kind.upper()])
    writer.add_rope_scaling_factor(scaling.factor)
    if scaling.kind == "yarn":
        writer.add_rope_scaling_orig_ctx_len(scaling.original_context)
        if scaling.attention_factor is not None:  # theirs multiplies YaRN's own
            own = rotary_frequencies(config.head_dim, config.rope_theta, scaling.replace(attention_factor=None))[1]
            writer.add_rope_scaling_attn_factors(scaling.attention_factor / own)


def _write_tensors(writer: gguf.GGUFWriter, model: Decoder, architecture: str, type: str) -> dict[str, int]:
    """All tensors, one in memory at a time; returns how many have which type."""
    package = _package()
    kinds: Counter[str] = Counter()
    for name, tensor in _tensors(model, architecture):
        kind = _kind(name, tensor, TYPES[type][0])
        kinds[kind.name] += 1
        shape = package.quant_shape_to_byte_shape(tuple(tensor.shape), kind)
        plain = {"F32": np.float32, "F16": np.float16}.get(kind.name)
        size = int(np.prod(shape))
        if plain is not None:
            shape, size = tuple(tensor.shape), tensor.numel() * np.dtype(plain).itemsize
        writer.add_tensor_info(name, shape, np.dtype(plain or np.uint8), size, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, tensor in _tensors(model, architecture):
        writer.write_tensor_data(_encoded(name, tensor, _kind(name, tensor, TYPES[type][0])))
    return dict(kinds)


def _kind(name: str, tensor: Tensor, wanted: str) -> Any:
    """The type that a tensor is stored in."""
    package = _package()
    if tensor.dim() == 1 or name == "position_embd.weight":
        return package.GGMLQuantizationType.F32
    kind = package.GGMLQuantizationType[wanted]
    block, _ = package.GGML_QUANT_SIZES[kind]
    return kind if tensor.shape[-1] % block == 0 else package.GGMLQuantizationType.F16


def _encoded(name: str, tensor: Tensor, kind: Any) -> np.ndarray:
    values = tensor.float().numpy()
    if not np.isfinite(values).all():
        raise DataError(f"'{name}' holds NaN or infinity", hint="Take a checkpoint from before training broke.")
    with np.errstate(over="ignore"):
        encoded: np.ndarray = np.ascontiguousarray(_package().quantize(values, kind))
    # The scale of a block is a number of F16, too.
    if kind.name != "F32" and kind.name != "BF16" and np.abs(values).max(initial=0) > np.finfo(np.float16).max:
        raise DataError(f"'{name}' holds numbers too large for {kind.name}", hint="Take type f32 or bf16.")
    return encoded


def _tensors(model: Decoder, architecture: str) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors as llama.cpp has them."""
    config = plain_rope(model.config)
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    if config.rope_scaling is not None and config.rope_scaling.kind == "llama3":
        scaled, _ = rotary_frequencies(config.head_dim, config.rope_theta, config.rope_scaling)
        yield "rope_freqs.weight", rotary_frequencies(config.head_dim, config.rope_theta)[0] / scaled
    for name, tensor in state.items():
        module, _, parameter = name.rpartition(".")
        found = re.fullmatch(r"blocks\.(\d+)\.(.*)", module)
        if found is None:
            yield f"{_MODULES[module]}.{parameter}", tensor
            continue
        number, inner = found[1], found[2]
        if architecture == "gpt2" and inner in ("attention.k_proj", "attention.v_proj"):
            continue
        if architecture == "gpt2" and inner == "attention.q_proj":
            parts = [state[f"blocks.{number}.attention.{one}_proj.{parameter}"] for one in "qkv"]
            yield f"blk.{number}.attn_qkv.{parameter}", torch.cat(parts)
            continue
        if architecture == "llama" and inner in ("attention.q_proj", "attention.k_proj"):
            tensor = _interleaved(tensor, config.head_dim)
        yield f"blk.{number}.{_BLOCK[inner]}.{parameter}", tensor


def _interleaved(tensor: Tensor, head_dim: int) -> Tensor:
    """Rows d and d + D/2 of each head side by side: these llama.cpp turns together in its "llama"."""
    return tensor.unflatten(0, (-1, 2, head_dim // 2)).transpose(1, 2).flatten(0, 2)
