"""Fuzzing of the tokenizers' native code under AddressSanitizer and UndefinedBehaviorSanitizer.

    python -m benchmarks.fuzz_tokenizers [--minutes 30] [--first 0]

Builds the package once more with sanitizers into a temporary folder (two minutes), and starts a process with it
that encodes, decodes, cuts, normalises, counts and trains on random texts of every kind, and reads files that were
damaged at random. It fails at the first finding of a sanitizer, the first error that is not one of the package's own,
and the first text that does not come back. The seed of the failing round is printed; --first begins with it.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzzing import damaged, main

# fmt: off
_PIECES = (
    "a", "Z", "s", "t", "re", "ll", "VE", "the", "Hello", "don't", "It'S", "'", "'s", "'LL", "x" * 70, "0",
    "12345", " ", "  ", " " * 40, "\t", "\n", "\r\n", "\n  \n", "\x0b", "\x85", "\xa0", "\u3000", "\u2028",
    "\u200b", "\u200d", "!", "/", "((", "...", "_", "-", "$", "\x00", "\x1c", "\x7f", "\ufffd", "\ufeff", "▁", "▁▁",
    "##", "</s>", "<unk>", "<0x41>", "é", "e\u0301", "\u0301\u0323", "ß", "ſ",
    "ǅ", "İ", "ﬁ", "㌔", "½", "Ⅷ", "٣", "ʰ", "中文字",
    "日本", "アガ", "\u1112\u1161\u11ab", "한국어", "नमस्ते", "สวัสดี",
    "שָׁלוֹם", "مرحبا", "👩🏽\u200d🔬", "🇩🇪", "𝔘𝔫", "\U0010ffff",
    "\ue000", "[CLS]", "[MASK]", "<|endoftext|>", "<|end",
)
# fmt: on

_NODES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1,
    2**31,
    1e300,
    "",
    "a",
    "Ġ",
    "\ud800",
    "x" * 300,
    [],
    {},
    [["a", "b"]],
    {"type": "BPE"},
)


def random_text(generator: random.Random) -> str:
    kind = generator.random()
    if kind < 0.1:
        codes = [generator.randrange(0x110000) for _ in range(generator.randint(0, 60))]
        return "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)
    if kind < 0.15:
        return generator.choice(_PIECES) * generator.randint(1, 3000)
    return "".join(generator.choices(_PIECES, k=generator.randint(0, 80)))


def random_bytes(generator: random.Random) -> bytes:
    if generator.random() < 0.5:
        return generator.randbytes(generator.randint(0, 300))
    data = bytearray(random_text(generator).encode())
    for _ in range(generator.randint(0, 4)):
        if data:
            data[generator.randrange(len(data))] = generator.randrange(256)
    return bytes(data[: generator.randint(0, len(data))])


def damaged_json(document: Any, generator: random.Random) -> Any:
    """The document with a few of its nodes replaced."""
    document = json.loads(json.dumps(document))
    for _ in range(generator.randint(1, 3)):
        node = document
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = generator.choice(keys)
            if isinstance(node[key], dict | list) and node[key] and generator.random() < 0.8:
                node = node[key]
                continue
            node[key] = copy.deepcopy(generator.choice(_NODES))
            break
    return document


class Fuzzer:
    """Tokenizers of all kinds, made once; each round does one thing to one of them."""

    def __init__(self, folder: Path) -> None:
        from seedbed import tokenizers
        from seedbed.tokenizers import pretokenizers

        self.folder = folder
        generator = random.Random(1)
        corpus = ["".join(generator.choices(_PIECES, k=60)) for _ in range(300)]
        self.made: dict[str, tokenizers.Tokenizer] = {
            name: tokenizers.train_bpe(corpus, 500, name) for name in pretokenizers.PATTERNS
        }
        self.made["regex"] = tokenizers.train_bpe(corpus, 400, r"\w+|\s+|[^\w\s]")
        self.made["wordpiece"] = tokenizers.train_wordpiece(corpus, 500)
        self.made["cased wordpiece"] = tokenizers.train_wordpiece(corpus, 500, lowercase=False)
        self.made["unigram"] = tokenizers.train_unigram(corpus, 400)
        self.made["unigram, bytes"] = tokenizers.train_unigram(corpus, 600, byte_fallback=True)
        self.lossless = {*pretokenizers.PATTERNS, "regex"}
        self.made["steps"] = self._steps()
        self.ranks = folder / "ranks.tiktoken"
        self.ranks.write_text(
            "".join(
                f"{base64.b64encode(token).decode()} {rank}\n"
                for rank, token in enumerate(
                    [*(bytes([byte]) for byte in range(256)), b"th", b"he", b"the", b"\xe4\xb8"]
                )
            )
        )
        self.made["ranks"] = tokenizers.Tokenizer.from_tiktoken(self.ranks, r"\p{L}+|[^\p{L}]", {"<|end": 300})
        self.files = {}
        for name, tokenizer in self.made.items():
            path = folder / f"{name}.json"
            tokenizer.save(path)
            self.files[name] = json.loads(path.read_bytes())
        self.corpus = corpus
        self.done: Counter[str] = Counter()
        self.work: list[tuple[float, Callable[[random.Random], None]]] = [
            (50, self.encode),
            (10, self.batch),
            (10, self.bytes_in),
            (8, self.cut),
            (8, self.decode),
            (6, self.damaged_tokenizer),
            (1, self.damaged_ranks),
            (3, self.damaged_counts),
            (3, self.damaged_sentencepiece),
            (1, self.train),
        ]

    def round(self, seed: int) -> None:
        generator = random.Random(seed)
        weights = [weight for weight, _ in self.work]
        work = generator.choices([work for _, work in self.work], weights)[0]
        self.done[work.__name__] += 1
        work(generator)

    def _steps(self) -> Any:
        """One whose pre-tokeniser drops text, and puts spaces in that are in no text."""
        from seedbed import tokenizers
        from seedbed.tokenizers.pretokenizers import PreTokenizer

        model = self.made["regex"].specification.model
        assert isinstance(model, tokenizers.ByteLevelBPE)
        steps = [{"type": "Whitespace"}, {"type": "ByteLevel", "add_prefix_space": True, "use_regex": False}]
        pre_tokenizer = PreTokenizer.from_json({"type": "Sequence", "pretokenizers": steps})
        return tokenizers.Tokenizer(tokenizers.Specification(replace(model, pre_tokenizer=pre_tokenizer)))

    def _any(self, generator: random.Random) -> tuple[str, Any]:
        return generator.choice(list(self.made.items()))

    def encode(self, generator: random.Random) -> None:
        name, tokenizer = self._any(generator)
        text = random_text(generator)
        ids = tokenizer.encode(text)
        same, offsets = tokenizer.encode_with_offsets(text)
        assert np.array_equal(ids, same), name
        assert len(offsets) == len(ids), name
        assert len(ids) == 0 or (offsets.min() >= 0 and offsets.max() <= len(text)), name
        decoded = tokenizer.decode(ids)
        assert name not in self.lossless or decoded == text, name

    def batch(self, generator: random.Random) -> None:
        name, tokenizer = self._any(generator)
        texts = [random_text(generator) for _ in range(generator.randint(0, 40))]
        rows = tokenizer.encode_batch(texts, generator.randint(1, 4))
        for text, row in zip(texts, rows, strict=True):
            assert np.array_equal(row, tokenizer.encode(text)), name

    def bytes_in(self, generator: random.Random) -> None:
        _name, tokenizer = self._any(generator)
        tokenizer._encoder.encode(random_bytes(generator), generator.random() < 0.5)

    def cut(self, generator: random.Random) -> None:
        from seedbed import _native
        from seedbed.tokenizers import pretokenizers

        data = random_bytes(generator)
        cuts = _native.cut(generator.choice(list(pretokenizers.PATTERNS)), data)
        assert cuts[0] == 0
        assert cuts[-1] == len(data)

    def decode(self, generator: random.Random) -> None:
        from seedbed.core.errors import SeedbedError

        _, tokenizer = self._any(generator)
        ids = [generator.randrange(tokenizer.vocab_size + 5) for _ in range(generator.randint(0, 50))]
        try:
            tokenizer.decode(ids, skip_special_tokens=generator.random() < 0.5)
        except SeedbedError:
            assert max(ids) >= tokenizer.vocab_size or None in map(tokenizer.id_to_token, ids)

    def damaged_tokenizer(self, generator: random.Random) -> None:
        from seedbed.core.errors import SeedbedError
        from seedbed.tokenizers import Tokenizer

        path = self.folder / "damaged.json"
        document = self.files[generator.choice(list(self.files))]
        if generator.random() < 0.6:
            path.write_text(json.dumps(damaged_json(document, generator)))
        else:
            path.write_bytes(damaged(json.dumps(document).encode(), generator))
        try:
            tokenizer = Tokenizer.load(path)
        except SeedbedError:
            return
        tokenizer.decode(tokenizer.encode(random_text(generator)))

    def damaged_ranks(self, generator: random.Random) -> None:
        from seedbed.core.errors import SeedbedError
        from seedbed.tokenizers import Tokenizer

        broken = self.folder / "broken.tiktoken"
        broken.write_bytes(damaged(self.ranks.read_bytes(), generator))
        with contextlib.suppress(SeedbedError):
            tokenizer = Tokenizer.from_tiktoken(broken, "gpt2")
            tokenizer.decode(tokenizer.encode(random_text(generator)))

    def damaged_counts(self, generator: random.Random) -> None:
        import hashlib

        from seedbed.core.errors import SeedbedError
        from seedbed.tokenizers import word_counts

        path = self.folder / "words.counts"
        if not path.exists():
            word_counts.write(path, word_counts.count_words(self.corpus, word_counts.pattern_cut("gpt2")))
        data = damaged(path.read_bytes()[:-32], generator)
        broken = self.folder / "broken.counts"
        broken.write_bytes(data + hashlib.sha256(data).digest())  # so that what lies behind the checksum is reached
        with contextlib.suppress(SeedbedError):
            word_counts.merge([word_counts.read(broken), word_counts.read(broken)])

    def damaged_sentencepiece(self, generator: random.Random) -> None:
        from seedbed.core.errors import SeedbedError
        from seedbed.tokenizers import Tokenizer

        for path in (self.folder / "unigram.model", self.folder / "bpe.model"):
            if not path.exists():
                import sentencepiece

                with path.open("wb") as file:
                    sentencepiece.SentencePieceTrainer.train(
                        sentence_iterator=iter(self.corpus), model_writer=file, vocab_size=500, minloglevel=2,
                        model_type=path.stem, byte_fallback=path.stem == "bpe", hard_vocab_limit=False,
                    )  # fmt: skip
            broken = self.folder / "broken.model"
            broken.write_bytes(damaged(path.read_bytes(), generator))
            try:
                tokenizer = Tokenizer.from_sentencepiece(broken)
            except SeedbedError:
                continue
            tokenizer.decode(tokenizer.encode(random_text(generator)))

    def train(self, generator: random.Random) -> None:
        from seedbed import tokenizers
        from seedbed.core.errors import SeedbedError

        texts = [random_text(generator) for _ in range(generator.randint(1, 60))]
        try:
            match generator.randrange(3):
                case 0:
                    tokenizers.train_bpe(texts, generator.randint(257, 400), "llama3", threads=2)
                case 1:
                    tokenizers.train_wordpiece(texts, generator.randint(5, 400))
                case 2:
                    tokenizers.train_unigram(texts, generator.randint(5, 400), threads=2)
        except SeedbedError:
            pass


if __name__ == "__main__":
    main("benchmarks.fuzz_tokenizers", "the tokenizers", Fuzzer)
