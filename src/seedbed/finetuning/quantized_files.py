"""Models in four bits in bitsandbytes' files, as transformers and PEFT save and load them.

Beside the codes of a layer, its "weight", lie the scales ("absmax"), the table of values ("quant_map"), the same of the
scales ("nested_absmax", "nested_quant_map"), and the rest as JSON in the bytes of "quant_state.bitsandbytes__nf4".
`config.json` says under "quantization_config" what is quantised. Our files also hold the digests of the weights that
were quantised, by which adapters know their base, in metadata that others pass over.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..core.artifacts import write_atomically
from ..core.errors import ConfigError, FormatError, disk_errors
from ..core.json_files import read_json
from ..models import Decoder, Encoder
from ..models.families import Model, family_of
from ..models.feedforward import Linear
from ..models.huggingface import DTYPES, described, fill_model, module_paths, open_model, write_description
from ..models.weight_files import FLOATS, SINGLE_FILE, WeightFiles, metadata_of, safetensors_bytes
from .quantization import BLOCK, NESTED_BLOCK, NF4, VALUES, NF4Linear, digest, scale_table

_KEY = "quantization_config"
_SOURCES = "quantized_from"
_STATE = "quant_state.bitsandbytes__nf4"
_STORED = {**FLOATS, "U8": torch.uint8}
_LARGEST_STATE = 1 << 12  # bytes of JSON
_HEAD = "lm_head"  # transformers' name, which it has even where ours is tied


def save_quantized(model: nn.Module, directory: str | Path, tokenizer: Any = None) -> None:
    """Write a model whose layers are NF4 so that transformers with bitsandbytes loads it, and `load_quantized` does.

    Raises:
        ConfigError: no layer is quantised. FormatError: a model that no architecture computes, or with an adapter.
    """
    directory, layers = Path(directory), _quantized_layers(model)
    if not layers:
        raise ConfigError("no layer of the model is quantised", hint="Call quantize_nf4 first, or use save_model.")
    if not isinstance(model, Decoder | Encoder) or any(".adapters." in name for name in model.state_dict()):
        raise FormatError("only a decoder or an encoder without adapters is saved in four bits")
    paths, family = module_paths(model), family_of(model)
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        path, _, leaf = name.rpartition(".")
        if path not in layers or leaf == "bias":
            tensors[family.module_path(name)] = tensor.detach().cpu().contiguous()
    for path, layer in layers.items():
        tensors |= {f"{paths[path]}.{key}": one.cpu().contiguous() for key, one in _stored(layer.quantized).items()}
    first = next(iter(layers.values()))
    skipped = sorted({_HEAD, *paths.values()} - {paths[path] for path in layers})
    more = {
        _KEY: {
            "quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False, "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": first.nested is not None, "bnb_4bit_quant_storage": "uint8",
            "bnb_4bit_compute_dtype": _name(first.dtype), "llm_int8_skip_modules": skipped,
        }
    }  # fmt: skip
    sources = json.dumps({paths[path]: layer.source for path, layer in layers.items()}, sort_keys=True)
    with disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        write_atomically(directory / SINGLE_FILE, safetensors_bytes(tensors, {_SOURCES: sources}))
        write_description(model, directory, tokenizer, first.dtype, more)


def load_quantized(directory: str | Path) -> Model:
    """Read a model in four bits from a Hugging Face directory, ours or bitsandbytes', in evaluation mode.

    Raises:
        FormatError: another way of quantising than NF4 in blocks of 64, or files that are damaged or do not fit.
    """
    directory = Path(directory)
    values, family = described(directory)
    values = dict(values)
    _check_config(values.pop(_KEY, None), directory / "config.json")
    model, weights = open_model(directory, values, family)
    paths = {theirs: ours for ours, theirs in module_paths(model).items()}
    chosen = [path for path in paths if f"{path}.weight.absmax" in weights.stored]
    if not chosen:
        raise FormatError("no layer lies in four bits, though config.json says so", where=directory)
    ours = {path: [name for name in weights if name.startswith(f"{path}.weight")] for path in chosen}
    sources, layers = _sources(weights, ours[chosen[0]][0]), {}
    for path in chosen:
        layer = model.get_submodule(paths[path])
        assert isinstance(layer, Linear)
        stored = WeightFiles({name: weights.stored[name] for name in ours[path]}).read(_STORED)
        quantized = _quantized(
            {name.removeprefix(f"{path}."): one for name, one in stored.items()},
            torch.Size((layer.out_features, layer.in_features)), f"'{path}'", directory,
        )  # fmt: skip
        layers[path] = layer, quantized
        layer.weight = None  # type: ignore[assignment]
    fill_model(model, family, weights.without(name for names in ours.values() for name in names), directory)
    for path, (layer, quantized) in layers.items():
        source = sources.get(path) or digest(quantized.dequantize())
        inputs, outputs = layer.in_features, layer.out_features
        model.set_submodule(paths[path], NF4Linear(inputs, outputs, quantized, layer.bias, source))
    return model.eval()


def is_quantized(directory: str | Path) -> bool:
    """Whether a model's directory says that it lies in fewer bits."""
    return bool(read_json(Path(directory) / "config.json").get(_KEY))


def _quantized_layers(model: nn.Module) -> dict[str, NF4Linear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, NF4Linear)}


