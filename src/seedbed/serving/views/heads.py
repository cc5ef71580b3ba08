"""What the heads of the run's models look at in a sentence, and what the decoder must remember of it.

H heads, T tokens.
"""

from __future__ import annotations

import base64
import threading
from functools import cached_property
from typing import Any

import numpy as np
import torch

from ...core.errors import ConfigError, DataError
from ...models import CacheConfig, ModelConfig
from ...models.inspection import Inspected
from .materials import Materials

_MOST_TOKENS = 96
_MOST_WEIGHTS = 6_000_000  # of all layers and heads together, a byte each
ENCODER = "encoder"


class Heads:
    """Attention maps of the models of a run, which go on serving meanwhile."""

    def __init__(self, materials: Materials) -> None:
        self._materials = materials
        self._looking = threading.Lock()  # a pass keeps its maps in the inspected model
        self._inspected: dict[str, Inspected[Any]] = {}

    @cached_property
    def models(self) -> list[dict[str, Any]]:
        """What can be looked at."""
        found = []
        for name in [*self._materials.voices, *([ENCODER] if self._materials.encoder else [])]:
            config = self._model(name).config
            kind = "bidirectional" if name == ENCODER and config.kind == "encoder" else "causal"
            found.append({"id": name, "kind": kind, "layers": config.layers, "heads": config.heads})
        return found

    def look(self, model: str, text: str) -> dict[str, Any]:
        """Tokens, and the weights of all heads as base64 of uint8 (layers, H, T, T), 255 for a weight of 1.

        Raises:
            ConfigError: there is no such model. DataError: the text is empty.
        """
        if model not in [one["id"] for one in self.models]:
            raise ConfigError(f"there is no model '{model:.40}' to look into")
        config = self._model(model).config
        room = int((_MOST_WEIGHTS / (config.layers * config.heads)) ** 0.5)
        ids, names = self._tokens(model, text)
        kept = min(len(ids), _MOST_TOKENS, room, config.context_length)
        if not kept:
            raise DataError("there is no token to look at")
        with self._looking:
            inspected = self._inspected.setdefault(model, Inspected(self._model(model)))
            maps = inspected.maps(torch.tensor([ids[:kept]])).by_module
        weights = np.stack([one.float().numpy() for one in maps.values()])
        quantised = np.rint(255 * weights.clip(0, 1)).astype(np.uint8)
        return {
            "model": model,
            "kind": next(one["kind"] for one in self.models if one["id"] == model),
            "tokens": names[:kept],
            "dropped": len(ids) - kept,
            "layers": config.layers,
            "heads": config.heads,
            "weights": base64.b64encode(quantised.tobytes()).decode(),
            "entropy": _entropy(weights).tolist(),
            "cache": cache_of(config) if config.kind == "decoder" else None,
        }

    def _model(self, name: str) -> Any:
        if name == ENCODER and self._materials.encoder is not None:
            return self._materials.encoder.model
        return self._materials.voices[name].engine.model

    def _tokens(self, name: str, text: str) -> tuple[list[int], list[str]]:
        if name == ENCODER and self._materials.encoder is not None:
            tokenizer: Any = self._materials.encoder.tokenizer
            ids = tokenizer.encode(text, add_special_tokens=True, parse_special=False).tolist()
        else:
            tokenizer = self._materials.voices[name].tokenizer
            ids = tokenizer.encode(text, parse_special=False).tolist()
        return ids, _shown(tokenizer, text, ids)


def _shown(tokenizer: Any, text: str, ids: list[int]) -> list[str]:
    """What each id shows of the text; where several share a character, the first shows it and the others a dot."""
    plain, offsets = tokenizer.encode_with_offsets(text, parse_special=False)
    names, before = [], (-1, -1)
    for span in map(tuple, offsets.tolist()):
        names.append("·" if span == before else text[span[0] : span[1]])
        before = span
    first = next((at for at in range(len(ids)) if ids[at : at + len(plain)] == plain.tolist()), 0)
    around = [str(tokenizer.id_to_token(one)) for one in ids]
    return around[:first] + names + around[first + len(names) :]


def cache_of(config: ModelConfig) -> dict[str, Any]:
    """What keys and values take: bytes of one token, the factors of that, and what other layouts of heads would take.

    Bytes of a token are layers x heads x width x bytes of a number, summed over the two parts of the cache (keys and
    values, or the latent and the rotary key of latent attention).
    """
    (key_heads, key_width), (value_heads, value_width) = config.cache_shapes()
    alike = config.latent is None
    # By heads of keys and values, the name that such attention has.
    variants = {max(1, config.heads // 2): "grouped-query", 1: "multi-query", config.heads: "multi-head"}
    return {
        "layers": config.layers,
        "parts": [
            {"name": "keys" if alike else "latent", "heads": key_heads, "width": key_width},
            {"name": "values" if alike else "rotary key", "heads": value_heads, "width": value_width},
        ],
        "context": config.context_length,
        "bytes_per_token": {dtype: CacheConfig().bytes(config, 1, 1, dtype) for dtype in ("float32", "bfloat16")},
        "int8_bytes_per_token": CacheConfig(dtype="int8").bytes(config, 1, 1),
        "variants": [
            {
                "name": name,
                "heads": heads,
                "bytes": 2 * config.layers * heads * config.head_dim * 4,
                "this": alike and heads == config.kv_heads,
            }
            for heads, name in sorted(variants.items(), reverse=True)
        ],
    }


def _entropy(weights: np.ndarray) -> np.ndarray:
    """Mean entropy of a head's rows in bits (layers, H): 0 where each token looks at one."""
    logs = np.log2(np.maximum(weights, 1e-12))
    found: np.ndarray = -(weights * logs).sum(-1).mean(-1)
    return np.round(found, 3)
