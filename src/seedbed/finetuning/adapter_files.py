"""Adapters in PEFT's files: `adapter_config.json` and `adapter_model.safetensors`.

The weights' file also names its base by a fingerprint, in its metadata, which PEFT passes over.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..core.artifacts import write_atomically
from ..core.config import build
from ..core.errors import ConfigError, FormatError, disk_errors
from ..core.json_files import json_bytes, read_json
from ..models import Decoder, Encoder
from ..models.huggingface import module_paths
from ..models.weight_files import metadata_of, read_safetensors, safetensors_bytes
from .adapters import DEFAULT, adapted_layers, adapter_names, add_adapter, plain_path, remove_adapter, require_adapted
from .lora import LoRAConfig, LowRank
from .quantization import NF4Linear, digest
from .targets import shortest_names

ModelT = TypeVar("ModelT", bound=nn.Module)

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_KEY = "base_model.model.{path}.{part}"
_FINGERPRINT = "base_fingerprint"
# What else PEFT can put into an adapter; each changes the outputs, so none may be passed over.
_UNSUPPORTED = (
    "fan_in_fan_out",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "layers_to_transform",
    "lora_bias",
    "target_parameters",
    "trainable_token_indices",
    "exclude_modules",
)
_OURS = {
    "rank": "r",
    "alpha": "lora_alpha",
    "dropout": "lora_dropout",
    "rank_stabilized": "use_rslora",
    "magnitudes": "use_dora",
}
# How PEFT may have begun an adapter without changing the base.
_NEUTRAL = (None, True, False, "gaussian", "orthogonal")


def save_adapter(
    model: nn.Module, directory: str | Path, base_model: str | Path | None = None, *, name: str = DEFAULT
) -> None:
    """Write an adapter's files, which PEFT loads onto the saved base model.

    One that began as PiSSA is written as what it changes of the base, at twice the rank.

    Args:
        base_model: where the base lies, noted for PEFT's automatic loading.
    """
    if not isinstance(model, Decoder | Encoder):
        raise FormatError(
            f"an adapter of a {type(model).__name__} does not hold its head", hint="Merge it and save the whole model."
        )
    parts, directory = _parts(model, name), Path(directory)
    paths = {plain_path(path): plain_path(theirs) for path, theirs in module_paths(model).items()}
    config = next(iter(parts.values())).config
    tensors = {}
    for path, part in parts.items():
        for key, tensor in _stored(part).items():
            tensors[_KEY.format(path=paths[path], part=key)] = tensor.detach().cpu().contiguous()
    doubled = 2 if config.initialization == "pissa" else 1
    values = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM" if isinstance(model, Decoder) else "FEATURE_EXTRACTION",
        "base_model_name_or_path": None if base_model is None else str(base_model),
        "r": config.rank * doubled,
        # The scale stays: alpha over the rank, or over its root.
        "lora_alpha": config.alpha * (doubled**0.5 if config.rank_stabilized else doubled),
        "lora_dropout": config.dropout,
        "use_rslora": config.rank_stabilized,
        "use_dora": config.magnitudes,
        "target_modules": shortest_names([paths[path] for path in parts], list(paths.values())),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
    }
    with disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        write_atomically(directory / _WEIGHTS, safetensors_bytes(tensors, {_FINGERPRINT: base_fingerprint(model)}))
        write_atomically(directory / _CONFIG, json_bytes(values))


def load_adapter(model: ModelT, directory: str | Path, *, name: str = DEFAULT, check_base: bool = True) -> ModelT:
    """Put an adapter of ours or of PEFT's onto `model`, in place, and freeze everything else.

    Args:
        check_base: refuse an adapter whose fingerprint is of another base; PEFT's own have none.

    Raises:
        FormatError: another kind of adapter, another base, or tensors that are unknown, missing or of another shape.
    """
    directory = Path(directory)
    config = _read_config(read_json(directory / _CONFIG), directory / _CONFIG)
    tensors = read_safetensors(directory / _WEIGHTS)
    if check_base:
        _refuse_other_base(model, directory / _WEIGHTS)
    add_adapter(model, config, name=name)
    try:
        _assign(model, name, tensors, directory / _WEIGHTS)
    except FormatError:
        remove_adapter(model, name)
        raise
    return model


def base_fingerprint(model: nn.Module) -> str:
    """sha256 of the weights that adapters of `model` are put on: those of the model without them, and before they were
    quantised."""
    found = hashlib.sha256()
    quantized = {path: layer for path, layer in model.named_modules() if isinstance(layer, NF4Linear)}
    digests = {f"{plain_path(path)}.weight": layer.source for path, layer in quantized.items()}
    for key, parameter in model.named_parameters():
        if ".adapters." not in key:
            path, _, leaf = key.rpartition(".")
            digests[f"{plain_path(path)}.{leaf}"] = digest(parameter)
    for key in sorted(digests):
        found.update(f"{key} {digests[key]}\n".encode())
    return found.hexdigest()


def _refuse_other_base(model: nn.Module, path: Path) -> None:
    wanted = metadata_of(path).get(_FINGERPRINT)
    if wanted is not None and wanted != base_fingerprint(model):
        raise FormatError(
            "the adapter was trained on another base model",
            where=path,
            hint="Load the model that it was trained on, or pass check_base=False to put it on this one all the same.",
        )


def _parts(model: nn.Module, name: str) -> dict[str, LowRank]:
    layers = require_adapted(model)
    parts = {path: layer.adapter(name) for path, layer in layers.items() if name in layer.adapters}
    if not parts:
        raise ConfigError(f"the model has no adapter '{name}'", hint=f"It has: {', '.join(adapter_names(model))}.")
    return parts


def _stored(part: LowRank) -> dict[str, Tensor]:
    """What is written of one layer's adapter. PiSSA: B A less what it was at first, as one product."""
    first: Tensor = part.lora_A
    second: Tensor = part.lora_B
    if part.start_A is not None and part.start_B is not None:
        first, second = torch.cat((first, part.start_A)), torch.cat((second, -part.start_B), dim=1)
    stored: dict[str, Tensor] = {"lora_A.weight": first, "lora_B.weight": second}
    return stored if part.magnitude is None else stored | {"lora_magnitude_vector": part.magnitude}


