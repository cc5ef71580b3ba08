"""Fuzzing of the engine under AddressSanitizer and UndefinedBehaviorSanitizer: whatever runs together, each request
gets what it gets alone.

    python -m benchmarks.fuzz_generation [--minutes 30] [--first 0]

Builds the package once more with sanitizers into a temporary folder (some minutes), and starts a process with it. Each
round draws a model, the precision of its weights, a level of vector instructions, threads, a cache, guesses ahead, how
many requests run together, prompts of any length (some twice) and wishes of all kinds (greedy and drawn, penalties,
stop strings, constraints, samples), and asks for all of it at once and one by one. It fails at the first finding of a
sanitizer, the first round whose answers, texts, reasons or counts differ, and at any error. The seed of the failing
round is printed; --first begins with it.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.fuzzing import main
from seedbed import _native
from seedbed.core.config import build
from seedbed.core.randomness import torch_generator
from seedbed.generation import DraftModel, Engine, Generation, Lookup, Sampling
from seedbed.models import CacheConfig, Decoder, ModelConfig
from seedbed.tokenizers import train_bpe

_SHAPE = {"vocab_size": 300, "hidden_size": 32, "layers": 2, "heads": 4, "kv_heads": 2, "context_length": 64}
_LEARNED = ("learned", "biases")  # positions, which no cache can count anew
_LEVELS = ("scalar", "avx2", "avx512", "avx512vnni")
_LATENT = {"latent": {"rank": 12, "rope_head_dim": 6}, "qk_norm": False, "kv_heads": 4}
_KINDS: dict[str, dict[str, Any]] = {
    "plain": {}, "mixed windows": {"window": 9, "global_every": 2}, "windows": {"window": 9},
    "alibi": {"positions": "alibi"}, "relative": {"positions": "relative"}, "learned": {"positions": "learned"},
    "latent": _LATENT,
    "uneven": {"hidden_size": 36, "head_dim": 10, "intermediate_size": 50},
    "biases": {"norm": "layer", "activation": "gelu_tanh", "positions": "learned", "qkv_bias": True,
               "output_bias": True, "feedforward_bias": True},
}  # fmt: skip


def _decoder(**changes: Any) -> Decoder:
    model = Decoder(build(ModelConfig, {**_SHAPE, **changes}), torch_generator(1, "fuzz")).eval()
    with torch.no_grad():
        model.embedding.weight.mul_(20)  # sharp, so that near ties do not decide
    return model


class _Fuzzer:
    def __init__(self, folder: Path) -> None:
        self.done: Counter[str] = Counter()
        texts = ["to be, or not to be: that is the question", "a rose by any other name would smell as sweet"] * 9
        self.tokenizer = train_bpe(texts, vocab_size=300, special_tokens=("<|endoftext|>",), threads=1)
        self.models = {name: _decoder(**changes) for name, changes in _KINDS.items()}
        self.small = _decoder(layers=1)
        supported = _LEVELS.index(_native.simd_supported())
        self.levels = _LEVELS[: supported + 1]

    def round(self, seed: int) -> None:
        draw, rng = random.Random(seed), np.random.default_rng(seed)
        name = draw.choice([*self.models])
        model = self.models[name]
        cache = self._cache(name, draw)
        draft = draw.choice([None, Lookup(draw.choice([2, 5]), shortest=1), DraftModel(self.small, 3)])
        slides = cache.kept(model.config) is not None and name not in _LEARNED and draw.random() < 0.4
        prompts: list[np.ndarray] = []
        wishes: list[Sampling] = []
        for number in range(draw.randint(1, 7)):
            again = prompts and draw.random() < 0.3
            size = draw.randint(1, 100 if slides else 45)
            prompts.append(prompts[-1] if again else rng.integers(1, _SHAPE["vocab_size"], size=size))
            # Drawn with a model's guesses answers are equal in distribution only; and what is rounded to int8 moves by
            # a step where PyTorch adds up in another order, which a draw near a token's edge shows.
            wishes.append(self._wish(number, draw, not isinstance(draft, DraftModel) and cache.dtype != "int8"))
        _native.set_simd_level(draw.choice(self.levels))
        torch.set_num_threads(draw.choice([1, 2]))
        weights = draw.choice([None, "float32", "bfloat16", "int8", "int4"])
        options: dict[str, Any] = {
            "tokenizer": self.tokenizer, "cache": cache, "dtype": weights, "eos_token_ids": (0, 1, 2)
        }  # fmt: skip
        samples, truncate = draw.choice([1, 1, 3]), "slide" if slides else "left"
        together = Engine(model, batch_size=draw.choice([1, 2, 3, 8]), draft=draft, **options)
        found = together.generate(prompts, wishes, samples=samples, truncate=truncate)  # type: ignore[arg-type]
        alone = Engine(model, batch_size=1, **options)
        for number, (prompt, wish) in enumerate(zip(prompts, wishes, strict=True)):
            (one,) = alone.generate([prompt], [wish], truncate=truncate)  # type: ignore[arg-type]
            assert _told(found[number * samples]) == _told(one), (name, weights, cache, draft, number, wish)
        self.done[f"{name}, {weights}, {cache.kind}"] += 1

    def _cache(self, name: str, draw: random.Random) -> CacheConfig:
        dtype, slack = draw.choice(["model", "int8"]), draw.choice([6, 16])
        kinds = [CacheConfig(dtype=dtype)]
        if "windows" in name:
            kinds.append(CacheConfig(kind="window", slack=slack))
        else:
            kinds.append(CacheConfig(kind="window", window=draw.choice([5, 20]), slack=slack))
            if name not in _LEARNED:
                sinks = draw.choice([1, 4])
                kinds.append(
                    CacheConfig(kind="sinks", window=draw.choice([5, 20]), sinks=sinks, slack=slack, dtype=dtype)
                )
        return draw.choice(kinds)

    def _wish(self, number: int, draw: random.Random, drawn: bool) -> Sampling:
        return Sampling(
            temperature=draw.choice([0.8, 1.5]) if drawn and draw.random() < 0.4 else 0,
            top_p=draw.choice([1, 0.9]),
            repetition_penalty=draw.choice([1, 1.2]),
            presence_penalty=draw.choice([0, 0.5]),
            max_new_tokens=draw.randint(1, 30),
            stop=draw.choice([(), (), ("a", "or not")]),
            regex=draw.choice([None, None, None, "[a-z ]{3,9}"]),
            seed=number,
        )


def _told(one: Generation) -> tuple[Any, ...]:
    return one.ids.tolist(), one.text, one.finish_reason, one.dropped, one.slid


if __name__ == "__main__":
    main("benchmarks.fuzz_generation", "the engine", _Fuzzer)
