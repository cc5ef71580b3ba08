"""Training of byte-level BPE beside `tokenizers`: seconds and peak memory, each in a process of its own.

    python -m benchmarks.tokenizers_training [--megabytes 20 200] [--vocab-size 32000] [--rounds 3] [--json PATH]

Both read the same file as a stream of documents of about 4,000 characters, and must learn the same merges. The text is
the shared English (about 19 MB), or the files that are given. For more, it is repeated, and in each further pass some
of the spellings are changed, as more text brings new words. Rounds are interleaved, so a busy moment of the machine
falls on both; ratios are taken within a round. Memory is the peak of the process, and what of it came on top of the
interpreter with the library imported.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measuring import circumstances, ratios, spread, write_results

_ROOT = Path(__file__).parents[1]
_PATTERN = "gpt2"
# How many of a hundred words are spelled otherwise in a further pass: ten passes then have about three times the words.
_CHANGED = 25


def documents(path: Path) -> Iterator[str]:
    lines: list[str] = []
    size = 0
    with open(path, encoding="utf-8", newline="") as handle:
        for line in handle:
            lines.append(line)
            size += len(line)
            if size >= 4000:
                yield "".join(lines)
                lines, size = [], 0
    yield "".join(lines)


def write_text(path: Path, source: str, megabytes: float) -> None:
    """`source` repeated up to a size; the same call gives the same file."""
    wanted = int(megabytes * 1e6)
    vowels, consonants = "aeiou", "bcdfghjklmnpqrstvwxyz"
    with open(path, "w", encoding="utf-8", newline="") as handle:
        for turn in range(1000):
            shift = 1 + turn // 2 % 4
            letters = {ord(old): new for row in (vowels, consonants) for old, new in _rotated(row, shift)}
            known: dict[str, str] = {}

            def changed(match: re.Match[str], turn: int = turn, known: dict = known, letters: dict = letters) -> str:
                word = match[0]
                if word not in known:
                    drawn = zlib.crc32(f"{turn}{word}".encode()) % 100
                    known[word] = word.translate(letters) if turn and drawn < _CHANGED else word
                return known[word]

            text = re.sub("[A-Za-z]{4,}", changed, source)
            handle.write(text[: wanted - handle.tell()])
            if handle.tell() >= wanted:
                return


def _rotated(row: str, shift: int) -> Iterator[tuple[str, str]]:
    return zip(row + row.upper(), (row[shift:] + row[:shift]) * 2, strict=True)


def train_ours(path: Path, vocab_size: int) -> list[list[str]]:
    from seedbed.tokenizers import ByteLevelBPE, train_bpe

    model = train_bpe(documents(path), vocab_size, _PATTERN).specification.model
    assert isinstance(model, ByteLevelBPE)
    return [list(pair) for pair in model.merges]


def train_peer(path: Path, vocab_size: int) -> list[list[str]]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents(path), trainer)
    return json.loads(tokenizer.to_str())["model"]["merges"]


def _peak_bytes() -> int:
    """Of this program alone: what `getrusage` says of a child starts with its parent's peak."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def one_process(library: str, path: Path, vocab_size: int) -> None:
    """Train once and print what it took."""
    if library == "seedbed":
        import seedbed.tokenizers.bpe  # noqa: F401
    else:
        import tokenizers  # noqa: F401
    before = _peak_bytes()
    started = time.perf_counter()
    merges = (train_ours if library == "seedbed" else train_peer)(path, vocab_size)
    seconds = time.perf_counter() - started
    peak = _peak_bytes()
    learnt = hashlib.sha256(json.dumps(merges).encode()).hexdigest()
    print(json.dumps({"seconds": seconds, "peak": peak, "grown": peak - before, "merges": learnt}))


def measured(library: str, path: Path, vocab_size: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.tokenizers_training", "--one", library, str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([*sys.path, str(_ROOT)])}
    done = subprocess.run(
        [*command, "--vocab-size", str(vocab_size)], env=environment, cwd=_ROOT, check=True, capture_output=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def compare(path: Path, vocab_size: int, rounds: int) -> dict[str, Any]:
    from seedbed.core.console import table

    runs: dict[str, list[dict[str, Any]]] = {"seedbed": [], "tokenizers": []}
    for _ in range(rounds):
        for library, done in runs.items():
            done.append(measured(library, path, vocab_size))
    assert len({run["merges"] for done in runs.values() for run in done}) == 1, "the merges differ"
    times_less = {key: ratios(*([run[key] for run in done] for done in runs.values())) for key in _UNITS}
    rows = [
        (library, *(spread([run[key] / unit for run in done], digits) for key, (unit, digits) in _UNITS.items()))
        for library, done in runs.items()
    ]
    rows.append(("tokenizers / seedbed", *(spread(times_less[key], 2) for key in _UNITS)))
    size = path.stat().st_size
    title = f"{size / 1e6:,.0f} MB, vocabulary {vocab_size:,}, median of {rounds} (range)"
    table(("library", "seconds", "peak MB", "of it on top of imports"), rows, title=title)
    return {"bytes": size, "runs": runs, "times_less": times_less}


_UNITS = {"seconds": (1.0, 2), "peak": (1e6, 0), "grown": (1e6, 0)}  # and digits


def main() -> None:
    parser = argparse.ArgumentParser(description="BPE training beside tokenizers: time and peak memory.")
    parser.add_argument("texts", nargs="*", type=Path, help="UTF-8 text files; without them the shared English")
    parser.add_argument("--megabytes", type=float, nargs="+", default=[20.0, 200.0])
    parser.add_argument("--vocab-size", type=int, default=32000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--one", choices=("seedbed", "tokenizers"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one_process(options.one, options.texts[0], options.vocab_size)
        return

    if options.texts:
        source = "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in options.texts)
    else:
        from benchmarks.texts import english

        source = "\n".join(english())
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for megabytes in options.megabytes:
            path = Path(folder) / "text.txt"
            write_text(path, source, megabytes)
            results.append(compare(path, options.vocab_size, options.rounds))
    if options.json:
        setting = {"vocab_size": options.vocab_size, "pattern": _PATTERN, "rounds": options.rounds}
        write_results(options.json, circumstances(["tokenizers", "numpy"]) | setting | {"results": results})


if __name__ == "__main__":
    main()
