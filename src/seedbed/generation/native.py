"""The native step: dense decoders on CPUs, with weights where they lie or packed.

B rows, T new tokens, V vocabulary.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import _native
from ..models import Decoder, KeyValueCache
from ..models.block import Block
from ..models.config import GATED, ModelConfig
from ..models.feedforward import Linear
from ..models.positions import sinusoids
from .torch_step import TorchStep

PACKED = {"bfloat16": 1, "int8": 2, "int4": 3}
_ACTIVATIONS = {
    "swiglu": 0, "geglu": 1, "geglu_tanh": 2, "gelu": 1, "gelu_tanh": 2, "relu": 3, "relu2": 4,
}  # fmt: skip
_CACHES = (torch.float32, torch.bfloat16)
_TOKENS_AT_A_TIME = 512
_WEIGHTS_PER_THREAD = 1 << 21  # below so many weights times tokens another thread is not worth waiting for
_SINUSOIDS = 1 << 14


def native_supports(model: nn.Module) -> bool:
    """Whether the native step computes what `model` does: a dense decoder with norms before its sublayers, its own
    layers (no adapters), in float32 on a CPU."""
    if type(model) is not Decoder:
        return False
    config = model.config
    if config.norm_position != "pre" or config.latent or config.experts or config.embedding_norm:
        return False
    if config.positions not in ("rotary", "learned", "sinusoidal", "none"):
        return False
    if any(type(one) is not Linear for one in model.modules() if isinstance(one, nn.Linear)):
        return False
    return all(
        one.device.type == "cpu" and one.dtype == torch.float32 and one.is_contiguous() for one in model.parameters()
    )


class NativeStep:
    """A forward pass in native code, in float32 equal to `Decoder.forward` up to the order of sums; a row's logits do
    not depend, bit for bit, on the other rows, on how many tokens come at once or on the threads. What native code does
    not serve (a cache with a ring or of another precision, a model that has got adapters since) goes through PyTorch.

    Args:
        model: one that `native_supports`.
        weights: "float32" reads the model's parameters where they lie; "bfloat16", "int8" and "int4" pack a copy of the
            matrices, which is made anew when a prompt comes after the parameters have changed. int8 is GGUF's Q8_0
            (blocks of 32, a float16 scale each); int4 its Q4_0, with embedding and head in int8. What goes into a
            product with packed weights is rounded as well, to bfloat16 or to int8 in blocks of 32, as llama.cpp does
            it; sums are in float32.
    """

    def __init__(self, model: Decoder, weights: str = "float32") -> None:
        self.model, self.weights = model, weights
        self.cache_dtype = torch.float32 if weights == "float32" else torch.bfloat16
        self._versions: list[tuple[int, int]] = []
        self._native: _native.DecoderStep | None = None
        self._other: TorchStep | None = None
        self._refresh()

    @torch.inference_mode()
    def __call__(self, ids_BT: Tensor, cache: KeyValueCache) -> Tensor:
        if not self._serves(cache, ids_BT.shape[1]):
            return self._torch_step()(ids_BT, cache)
        return self._run(ids_BT, cache, None)

    @torch.inference_mode()
    def last(self, ids_BT: Tensor, columns_B: Tensor, cache: KeyValueCache) -> Tensor:
        """Logits (B, V) of one column per row; what lies behind it is padding, whose keys and values are left out."""
        self._refresh()
        if not self._serves(cache, ids_BT.shape[1]):
            return self._torch_step().last(ids_BT, columns_B, cache)
        return self._run(ids_BT, cache, columns_B)[:, 0]

    @property
    def nbytes(self) -> int:
        """Of all matrices, as they are read."""
        return sum(one.nbytes for one in self._matrices.values())

    def _serves(self, cache: KeyValueCache, tokens: int) -> bool:
        if self._native is None or cache.layout.kind != "full" or cache.keys[0].dtype not in _CACHES:
            return False
        return cache.keys[0].device.type == "cpu" and cache.used + tokens <= min(cache.capacity, self._positions)

    def _torch_step(self) -> TorchStep:
        if self._other is None:
            self._other = TorchStep(
                self.model if self.weights == "float32" else unpacked_twin(self.model, self.weights)
            )
        return self._other

    def _run(self, ids_BT: Tensor, cache: KeyValueCache, columns_B: Tensor | None) -> Tensor:
        batch, tokens = ids_BT.shape
        assert self._native is not None
        self._reach_to(cache.used + tokens)
        rows_B = np.arange(batch) if cache.slots is None else cache.slots.numpy()
        ids, rows, positions, wanted = ids_BT.numpy().reshape(-1), rows_B, cache.lengths.numpy(), np.arange(batch)
        if tokens > 1:
            counts_B = np.full(batch, tokens) if columns_B is None else columns_B.numpy() + 1
            real_BT = np.arange(tokens) < counts_B[:, None]
            ids = ids[real_BT.reshape(-1)]
            rows = np.broadcast_to(rows_B[:, None], real_BT.shape)[real_BT]
            positions = (positions[:, None] + np.arange(tokens))[real_BT]
            wanted = np.arange(len(ids)) if columns_B is None else np.cumsum(counts_B) - 1
        ids = np.ascontiguousarray(ids, dtype=np.int64)
        keys, values = ([_bits(block) for block in blocks] for blocks in (cache.keys, cache.values))
        parts = []
        for start in range(0, len(ids), _TOKENS_AT_A_TIME):
            part = slice(start, start + _TOKENS_AT_A_TIME)
            mine = wanted[np.searchsorted(wanted, start) : np.searchsorted(wanted, part.stop)] - start
            threads = min(torch.get_num_threads(), 1 + len(ids[part]) * self._weights // _WEIGHTS_PER_THREAD)
            parts.append(self._native.forward(ids[part], rows[part], positions[part], mine, keys, values, threads))
        cache.advance(tokens)
        logits = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return torch.from_numpy(logits).view(batch, -1, self.model.config.vocab_size)

    def _refresh(self) -> None:
        """Look where the parameters lie, and pack them again where they have changed."""
        versions = [(one.data_ptr(), 0 if one.is_inference() else one._version) for one in self.model.parameters()]
        if self.weights == "float32":
            versions = [(where, 0) for where, _ in versions]
        if versions == self._versions:
            return
        self._versions, self._other = versions, None
        if not native_supports(self.model):
            self._native = None
            return
        positions = {"learned": self.model.config.context_length, "sinusoidal": _SINUSOIDS}
        self._positions = positions.get(self.model.config.positions, 1 << 40)
        self._matrices: dict[tuple[int, bool], _native.DecoderWeights] = {}
        model, config = self.model, self.model.config
        self._native = _native.DecoderStep(_shape(config))
        ends: dict[str, Any] = {
            "embedding": self._matrix(model.embedding.weight, end=True),
            "head": self._matrix(model.head_weight, end=True),
        }
        assert model.norm is not None
        self._vectors(ends, norm=model.norm)
        if model.position_embedding is not None:
            ends["positions"] = _array(model.position_embedding.weight)
        if config.positions == "sinusoidal":
            ends["positions"] = sinusoids(torch.arange(_SINUSOIDS), config.hidden_size).numpy()
        self._native.set_ends(ends)
        for number, block in enumerate(model.blocks):
            assert isinstance(block, Block)
            window = config.window if config.windowed(number) else 0
            local = bool(window) and model.local_rotary is not model.rotary
            self._native.add_layer(self._layer(block), window, int(local))
        self._reach, self._weights = 0, config.parameter_count()

    def _layer(self, block: Block) -> dict[str, Any]:
        attention: Any = block.attention
        feedforward: Any = block.feedforward
        parts: dict[str, Any] = {}
        self._vectors(parts, attention_norm=block.attention_norm, feedforward_norm=block.feedforward_norm)
        linears = {
            "query": attention.q_proj, "key": attention.k_proj, "value": attention.v_proj, "output": attention.o_proj,
            "up": feedforward.up_proj, "down": feedforward.down_proj,
        }  # fmt: skip
        if self.model.config.activation in GATED:
            linears["gate"] = feedforward.gate_proj
        for name, linear in linears.items():
            parts[name] = self._matrix(linear.weight)
            if linear.bias is not None:
                parts[f"{name}_bias"] = _array(linear.bias)
        for name, norm in (("query_norm", attention.q_norm), ("key_norm", attention.k_norm)):
            if norm is not None:
                parts[name] = _array(norm.weight)
        if attention.sinks is not None:
            parts["sinks"] = _array(attention.sinks)
        return parts

    def _matrix(self, weight: Tensor, end: bool = False) -> _native.DecoderWeights:
        """Of one tensor one: the embedding and the head may share theirs."""
        key = weight.data_ptr(), end
        if key not in self._matrices:
            array, kind = _array(weight), _kind(self.weights, end)
            native = _native.DecoderWeights
            self._matrices[key] = native(array) if kind == "float32" else native.pack(array, PACKED[kind])
        return self._matrices[key]

    def _vectors(self, parts: dict[str, Any], **norms: nn.Module) -> None:
        for name, norm in norms.items():
            parts[name] = _array(norm.weight)
            if getattr(norm, "bias", None) is not None:
                parts[f"{name}_bias"] = _array(norm.bias)

    def _reach_to(self, length: int) -> None:
        """Have rotations for positions below `length`."""
        if length <= self._reach or self.model.config.positions != "rotary":
            return
        assert self._native is not None
        # In doublings, as a table is computed whole.
        self._reach, context = 1 << (length - 1).bit_length(), self.model.config.context_length
        far_BT, like = torch.arange(min(context, self._reach), self._reach)[None], self.model.embedding.weight
        tables = []
        for rotary in (self.model.rotary, self.model.local_rotary):
            near = [
                table[: self._reach - far_BT.shape[1]] for table in rotary.table(self._reach - far_BT.shape[1], like)
            ]
            far = [table.flatten(0, 2) for table in rotary.beyond(far_BT, like)]
            cos, sin = (torch.cat(parts).numpy() for parts in zip(near, far, strict=True))
            tables.append((cos, sin))
        self._native.set_rotations(tables)


def unpacked_twin(model: Decoder, weights: str) -> Decoder:
    """A copy of the model in float32 whose matrices hold what packed `weights` stand for."""
    twin = copy.deepcopy(model).float().requires_grad_(False)
    ends = {twin.embedding, twin.lm_head}
    for module in twin.modules():
        if isinstance(module, nn.Linear) or module is twin.embedding:
            kind = _kind(weights, module in ends)
            packed = _native.DecoderWeights.pack(_array(module.weight.cpu()), PACKED[kind])
            module.weight.copy_(torch.from_numpy(packed.unpack()))
    return twin


def _kind(weights: str, end: bool) -> str:
    return "int8" if end and weights == "int4" else weights


def _shape(config: ModelConfig) -> dict[str, Any]:
    return {
        "vocabulary": config.vocab_size,
        "width": config.hidden_size,
        "heads": config.heads,
        "groups": config.kv_heads,
        "head_dim": config.head_dim,
        "intermediate": config.intermediate_size,
        "sink_tokens": config.sink_tokens,
        "layer_norm": config.norm == "layer",
        "rotary": config.positions == "rotary",
        "activation": _ACTIVATIONS[config.activation],
        "epsilon": config.norm_epsilon,
        "scale": config.head_dim**-0.5 if config.scale_scores else 1.0,
        "soft_cap": config.softcap,
        "logit_soft_cap": config.logit_softcap,
        "embedding_scale": config.hidden_size**0.5 if config.positions == "sinusoidal" else 1.0,
        "head_scale": config.hidden_size**-0.5 if config.scale_head else 1.0,
    }


def _bits(block: Tensor) -> np.ndarray:
    """A cache's block for native code: NumPy knows no bfloat16."""
    array: np.ndarray = (block.view(torch.int16) if block.dtype == torch.bfloat16 else block).numpy()
    return array


def _array(tensor: Tensor | Any) -> np.ndarray:
    array: np.ndarray = tensor.detach().numpy()
    return array
