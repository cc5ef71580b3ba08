"""How a late-interaction encoder reads texts, and the two layouts of directories that say so: PyLate's, and that of
sentence-transformers' MultiVectorEncoder."""

from __future__ import annotations

import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.config import Config, build
from ..core.errors import FormatError
from ..core.json_files import read_json
from .layout import ABOUT, LENGTH, read_length, read_modules

CHAINS = (("Transformer", "Dense"), ("Transformer", "Dense", "MultiVectorMask", "Normalize"))


class LateInteractionConfig(Config):
    """How texts become vectors; the names are PyLate's.

    query_prefix, document_prefix: tokens behind what stands in front of every text; null or unknown to the tokenizer:
        none. query_length, document_length: tokens that are read. do_query_expansion: fill queries up with mask tokens
        (without them: end tokens), whose vectors take part (query augmentation, section 3.2).
        attend_to_expansion_tokens: other tokens see them. skiplist_words: tokens of documents that get no vector.
    """

    query_prefix: str | None = "[unused0]"
    document_prefix: str | None = "[unused1]"
    query_length: int = 32
    document_length: int = 180
    do_query_expansion: bool = True
    attend_to_expansion_tokens: bool = False
    skiplist_words: tuple[str, ...] = tuple(string.punctuation)


def read_config(directory: Path, tokenizer: Any, context: int) -> tuple[LateInteractionConfig, Path]:
    """How the encoder in a directory reads texts, and the folder of its projection.

    Raises:
        FormatError: files are missing or damaged, or ask for what is not computed here.
    """
    kinds, folders = read_modules(directory, CHAINS)
    if len(kinds) == 2:
        settings = read_json(directory / ABOUT)
        known = {name: settings[name] for name in LateInteractionConfig.model_fields if name in settings}
    else:
        known = _of_modules(directory, read_json(folders[2] / "config.json"), tokenizer, context)
    return build(LateInteractionConfig, known, where=directory / ABOUT), folders[1]


def _of_modules(directory: Path, mask: Mapping[str, Any], tokenizer: Any, context: int) -> dict[str, Any]:
    """The same, from sentence-transformers' modules: prompts of one token are prefixes."""
    reading = read_json(directory / LENGTH) if (directory / LENGTH).exists() else {}
    prompts = (read_json(directory / ABOUT) if (directory / ABOUT).exists() else {}).get("prompts") or {}
    expansion = reading.get("query_expansion")
    if expansion is not None and not (
        isinstance(expansion, dict)
        and expansion.get("strategy", "fixed") == "fixed"
        and expansion.get("token") in (None, tokenizer.id_to_token(tokenizer.mask_token_id or 0))
        and isinstance(expansion.get("length"), int)
    ):
        raise FormatError("it expands queries in a way that is not computed here", where=directory / LENGTH)
    if mask.get("skiplist_tasks", ["document"]) != ["document"] or mask.get("keep_only_token_ids"):
        raise FormatError("it leaves out tokens in a way that is not computed here", where=directory)
    prefixes = {f"{name}_prefix": prompts.get(name) or None for name in ("query", "document")}
    for prefix in prefixes.values():
        if prefix is not None and tokenizer.token_to_id(prefix) is None:
            raise FormatError(f"its prompt '{prefix!s:.40}' is no single token", where=directory / ABOUT)
    longest = read_length(directory, tokenizer, context)
    query_length = expansion["length"] if expansion else reading.get("query_length") or longest
    return {
        **prefixes,
        "query_length": query_length,
        "document_length": reading.get("document_length") or longest,
        "do_query_expansion": bool(expansion),
        "attend_to_expansion_tokens": bool(expansion and expansion.get("attend")),
        "skiplist_words": mask.get("skiplist_words") or [],
    }
