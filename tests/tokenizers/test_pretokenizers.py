from __future__ import annotations

import itertools
import json
import random

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers
from tokenizers import Tokenizer as Peer

from seedbed import _native
from seedbed.core.errors import ConfigError, DataError
from seedbed.tokenizers import ByteLevelBPE, Specification, Tokenizer, pretokenizers, tokenizer_json, train_bpe
from seedbed.tokenizers.bytelevel import CHARACTER_OF_BYTE
from seedbed.tokenizers.expressions import translate
from seedbed.tokenizers.pretokenizers import PATTERNS, PreTokenizer, split


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


def test_a_pattern_is_known_by_its_expression() -> None:
    for name, expression in PATTERNS.items():
        assert PreTokenizer.of_pattern(expression) == PreTokenizer.of_pattern(name)
        assert PreTokenizer.of_pattern(name).pattern == name


# What published tokenizers ask for besides the known patterns.
_DEEPSEEK_SYMBOLS = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _split(pattern: str, behavior: str = "Isolated", invert: bool = False, kind: str = "Regex") -> dict:
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def _byte_level(use_regex: bool = False, add_prefix_space: bool = False) -> dict:
    return {
        "type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": use_regex,
    }  # fmt: skip


_STEPS: dict[str, list[dict]] = {
    "gpt2 with a space": [_byte_level(True, True)],
    "deepseek": [
        _split(r"\p{N}{1,3}"), _split("[一-龥぀-ゟ゠-ヿ]+"), _split(_DEEPSEEK_SYMBOLS), _byte_level(),
    ],
    "starcoder": [{"type": "Digits", "individual_digits": True}, _byte_level(True)],
    "bloom": [_split(r" ?[^(\s|[.,!?…。，、।۔،])]+"), _byte_level()],
    "falcon": [
        {"type": "Punctuation", "behavior": "Contiguous"},
        _byte_level(True),
        {"type": "Digits", "individual_digits": False},
        _split("[0-9][0-9][0-9]"),
    ],
    "words": [{"type": "Whitespace"}, _byte_level(False, True)],
    "delimiter": [{"type": "CharDelimiterSplit", "delimiter": "_"}, {"type": "WhitespaceSplit"}, _byte_level()],
    "lines": [_split(r"^.*$|\b"), _byte_level(True, True), _split("Ġ", "MergedWithPrevious", kind="String")],
    "empty": [_split(r"x*(?=[a-z])|(?i:we|'S)?"), _byte_level()],
    **{
        f"{behavior} {invert}": [_split(r"\s|-|\p{N}+", behavior, invert), _byte_level(True)]
        for behavior in ("Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous")
        for invert in (False, True)
    },
}  # fmt: skip


@pytest.mark.parametrize("name", _STEPS)
def test_steps_cut_and_place_as_in_tokenizers(name: str, strange: list[str], languages: list[str]) -> None:
    # The vocabulary is the bytes and a few merges, so that tokens show the cuts and offsets the places.
    vocabulary = {character: byte for byte, character in CHARACTER_OF_BYTE.items()}
    merges = [(a, b) for a in "Ġetaoins12." for b in "etaoins12. Ġ".replace(" ", "")]
    merges += [(a + b, c) for a, b in merges[:60] for c in "etaoin"]
    for pair in merges:
        vocabulary.setdefault("".join(pair), len(vocabulary))
    merges = list(dict.fromkeys(merges))
    pre_tokenizer = {"type": "Sequence", "pretokenizers": _STEPS[name]}
    model = ByteLevelBPE(vocabulary, merges, PreTokenizer.from_json(pre_tokenizer))
    ours = Tokenizer(Specification(model))
    document = tokenizer_json.to_json(ours.specification)
    assert PreTokenizer.from_json(document["pre_tokenizer"]) == model.pre_tokenizer
    peer = Peer.from_str(json.dumps(document))
    texts = [*strange[:400], *languages[::7], *[text.replace(" ", "_") for text in languages[:20]]]
    for text in texts:
        expected = peer.encode(text)
        ids, offsets = ours.encode_with_offsets(text)
        assert ids.tolist() == expected.ids, text
        assert [tuple(pair) for pair in offsets.tolist()] == expected.offsets, text
    batch = ours.encode_batch(texts, threads=3)
    assert [row.tolist() for row in batch] == [peer.encode(text).ids for text in texts]


