"""GPT-2: a pre-norm decoder with LayerNorm, learned positions, biases, and weights stored transposed."""

from __future__ import annotations

import re
from typing import Any

from torch import cat

from ...core.errors import FormatError
from ..config import ModelConfig
from ..transformer import Decoder
from .family import ConfigReader, Family, StackNames, Tensors


def _read(reader: ConfigReader) -> dict[str, Any]:
    reader.refuse_unless("activation_function", ("gelu_new", "gelu_pytorch_tanh"))
    reader.refuse_unless("scale_attn_weights", (True,))
    reader.refuse_unless("scale_attn_by_inverse_layer_idx", (False,))
    reader.refuse_unless("add_cross_attention", (False,))
    return {
        "kind": "decoder",
        "vocab_size": reader.need("vocab_size", int),
        "hidden_size": reader.need("n_embd", int),
        "layers": reader.need("n_layer", int),
        "heads": reader.need("n_head", int),
        "intermediate_size": reader.get("n_inner", int),
        "context_length": reader.need("n_positions", int),
        "norm": "layer",
        "norm_epsilon": reader.get("layer_norm_epsilon", float, 1e-5),
        "activation": "gelu_tanh",
        "positions": "learned",
        "qk_norm": False,
        "qkv_bias": True,
        "output_bias": True,
        "feedforward_bias": True,
        "tie_embeddings": reader.get("tie_word_embeddings", bool, True),
        "bos_token_id": reader.token("bos_token_id"),
        "eos_token_id": reader.token("eos_token_id"),
        "pad_token_id": reader.token("pad_token_id"),
    }


def _write(config: ModelConfig) -> dict[str, Any]:
    return {
        "vocab_size": config.vocab_size,
        "n_embd": config.hidden_size,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_inner": config.intermediate_size,
        "n_positions": config.context_length,
        "layer_norm_epsilon": config.norm_epsilon,
        "activation_function": "gelu_new",
        "tie_word_embeddings": config.tie_embeddings,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
    }


_FUSED = re.compile(r"(.*\.attn)\.c_attn\.(weight|bias)")
_TRANSPOSED = re.compile(r".*\.(c_proj|c_fc)\.weight")


def _unpack(theirs: Tensors, config: ModelConfig) -> Tensors:
    """Queries, keys and values apart, and weights as (out, in): theirs are (in, out)."""
    ours: Tensors = {}
    for name, tensor in theirs.items():
        if fused := _FUSED.fullmatch(name):
            if tensor.dim() == 0 or tensor.shape[-1] != 3 * config.hidden_size:
                raise FormatError(f"'{name}' has shape {tuple(tensor.shape)}, and n_embd is {config.hidden_size}")
            for part, piece in zip("qkv", tensor.chunk(3, dim=-1), strict=True):
                ours[f"{fused[1]}.{part}.{fused[2]}"] = piece.t().contiguous() if piece.dim() == 2 else piece.clone()
        else:
            ours[name] = tensor.t().contiguous() if _TRANSPOSED.fullmatch(name) and tensor.dim() == 2 else tensor
    return ours


def _pack(ours: Tensors, config: ModelConfig) -> Tensors:
    theirs: Tensors = {}
    for name, tensor in ours.items():
        if part := re.fullmatch(r"(.*\.attn)\.([qkv])\.(weight|bias)", name):
            parts = [ours[f"{part[1]}.{one}.{part[3]}"] for one in "qkv"]
            theirs[f"{part[1]}.c_attn.{part[3]}"] = cat([one.t() if one.dim() == 2 else one for one in parts], dim=-1)
        else:
            theirs[name] = tensor.t() if _TRANSPOSED.fullmatch(name) else tensor
    return theirs


GPT2 = Family(
    "GPT2LMHeadModel",
    "gpt2",
    "decoder",
    lambda config, labels: Decoder(config),
    {
        "embedding": "transformer.wte",
        "position_embedding": "transformer.wpe",
        "norm": "transformer.ln_f",
        "lm_head": "lm_head",
    },
    {
        "": StackNames(
            "transformer.h",
            {
                "attention_norm": "ln_1",
                "attention.q_proj": "attn.q",
                "attention.k_proj": "attn.k",
                "attention.v_proj": "attn.v",
                "attention.o_proj": "attn.c_proj",
                "feedforward_norm": "ln_2",
                "feedforward.up_proj": "mlp.c_fc",
                "feedforward.down_proj": "mlp.c_proj",
            },
        )
    },
    _read,
    _write,
    tied={"lm_head.weight": "transformer.wte.weight"},
    ignored=re.compile(r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias"),  # causal masks of old files
    base="transformer.",
    unpack=_unpack,
    pack=_pack,
)
