"""The directories of sentence-transformers and PyLate: a model, a tokenizer, and the modules that follow, listed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.artifacts import write_atomically
from ..core.errors import ConfigError, DataError, FormatError, disk_errors
from ..core.json_files import read_json
from ..models import ModelConfig, save_model

LISTING, LENGTH = "modules.json", "sentence_bert_config.json"
ABOUT = "config_sentence_transformers.json"


def write_layout(
    directory: Path,
    model: Any,
    tokenizer: Any,
    modules: Sequence[tuple[str, str]],
    files: Mapping[str, Any],
    length: int,
) -> None:
    """Write a model and what stands around it.

    Args:
        modules: folder and full type name of each, the model's folder "".
        files: JSON by path. length: tokens that are read.
    """
    listing = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(modules)]
    about = {LENGTH: {"max_seq_length": length, "do_lower_case": False}}
    save_model(model, directory, tokenizer)
    with disk_errors(directory):
        for path, _ in modules[1:]:
            (directory / path).mkdir(exist_ok=True)
        for name, content in {LISTING: listing, **about, **files}.items():
            write_atomically(directory / name, (json.dumps(content, indent=2) + "\n").encode())


def read_modules(directory: Path, supported: Sequence[Sequence[str]]) -> tuple[list[str], list[Path]]:
    """The modules' kinds and folders.

    Raises:
        FormatError: they are none of the chains in `supported`, or a folder lies elsewhere.
    """
    modules = read_json(directory / LISTING, list)
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules if isinstance(module, dict)]
    if kinds not in [list(chain) for chain in supported]:
        known = " or ".join(", ".join(chain) for chain in supported)
        raise FormatError(f"its modules are {', '.join(kinds) or 'none'}; supported: {known}", where=directory)
    folders = [str(module.get("path", "")) for module in modules]
    for place, folder in enumerate(folders):
        if Path(folder).name != folder or folder == ".." or (place > 0 and not folder):
            raise FormatError(f"'{folder:.80}' lies outside the directory", where=directory / LISTING)
    return kinds, [directory / folder for folder in folders]


def read_length(directory: Path, tokenizer: Any, context: int) -> int:
    """Tokens that the encoder reads: `max_seq_length`; where that is not said (sentence-transformers from 6 on), the
    tokenizer's own limit, within the model's context."""
    length = read_json(directory / LENGTH).get("max_seq_length") if (directory / LENGTH).exists() else None
    if length is None:
        return min(tokenizer.roles.model_max_length or context, context)
    if not isinstance(length, int) or length < 1:
        raise FormatError("max_seq_length is no length", where=directory / LENGTH)
    return length


def read_tokenizer(directory: Path, tokenizer: Any) -> Any:
    """The directory's own tokenizer unless another is given."""
    if tokenizer is not None:
        return tokenizer
    from ..tokenizers import Tokenizer

    return Tokenizer.load(directory)


def checked_length(config: ModelConfig, tokenizer: Any, length: int | None) -> int:
    """Tokens that an encoder reads: `length`, or the model's context.

    Raises:
        ConfigError: the model's context is shorter. DataError: the tokenizer has tokens that the model does not know.
    """
    length = config.context_length if length is None else length
    if not 1 <= length <= config.context_length:
        raise ConfigError(
            f"max_length must be between 1 and the model's context of {config.context_length}, not {length}"
        )
    if tokenizer.vocab_size > config.vocab_size:
        raise DataError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model {config.vocab_size}: they do not belong "
            "together"
        )
    return length