def _stored(quantized: NF4) -> dict[str, Tensor]:
    """A weight's tensors under bitsandbytes' names."""
    state: dict[str, Any] = {
        "quant_type": "nf4", "blocksize": BLOCK, "dtype": _name(quantized.dtype), "shape": list(quantized.shape),
    }  # fmt: skip
    tensors = {"weight": quantized.codes, "weight.absmax": quantized.scales, "weight.quant_map": torch.tensor(VALUES)}
    if quantized.nested is not None and quantized.offset is not None:
        tensors |= {"weight.nested_absmax": quantized.nested, "weight.nested_quant_map": scale_table().clone()}
        state |= {
            "nested_blocksize": NESTED_BLOCK, "nested_dtype": "float32", "nested_offset": float(quantized.offset),
        }  # fmt: skip
    packed = torch.frombuffer(bytearray(json.dumps(state).encode()), dtype=torch.uint8)
    return tensors | {f"weight.{_STATE}": packed}


def _quantized(tensors: Mapping[str, Tensor], shape: torch.Size, name: str, where: Path) -> NF4:
    """The weight of a layer of this shape, from tensors that may be anything.

    Raises: FormatError.
    """
    state = _state(tensors.get(f"weight.{_STATE}"), name, where)
    blocks = -(-shape.numel() // BLOCK)
    double = "nested_blocksize" in state
    wanted: dict[str, tuple[torch.dtype, int]] = {
        "weight": (torch.uint8, (shape.numel() + 1) // 2),
        "weight.absmax": (torch.uint8 if double else torch.float32, blocks),
        "weight.quant_map": (torch.float32, len(VALUES)),
    }
    if double:
        wanted |= {
            "weight.nested_absmax": (torch.float32, -(-blocks // NESTED_BLOCK)),
            "weight.nested_quant_map": (torch.float32, len(scale_table())),
        }
    unknown = sorted(tensors.keys() - wanted.keys() - {f"weight.{_STATE}"})
    if unknown:
        raise FormatError(f"of {name}, '{unknown[0]}' is unknown", where=where)
    for key, (dtype, count) in wanted.items():
        found = tensors.get(key)
        if found is None or found.dtype != dtype or found.numel() != count:
            said = "is missing" if found is None else f"has {found.numel()} numbers of {_name(found.dtype)}"
            raise FormatError(f"of {name}, '{key}' {said}; {count} of {_name(dtype)} are needed", where=where)
    if state.get("shape") != list(shape):
        raise FormatError(f"{name} has shape {state.get('shape')!r:.80}, and config.json asks for {tuple(shape)}",
                          where=where)  # fmt: skip
    tables = [(torch.tensor(VALUES), "weight.quant_map")]
    tables += [(scale_table(), "weight.nested_quant_map")] if double else []
    for table, key in tables:
        if not torch.equal(tensors[key], table):
            raise FormatError(f"of {name}, '{key}' holds other values than NF4's", where=where)
    flat = {key: tensors[key].flatten() for key in wanted}
    nested, offset = (flat["weight.nested_absmax"], torch.tensor(state["nested_offset"])) if double else (None, None)
    scales = flat["weight.absmax"] if nested is None else nested
    if not scales.isfinite().all():
        raise FormatError(f"{name} has a scale that is no finite number", where=where)
    return NF4(flat["weight"][:, None], flat["weight.absmax"], nested, offset, shape, DTYPES[state["dtype"]])


def _state(packed: Tensor | None, name: str, where: Path) -> dict[str, Any]:
    """What is packed beside the tensors, checked."""
    if packed is None or packed.dtype != torch.uint8 or packed.numel() > _LARGEST_STATE:
        raise FormatError(f"{name} has no 'weight.{_STATE}'", where=where, hint="Only NF4 is read.")
    try:
        state = json.loads(packed.numpy().tobytes())
    except (ValueError, RecursionError):
        state = None
    if not isinstance(state, dict):
        raise FormatError(f"of {name}, 'weight.{_STATE}' is no JSON object", where=where)
    wanted = {"quant_type": "nf4", "blocksize": BLOCK}
    if "nested_blocksize" in state:
        wanted |= {"nested_blocksize": NESTED_BLOCK, "nested_dtype": "float32"}
        offset = state.get("nested_offset")
        if type(offset) is not float or not math.isfinite(offset) or abs(offset) > torch.finfo(torch.float32).max:
            raise FormatError(f"of {name}, 'nested_offset' is {offset!r:.80}, no finite number", where=where)
    for key, value in wanted.items():
        if state.get(key) != value:
            raise FormatError(f"of {name}, '{key}' is {state.get(key)!r:.80}, not {value!r}", where=where)
    if state.get("dtype") not in DTYPES:
        raise FormatError(f"of {name}, 'dtype' is {state.get('dtype')!r:.80}, not one of {', '.join(DTYPES)}",
                          where=where)  # fmt: skip
    return state


def _check_config(found: Any, where: Path) -> None:
    if not isinstance(found, dict):
        raise FormatError(f"no '{_KEY}': the model is not quantised", where=where, hint="Use load_model.")
    wanted = {
        "quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_quant_storage": "uint8",
    }  # fmt: skip
    for key, value in wanted.items():
        if found.get(key, value) != value:
            raise FormatError(f"'{key}' is {found[key]!r:.80}, and only {value!r} is read", where=where)


def _sources(weights: WeightFiles, name: str) -> dict[str, str]:
    """Digests of the weights that were quantised, where the files know them."""
    try:
        found = json.loads(metadata_of(weights.stored[name].path).get(_SOURCES, "{}"))
    except (ValueError, RecursionError):
        return {}
    return (
        {path: source for path, source in found.items() if isinstance(source, str)} if isinstance(found, dict) else {}
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
