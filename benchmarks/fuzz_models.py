"""Fuzzing of the files that models are loaded from.

    python -m benchmarks.fuzz_models [--minutes 30] [--first 0] [--only qwen3 t5]

Each round takes the directory of a tiny model and damages a file of it: bytes flipped, cut and put in anywhere, values
of config.json exchanged, safetensors headers that promise other tensors, indexes that name other files. Loading ends in
one of the package's own errors, which names the directory, or in a model that computes something or refuses by such an
error; in some seconds, and in little memory whatever the files claim. It fails at the first round that ends otherwise.
The seed of the failing round is printed; --first begins with it.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import struct
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.fuzzing import damaged, main
from seedbed.core.config import build
from seedbed.core.errors import SeedbedError
from seedbed.models import Decoder, Encoder, EncoderDecoder, ModelConfig, load_model, save_model
from seedbed.models.weight_files import INDEX_FILE, SINGLE_FILE

_SMALL = {"vocab_size": 24, "hidden_size": 16, "layers": 2, "heads": 2, "context_length": 32}
_BIASES = {"qkv_bias": True, "output_bias": True, "feedforward_bias": True}
_NONE = dict.fromkeys(_BIASES, False)


def _decoder(**changes: Any) -> Decoder:
    return Decoder(build(ModelConfig, {**_SMALL, **changes}))


def _modernbert() -> Encoder:
    values = {
        "kind": "encoder", "norm_position": "pre", "activation": "geglu", "positions": "rotary", "norm_bias": False,
        "window": 6, "global_every": 2, "local_rope_theta": 1e3, "token_types": 0, **_NONE,
    }  # fmt: skip
    return Encoder(build(ModelConfig, {**_SMALL, **values}))


def _t5() -> EncoderDecoder:
    values = {
        "kind": "encoder-decoder", "norm": "rms", "norm_position": "pre", "positions": "relative", "scale_head": True,
        "relative_buckets": 8, "relative_distance": 12, "scale_scores": False, "bos_token_id": 1, **_NONE,
    }  # fmt: skip
    return EncoderDecoder(build(ModelConfig, {**_SMALL, **values}))


KINDS: dict[str, Callable[[], Any]] = {
    "qwen3": _decoder,
    "llama": lambda: _decoder(qk_norm=False, rope_scaling={"kind": "yarn", "factor": 2.0, "original_context": 16}),
    "mistral": lambda: _decoder(qk_norm=False, window=5, tie_embeddings=False),
    "gpt2": lambda: _decoder(qk_norm=False, norm="layer", activation="gelu_tanh", positions="learned", **_BIASES),
    "bert": lambda: Encoder(build(ModelConfig, {**_SMALL, "kind": "encoder", "pooler": True})),
    "modernbert": _modernbert,
    "t5": _t5,
}
_MOST_SECONDS, _MOST_MEMORY = 20.0, 1 << 30


class Fuzzer:
    def __init__(self, folder: Path, only: Sequence[str]) -> None:
        torch.set_num_threads(1)
        self.folder, self.kinds, self.done = folder, list(only), Counter[str]()
        for kind in self.kinds:
            save_model(KINDS[kind](), folder / kind)
        # What is loaded is tiny: an allocation by what a damaged file claims would end here.
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        self.most = used + _MOST_MEMORY

    def round(self, seed: int) -> None:
        generator = random.Random(seed)
        kind = generator.choice(self.kinds)
        target = self.folder / "damaged"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.folder / kind, target)
        if generator.random() < 0.3:
            _shard(target, generator)
        for _ in range(generator.randint(1, 2)):
            generator.choice(_DAMAGES)(target, generator)
        started = time.monotonic()
        outcome = self.loaded(target)
        seconds, used = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        assert seconds < _MOST_SECONDS, f"{outcome} after {seconds:.1f} s"
        assert used < self.most, f"{outcome} with {used:,} bytes of memory"
        self.done[f"{kind} {outcome}"] += 1

    def loaded(self, target: Path) -> str:
        """What became of it."""
        model: Any = None
        try:
            model = load_model(target)
        except SeedbedError as error:
            refused = error
        if model is None:
            assert str(target) in str(refused.where), refused.sentence()
            return "refused"
        ids = torch.arange(8)[None]
        try:
            with torch.no_grad():
                model(ids, ids) if isinstance(model, EncoderDecoder) else model(ids)
        except SeedbedError:  # a shorter context
            return "loaded, and computes nothing"
        return "loaded"


def _shard(folder: Path, generator: random.Random) -> None:
    """The same tensors in two files with an index."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / SINGLE_FILE)
    files = {name: f"model-{generator.randint(1, 2)}.safetensors" for name in tensors}
    for file in set(files.values()):
        save_file({name: tensor for name, tensor in tensors.items() if files[name] == file}, folder / file)
    (folder / SINGLE_FILE).unlink()
    (folder / INDEX_FILE).write_text(json.dumps({"metadata": {}, "weight_map": files}))


