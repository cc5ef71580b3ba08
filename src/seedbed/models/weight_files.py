"""Safetensors files of a model's directory: what they say is in them, before any of it is read.

Only safetensors are read: a pickle can run code. A file may come from anywhere, so its names, shapes and dtypes are
known, and can be refused, before memory is taken for a tensor.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..core.errors import FormatError
from ..core.json_files import read_json

SINGLE_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
FLOATS = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_LARGEST_SIZE = 1 << 40
_LARGEST_INDEX = 1 << 24  # bytes; of the largest published models it has 9 million


class Stored(NamedTuple):
    """A tensor that a file says it holds."""

    path: Path
    key: str
    dtype: str  # as safetensors calls it
    shape: tuple[int, ...]


class WeightFiles(Mapping[str, Tensor]):
    """The tensors of a directory by name; each is read from its file when it is asked for.

    Raises: FormatError for files that are absent, damaged or outside of the directory, that hold a tensor twice or lack
        one which the index names; `blank` and reading also for a tensor that is no float32, bfloat16 or float16.
    """

    def __init__(self, stored: Mapping[str, Stored]) -> None:
        self.stored = dict(stored)

    @classmethod
    def of_directory(cls, directory: Path) -> WeightFiles:
        """Of `model.safetensors`, or of the files that `model.safetensors.index.json` names."""
        index = directory / INDEX_FILE
        if (directory / SINGLE_FILE).exists() or not index.exists():
            return cls(_contents(directory / SINGLE_FILE))
        weight_map = read_json(index, largest=_LARGEST_INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise FormatError("'weight_map' must map tensors to file names", where=index)
        found: dict[str, Stored] = {}
        for file in sorted(set(weight_map.values())):
            if Path(file).name != file or file in ("", "..") or "\0" in file:
                raise FormatError(f"{file!r:.80} in 'weight_map' lies outside the directory or is no file", where=index)
            for name, stored in _contents(directory / file).items():
                if weight_map.get(name) != file:
                    raise FormatError(f"'weight_map' does not say that '{name}' is in {file}", where=index)
                found[name] = stored
        absent = sorted(weight_map.keys() - found.keys())
        if absent:
            raise FormatError(f"'{absent[0]}' is not in {weight_map[absent[0]]}, as 'weight_map' says", where=index)
        return cls(found)

    def renamed(self, names: Mapping[str, str]) -> WeightFiles:
        """Only the tensors that `names` maps, under the names that it maps them to."""
        return WeightFiles({new: self.stored[old] for old, new in names.items()})

    def without(self, names: Iterable[str]) -> WeightFiles:
        gone = set(names)
        return WeightFiles({name: one for name, one in self.stored.items() if name not in gone})

    def blank(self) -> dict[str, Tensor]:
        """All tensors without memory."""
        return {
            name: torch.empty(one.shape, dtype=_torch_dtype(name, one), device="meta")
            for name, one in self.stored.items()
        }

    def read(self, dtypes: Mapping[str, torch.dtype] = FLOATS) -> dict[str, Tensor]:
        """All tensors, each of which must be of one of `dtypes`."""
        by_file: dict[Path, list[str]] = {}
        for name, one in self.stored.items():
            by_file.setdefault(one.path, []).append(name)
        tensors: dict[str, Tensor] = {}
        for path, names in by_file.items():
            with _opened(path) as handle:
                for name in names:
                    _torch_dtype(name, self.stored[name], dtypes)
                    # A copy: safetensors maps the file, which may be replaced while the model is in use.
                    tensors[name] = handle.get_tensor(self.stored[name].key).clone()
        return tensors

    def __getitem__(self, name: str) -> Tensor:
        return WeightFiles({name: self.stored[name]}).read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of one file; FormatError where it is absent or damaged, or holds others than floats."""
    return WeightFiles(_contents(path)).read()


def metadata_of(path: Path) -> dict[str, str]:
    """What a safetensors file says about itself."""
    with _opened(path) as handle:
        return dict(handle.metadata() or {})


def safetensors_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file whose header is sorted: the library writes the metadata in a random order, and the same
    tensors shall give the same bytes."""
    data = save({key: tensors[key] for key in sorted(tensors)}, metadata={"format": "pt", **metadata})
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def _contents(path: Path) -> dict[str, Stored]:
    with _opened(path) as handle:
        found = {}
        for key in handle.keys():  # noqa: SIM118 (not a mapping)
            part = handle.get_slice(key)
            shape = tuple(part.get_shape())
            if any(size > _LARGEST_SIZE for size in shape):  # nothing is stored where another size is 0
                raise FormatError(f"'{key}' has shape {shape}", where=path)
            found[key] = Stored(path, key, part.get_dtype(), shape)
        return found


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as handle:
            yield handle
    except FileNotFoundError:
        raise FormatError("no such file", where=path, hint="Weights are read from safetensors only.") from None
    except (SafetensorError, OSError) as error:
        raise FormatError(f"not a whole safetensors file ({error})", where=path) from None


def _torch_dtype(name: str, stored: Stored, dtypes: Mapping[str, torch.dtype] = FLOATS) -> torch.dtype:
    if stored.dtype not in dtypes:
        raise FormatError(
            f"'{name}' is of dtype {stored.dtype}", where=stored.path, hint=f"Supported: {', '.join(dtypes)}."
        )
    return dtypes[stored.dtype]
