"""The files that GPT-2 was published with: a vocabulary in JSON and a text file with a merge a line.

Older directories of transformers hold these (`vocab.json`, `merges.txt`) in place of a tokenizer.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import FormatError
from ..core.json_files import read_json
from .bpe_model import ByteLevelBPE
from .bytelevel import CHARACTER_OF_BYTE
from .json_reader import JsonReader
from .pretokenizers import PreTokenizer
from .specification import AddedToken, Specification
from .tokenizer_json import LARGEST_FILE, MOST_HOLES

VOCABULARY_FILE, MERGES_FILE, ADDED_FILE = "vocab.json", "merges.txt", "added_tokens.json"
_CLASSES = ("GPT2Tokenizer", "GPT2TokenizerFast", "PreTrainedTokenizerFast")
_ROLES = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
END_OF_TEXT = "<|endoftext|>"


def read(vocabulary_path: Path, merges_path: Path, special: tuple[str, ...] = (END_OF_TEXT,)) -> Specification:
    """The tokenizer of a vocabulary and its merges; those `special` that the vocabulary has are control tokens.

    Raises:
        FormatError: a damaged file; names the file and the key or line.
    """
    vocabulary = _vocabulary(vocabulary_path)
    model = ByteLevelBPE(vocabulary, _merges(merges_path, vocabulary), PreTokenizer.of_pattern("gpt2"))
    return Specification(model, tuple(AddedToken(token, vocabulary[token]) for token in special if token in vocabulary))


def read_directory(directory: Path) -> Specification:
    """The tokenizer of a directory in the older layout, with what its other files say of control tokens.

    Raises:
        FormatError: a damaged file, or a tokenizer of another kind than GPT-2's.
    """
    settings: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (directory / name).exists():
            settings |= read_json(directory / name, largest=LARGEST_FILE)
    kind = settings.get("tokenizer_class", _CLASSES[0])
    if kind not in _CLASSES or settings.get("add_prefix_space") or settings.get("add_bos_token"):
        problem = f"asks for {kind!r} with more than GPT-2's files say"
        hint = "Open it with transformers and save it as a tokenizer.json."
        raise FormatError(problem, where=directory / "tokenizer_config.json", hint=hint)
    values = [settings.get(role) for role in _ROLES] + _listed(settings.get("additional_special_tokens"))
    contents = [value.get("content") if isinstance(value, dict) else value for value in values]
    named = dict.fromkeys([*(content for content in contents if isinstance(content, str)), END_OF_TEXT])
    found = read(directory / VOCABULARY_FILE, directory / MERGES_FILE, tuple(named))
    path = directory / ADDED_FILE
    if not path.exists():
        return found
    added = {token.content: token for token in found.added}
    owner = {number: token for token, number in found.model.vocabulary.items()}
    for content, number in read_json(path, largest=LARGEST_FILE).items():
        if type(number) is not int or not 0 <= number < found.size + MOST_HOLES or not content:
            raise FormatError(f"gives {content!r} the id {number!r}", where=path)
        if owner.setdefault(number, content) != content or found.model.vocabulary.get(content, number) != number:
            raise FormatError(f"gives {content!r} the id {number}, which the vocabulary gives otherwise", where=path)
        added[content] = AddedToken(content, number, special=content in named, normalized=content not in named)
    return Specification(found.model, tuple(added.values()))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _vocabulary(path: Path) -> dict[str, int]:
    vocabulary = read_json(path, largest=LARGEST_FILE)
    JsonReader(path).vocabulary({"vocab": vocabulary})
    for byte, character in CHARACTER_OF_BYTE.items():
        if character not in vocabulary:
            raise FormatError(f"lacks {character!r} (byte {byte:#04x}), so it is not byte-level", where=path)
    if max(vocabulary.values()) > 2 * len(vocabulary) + MOST_HOLES:
        raise FormatError(f"claims ids up to {max(vocabulary.values()):,} for {len(vocabulary):,} tokens", where=path)
    return vocabulary


def _merges(path: Path, vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise FormatError(f"is larger than {LARGEST_FILE:,} bytes", where=path)
        lines = path.read_bytes().decode("utf-8").split("\n")
    except OSError as error:
        raise FormatError(f"cannot be read ({error.strerror})", where=path) from None
    except UnicodeDecodeError as error:
        raise FormatError(f"is not UTF-8 ({error})", where=path) from None
    merges = []
    for number, line in enumerate(lines, 1):
        if line.startswith("#version") or not line.strip():
            continue
        left, space, right = line.rstrip("\r").partition(" ")
        if not space or not left or not right or " " in right:
            raise FormatError(f"is not a pair of tokens: {line[:80]!r}", where=f"{path}:{number}")
        for token in (left, right, left + right):
            if token not in vocabulary:
                raise FormatError(f"names {token!r}, which is not in the vocabulary", where=f"{path}:{number}")
        merges.append((left, right))
    return merges
