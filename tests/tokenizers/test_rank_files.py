"""Rank files: equal to tiktoken, whatever the ranks; damaged ones refused by line."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import tiktoken
import tiktoken_ext.openai_public
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Peer

from seedbed.core.errors import ConfigError, FormatError
from seedbed.tokenizers import CHATML_TOKENS, Tokenizer, tokenizer_json, train_bpe
from seedbed.tokenizers.bytelevel import to_bytes
from seedbed.tokenizers.pretokenizers import PATTERNS

_CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$"
    r"|\s*[\r\n]|\s+(?!\S)|\s"
)  # as tiktoken 0.14 has it
_BYTES = [bytes([byte]) for byte in range(256)]


def _write(path: Path, ranks: dict[bytes, int]) -> Path:
    path.write_text("".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items()))
    return path


def _peer(ranks: dict[bytes, int], pattern: str, specials: dict[str, int]) -> tiktoken.Encoding:
    expression = PATTERNS[pattern].replace(r"\s+\z", r"\s++$")  # its own dialect
    return tiktoken.Encoding("test", pat_str=expression, mergeable_ranks=ranks, special_tokens=specials)


@pytest.fixture(scope="module")
def gpt2(shared_data: Callable[[str], Path]) -> dict[bytes, int]:
    vocabulary = json.loads(shared_data("tokenizers/gpt2.encoder.json").read_text())
    return {to_bytes(token): number for token, number in vocabulary.items() if token != "<|endoftext|>"}


def test_gpt2_equals(
    gpt2: dict[bytes, int], shared_data: Callable[[str], Path], tmp_path: Path, languages: list[str], strange: list[str]
) -> None:
    specials = {"<|endoftext|>": 50256, "<|later|>": 50300}
    path = _write(tmp_path / "gpt2.tiktoken", gpt2)
    texts = [*strange, *languages]
    for pattern in ("gpt2", "cl100k", "o200k"):
        ours, peer = Tokenizer.from_tiktoken(path, pattern, specials), _peer(gpt2, pattern, specials)
        for text, ids in zip(texts, ours.encode_batch(texts), strict=True):
            assert ids.tolist() == peer.encode(text, allowed_special="all")
            assert ours.decode(ids) == text
        for text in strange:
            assert ours.encode(text, parse_special=False).tolist() == peer.encode_ordinary(text)
    assert (ours.vocab_size, ours.eos_token_id, ours.special_tokens) == (50301, 50256, specials)
    # The merges that GPT-2 was published with come back from the ranks alone.
    lines = shared_data("tokenizers/gpt2.vocab.bpe").read_text().splitlines()[1:]
    assert ours.specification.model.merges == [tuple(line.split(" ")) for line in lines if line]
    ours.save(tmp_path / "tokenizer.json")
    again, peer = Tokenizer.load(tmp_path / "tokenizer.json"), Peer.from_file(str(tmp_path / "tokenizer.json"))
    assert again.fingerprint == ours.fingerprint
    for ids, expected in zip(again.encode_batch(texts), peer.encode_batch(texts), strict=True):
        assert ids.tolist() == expected.ids


def test_ranks_trained_here(languages: list[str], strange: list[str], tmp_path: Path) -> None:
    trained = train_bpe(languages, 3000, "llama3", CHATML_TOKENS)
    specials = trained.special_tokens
    names = trained.specification.model.vocabulary
    ranks = {to_bytes(token): number for token, number in names.items() if token not in specials}
    ours = Tokenizer.from_tiktoken(_write(tmp_path / "ranks", ranks), "llama3", specials)
    peer = _peer(ranks, "llama3", specials)
    assert ours.specification.model.merges == trained.specification.model.merges
    for text in strange:
        assert ours.encode(text).tolist() == peer.encode(text, allowed_special="all")


_WORDS = st.text("abc", min_size=1, max_size=9).map(str.encode)


@settings(max_examples=300, deadline=None)
@given(
    tokens=st.sets(_WORDS, max_size=40),
    seed=st.integers(0, 1 << 30),
    gaps=st.booleans(),
    texts=st.lists(st.text("abc ", max_size=40), min_size=1, max_size=6),
    repeats=st.sampled_from([1, 1, 1, 30]),
)
def test_odd_ranks(
    tmp_path_factory: pytest.TempPathFactory, tokens: set[bytes], seed: int, gaps: bool, texts: list[str], repeats: int
) -> None:
    """Ranks in any order: tokens before their own parts, tokens that nothing leads to, and gaps."""
    generator = random.Random(seed)
    listed = [*_BYTES, *sorted(token for token in tokens if len(token) > 1)]
    numbers = sorted(generator.sample(range(2 * len(listed)), len(listed))) if gaps else range(len(listed))
    generator.shuffle(listed)
    ranks = dict(zip(listed, numbers, strict=True))
    folder = tmp_path_factory.mktemp("odd")
    ours, peer = Tokenizer.from_tiktoken(_write(folder / "ranks", ranks), "gpt2"), _peer(ranks, "gpt2", {})
    document = json.dumps(tokenizer_json.to_json(ours.specification))
    saved = Peer.from_str(document)
    for text in texts:
        expected = peer.encode_ordinary(text * repeats)
        assert ours.encode(text * repeats).tolist() == expected
        assert saved.encode(text * repeats).ids == expected


def _line(token: bytes, rank: object) -> str:
    return f"{base64.b64encode(token).decode()} {rank}\n"


_ALPHABET = "".join(_line(byte, rank) for rank, byte in enumerate(_BYTES))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (_ALPHABET + "YWI 256\n", ":257: .*base64"),
        (_ALPHABET + "!!!! 256\n", ":257: .*base64"),
        (_ALPHABET + "YWI=\n", ":257: "),
        (_ALPHABET + "YWI= 256 7\n", ":257: "),
        (_ALPHABET + "YWI= x\n", ":257: .*rank x"),
        (_ALPHABET + "YWI= -1\n", ":257: .*-1"),
        (_ALPHABET + "YWI= 99999999999999999999999\n", ":257: .*99999"),
        (_ALPHABET + "YWI= 70000000\n", "ranks up to 70,000,000"),
        (_ALPHABET + "YWI= 7\n", ":257: .*rank 7 of line 8"),
        (_ALPHABET + "\nYQ== 256\n", ":258: .*token of line 98"),
        (_ALPHABET + "== 256\n", ":257: "),
        (_ALPHABET + _line(b"x" * 5000, 256), ":257: .*5000 bytes"),
        ("".join(_ALPHABET.splitlines(True)[:-2]), "2 of the 256 bytes.*0xfe"),
        ("", "256 of the 256"),
        ("\x00\xff" * 100, ":1: "),
    ],
)
def test_damaged_files(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "ranks.tiktoken"
    path.write_text(content)
    with pytest.raises(FormatError, match=rf"ranks\.tiktoken.*{problem}"):
        Tokenizer.from_tiktoken(path)


def test_what_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "ranks"
    with pytest.raises(FormatError, match=r"ranks: cannot be read \(No such file"):
        Tokenizer.from_tiktoken(path)
    path.write_text(_ALPHABET)
    for specials, problem in (
        ({"a": 300}, "'a' is a token of the file"),
        ({"": 300}, "empty"),
        ({"<x>": 97}, "97, which is 'a' already"),
        ({"<x>": 300, "<y>": 300}, "'<x>' already"),
        ({"<x>": 1 << 40}, "has the id"),
    ):
        with pytest.raises(ConfigError, match=problem):
            Tokenizer.from_tiktoken(path, special_tokens=specials)
    with pytest.raises(ConfigError, match="klingon"):
        Tokenizer.from_tiktoken(path, "klingon")


@pytest.mark.parametrize("name", ["r50k_base", "cl100k_base", "o200k_base"])
def test_published_expressions_are_known_and_others_match_as_in_tiktoken(
    gpt2: dict[bytes, int], name: str, tmp_path: Path, languages: list[str], strange: list[str]
) -> None:
    published = {
        "r50k_base": tiktoken_ext.openai_public.r50k_pat_str,
        "cl100k_base": _CL100K,
        "o200k_base": PATTERNS["o200k"],
    }[name]
    path = _write(tmp_path / "gpt2.tiktoken", gpt2)
    ours = Tokenizer.from_tiktoken(path, published)
    assert ours.specification.model.pre_tokenizer.pattern in PATTERNS  # so it runs natively
    own = published.removesuffix(r"|\s").removesuffix("+") + "|x{3}+"  # through the engine; leaves out some spaces
    slow = Tokenizer.from_tiktoken(path, own)
    assert slow.specification.model.pre_tokenizer.pattern is None
    for expression, tokenizer, texts in ((published, ours, [*strange, *languages]), (own, slow, strange[::7])):
        peer = tiktoken.Encoding("test", pat_str=expression, mergeable_ranks=gpt2, special_tokens={})
        for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True):
            assert ids.tolist() == peer.encode_ordinary(text), text
    slow.save(tmp_path / "tokenizer.json")
    saved = Peer.from_file(str(tmp_path / "tokenizer.json"))
    assert all(slow.encode(text).tolist() == saved.encode(text).ids for text in strange[::7])


def test_an_expression_that_cannot_be_matched_is_refused(gpt2: dict[bytes, int], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\\\\w.*exactly"):
        Tokenizer.from_tiktoken(_write(tmp_path / "gpt2.tiktoken", gpt2), r"\w+")
