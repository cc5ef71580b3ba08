from __future__ import annotations

import random
import runpy
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Peer

from seedbed.tokenizers.pretokenizers import PATTERNS


@pytest.fixture(scope="session")
def naive() -> SimpleNamespace:
    """The functions of naive_bpe.py."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "naive_bpe.py")))


@pytest.fixture(scope="session")
def languages(shared_data: Callable[[str], Path]) -> list[str]:
    """The opening of the Universal Declaration of Human Rights in each of the 388 languages of the sample."""
    with zipfile.ZipFile(shared_data("text/udhr2.zip")) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".txt"))
        return [archive.read(name).decode("utf-8")[:400] for name in names]


@pytest.fixture(scope="session")
def strange() -> list[str]:
    """Short texts put together at random from what pre-tokenisers are apt to get wrong."""
    generator = random.Random(7)
    parts = [
        *"aZé中ßſKǅʰ",
        *"あアกั́\u0301\u200d\ufe0f👩🏽🇩🇪٣५12²Ⅷ½ \t\n\r\x0b\x85\u00a0\u3000\u2028'’-_.,!?/\\<|>(){}$€\x00\x1c\ufffd",
        *("'s", "'RE", "'Ll", "'ſ", "'d", "n't", "ABC", "aB", "Ab", "  ", "\r\n", "\n\n", "...", "www", "0123456789"),
        *(
            "<|endoftext|>",
            "<|end",
            "of",
            "text|>",
            " the",
            "Überſicht",
            "नमस्ते",
            "สวัสดี",
            "שלום",
            "👨‍👩‍👧‍👦",
            "𝔘𝔫",
            "\u1c89",
        ),
    ]
    return ["".join(generator.choices(parts, k=generator.randint(0, 40))) for _ in range(1200)]


@pytest.fixture(scope="session")
def train_peer() -> Callable[..., Peer]:
    """Train the `tokenizers` package with the settings that train_bpe equals."""

    def train(texts: list[str], vocab_size: int, pattern: str, specials: list[str], min_frequency: int = 2) -> Peer:
        peer = Peer(models.BPE())
        cut = pre_tokenizers.Split(Regex(PATTERNS[pattern]), "isolated")
        peer.pre_tokenizer = pre_tokenizers.Sequence(
            [cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        peer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            special_tokens=specials,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        peer.train_from_iterator(texts, trainer)
        return peer

    return train


@pytest.fixture(scope="session")
def wordpiece_document() -> dict[str, Any]:
    """A small tokenizer.json of the kind that BERT has."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {
                token: i for i, token in enumerate(["[UNK]", *"abefo<>-é中", *(f"##{letter}" for letter in "abefoé")])
            },
        },
    }
