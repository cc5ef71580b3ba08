"""A small tokenizer, and a tiny corpus of Parquet splits."""

from __future__ import annotations

import pytest

from seedbed.tokenizers import train_bpe

SPECIAL = ("<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>")
TOPICS = ["csv", "json", "http", "zip", "email", "queue", "socket", "thread", "decimal", "calendar"]
VERBS = ["read", "write", "parse", "open", "close", "format", "sort", "count", "merge", "split"]


def documents() -> list[dict]:
    rows = []
    for topic in TOPICS:
        for verb in VERBS:
            title = f"{topic}.{verb}_{topic}"
            text = (
                f"{title}(source, strict=False)\n\n{verb.title()} the given {topic} data from a source object. "
                f"The {topic} module checks what it {verb}s. Strict mode of {topic} raises an error.\n\n"
                f"See also the other ways to {verb} things."
            )
            rows.append({"id": f"lib/{title}", "text": text, "title": title, "source": f"lib/{topic}"})
    return rows


@pytest.fixture(scope="session")
def tokenizer():
    return train_bpe([row["text"] for row in documents()], 600, special_tokens=SPECIAL, pad_token="<|pad|>", threads=1)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    folder = tmp_path_factory.mktemp("corpus")
    rows = documents()
    splits = {"train": rows[::2] + rows[3::4], "validation": rows[1::8], "test": rows[5::8]}
    for split, listed in splits.items():
        (folder / split).mkdir()
        full = [{**row, "language": "en", "metadata": "{}"} for row in listed]
        parquet.write_table(arrow.Table.from_pylist(full), folder / split / "part-00000.parquet")
    return folder
