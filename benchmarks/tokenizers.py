"""Our byte-level BPE beside `tokenizers`, `tiktoken`, `tokie` and `gigatoken`: encoding in batches, and short texts.

    python -m benchmarks.tokenizers [--only English] [--patterns gpt2 llama3] [--rounds 7] [--json FILE]

All encode the same text with the same merges, which are trained here; a library that gives other ids is left out, and
told. Rounds are interleaved, so a busy moment of the machine falls on all of them alike; ratios are taken within a
round. Cold is the first pass of a fresh tokenizer, warm are the passes after it. For each number of threads the process
is held on so many processors, so that pools which cannot be resized are of that size too. The slowest two read a part
of the texts, and seconds per byte are compared. Peak memory is what a process of its own grows by while it encodes
once, two threads. The last table says which targets are reached. For the other algorithms and for training:

    python -m benchmarks.tokenizers_wordpiece
    python -m benchmarks.tokenizers_unigram
    python -m benchmarks.tokenizers_training
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import texts as corpora
from benchmarks.measuring import circumstances, grown_by, interleaved, ratios, spread, write_results
from seedbed.core.console import show, table
from seedbed.tokenizers import ByteLevelBPE, Tokenizer, train_bpe
from seedbed.tokenizers.bytelevel import to_bytes
from seedbed.tokenizers.pretokenizers import PATTERNS

Encode = Callable[[list[str], int], Any]
CORPORA = {
    "English": corpora.english,
    "code": corpora.code,
    "388 languages": corpora.languages,
    "CJK": corpora.cjk,
}
TURN = "How do I read a csv file in Python, line by line?"


def ours(path: Path) -> Encode:
    tokenizer = Tokenizer.load(path)
    return lambda texts, threads: tokenizer.encode_batch(texts, threads).values


def tokenizers(path: Path) -> Encode:
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    return lambda texts, threads: tokenizer.encode_batch_fast(texts)


def tiktoken(path: Path) -> Encode:
    """With our ranks: its ids are ours less the one special token in front of them."""
    import tiktoken

    model = Tokenizer.load(path).specification.model
    assert isinstance(model, ByteLevelBPE)
    ranks = {to_bytes(token): number - 1 for token, number in model.vocabulary.items() if number}
    pattern = PATTERNS[str(model.pre_tokenizer.pattern)].replace(r"\z", "$")
    encoding = tiktoken.Encoding("ours", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return lambda texts, threads: encoding.encode_ordinary_batch(texts, num_threads=threads)


def tokie(path: Path) -> Encode:
    import tokie

    tokenizer: Any = tokie.Tokenizer.from_json(str(path))  # its stub lacks what it has
    return lambda texts, threads: tokenizer.encode_batch_flat(texts)[0]


def gigatoken(path: Path) -> Encode:
    import gigatoken

    tokenizer = gigatoken.Tokenizer.from_json(path.read_text())
    return lambda texts, threads: tokenizer.encode_batch(texts, parallel=threads > 1)


LIBRARIES: dict[str, Callable[[Path], Encode]] = {
    "seedbed": ours,
    "gigatoken": gigatoken,
    "tokie": tokie,
    "tiktoken": tiktoken,
    "tokenizers": tokenizers,
}
SLOW = {"tiktoken": 6_000_000, "tokenizers": 2_000_000}  # bytes that they read in a pass
OTHERS = ("llama3", "cl100k", "o200k", "qwen2")  # patterns: on English only, without the slow

# Corpus, number of threads, peer, cold or warm, and how many times as fast as the peer we want to be.
TARGETS = [
    *(("English", 2, "gigatoken", state, 1.0) for state in ("cold", "warm")),
    *(("English", 2, "tokenizers", state, 40.0) for state in ("cold", "warm")),
    *(("English", 2, "tiktoken", state, 20.0) for state in ("cold", "warm")),
    *((corpus, 2, "gigatoken", state, 1.5) for corpus in ("CJK", "388 languages") for state in ("cold", "warm")),
]
LATENCY_TARGET = 1.0  # times tiktoken's


def flat_ids(library: str, result: Any) -> np.ndarray[Any, Any]:
    if library == "tokenizers":
        result = [encoding.ids for encoding in result]
    rows = result if isinstance(result, list) else result.tolist()
    ids = np.array([number for row in rows for number in row] if rows and isinstance(rows[0], list) else rows)
    return ids + 1 if library == "tiktoken" else ids


def libraries_that_agree(path: Path, texts: list[str], libraries: list[str]) -> list[str]:
    sample = texts[:: max(1, len(texts) // 200)]
    expected = flat_ids("seedbed", LIBRARIES["seedbed"](path)(sample, 1))
    agreeing = ["seedbed"]
    for library in libraries[1:]:
        try:
            same = np.array_equal(flat_ids(library, LIBRARIES[library](path)(sample, 1)), expected)
        except Exception as error:  # whatever a peer raises on a file that it does not know
            same = False
            show(f"{library}: {error}")
        if same:
            agreeing.append(library)
        else:
            show(f"{library} is left out: it does not give the same ids")
    return agreeing


def part_of(texts: list[str], size: int) -> list[str]:
    """Every so many-th text, so that together they have about `size` bytes."""
    return texts[:: max(1, round(corpora.size_of(texts) / size))]


def measure_speed(path: Path, texts: list[str], libraries: list[str], threads: int, rounds: int) -> dict[str, Any]:
    """Seconds per megabyte by library: cold (a fresh tokenizer each time) and warm."""
    reads = {name: part_of(texts, SLOW[name]) if name in SLOW else texts for name in libraries}
    megabytes = {name: corpora.size_of(reads[name]) / 1e6 for name in libraries}
    for name in libraries:
        LIBRARIES[name](path)(["Import all that you need."], threads)

    def measure(encoders: dict[str, Encode], rounds: int) -> dict[str, list[float]]:
        works = {name: lambda e=encode, t=reads[name]: e(t, threads) for name, encode in encoders.items()}
        times = interleaved(works, rounds)
        return {name: [value / megabytes[name] for value in values] for name, values in times.items()}

    cold: dict[str, list[float]] = {name: [] for name in libraries}
    for _ in range(min(rounds, 5)):
        for name in libraries:
            cold[name] += measure({name: LIBRARIES[name](path)}, 1)[name]
    encoders = {name: LIBRARIES[name](path) for name in libraries}
    for name in libraries:
        if name not in SLOW:  # all threads' caches must have seen all words
            for _ in range(3):
                encoders[name](texts, threads)
    few = max(2, min(rounds, 3))
    slow = measure({name: encoders[name] for name in ("seedbed", *SLOW) if name in libraries}, few)
    fast = measure({name: encoders[name] for name in libraries if name not in SLOW}, rounds)
    warm = {
        name: [slow["seedbed"], slow[name]] if name in SLOW else [fast["seedbed"], fast[name]] for name in libraries
    }
    return {"cold": {name: [cold["seedbed"], cold[name]] for name in libraries}, "warm": warm}


def measure_memory(path: Path, texts: list[str], library: str) -> float:
    """Megabytes that this process grows by."""
    encode = LIBRARIES[library](path)
    return grown_by(lambda: encode(texts, 2))


def measure_latency(path: Path, rounds: int) -> dict[str, list[float]]:
    """Microseconds of one chat turn from Python."""
    import tiktoken as tiktoken_library

    tokenizer = Tokenizer.load(path)
    model = tokenizer.specification.model
    assert isinstance(model, ByteLevelBPE)
    ranks = {to_bytes(token): number - 1 for token, number in model.vocabulary.items() if number}
    pattern = PATTERNS[str(model.pre_tokenizer.pattern)].replace(r"\z", "$")
    theirs = tiktoken_library.Encoding("ours", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})

    def often(work: Callable[[str], object]) -> Callable[[], object]:
        return lambda: [work(TURN) for _ in range(5000)]

    times = interleaved({"seedbed": often(tokenizer.encode), "tiktoken": often(theirs.encode_ordinary)}, rounds)
    return {name: [value / 5000 * 1e6 for value in values] for name, values in times.items()}


def in_a_process(job: dict[str, Any], processors: int) -> Any:
    """The result of a job of `_main_of_child` in a fresh process that is held on so many processors."""
    environment = os.environ | {"RAYON_NUM_THREADS": str(processors), "TOKENIZERS_PARALLELISM": str(processors > 1)}
    available = sorted(os.sched_getaffinity(0))[:processors]
    command = [sys.executable, "-m", "benchmarks.tokenizers", "--job", json.dumps(job)]
    done = subprocess.run(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, available),
    )
    return json.loads(done.stdout.splitlines()[-1])


def _main_of_child(job: dict[str, Any]) -> None:
    path = Path(job["path"])
    if job["what"] == "latency":
        found: Any = measure_latency(path, job["rounds"])
    else:
        texts = texts_of(job["corpus"])
        if job["what"] == "memory":
            found = measure_memory(path, texts, job["library"])
        else:
            found = measure_speed(path, texts, job["libraries"], job["threads"], job["rounds"])
    print(json.dumps(found))


def texts_of(corpus: str) -> list[str]:
    if corpus in CORPORA:
        return CORPORA[corpus]()
    return corpora.documents(Path(corpus).read_text(encoding="utf-8", errors="replace"))


def measure_corpus(
    corpus: str, pattern: str, libraries: list[str], threads: tuple[int, ...], options: argparse.Namespace
) -> dict[str, Any]:
    """Prints a table of one corpus; returns what it shows."""
    texts = texts_of(corpus)
    size = corpora.size_of(texts) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        train_bpe(texts, options.vocab_size, pattern).save(path)
        show(f"{corpus}: {len(texts):,} texts, {size:.1f} MB; {options.vocab_size:,} tokens, {pattern}")
        libraries = libraries_that_agree(path, texts, libraries)
        job = {"path": str(path), "corpus": corpus, "rounds": options.rounds}
        memory = {name: in_a_process(job | {"what": "memory", "library": name}, 2) for name in libraries}
        found: dict[str, Any] = {"megabytes": size, "peak_memory_mb": memory, "seconds_per_megabyte": {}}
        rows = []
        for count in threads:
            times = in_a_process(job | {"what": "speed", "libraries": libraries, "threads": count}, count)
            found["seconds_per_megabyte"][str(count)] = times
            for name in libraries:
                cold, warm = times["cold"][name], times["warm"][name]
                speeds = (f"{1 / statistics.median(theirs):,.0f}" for _, theirs in (cold, warm))
                beside = ("", "") if name == "seedbed" else (spread(ratios(*both), 2) for both in (cold, warm))
                rows.append((count, name, *speeds, *beside, f"{memory[name]:,.0f}"))
        table(("threads", "library", "cold", "warm MB/s", "seedbed is × cold", "× warm", "peak MB"), rows)
        if corpus == "English" and pattern == "gpt2" and "tiktoken" in libraries:
            found["microseconds_of_a_short_text"] = in_a_process(job | {"what": "latency"}, 1)
    return found


def summary(results: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """Rows of the table of targets, of those that were measured."""
    rows = []

    def add(what: str, peer: str, wanted: float, ours: list[float], theirs: list[float]) -> None:
        found = ratios(ours, theirs)
        reached = "yes" if statistics.median(found) >= wanted else "no"
        rows.append((what, peer, f"≥ {wanted:g}×", spread(found, 2), reached))

    for corpus, threads, peer, state, wanted in TARGETS:
        measured = results.get(f"{corpus}, gpt2", {}).get("seconds_per_megabyte", {}).get(str(threads), {})
        if peer in measured.get(state, {}):
            add(f"{corpus}, {threads} threads, {state}", peer, wanted, *measured[state][peer])
    latency = results.get("English, gpt2", {}).get("microseconds_of_a_short_text")
    if latency:
        what = f"one text of {len(TURN)} characters, {spread(latency['seedbed'])} µs"
        add(what, "tiktoken", LATENCY_TARGET, latency["seedbed"], latency["tiktoken"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="BPE encoding beside tokenizers, tiktoken, tokie and gigatoken.")
    parser.add_argument("text", nargs="?", help="a UTF-8 text file; without it English, code, 388 languages and CJK")
    parser.add_argument("--vocab-size", type=int, default=32000)
    parser.add_argument("--patterns", nargs="+", choices=sorted(PATTERNS), default=["gpt2", *OTHERS])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", help="only one of the corpora", choices=[*CORPORA])
    parser.add_argument("--json", type=Path, help="write the results there too")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        _main_of_child(json.loads(options.job))
        return
    libraries = ["seedbed", *(name for name in LIBRARIES if name != "seedbed" and find_spec(name))]
    fast = [name for name in libraries if name not in SLOW]
    results: dict[str, Any] = {
        "circumstances": circumstances([*libraries[1:], "numpy"]),
        "date": time.strftime("%Y-%m-%d"),
    }
    for pattern in options.patterns:
        all_of_it = pattern == "gpt2" or options.text
        chosen = [options.text] if options.text else [options.only] if options.only else [*CORPORA]
        for corpus in chosen if all_of_it else [name for name in chosen if name == "English"]:
            found = measure_corpus(
                corpus, pattern, libraries if all_of_it else fast, (1, 2) if all_of_it else (2,), options
            )
            results[f"{corpus}, {pattern}"] = found
    results["targets"] = summary(results)
    if results["targets"]:
        table(("what", "against", "wanted", "seedbed is", "reached"), results["targets"])
    if options.json:
        write_results(options.json, results)


if __name__ == "__main__":
    main()