def _assign(model: nn.Module, name: str, tensors: dict[str, Tensor], where: Path) -> None:
    paths = {plain_path(path): plain_path(theirs) for path, theirs in module_paths(model).items()}
    wanted: dict[str, Tensor] = {}
    for path, layer in adapted_layers(model).items():
        if name in layer.adapters:
            part = layer.adapter(name)
            named: dict[str, Tensor] = {"lora_A.weight": part.lora_A, "lora_B.weight": part.lora_B}
            named |= {} if part.magnitude is None else {"lora_magnitude_vector": part.magnitude}
            wanted |= {_KEY.format(path=paths[path], part=key): one for key, one in named.items()}
    for word, names in (("missing", wanted.keys() - tensors.keys()), ("unknown", tensors.keys() - wanted.keys())):
        if names:
            raise FormatError(f"{len(names)} {word} tensors, the first '{min(names)}'", where=where)
    for key, parameter in wanted.items():
        if tensors[key].shape != parameter.shape:
            shapes = f"{tuple(tensors[key].shape)} where the model needs {tuple(parameter.shape)}"
            raise FormatError(f"'{key}' has shape {shapes}", where=where)
    with torch.no_grad():
        for key, parameter in wanted.items():
            parameter.copy_(tensors[key])


def _read_config(values: dict[str, Any], where: Path) -> LoRAConfig:
    if values.get("peft_type") != "LORA":
        raise FormatError(f"'peft_type' is {values.get('peft_type')!r:.80}, not 'LORA'", where=where)
    for key in _UNSUPPORTED:
        if values.get(key):
            raise FormatError(f"'{key}' is {values[key]!r:.80}, which is not supported", where=where)
    if values.get("bias", "none") != "none":
        raise FormatError("adapters that train biases are not supported", where=where)
    begun = values.get("init_lora_weights")
    if begun not in (*_NEUTRAL, "pissa"):
        raise FormatError(
            f"'init_lora_weights' is {begun!r:.80}, which changes the base in a way that is not supported", where=where
        )
    fields = {ours: values[theirs] for ours, theirs in _OURS.items() if values.get(theirs) is not None}
    fields["initialization"] = "pissa" if begun == "pissa" else "zero"
    targets = values.get("target_modules")
    fields["targets"] = tuple(targets) if isinstance(targets, list) else targets
    return build(LoRAConfig, fields, where=where)
