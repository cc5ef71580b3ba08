"""Our byte-level BPE beside `tokenizers`, `tiktoken`, `tokie` and `gigatoken`: encoding in batches, and short texts.

    python -m benchmarks.tokenizers [TEXT_FILE] [--vocab-size 32000] [--pattern gpt2] [--rounds 7] [--json FILE]

All encode the same text with the same merges, which are trained here, and must give the same ids. Rounds are
interleaved, so a busy moment of the machine falls on all of them alike; ratios are taken within a round. Cold is the
first pass of a fresh tokenizer, warm are the passes after it. For each number of threads the process is held on so
many processors, so that pools which cannot be resized are of that size too. Peak memory is what a process of its own
grows by while it encodes once, two threads. benchmarks/tokenizers_*.py do the same for the other algorithms.
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
from benchmarks.measuring import circumstances, grown_by, interleaved, ratios, seconds, spread, write_results
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
_SLOW = ("tiktoken", "tokenizers")  # a pass in a round is enough of them


def flat_ids(library: str, result: Any) -> np.ndarray[Any, Any]:
    if library == "tokenizers":
        result = [encoding.ids for encoding in result]
    rows = result if isinstance(result, list) else result.tolist()
    ids = np.array([number for row in rows for number in row] if rows and isinstance(rows[0], list) else rows)
    return ids + 1 if library == "tiktoken" else ids


def check_equal(path: Path, texts: list[str], libraries: list[str]) -> None:
    sample = texts[:: max(1, len(texts) // 200)]
    expected = flat_ids("seedbed", LIBRARIES["seedbed"](path)(sample, 1))
    for library in libraries[1:]:
        if not np.array_equal(flat_ids(library, LIBRARIES[library](path)(sample, 1)), expected):
            raise SystemExit(f"{library} gives other ids")


def measure_speed(path: Path, texts: list[str], libraries: list[str], threads: int, rounds: int) -> dict[str, Any]:
    """Seconds by library: cold (a fresh tokenizer each time), warm, and of one short text."""
    cold: dict[str, list[float]] = {name: [] for name in libraries}
    for _ in range(min(rounds, 3)):
        for name in libraries:
            fresh = LIBRARIES[name](path)
            cold[name].append(seconds(lambda: fresh(texts, threads)))  # noqa: B023 - called at once
    encoders = {name: LIBRARIES[name](path) for name in libraries}
    for encode in encoders.values():
        encode(texts, threads)
    works = {name: (lambda encode=encode: encode(texts, threads)) for name, encode in encoders.items()}
    warm = interleaved({name: work for name, work in works.items() if name not in _SLOW}, rounds)
    slow = interleaved({name: work for name, work in works.items() if name in (*_SLOW, "seedbed")}, min(rounds, 3))
    return {"cold": cold, "warm": warm, "warm beside the slow": slow}


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


def main() -> None:
    parser = argparse.ArgumentParser(description="BPE encoding beside tokenizers, tiktoken, tokie and gigatoken.")
    parser.add_argument("text", nargs="?", help="a UTF-8 text file; without it English, code, 388 languages and CJK")
    parser.add_argument("--vocab-size", type=int, default=32000)
    parser.add_argument("--pattern", choices=sorted(PATTERNS), default="gpt2")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", help="only one of the corpora", choices=[*CORPORA])
    parser.add_argument("--json", type=Path, help="write the results there too")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        _main_of_child(json.loads(options.job))
        return
    libraries = ["seedbed", *(name for name in LIBRARIES if name != "seedbed" and find_spec(name))]
    results: dict[str, Any] = {"circumstances": circumstances([*libraries[1:], "numpy"]), "corpora": {}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        for corpus in [options.text] if options.text else [options.only] if options.only else CORPORA:
            texts = texts_of(corpus)
            size = corpora.size_of(texts)
            train_bpe(texts, options.vocab_size, options.pattern).save(path)
            check_equal(path, texts, libraries)
            show(
                f"{corpus}: {len(texts):,} texts, {size / 1e6:.1f} MB; {options.vocab_size:,} tokens, {options.pattern}"
            )
            memory = {
                name: in_a_process({"what": "memory", "path": str(path), "corpus": corpus, "library": name}, 2)
                for name in libraries
            }
            rows = []
            found: dict[str, Any] = {"bytes": size, "peak_memory_mb": memory}
            for threads in (1, 2):
                job = {
                    "what": "speed", "path": str(path), "corpus": corpus, "libraries": libraries, "threads": threads,
                    "rounds": options.rounds,
                }  # fmt: skip
                times = in_a_process(job, threads)
                found[f"seconds, {threads} threads"] = times
                for name in libraries:
                    warm = times["warm beside the slow" if name in _SLOW else "warm"]
                    mine = times["warm beside the slow" if name in _SLOW else "warm"]["seedbed"]
                    cold = times["cold"]
                    rows.append(
                        (
                            threads,
                            name,
                            f"{size / statistics.median(cold[name]) / 1e6:,.0f}",
                            f"{size / statistics.median(warm[name]) / 1e6:,.0f}",
                            "" if name == "seedbed" else spread(ratios(cold["seedbed"], cold[name]), 2),
                            "" if name == "seedbed" else spread(ratios(mine, warm[name]), 2),
                            f"{memory[name]:,.0f}",
                        )
                    )
            table(("threads", "library", "cold", "warm MB/s", "seedbed is × cold", "× warm", "peak MB"), rows)
            results["corpora"][corpus] = found
        if "tiktoken" in libraries:
            latency = in_a_process({"what": "latency", "path": str(path), "rounds": options.rounds}, 1)
            results["microseconds of a short text"] = latency
            ratio = spread(ratios(latency["seedbed"], latency["tiktoken"]), 2)
            show(
                f"One text of {len(TURN)} characters: {spread(latency['seedbed'])} µs, "
                f"tiktoken {spread(latency['tiktoken'])} µs; {ratio} times as fast"
            )
    results["date"] = time.strftime("%Y-%m-%d")
    if options.json:
        write_results(options.json, results)


if __name__ == "__main__":
    main()
