"""tokenizer_config.json: what the tokens of a tokenizer are for."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import FormatError
from ..core.json_files import read_json
from .tokenizer_json import LARGEST_FILE

CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"  # where newer versions of transformers put the chat template


@dataclass(frozen=True)
class Roles:
    """What tokenizer_config.json says: which tokens end and pad, and how a chat is written."""

    eos_token: str | None = None
    pad_token: str | None = None
    bos_token: str | None = None
    unk_token: str | None = None
    cls_token: str | None = None
    sep_token: str | None = None
    mask_token: str | None = None
    chat_template: str | None = None
    model_max_length: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The content of a tokenizer_config.json."""
        named = {key: value for key, value in dataclasses.asdict(self).items() if value is not None}
        return {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **named}

    @classmethod
    def read(cls, directory: Path) -> Roles:
        """The roles that the files of a directory give; none where it has no tokenizer_config.json.

        Raises:
            FormatError: a damaged file; names it.
        """
        path = directory / CONFIG_FILE
        if not path.exists():
            return cls()
        document = read_json(path, largest=LARGEST_FILE)
        found: dict[str, Any] = {}
        for key in (field.name for field in dataclasses.fields(cls) if field.name != "model_max_length"):
            value = document.get(key)
            if isinstance(value, dict):  # an added token written out
                value = value.get("content")
            if value is not None and not isinstance(value, str):
                raise FormatError(f"'{key}' is not text", where=path)
            found[key] = value
        length = document.get("model_max_length")
        if isinstance(length, int) and length < 1 << 31:  # transformers writes 1e30 where there is no limit
            found["model_max_length"] = length
        template = directory / TEMPLATE_FILE
        if template.exists():
            try:
                found["chat_template"] = template.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise FormatError(f"cannot be read ({error})", where=template) from None
        return cls(**found)
