"""Our Unigram beside `tokenizers`, `tokie` and `sentencepiece`: encoding and training, in one interleaved run.

    python -m benchmarks.tokenizers_unigram [--megabytes 4] [--rounds 3] [--only English] [--json FILE]
    python -m benchmarks.tokenizers_unigram --training 8000 32000 [--megabytes 20] [--rounds 3] [--json FILE]

For each corpus two models are learnt from it: ours, written as a tokenizer.json that `tokenizers` and `tokie` read, and
SentencePiece's own, a `.model` that we read. Those who read the same file must give the same ids; a library that does
not is left out, and told (SentencePiece stays in: far into a text of over 100,000 characters it may round otherwise).
Rounds are interleaved and ratios are taken within a round. Cold is the first pass of a fresh tokenizer, warm the passes
after it. For each number of threads the process is held on so many processors. Peak memory is what a process of its own
grows by while it encodes once, or trains, with two threads.

Training is measured on English, at equal vocabulary sizes and with the same pieces open to both (SentencePiece would
not join scripts and numbers). Likelihood is that of the words that both can spell, over all ways to cut them.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import texts as corpora
from benchmarks.measuring import circumstances, grown_by, interleaved, ratios, seconds, spread, write_results
from seedbed.core.console import show, table
from seedbed.tokenizers import Tokenizer, Unigram, train_unigram

Encode = Callable[[list[str], int], Any]
CORPORA = {
    "English": corpora.english,
    "code": corpora.code,
    "388 languages": corpora.languages,
    "CJK": corpora.cjk,
}


def ours(path: Path) -> Encode:
    tokenizer = Tokenizer.from_sentencepiece(path) if path.suffix == ".model" else Tokenizer.load(path)
    return lambda texts, threads: tokenizer.encode_batch(texts, threads)


def sentencepiece(path: Path) -> Encode:
    from sentencepiece import SentencePieceProcessor

    processor: Any = SentencePieceProcessor(model_file=str(path))
    return lambda texts, threads: processor.encode(texts, num_threads=threads)


def tokenizers(path: Path) -> Encode:
    from tokenizers import Tokenizer as Peer

    tokenizer = Peer.from_file(str(path))
    return lambda texts, threads: tokenizer.encode_batch_fast(texts, add_special_tokens=False)


def tokie(path: Path) -> Encode:
    import tokie

    tokenizer: Any = tokie.Tokenizer.from_json(str(path))
    return lambda texts, threads: tokenizer.encode_batch_flat(texts, add_special_tokens=False)


LIBRARIES: dict[str, Callable[[Path], Encode]] = {
    "seedbed": ours,
    "sentencepiece": sentencepiece,
    "tokenizers": tokenizers,
    "tokie": tokie,
}
READERS = {"unigram.model": ("seedbed", "sentencepiece"), "tokenizer.json": ("seedbed", "tokenizers", "tokie")}


def ids_of(library: str, path: Path, texts: list[str]) -> list[list[int]]:
    result = LIBRARIES[library](path)(texts, 1)
    if library == "seedbed":
        return [result[i].tolist() for i in range(len(texts))]
    if library == "tokenizers":
        return [encoding.ids for encoding in result]
    if library == "tokie":
        return [LIBRARIES[library](path)([text], 1)[0].tolist() for text in texts]
    return result


def readers_that_agree(path: Path, texts: list[str]) -> list[str]:
    sample = texts[:: max(1, len(texts) // 30)]
    expected = ids_of("seedbed", path, sample)
    agreeing = ["seedbed"]
    for library in READERS[path.name][1:]:
        if not find_spec(library):
            continue
        found = ids_of(library, path, sample)
        wrong = sum(one != other for one, other in zip(found, expected, strict=True))
        if wrong == 0 or library == "sentencepiece":
            agreeing.append(library)
        if wrong:
            left_out = "" if library in agreeing else "is left out: it "
            show(f"{library} {left_out}gives other ids on {wrong} of {len(sample)} texts of {path.name}")
    return agreeing


def measure_speed(path: Path, texts: list[str], libraries: list[str], threads: int, rounds: int) -> dict[str, Any]:
    """Seconds by library: cold (a fresh tokenizer each time) and warm."""
    cold: dict[str, list[float]] = {name: [] for name in libraries}
    encoders: dict[str, Encode] = {}
    for _ in range(rounds):
        for name in libraries:
            encoders[name] = LIBRARIES[name](path)
            cold[name].append(seconds(lambda: encoders[name](texts, threads)))  # noqa: B023 - called at once
    works = {name: (lambda encode=encode: encode(texts, threads)) for name, encode in encoders.items()}
    return {"cold": cold, "warm": interleaved(works, rounds)}


def measure_memory(path: Path, texts: list[str], library: str) -> float:
    """Megabytes that this process grows by."""
    encode = LIBRARIES[library](path)
    return grown_by(lambda: encode(texts, 2))


def in_a_process(job: dict[str, Any], processors: int) -> Any:
    """The result of a job of `_main_of_child` in a fresh process that is held on so many processors."""
    environment = os.environ | {"RAYON_NUM_THREADS": str(processors), "TOKENIZERS_PARALLELISM": str(processors > 1)}
    available = sorted(os.sched_getaffinity(0))[:processors]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.tokenizers_unigram", "--job", json.dumps(job)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, available),
    )
    return json.loads(done.stdout.splitlines()[-1])


def learn(library: str, texts: list[str], vocab_size: int) -> dict[str, float]:
    """The pieces, with their scores, that a library learns."""
    if library == "seedbed":
        model = train_unigram(texts, vocab_size, threads=2).specification.model
        assert isinstance(model, Unigram)
        return dict(model.pieces[3:])
    from sentencepiece import SentencePieceProcessor

    processor: Any = SentencePieceProcessor(
        model_proto=sentencepiece_model(texts, vocab_size, split_by_unicode_script=False, split_by_number=False)
    )
    return {processor.id_to_piece(i): processor.get_score(i) for i in range(3, len(processor))}


def measure_training(texts: list[str], library: str, vocab_size: int) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def train() -> None:
        found["seconds"] = seconds(lambda: found.update(pieces=learn(library, texts, vocab_size)))

    found["grown_mb"] = grown_by(train)
    return found


def log_likelihoods(texts: list[str], models: list[dict[str, float]]) -> list[float]:
    """Of each model, in nats a character, over the words that all of them can spell."""
    counts = Counter("\u2581" + word for text in texts for word in unicodedata.normalize("NFKC", text).split())
    sums, characters = [0.0] * len(models), 0
    for word, count in counts.items():
        found = [log_likelihood(word, scores) for scores in models]
        if min(found) > -math.inf:
            characters += count * len(word)
            sums = [total + count * one for total, one in zip(sums, found, strict=True)]
    return [total / characters for total in sums]


def log_likelihood(word: str, scores: dict[str, float], longest: int = 16) -> float:
    """Of a word, over all ways to cut it: the forward sum."""
    forward = [1.0] + [0.0] * len(word)
    for end in range(1, len(word) + 1):
        for start in range(max(0, end - longest), end):
            if forward[start] and word[start:end] in scores:
                forward[end] += forward[start] * math.exp(scores[word[start:end]])
    return math.log(forward[-1]) if forward[-1] else -math.inf


def compare_training(texts: list[str], megabytes: float, vocab_size: int, rounds: int) -> dict[str, Any]:
    job = {"corpus": "English", "megabytes": megabytes, "path": "", "vocab_size": vocab_size}
    runs: dict[str, list[dict[str, Any]]] = {"seedbed": [], "sentencepiece": []}
    for _ in range(rounds):
        for library, done in runs.items():
            done.append(in_a_process(job | {"library": library}, 2))
    models = [done[-1]["pieces"] for done in runs.values()]
    likelihoods = dict(zip(runs, log_likelihoods(texts, models), strict=True))
    found: dict[str, Any] = {"nats a character": likelihoods, "pieces": [len(model) for model in models]}
    rows = []
    for library, done in runs.items():
        found[library] = {key: [run[key] for run in done] for key in ("seconds", "grown_mb")}
        times, memory = found[library].values()
        beside = "" if library == "seedbed" else spread(ratios(found["seedbed"]["seconds"], times), 2)
        rows.append((library, spread(times, 2), beside, spread(memory, 0), f"{likelihoods[library]:.5f}"))
    columns = ("library", "seconds", "seedbed is ×", "peak MB", "nats a character")
    table(columns, rows, title=f"Training {vocab_size:,} on {corpora.size_of(texts) / 1e6:.1f} MB of English")
    return found


def _main_of_child(job: dict[str, Any]) -> None:
    path = Path(job["path"])
    texts = texts_of(job["corpus"], job["megabytes"])
    if "vocab_size" in job:
        found: Any = measure_training(texts, job["library"], job["vocab_size"])
    elif "library" in job:
        found = measure_memory(path, texts, job["library"])
    else:
        found = measure_speed(path, texts, job["libraries"], job["threads"], job["rounds"])
    print(json.dumps(found))


def texts_of(corpus: str, megabytes: float) -> list[str]:
    return corpora.about(CORPORA[corpus](), megabytes * 1e6)


def sentencepiece_model(texts: list[str], vocab_size: int, **settings: Any) -> bytes:
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=(line for text in texts for line in text.split("\n") if line.strip()),
        model_writer=model,
        vocab_size=vocab_size,
        hard_vocab_limit=False,
        max_sentence_length=1 << 24,
        num_threads=2,
        minloglevel=2,
        **settings,
    )
    return model.getvalue()


def train_both(texts: list[str], vocab_size: int, folder: Path) -> None:
    """Both models of a corpus, which may yield fewer pieces."""
    train_unigram(texts, vocab_size).save(folder / "tokenizer.json")
    (folder / "unigram.model").write_bytes(sentencepiece_model(texts, vocab_size))


def compare(path: Path, corpus: str, texts: list[str], megabytes: float, rounds: int) -> dict[str, Any]:
    """All who read one file: times and peak memory, shown as a table."""
    libraries = readers_that_agree(path, texts)
    size = corpora.size_of(texts) / 1e6
    job: dict[str, Any] = {"path": str(path), "corpus": corpus, "megabytes": megabytes}
    memory = {name: in_a_process(job | {"library": name}, 2) for name in libraries}
    found: dict[str, Any] = {"megabytes": size, "peak_memory_mb": memory}
    rows = []
    for threads in (1, 2):
        times = in_a_process(job | {"libraries": libraries, "threads": threads, "rounds": rounds}, threads)
        found[f"seconds, {threads} threads"] = times
        for name in libraries:
            kinds = times["cold"], times["warm"]
            speeds = (spread([size / value for value in kind[name]]) for kind in kinds)
            beside = ("" if name == "seedbed" else spread(ratios(kind["seedbed"], kind[name])) for kind in kinds)
            rows.append((threads, name, *speeds, *beside, f"{memory[name]:,.0f}"))
    columns = ("threads", "library", "cold MB/s", "warm MB/s", "seedbed is × cold", "× warm", "peak MB")
    table(columns, rows, title=f"{corpus}, {size:.1f} MB, {path.name}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Unigram encoding beside sentencepiece, tokenizers and tokie.")
    parser.add_argument("--vocab-size", type=int, default=32000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=float, default=4.0, help="take about so much of each text")
    parser.add_argument("--only", help="only one of the corpora", choices=[*CORPORA])
    parser.add_argument("--file", help="only one of the files", choices=[*READERS])
    parser.add_argument("--training", type=int, nargs="+", metavar="SIZE", help="train vocabularies, encode nothing")
    parser.add_argument("--json", type=Path, help="write the results there too")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        _main_of_child(json.loads(options.job))
        return
    packages = [name for name in ("sentencepiece", "tokenizers", "tokie") if find_spec(name)]
    results: dict[str, Any] = {"circumstances": circumstances(packages), "date": time.strftime("%Y-%m-%d")}
    for size in options.training or ():
        texts = texts_of("English", options.megabytes)
        results[f"training {size}"] = compare_training(texts, options.megabytes, size, options.rounds)
    for corpus in () if options.training else [options.only] if options.only else CORPORA:
        texts = texts_of(corpus, options.megabytes)
        with tempfile.TemporaryDirectory() as folder:
            train_both(texts, options.vocab_size, Path(folder))
            results[corpus] = {
                file: compare(Path(folder) / file, corpus, texts, options.megabytes, options.rounds)
                for file in ([options.file] if options.file else READERS)
            }
    if options.json:
        write_results(options.json, results)


if __name__ == "__main__":
    main()
