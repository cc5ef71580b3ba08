from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from seedbed import _native
from seedbed.core.errors import ConfigError
from seedbed.tokenizers.pretokenizers import PATTERNS, check_pattern, split


def _peer(pattern: str, text: str) -> list[str]:
    return [piece for piece, _ in pre_tokenizers.Split(Regex(PATTERNS[pattern]), "isolated").pre_tokenize_str(text)]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_cuts_as_the_regular_expression_does(pattern: str, strange: list[str], languages: list[str]) -> None:
    for text in [*strange, *languages]:
        assert split(text, pattern) == _peer(pattern, text)


@pytest.mark.parametrize("pattern", ["llama3", "o200k"])
def test_classes_of_characters_are_those_of_the_engine(pattern: str) -> None:
    # Assigned characters outside Han and Hangul, each in several surroundings (all of Unicode takes minutes).
    codes = [
        *range(0x3400),
        *range(0xA000, 0xAC10),
        *range(0xD7A0, 0xD800),
        *range(0xF900, 0x12000, 3),
        0x1F600,
        0x31350,
    ]
    for start in range(0, len(codes), 512):
        some = [chr(code) for code in codes[start : start + 512]]
        text = " ".join(f"a{c}B{c}{c}7{c}!" for c in some)
        assert split(text, pattern) == _peer(pattern, text), hex(codes[start])


_TRICKY = (
    *("a", "s", "t", "re", "ll", "VE", "D", "S", "X", "It'S", "don't", "'", "'s", "'LL", "é", "中"),
    *(" ", "  ", "\t", "\n", "\r\n", "\n  \n", "1", "12345", "!", "/", "((", "."),
)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_blocks_of_64_bytes_are_cut_as_character_by_character(pattern: str) -> None:
    generator = random.Random(3)
    texts = ["".join(generator.choices(_TRICKY, k=generator.randint(1, 120))).encode() for _ in range(4000)]
    texts += [b"a" * n + b" " + b"b" * (130 - n) + b"'ll 1234\n\n x" for n in range(130)]
    best = _native.simd_level()
    try:
        _native.set_simd_level("scalar")
        expected = [_native.cut(pattern, text).tolist() for text in texts]
        for level in {"avx2", best} - {"scalar"}:
            try:
                _native.set_simd_level(level)
            except ValueError:  # not on this machine
                continue
            assert [_native.cut(pattern, text).tolist() for text in texts] == expected, level
    finally:
        _native.set_simd_level(best)


@pytest.mark.parametrize("pattern", PATTERNS)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_cut_without_loss(pattern: str, data: bytes) -> None:
    cuts = _native.cut(pattern, data).tolist()
    assert cuts[0] == 0
    assert cuts[-1] == len(data)
    assert all(before < after for before, after in itertools.pairwise(cuts))


def test_an_unknown_pattern_is_refused() -> None:
    assert check_pattern(PATTERNS["o200k"]) == "o200k"
    with pytest.raises(ConfigError, match=r"'\\\\w\+'.*llama3"):
        check_pattern(r"\w+")
