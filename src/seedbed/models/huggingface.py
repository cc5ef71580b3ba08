"""Models in Hugging Face directories: `config.json`, `model.safetensors` and, for decoders, `generation_config.json`.

`families` says how each architecture's config and tensor names translate; everything else is here. Only safetensors are
read: a pickle can run code. A tensor that is unknown, missing or of another shape raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..core.artifacts import write_atomically
from ..core.config import build
from ..core.errors import FormatError, disk_errors
from ..core.json_files import json_bytes, read_json
from .config import ModelConfig
from .families import FAMILIES, ConfigReader, Family, Model, family_named, family_of, plain_rope
from .heads import SequenceClassifier
from .transformer import Decoder, EncoderDecoder

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def save_model(model: Model, directory: str | Path, tokenizer: Any = None) -> None:
    """Write `model` (and the tokenizer's files) so that `transformers` loads it with the same outputs.

    The same weights give the same bytes.
    """
    directory, family, config = Path(directory), family_of(model), plain_rope(model.config)
    plain = _blank(family, config, model.labels if isinstance(model, SequenceClassifier) else 0)
    extra = sorted(model.state_dict().keys() - plain.state_dict().keys())
    if extra:
        raise FormatError(
            f"{family.architecture} has no place for {_some(extra)}", hint="Merge an adapter before saving the model."
        )
    tensors = {family.module_path(name): tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    if family.pack is not None:
        tensors = family.pack(tensors, config)
    tensors = {name: tensors[name].contiguous() for name in sorted(tensors)}
    dtype = next(iter(tensors.values())).dtype
    if any(tensor.dtype != dtype for tensor in tensors.values()):
        raise FormatError("the model's parameters are of different dtypes", hint="Convert it with model.to(dtype).")
    values: dict[str, Any] = {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        "dtype": str(dtype).removeprefix("torch."),
        **family.write_config(config),
    }
    if isinstance(model, SequenceClassifier):
        values["id2label"] = {str(label): f"LABEL_{label}" for label in range(model.labels)}
        values["label2id"] = {name: int(label) for label, name in values["id2label"].items()}
    with disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        write_atomically(directory / "model.safetensors", save(tensors, metadata={"format": "pt"}))
        if isinstance(model, Decoder | EncoderDecoder):
            ends = {"eos_token_id": config.eos_token_id, "pad_token_id": config.pad_token_id}
            if isinstance(model, EncoderDecoder):
                ends["decoder_start_token_id"] = config.bos_token_id
            write_atomically(directory / "generation_config.json", json_bytes(ends))
        write_atomically(directory / "config.json", json_bytes(values))
        if tokenizer is not None:
            tokenizer.save(directory)


def load_model(directory: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> Model:
    """Read a model from a Hugging Face directory, in evaluation mode and in the dtype stored (or `dtype`).

    Raises: FormatError for a directory that is not of a supported architecture, or whose files are damaged, do not fit
        one another, or hold unknown tensors or lack some.
    """
    directory = Path(directory)
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
    tensors = _their_tensors(family, directory)
    fields = family.read_config(ConfigReader(values, directory / "config.json"))
    if family.refine is not None:
        family.refine(fields, tensors)
    config = build(ModelConfig, fields, where=directory / "config.json")
    # Shapes are compared before memory is taken: the config alone may claim any size.
    model = _blank(family, config, _labels(values, directory) if family.classifies else 0)
    _assign(model, family, tensors, directory)
    return model.to(device=device, dtype=dtype).eval()


def _labels(values: Mapping[str, Any], directory: Path) -> int:
    labels = values.get("id2label", {"0": "", "1": ""})
    if not isinstance(labels, dict) or not labels:
        raise FormatError("'id2label' must map each label's number to its name", where=directory / "config.json")
    return len(labels)


def _blank(family: Family, config: ModelConfig, labels: int) -> Model:
    """The model of `config` without memory."""
    with torch.device("meta"):
        return family.build(config, labels)


def _their_tensors(family: Family, directory: Path) -> dict[str, Tensor]:
    """The tensors of a directory under the names of the whole architecture, without what is no parameter."""
    tensors = _read_tensors(directory)
    if family.ignored is not None:
        tensors = {name: tensor for name, tensor in tensors.items() if not family.ignored.fullmatch(name)}
    if family.base and not any(name.startswith(family.base) for name in tensors):
        tensors = {family.base + name: tensor for name, tensor in tensors.items()}
    return tensors


def _assign(model: Model, family: Family, tensors: dict[str, Tensor], directory: Path) -> None:
    wanted = {family.module_path(name): (name, meta) for name, meta in model.state_dict().items()}
    # Some writers store a tied tensor a second time.
    for name, original in family.tied.items():
        if name in tensors and name not in wanted:
            if original not in tensors or not torch.equal(tensors[name], tensors[original]):
                raise FormatError(f"'{name}' differs from '{original}', which it is tied to", where=directory)
            del tensors[name]
    if family.unpack is not None:
        tensors = family.unpack(tensors, model.config)
    missing, unknown = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing or unknown:
        parts = [
            f"{word} tensors: {_some(names)}" for word, names in (("missing", missing), ("unknown", unknown)) if names
        ]
        raise FormatError("; ".join(parts), where=directory)
    for name, (_, meta) in wanted.items():
        if tensors[name].shape != meta.shape:
            shapes = f"{tuple(tensors[name].shape)}, and config.json asks for {tuple(meta.shape)}"
            raise FormatError(f"'{name}' has shape {shapes}", where=directory)
        if tensors[name].dtype not in _DTYPES.values():
            raise FormatError(
                f"'{name}' is {tensors[name].dtype}", where=directory, hint=f"Supported: {', '.join(_DTYPES)}."
            )
    model.load_state_dict({ours: tensors[name] for name, (ours, _) in wanted.items()}, strict=True, assign=True)
    for parameter in model.parameters():
        parameter.requires_grad_(True)


def _read_tensors(directory: Path) -> dict[str, Tensor]:
    """All tensors of `model.safetensors`, or of the files that `model.safetensors.index.json` names."""
    index = directory / "model.safetensors.index.json"
    files = ["model.safetensors"]
    if not (directory / files[0]).exists() and index.exists():
        weight_map = read_json(index, largest=1 << 26).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise FormatError("'weight_map' must map tensors to file names", where=index)
        files = sorted(set(weight_map.values()))
        outside = [name for name in files if Path(name).name != name]
        if outside:
            raise FormatError(f"'{outside[0]}' lies outside the directory", where=index)
    tensors: dict[str, Tensor] = {}
    for name in files:
        tensors.update(read_safetensors(directory / name))
    return tensors


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of one file; FormatError where it is absent or damaged."""
    try:
        with safe_open(path, framework="pt") as handle:
            # Copies: safetensors maps the file, which may be replaced while the model is in use.
            return {key: handle.get_tensor(key).clone() for key in handle.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError:
        raise FormatError("no such file", where=path, hint="Weights are read from safetensors only.") from None
    except (SafetensorError, OSError) as error:
        raise FormatError(f"not a whole safetensors file ({error})", where=path) from None


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def module_paths(model: nn.Module) -> dict[str, str]:
    """Our path of every linear layer -> its path in the Hugging Face model."""
    family = family_of(model)  # type: ignore[arg-type]
    if family.pack is not None:
        raise FormatError(f"{family.architecture} stores several layers as one, which adapters here cannot name")
    return {name: family.module_path(name) for name, module in model.named_modules() if isinstance(module, nn.Linear)}
