"""Models in Hugging Face directories: `config.json`, `model.safetensors` and, for decoders, `generation_config.json`.

`families` says how each architecture's config and tensor names translate, and weight_files.py reads what is on disk. A
tensor that is unknown, missing or of another shape raises, and so does a key of the config that may mean another model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from ..core.artifacts import write_atomically
from ..core.config import build
from ..core.errors import FormatError, disk_errors
from ..core.json_files import json_bytes, read_json
from .config import ModelConfig
from .families import FAMILIES, ConfigReader, Family, Model, family_named, family_of, plain_rope
from .heads import EncoderClassifier, SequenceClassifier
from .transformer import Decoder, EncoderDecoder
from .weight_files import INDEX_FILE, SINGLE_FILE, WeightFiles

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def save_model(
    model: Model,
    directory: str | Path,
    tokenizer: Any = None,
    *,
    dtype: torch.dtype | None = None,
    shard_bytes: int | None = None,
) -> None:
    """Write `model` (and the tokenizer's files) so that `transformers` loads it with the same outputs.

    The same weights give the same bytes.

    Args:
        dtype: that of the file; None: the model's own.
        shard_bytes: weights go into several files with an index, each of at most so many bytes unless one tensor is
            larger; None: into one file.

    Raises: FormatError for a model that no architecture computes, with parameters of several dtypes, or with numbers
        too large for `dtype`.
    """
    directory, family, config = Path(directory), family_of(model), plain_rope(model.config)
    labels = model.labels if isinstance(model, SequenceClassifier | EncoderClassifier) else 0
    plain = _blank(family, config, labels)
    extra = sorted(model.state_dict().keys() - plain.state_dict().keys())
    if extra:
        raise FormatError(
            f"{family.architecture} has no place for {_some(extra)}", hint="Merge an adapter before saving the model."
        )
    tensors = {family.module_path(name): tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    if family.pack is not None:
        tensors = family.pack(tensors, config)
    tensors = {name: tensors[name].contiguous() for name in sorted(tensors)}
    own = next(iter(tensors.values())).dtype
    if dtype is None and any(tensor.dtype != own for tensor in tensors.values()):
        raise FormatError("the model's parameters are of different dtypes", hint="Convert it with model.to(dtype).")
    dtype = dtype or own
    tensors = {name: _converted(name, tensor, dtype) for name, tensor in tensors.items()}
    with disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        _write_weights(directory, tensors, shard_bytes)
        write_description(model, directory, tokenizer, dtype)


def write_description(
    model: Model, directory: Path, tokenizer: Any, dtype: torch.dtype, more: Mapping[str, Any] | None = None
) -> None:
    """Write all files of a model's directory but its weights; `more` goes into `config.json`."""
    family, config = family_of(model), plain_rope(model.config)
    values: dict[str, Any] = {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        "dtype": str(dtype).removeprefix("torch."),
        **family.write_config(config),
        **(more or {}),
    }
    if isinstance(model, SequenceClassifier | EncoderClassifier):
        values["id2label"] = {str(label): f"LABEL_{label}" for label in range(model.labels)}
        values["label2id"] = {name: int(label) for label, name in values["id2label"].items()}
    if isinstance(model, Decoder | EncoderDecoder):
        ends = {"eos_token_id": config.eos_token_id, "pad_token_id": config.pad_token_id}
        if isinstance(model, EncoderDecoder):
            ends["decoder_start_token_id"] = config.bos_token_id
        write_atomically(directory / "generation_config.json", json_bytes(ends))
    write_atomically(directory / "config.json", json_bytes(values))
    if tokenizer is not None:
        tokenizer.save(directory)


def _converted(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    converted = tensor.to(dtype)
    if dtype != tensor.dtype and not torch.equal(converted.isfinite(), tensor.isfinite()):
        raise FormatError(f"'{name}' holds numbers too large for {str(dtype).removeprefix('torch.')}")
    return converted


def _write_weights(directory: Path, tensors: dict[str, Tensor], shard_bytes: int | None) -> None:
    if shard_bytes is None:
        write_atomically(directory / SINGLE_FILE, save(tensors, metadata={"format": "pt"}))
        return
    shards: list[dict[str, Tensor]] = []
    room = 0
    for name, tensor in tensors.items():
        if not shards or tensor.nbytes > room:
            shards.append({})
            room = shard_bytes
        shards[-1][name] = tensor
        room -= tensor.nbytes
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_atomically(directory / file, save(shard, metadata={"format": "pt"}))
        weight_map |= dict.fromkeys(shard, file)
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    write_atomically(directory / INDEX_FILE, json_bytes(index))
    (directory / SINGLE_FILE).unlink(missing_ok=True)  # of an earlier save: it would be read first


def load_model(directory: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> Model:
    """Read a model from a Hugging Face directory, in evaluation mode and in the dtype stored (or `dtype`).

    Raises: FormatError for a directory that is not of a supported architecture, or whose files are damaged, do not fit
        one another, or hold unknown tensors or lack some.
    """
    directory = Path(directory)
    values, family = described(directory)
    model, weights = open_model(directory, values, family)
    fill_model(model, family, weights, directory)
    return model.to(device=device, dtype=dtype).eval()


def open_model(directory: Path, values: Mapping[str, Any], family: Family) -> tuple[Model, WeightFiles]:
    """The model of a directory without memory, and its files, of which nothing is read yet.

    Args:
        values: of `config.json`.
    """
    weights = _their_weights(family, directory)
    reader = ConfigReader(values, directory / "config.json")
    fields = family.read_config(reader)
    reader.refuse_unknown()
    if family.refine is not None:
        family.refine(fields, weights)
    config = build(ModelConfig, fields, where=directory / "config.json")
    return _blank(family, config, _labels(values, directory) if family.classifies else 0), weights


def fill_model(model: Model, family: Family, weights: WeightFiles, directory: Path) -> None:
    """Give `open_model`'s model its tensors: config and files may claim any size, so memory is taken only when they
    claim the same."""
    _assign(model, family, _check(model, family, weights, directory).read())


def load_config(directory: str | Path) -> ModelConfig:
    """The shape of the model in a Hugging Face directory, of which `config.json` alone is read.

    Raises: FormatError for one that is not of a supported architecture.
    """
    directory = Path(directory)
    values, family = described(directory)
    reader = ConfigReader(values, directory / "config.json")
    return build(ModelConfig, family.read_config(reader), where=directory / "config.json")


def described(directory: Path) -> tuple[dict[str, Any], Family]:
    """What `config.json` says, and the family that it names."""
    values = read_json(directory / "config.json")
    names = values.get("architectures")
    names = names if isinstance(names, list) else []
    family = family_named([name for name in names if isinstance(name, str)], values)
    if family is None:
        raise FormatError(
            f"architecture {', '.join(map(str, names))[:200] or 'not named'} is not supported",
            where=directory / "config.json",
            hint=f"Supported: {', '.join(FAMILIES)}.",
        )
    return values, family


def _labels(values: Mapping[str, Any], directory: Path) -> int:
    labels = values.get("id2label", {"0": "", "1": ""})
    if not isinstance(labels, dict) or not labels:
        raise FormatError("'id2label' must map each label's number to its name", where=directory / "config.json")
    return len(labels)


def _blank(family: Family, config: ModelConfig, labels: int) -> Model:
    """The model of `config` without memory."""
    with torch.device("meta"):
        return family.build(config, labels)


def _their_weights(family: Family, directory: Path) -> WeightFiles:
    """The tensors of a directory under the names of the whole architecture, without what is no parameter."""
    weights = WeightFiles.of_directory(directory)
    names = [name for name in weights if family.ignored is None or not family.ignored.fullmatch(name)]
    bare = bool(family.base) and not any(name.startswith(family.base) for name in names)
    return weights.renamed({name: family.base + name if bare else name for name in names})


def _check(model: Model, family: Family, weights: WeightFiles, directory: Path) -> WeightFiles:
    """The weights of `model`, by their names, shapes and dtypes alone; what some writers store twice is left out."""
    wanted = {family.module_path(name): meta.shape for name, meta in model.state_dict().items()}
    repeated = [name for name in family.tied if name in weights and name not in wanted]
    for name in repeated:
        original = family.tied[name]
        if original not in weights or not torch.equal(weights[name], weights[original]):
            raise FormatError(f"'{name}' differs from '{original}', which it is tied to", where=directory)
    weights = weights.without(repeated)
    found = weights.blank()
    if family.unpack is not None:
        try:
            found = family.unpack(found, model.config)
        except FormatError as error:
            raise FormatError(error.message, where=directory) from None
    missing, unknown = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing or unknown:
        parts = [
            f"{word} tensors: {_some(names)}" for word, names in (("missing", missing), ("unknown", unknown)) if names
        ]
        raise FormatError("; ".join(parts), where=directory)
    for name, shape in wanted.items():
        if found[name].shape != shape:
            shapes = f"{tuple(found[name].shape)}, and config.json asks for {tuple(shape)}"
            raise FormatError(f"'{name}' has shape {shapes}", where=directory)
    return weights


def _assign(model: Model, family: Family, tensors: dict[str, Tensor]) -> None:
    if family.unpack is not None:
        tensors = family.unpack(tensors, model.config)
    named = {name: tensors[family.module_path(name)] for name in model.state_dict()}
    model.load_state_dict(named, strict=True, assign=True)
    for parameter in model.parameters():
        parameter.requires_grad_(True)


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def module_paths(model: nn.Module) -> dict[str, str]:
    """Our path of every linear layer -> its path in the Hugging Face model."""
    family = family_of(model)  # type: ignore[arg-type]
    if family.pack is not None:
        raise FormatError(f"{family.architecture} stores several layers as one, which adapters here cannot name")
    return {name: family.module_path(name) for name, module in model.named_modules() if isinstance(module, nn.Linear)}
