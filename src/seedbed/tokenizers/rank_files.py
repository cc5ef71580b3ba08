"""tiktoken's rank files: a line for each token, its bytes in base64 and its rank, which is its id.

Encoding by ranks of whole tokens and by a list of merges are not the same thing; native/tokenizer/rank_merges.hpp says
why there is always a list that gives the same ids.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from pathlib import Path

from .. import _native
from ..core.errors import ConfigError, FormatError
from .bpe_model import ByteLevelBPE
from .bytelevel import to_characters
from .expressions import translate
from .pretokenizers import PATTERNS, PreTokenizer
from .specification import AddedToken, Specification
from .tokenizer_json import LARGEST_FILE, MOST_HOLES

_LONGEST_TOKEN = 1 << 10  # bytes; the longest published ones have 128


# As tiktoken writes what PATTERNS holds as the tokenizer.json of the same tokenizers writes it.
_PUBLISHED = {
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s": "gpt2",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
    r"|\s+(?!\S)|\s": "cl100k",
}


def read(path: Path, pattern: str, special_tokens: Mapping[str, int]) -> Specification:
    """The tokenizer of a rank file; the file does not say how text is cut and which control tokens there are.

    Raises:
        FormatError: a damaged file; names the file and the line.
        ConfigError: an unknown pattern, or control tokens that the file has otherwise.
    """
    pre_tokenizer = _pre_tokenizer(pattern)
    ranks = _ranks(path)
    tokens = [b""] * (max(ranks) + 1)
    for rank, token in ranks.items():
        tokens[rank] = token
    names = {rank: to_characters(token) for rank, token in ranks.items()}
    merges = _native.merges_of_ranks(tokens).reshape(-1, 3)[:, :2].tolist()
    vocabulary = {names[rank]: rank for rank in sorted(names)}
    for content, number in sorted(special_tokens.items(), key=lambda item: item[1]):
        if not content or content in vocabulary:
            raise ConfigError(f"special token {content!r} is {'a token of the file' if content else 'empty'}")
        if type(number) is not int or not 0 <= number < len(tokens) + MOST_HOLES:
            raise ConfigError(f"special token {content!r} has the id {number!r}")
        if number in names:
            raise ConfigError(f"special token {content!r} has the id {number}, which is {names[number]!r} already")
        names[number] = content
        vocabulary[content] = number
    model = ByteLevelBPE(
        vocabulary,
        merges=[(names[left], names[right]) for left, right in merges],
        pre_tokenizer=pre_tokenizer,
        ignore_merges=True,
    )
    return Specification(model, tuple(AddedToken(content, number) for content, number in special_tokens.items()))


def _pre_tokenizer(pattern: str) -> PreTokenizer:
    """Of a known pattern (name or tiktoken's expression) or any in Rust's dialect: what it leaves out is dropped."""
    name = _PUBLISHED.get(pattern, pattern)
    if name in PATTERNS or name in PATTERNS.values():
        return PreTokenizer.of_pattern(name)
    try:
        return PreTokenizer.of_pattern(translate(pattern, "rust"), matches_only=True)
    except ValueError as error:
        raise ConfigError(f"the pattern {error}", hint=f"Known by name: {', '.join(PATTERNS)}.") from None


def _ranks(path: Path) -> dict[int, bytes]:
    """Bytes by rank."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise FormatError(f"is larger than {LARGEST_FILE:,} bytes", where=path)
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise FormatError(f"cannot be read ({error.strerror})", where=path) from None
    ranks: dict[int, bytes] = {}
    line_of: dict[bytes, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            encoded, digits = line.split()
            token = binascii.a2b_base64(encoded, strict_mode=True)
            rank = int(digits) if digits.isdigit() else -1
        except ValueError as error:
            raise FormatError(f"is no token in base64 and its rank ({error})", where=f"{path}:{number}") from None
        if not 0 <= rank < 1 << 31 or not 0 < len(token) <= _LONGEST_TOKEN:
            raise FormatError(
                f"has {len(token)} bytes of the rank {digits[:20].decode(errors='replace')}", where=f"{path}:{number}"
            )
        if rank in ranks:
            problem = f"has the rank {rank} of line {line_of[ranks[rank]]} again"
            raise FormatError(problem, where=f"{path}:{number}")
        if token in line_of:
            raise FormatError(f"has the token of line {line_of[token]} again", where=f"{path}:{number}")
        ranks[rank] = token
        line_of[token] = number
    missing = [byte for byte in range(256) if bytes([byte]) not in line_of]
    if missing:
        problem = f"has no token for {len(missing)} of the 256 bytes, the first being {missing[0]:#04x}"
        raise FormatError(problem, where=path, hint="The file is cut off or not a file of byte-level ranks.")
    if max(ranks) > 2 * len(ranks) + MOST_HOLES:
        raise FormatError(f"claims ranks up to {max(ranks):,} for {len(ranks):,} tokens", where=path)
    return ranks
