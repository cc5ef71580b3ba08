"""Shards hold what was encoded, equal texts give equal bytes, and damaged files are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seedbed.core.errors import ArtifactError, FormatError
from seedbed.core.ragged import Ragged
from seedbed.datasets import shards as shards_module
from seedbed.datasets.shards import FILE_NAME, TokenShards, shard_corpus, write_token_shards
from seedbed.tokenizers import CHATML_TOKENS, train_bpe


class ByteTokenizer:
    """Bytes after one special token."""

    fingerprint = "f" * 64

    def __init__(self, vocab_size: int = 257) -> None:
        self.vocab_size = vocab_size

    def token_to_id(self, token: str) -> int | None:
        return 0 if token == "<|endoftext|>" else None

    def encode_batch(self, texts: list[str], threads: int | None = None, *, parse_special: bool = True) -> Ragged:
        return Ragged.from_rows([np.frombuffer(text.encode(), np.uint8).astype(np.uint32) + 1 for text in texts])


TEXTS = ["Schöne Worte", "", "x" * 50, "zwei\nZeilen"]


@pytest.mark.parametrize(("vocab_size", "dtype"), [(257, np.uint16), (70_000, np.uint32)])
def test_round_trip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vocab_size: int, dtype: type) -> None:
    one = write_token_shards(TEXTS, ByteTokenizer(vocab_size), tmp_path / "a")
    assert one.tokens.dtype == dtype
    assert one.documents == len(TEXTS)
    assert one.text_bytes == sum(len(text.encode()) for text in TEXTS)
    for index, text in enumerate(TEXTS):
        assert bytes((one.document(index)[:-1] - 1).astype(np.uint8)).decode() == text
        assert one.document(index)[-1] == 0
        assert one.text_offsets[index + 1] - one.text_offsets[index] == len(text.encode())
    one.verify()
    monkeypatch.setattr(shards_module, "_CHUNK_CHARACTERS", 3)
    write_token_shards(iter(TEXTS), ByteTokenizer(vocab_size), tmp_path / "b")
    assert (tmp_path / "a" / FILE_NAME).read_bytes() == (tmp_path / "b" / FILE_NAME).read_bytes()
    assert [path.name for path in (tmp_path / "b").iterdir()] == [FILE_NAME]


def test_a_document_cannot_spell_control_tokens(tmp_path: Path) -> None:
    text = "before<|endoftext|>between<|im_end|>after"
    tokenizer = train_bpe([text], 300, special_tokens=CHATML_TOKENS)
    shards = write_token_shards([text], tokenizer, tmp_path)
    assert tokenizer.decode(shards.document(0)[:-1]) == text
    assert np.flatnonzero(np.isin(shards.tokens, list(tokenizer.special_tokens.values()))).tolist() == [len(shards) - 1]


def test_no_documents(tmp_path: Path) -> None:
    empty = write_token_shards([], ByteTokenizer(), tmp_path)
    assert (len(empty), empty.documents, empty.text_bytes) == (0, 0, 0)


def test_every_truncation_and_changed_header_byte_is_told(tmp_path: Path) -> None:
    write_token_shards(TEXTS, ByteTokenizer(), tmp_path)
    file = tmp_path / FILE_NAME
    data = file.read_bytes()
    for size in (0, 7, 50, 1023, 1024, len(data) - 1):
        file.write_bytes(data[:size])
        with pytest.raises(FormatError):
            TokenShards.open(tmp_path)
    file.write_bytes(data + b"x")
    with pytest.raises(FormatError, match="promises"):
        TokenShards.open(tmp_path)
    random = np.random.default_rng(0)
    for place in [0, 8, 12, *random.integers(0, 1024, 50).tolist()]:
        file.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        with pytest.raises(FormatError):
            TokenShards.open(tmp_path)
    for place in (-1, -9, 1100):
        changed = bytearray(data)
        changed[place] ^= 0xFF
        file.write_bytes(changed)
        with pytest.raises(FormatError):
            TokenShards.open(tmp_path).verify()


def test_wrong_tokenizer_and_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no token shard here"):
        TokenShards.open(tmp_path)
    write_token_shards(TEXTS, ByteTokenizer(), tmp_path)
    TokenShards.open(tmp_path, "f" * 64)
    with pytest.raises(ArtifactError, match="another tokenizer"):
        TokenShards.open(tmp_path, "e" * 64)


def test_shard_corpus(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for split, texts in (("train", TEXTS), ("validation", TEXTS[:1]), ("test", [])):
        (tmp_path / "corpus" / split).mkdir(parents=True)
        table = pa.table({"id": [str(i) for i in range(len(texts))], "text": pa.array(texts, pa.string())})
        pq.write_table(table, tmp_path / "corpus" / split / "part-00000.parquet")
    metrics = shard_corpus(tmp_path / "corpus", ByteTokenizer(), tmp_path / "tokens")
    assert metrics["validation"] == {"documents": 1, "tokens": 14, "text_bytes": 13}
    assert len(TokenShards.open(tmp_path / "tokens" / "train")) == metrics["train"]["tokens"]
    (tmp_path / "corpus" / "train" / "part-00000.parquet").write_bytes(b"no")
    with pytest.raises(FormatError, match="not a Parquet file"):
        shard_corpus(tmp_path / "corpus", ByteTokenizer(), tmp_path / "tokens")
