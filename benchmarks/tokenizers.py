"""Our BPE beside `tokenizers` and `tiktoken`: encoding in batches on one and two threads, and training.

    python -m benchmarks.tokenizers [TEXT_FILE] [--vocab-size 32000] [--pattern gpt2] [--rounds 5]

All three encode the same text with the same merges, which are trained here, and must give the same ids. Rounds are
interleaved, so a busy moment of the machine falls on all of them alike; ratios are taken within a round. Cold is the
first round of a fresh tokenizer, warm the others.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import tokenizers as peer
from tokenizers import pre_tokenizers, trainers

from seedbed.core.console import show, table
from seedbed.tokenizers import ByteLevelBPE, Tokenizer, tokenizer_json, train_bpe
from seedbed.tokenizers.bytelevel import to_bytes
from seedbed.tokenizers.pretokenizers import PATTERNS

_SHARED = Path(os.environ.get("SEEDBED_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data")) / "text"


def english() -> list[str]:
    """The shared English texts, one document a file."""
    texts = [(_SHARED / "tinyshakespeare.txt").read_text()]
    for name in ("abc", "genesis", "inaugural", "movie_reviews", "state_union", "webtext"):
        texts += _zipped(name)
    return texts


def _zipped(name: str) -> list[str]:
    with zipfile.ZipFile(_SHARED / f"{name}.zip") as archive:
        files = [file for file in archive.namelist() if file.endswith(".txt") and "README" not in file]
        return [archive.read(file).decode("utf-8", errors="replace") for file in files]


def documents(text: str, size: int = 4000) -> list[str]:
    """A text as documents of about `size` characters that end with a line."""
    found, start = [], 0
    while start < len(text):
        end = text.find("\n", start + size) + 1 or len(text)
        found.append(text[start:end])
        start = end
    return found


def about(texts: list[str], size: float) -> list[str]:
    """Every so many-th text, so that together they have about `size` bytes."""
    step = max(1.0, sum(len(text.encode()) for text in texts) / size)
    return [texts[int(i * step)] for i in range(int(len(texts) / step))]


def peer_trained(texts: list[str], vocab_size: int, pattern: str) -> None:
    tokenizer = peer.Tokenizer(peer.models.BPE())
    cut = pre_tokenizers.Split(peer.Regex(PATTERNS[pattern]), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)


def tiktoken_encoder(ours: Tokenizer) -> Callable[[list[str], int], list[list[int]]] | None:
    """tiktoken with our ranks, whose ids are then ours less the one special token in front of them."""
    try:
        import tiktoken
    except ImportError:
        return None
    ranks = {to_bytes(token): number - 1 for token, number in ours.specification.model.vocabulary.items() if number}
    assert isinstance(ours.specification.model, ByteLevelBPE)
    pattern = PATTERNS[ours.specification.model.pattern].replace(r"\z", "$")
    encoding = tiktoken.Encoding("ours", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return lambda texts, threads: encoding.encode_ordinary_batch(texts, num_threads=threads)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):,.1f} ({min(values):,.1f} to {max(values):,.1f})"


def benchmark_encoding(name: str, texts: list[str], ours: Tokenizer, rounds: int) -> None:
    theirs = peer.Tokenizer.from_str(json.dumps(tokenizer_json.to_json(ours.specification)))
    openai = tiktoken_encoder(ours)
    size = sum(len(text.encode()) for text in texts)
    sample = texts[:: max(1, len(texts) // 200)]
    ids = [row.tolist() for row in ours.encode_batch(sample)]
    assert ids == [encoding.ids for encoding in theirs.encode_batch(sample)], "tokenizers gives other ids"
    if openai:
        assert ids == [[number + 1 for number in row] for row in openai(sample, 1)], "tiktoken gives other ids"
    rows = []
    for threads in (1, 2):
        # The peer's thread pool is made once per process and cannot be resized; one thread is its serial mode.
        os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"
        fresh = Tokenizer(ours.specification)
        cold = size / seconds(lambda: fresh.encode_batch(texts, threads)) / 1e6  # noqa: B023 - called at once
        speeds: dict[str, list[float]] = {}
        for _ in range(rounds):
            works = {
                "seedbed": lambda: ours.encode_batch(texts, threads),  # noqa: B023
                "tokenizers": lambda: theirs.encode_batch_fast(texts),
                "tiktoken": (lambda: openai(texts, threads)) if openai else None,  # noqa: B023
            }
            for peer_name, work in works.items():
                if work:
                    speeds.setdefault(peer_name, []).append(size / seconds(work) / 1e6)
        for peer_name, values in speeds.items():
            ratios = [mine / other for mine, other in zip(speeds["seedbed"], values, strict=True)]
            first = f"{cold:,.1f}" if peer_name == "seedbed" else ""
            rows.append((name, threads, peer_name, first, spread(values), spread(ratios)))
    table(("text", "threads", "library", "cold MB/s", "MB/s, median (range)", "times as fast: seedbed"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="BPE encoding and training beside tokenizers and tiktoken.")
    parser.add_argument("text", nargs="?", type=Path, help="a UTF-8 text file; without it the shared data")
    parser.add_argument("--vocab-size", type=int, default=32000)
    parser.add_argument("--pattern", choices=sorted(PATTERNS), default="gpt2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=float, default=5.0, help="take about so much of each text")
    parser.add_argument("--no-training", action="store_true", help="leave the comparison of training out")
    options = parser.parse_args()
    if options.text:
        corpora = {options.text.name: documents(options.text.read_text(encoding="utf-8", errors="replace"))}
    else:
        corpora = {"English": english(), "388 languages": _zipped("udhr2")}
    for name, whole in corpora.items():
        texts = about(whole, options.megabytes * 1e6)
        size = sum(len(text.encode()) for text in texts)
        show(f"{name}: {len(texts):,} texts, {size / 1e6:.1f} MB; vocabulary {options.vocab_size:,}, {options.pattern}")
        trained = train_bpe(texts, options.vocab_size, options.pattern)
        benchmark_encoding(name, texts, trained, options.rounds)
        if not options.no_training:
            mine, theirs = [], []
            for _ in range(max(2, options.rounds // 2)):
                mine.append(seconds(lambda: train_bpe(texts, options.vocab_size, options.pattern)))  # noqa: B023
                theirs.append(seconds(lambda: peer_trained(texts, options.vocab_size, options.pattern)))  # noqa: B023
            ratios = [other / one for one, other in zip(mine, theirs, strict=True)]
            rows = [(name, "seedbed", spread(mine), ""), (name, "tokenizers", spread(theirs), spread(ratios))]
            table(("text", "training", "seconds, median (range)", "times as fast: seedbed"), rows)


if __name__ == "__main__":
    main()
