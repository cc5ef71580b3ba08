"""A tiny model whose choices are sharp, and a tokenizer of bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from seedbed.core.config import build
from seedbed.core.randomness import torch_generator
from seedbed.models import Decoder, ModelConfig

SMALL = {"vocab_size": 257, "hidden_size": 32, "layers": 2, "heads": 4, "kv_heads": 2, "context_length": 64}


def sharp(**changes: Any) -> Decoder:
    """Sharper than at the start of training, so that near ties do not decide."""
    torch.set_num_threads(1)
    model = Decoder(build(ModelConfig, {**SMALL, **changes}), torch_generator(1, "engine"))
    with torch.no_grad():
        model.embedding.weight.mul_(20)
    return model


class ByteTokenizer:
    """Token 0 ends a text; token 1 + b is byte b modulo 128, so that every text is valid."""

    eos_token_id = 0
    vocab_size = 257
    special_tokens = {"<end>": 0}  # noqa: RUF012
    known = np.ones(257, dtype=bool)
    text_is_bytes = False  # as if tokens were written otherwise at the start of a text

    def encode(self, text: str, parse_special: bool = True) -> np.ndarray:
        return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.uint32) + 1

    def decode_bytes(self, ids: Any, skip_special_tokens: bool = False) -> bytes:
        return bytes((int(token) - 1) % 128 for token in ids if token)

    def token_bytes(self, number: int, skip_special_tokens: bool = False) -> bytes:
        return self.decode_bytes([number])

    def decode(self, ids: Any, skip_special_tokens: bool = False) -> str:
        return self.decode_bytes(ids).decode("utf-8", "replace")


@pytest.fixture(scope="session")
def model() -> Decoder:
    return sharp()


@pytest.fixture(scope="session")
def prompts() -> list[np.ndarray]:
    generator = np.random.default_rng(3)
    return [generator.integers(1, 257, size=size) for size in (5, 1, 17, 9, 2)]