def _bytes(folder: Path, generator: random.Random) -> None:
    path = generator.choice(sorted(folder.iterdir()))
    data = path.read_bytes()
    path.write_bytes(
        data[: generator.randrange(len(data) + 1)] if generator.random() < 0.3 else damaged(data, generator)
    )


def _config(folder: Path, generator: random.Random) -> None:
    path = folder / "config.json"
    try:
        values = json.loads(path.read_bytes())
    except ValueError:  # damaged before
        return
    if not isinstance(values, dict) or not values:
        return
    key = generator.choice([*sorted(values), "attention_multiplier", "layer_types", "quantization_config"])
    node = values.get(key)
    if isinstance(node, dict) and node and generator.random() < 0.7:
        node[generator.choice([*sorted(node), "extra"])] = _odd(generator)
    else:
        values[key] = _odd(generator)
    path.write_text(json.dumps(values))


def _header(folder: Path, generator: random.Random) -> None:
    """Another header before the same data."""
    path = generator.choice(sorted(folder.glob("*.safetensors")))
    data = path.read_bytes()
    try:
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length])
        name = generator.choice(sorted(header))
        if generator.random() < 0.3:
            header[generator.choice(["lm_head.weight", "x", name + ".more", ""])] = header.pop(name)
        else:
            entry = header[name]
            entry[generator.choice(["dtype", "shape", "data_offsets"])] = generator.choice(
                [
                    "F64",
                    "I64",
                    "F8_E4M3",
                    "BOOL",
                    [],
                    [0],
                    [1 << 62, 0],
                    [1 << 63],
                    [-1],
                    [3, 3],
                    [0, 1 << 40],
                    [0, 4],
                    None,
                ]
            )
    except (ValueError, KeyError, TypeError, AttributeError, struct.error):  # damaged before
        return
    written = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(written)) + written + data[8 + length :])


def _index(folder: Path, generator: random.Random) -> None:
    path = folder / INDEX_FILE
    try:
        index = json.loads(path.read_bytes())
        weight_map = index["weight_map"]
        name = generator.choice(sorted(weight_map))
        weight_map[name] = generator.choice(
            [
                "../other.safetensors",
                "/etc/passwd",
                "",
                "..",
                ".",
                "a\0b",
                "none.safetensors",
                "config.json",
                3,
                None,
                [],
            ]
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError):  # none, or damaged before
        return
    path.write_text(json.dumps(index))


_DAMAGES = (_bytes, _bytes, _config, _config, _header, _index)


def _odd(generator: random.Random) -> Any:
    deep: Any = []
    for _ in range(500):
        deep = [deep]
    return generator.choice(
        [
            None, True, False, -1, 0, 1, 2, 3, 7, 17, 1 << 10, 1 << 24, 1 << 31, 1 << 63, 10**300, 1e-300, 1e300, 0.5,
            -1.5, float("nan"), float("inf"), "", "gelu", "linear", "yarn", "x" * 300, [], {}, [1], [[]], {"a": {}},
            deep,
        ]
    )  # fmt: skip


if __name__ == "__main__":
    main("benchmarks.fuzz_models", "the files of models", Fuzzer, list(KINDS), native=False)
