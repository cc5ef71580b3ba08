"""Byte fallback: what no piece spells is written byte by byte, in tokens named `<0x00>` to `<0xFF>`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

BYTE_NAMES = [f"<0x{byte:02X}>" for byte in range(256)]
BYTE_OF_NAME = {name: byte for byte, name in enumerate(BYTE_NAMES)}


def byte_ids(vocabulary: dict[str, int], wanted: bool = True) -> NDArray[np.uint32]:
    """The ids of the 256 bytes, uint32 (256,); (0,) unless all are there."""
    if not wanted or not vocabulary.keys() >= BYTE_OF_NAME.keys():
        return np.zeros(0, dtype=np.uint32)
    return np.array([vocabulary[name] for name in BYTE_NAMES], dtype=np.uint32)


def whole_run(run: bytes) -> str:
    """The text of neighbouring byte tokens as `tokenizers` reads it: if any byte is wrong, all are."""
    try:
        return run.decode("utf-8")
    except UnicodeDecodeError:
        return "\ufffd" * len(run)


def by_character(run: bytes) -> str:
    """The text of neighbouring byte tokens as SentencePiece reads it: each byte that begins no character is wrong."""
    text = []
    at = 0
    while at < len(run):
        lead = run[at]
        size = 1 if lead < 0xC0 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
        try:
            text.append(run[at : at + size].decode("utf-8"))
        except UnicodeDecodeError:
            text.append("\ufffd")
            size = 1
        at += size
    return "".join(text)


def join(tokens: Iterable[str], spell: Callable[[str], str], read_run: Callable[[bytes], str]) -> str:
    """The text of tokens, of which those for bytes are read in runs and the others spelled one by one."""
    parts: list[str] = []
    for is_byte, run in groupby(tokens, BYTE_OF_NAME.__contains__):
        if is_byte:
            parts.append(read_run(bytes(BYTE_OF_NAME[token] for token in run)))
        else:
            parts.extend(map(spell, run))
    return "".join(parts)