@pytest.mark.parametrize(
    "expression",
    [
        r"a$|^b", r"a\Z", r"a\z", r"^", "$", r"(?m).b", r"a{1,2}+", r"a{,2}", r"\R", r"[\w-]+", r"\w+", r"\W", r"\b",
        r"[[:punct:]]+", r"[[:^alnum:]]", r"[[a-z]&&[^b]]+", r"[^\s\p{L}&&1]", r"(?i)ab|[k-s]+", r"(?i:'s|'ll|'re)",
        "a*", "|a", r"(?>a|ab)b", r"(?<=b|ab)1", r"\p{^L}+", r"\h+", r"\p{Han}+|\p{Lo}", r"[]a]", r"[a-c-1]", r"{",
        r"x{a}|b{1",
    ],
)  # fmt: skip
def test_expressions_mean_what_they_mean_in_tokenizers(expression: str, strange: list[str]) -> None:
    texts = ["ab\nb1\r\n aab-a\n", "a\n", "ABba'ſ'S k\u212a²½ 中\u0295\u088f", "{x{a}", *strange[::5]]
    for text in texts:
        peer = pre_tokenizers.Split(Regex(expression), "isolated").pre_tokenize_str(text)
        assert split(text, expression) == [piece for piece, _ in peer], text


@given(
    expression=st.text(r"ab1 |()[]^$.*+?\\{},-spLwdbz:!=<>&i", max_size=12), text=st.text("ab1 \n-{}L²", max_size=20)
)
@settings(max_examples=600, deadline=None)
def test_any_expression_is_matched_alike_or_refused(expression: str, text: str) -> None:
    try:
        pieces = split(text, expression)
    except ConfigError:
        return
    try:
        peer = Regex(expression)
    except Exception:  # what they refuse we need not
        return
    assert pieces == [piece for piece, _ in pre_tokenizers.Split(peer, "isolated").pre_tokenize_str(text)]


# As tiktoken writes its encodings, in Rust's dialect.
_TIKTOKEN = {
    "r50k": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
    "cl100k": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$"
    r"|\s*[\r\n]|\s+(?!\S)|\s",
    "own": r"^x|\p{N}{2}+|(?s:a.)|[\p{Han}&&[^中]]+|(?s:.)",
}


@pytest.mark.parametrize("name", _TIKTOKEN)
def test_expressions_of_tiktoken_cut_as_there(name: str, strange: list[str], languages: list[str]) -> None:
    bytes_and_pairs = [bytes([a]) for a in range(256)] + [bytes([a, b]) for a in range(256) for b in range(256)]
    ranks = {token: rank for rank, token in enumerate(bytes_and_pairs)}
    peer = tiktoken.Encoding(name, pat_str=_TIKTOKEN[name], mergeable_ranks=ranks, special_tokens={})
    expression = translate(_TIKTOKEN[name], "rust")
    for text in [*strange[::3], *languages[::9]]:
        # Any two bytes merge, so each piece but its last token pairs its bytes: other cuts are other tokens.
        whole = peer.encode_ordinary(text)
        assert [
            token for piece in split(text, expression) for token in peer._core_bpe.encode_single_piece(piece.encode())
        ] == whole


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("klingon", "'klingon'.*|unknown"), (r"(a)\1", r"\\\\1"), (r"\p{Klingon}", "Klingon"), (r"(?x)a", "flag x"),
        (r"a(?i)b", "flags in the midst"), (r"\Ga", "G"), ("(a", "not closed"), ("a)", "without"), ("[a", "not closed"),
        ("*", "nothing to repeat"), ("a**", "repeated"), ("(?i)ss", "'ss' in any case"), (r"\X", "X"),
        ("\\", "backslash"),        (r"(?<!a+)*", "."),
    ],
)  # fmt: skip
def test_what_cannot_be_matched_exactly_is_refused_by_name(pattern: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PreTokenizer.of_pattern(pattern)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([_split("a")], "one ByteLevel"),
        ([_byte_level(), _byte_level()], "one ByteLevel"),
        ([{"type": "Metaspace"}, _byte_level()], "Metaspace"),
        ([_split("a", "Sideways"), _byte_level()], "Sideways"),
        ([{**_split("a"), "invert": 1}, _byte_level()], "invert"),
        ([{**_split("a"), "pattern": {"Glob": "*"}}, _byte_level()], "Glob"),
        ([{**_split("a"), "extra": 1}, _byte_level()], "extra"),
        ([{"type": "CharDelimiterSplit", "delimiter": "ab"}, _byte_level()], "delimiter"),
        ([_split(r"(a)\1"), _byte_level()], "exactly"),
    ],
)
def test_steps_that_cannot_be_represented(steps: list[dict], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PreTokenizer.from_json({"type": "Sequence", "pretokenizers": steps})


def test_a_pattern_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretokenizers, "_SECONDS", 0.2)
    tokenizer = train_bpe(["ab " * 10], 260, r"(a|a)*b|.")
    with pytest.raises(DataError, match=r"\(a\|a\).*took too long.*40 characters"):
        tokenizer.encode("a" * 40)
    assert tokenizer.decode(tokenizer.encode("ab c")) == "ab c"
