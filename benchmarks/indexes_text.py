"""Searches by words and by many vectors a document, beside bm25s, PyLate and fast-plaid.

    python -m benchmarks.indexes_text [--only bm25 maxsim plaid cold] [--threads 1 2] [--rounds 5] [--cache DIR]

bm25: 100,000 real sentences, and as many passages of 60 words, asked runs of 2 to 10 words out of them, k = 10; from
strings to ids, and for the peer from terms to ids alone, too. maxsim: exact scores of 128 abstracts for each query.
cold: the first answer of a fresh process on an index of 100,000 passages, from its start to its end, by the words
alone. plaid: Cranfield's abstracts and sentences by MiniLM's token vectors; queries per second beside nDCG@10, build
time and the memory that building grows by at most, each in a process of its own. fast-plaid works only with the
release of torch that the end of its version names (1.7.0.2110: 2.11), and ends the process with another: run that
part where both are installed. Rounds are interleaved; every peer runs with several settings.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import texts as corpora
from benchmarks import token_vectors
from benchmarks.index_data import CACHE, sentences
from benchmarks.measuring import circumstances, grown_by, interleaved, ratios, spread, write_results
from seedbed.core.console import show
from seedbed.core.ragged import Ragged
from seedbed.embeddings.chunking import Passage
from seedbed.embeddings.passages import write_passages
from seedbed.embeddings.search import BM25, PASSAGES, SETTINGS, SearchSettings, write_settings
from seedbed.evaluation import retrieval
from seedbed.indexes import AnalyzerConfig, BM25Index, MultiVectorIndex, load_index, maxsim

K = 10
DOCUMENTS, SENTENCES = 100_000, 10_000


def passages(count: int, words: int = 60) -> list[str]:
    """Runs of `words` words of English, overlapping where there is not enough."""
    flat = " ".join(corpora.english()).split()
    step = max(1, (len(flat) - words) // count)
    return [" ".join(flat[start : start + words]) for start in range(0, step * count, step)]


def questions(texts: list[str], count: int = 1000) -> list[str]:
    """Runs of 2 to 10 words of some of the texts."""
    draws = random.Random(1)
    chosen = []
    for text in draws.sample(texts, count):
        words = text.split()
        length = draws.randint(2, 10)
        start = draws.randrange(max(1, len(words) - length + 1))
        chosen.append(" ".join(words[start : start + length]))
    return chosen


def bm25(args: argparse.Namespace) -> dict[str, Any]:
    import bm25s

    results: dict[str, Any] = {}
    for name, texts in (("sentences", sentences(DOCUMENTS)), ("passages", passages(DOCUMENTS))):
        queries = questions(texts)
        # The same terms for both: words in lower case without a stemmer; each library's own list of stop words.
        started = time.perf_counter()
        ours = BM25Index(analyzer=AnalyzerConfig(identifiers=False, stemmer="none"))
        ours.add(texts)
        build = time.perf_counter() - started
        peers = {}
        started = time.perf_counter()
        tokens = bm25s.tokenize(texts, stopwords="en", show_progress=False)
        tokenized = time.perf_counter() - started
        for backend in ("numpy", "numba"):
            started = time.perf_counter()
            peers[backend] = bm25s.BM25(method="lucene", k1=1.2, b=0.75, backend=backend)
            peers[backend].index(tokens, show_progress=False)
            if backend == "numba":
                build_ratio = (tokenized + time.perf_counter() - started) / build
        for threads in args.threads:
            works: dict[str, Callable[[], object]] = {}
            terms = bm25s.tokenize(queries, stopwords="en", show_progress=False, return_ids=False)

            def ours_all(queries: list[str] = queries, threads: int = threads, ours: BM25Index = ours) -> None:
                ours.search(queries, K, threads=threads)

            works["seedbed"] = ours_all
            for backend, peer in peers.items():
                few = queries if backend == "numba" else queries[:40]  # the other takes milliseconds a query

                given = terms[: len(few)]

                def peer_all(peer: Any = peer, few: list[str] = few, threads: int = threads) -> None:
                    asked = bm25s.tokenize(few, stopwords="en", show_progress=False, return_ids=False)
                    peer.retrieve(asked, k=K, show_progress=False, n_threads=threads)

                def peer_terms(peer: Any = peer, few: Any = given, threads: int = threads) -> None:
                    peer.retrieve(few, k=K, show_progress=False, n_threads=threads)

                works[f"bm25s {backend}"] = peer_all
                works[f"bm25s {backend}, terms given"] = peer_terms
            for work in works.values():
                work()
            times = interleaved(works, args.rounds)
            rates = {
                label: [(40 if "numpy" in label else len(queries)) / one for one in taken]
                for label, taken in times.items()
            }
            for label, rate in rates.items():
                line = {"queries_per_second": rate}
                if label != "seedbed":
                    line["ours_over_it"] = [our / their for our, their in zip(rates["seedbed"], rate, strict=True)]
                results[f"{name}, {threads} threads, {label}"] = line
                against = f"   ours x {spread(line['ours_over_it'], 2)}" if "ours_over_it" in line else ""
                show(f"bm25 {name:9} {threads} threads  {label:28} {spread(rate, 0)} queries/s{against}")
        update = interleaved({"update": partial(_update, ours, texts[:100])}, args.rounds)["update"]
        results[f"{name}, 100 added, searched for and removed"] = update
        results[f"{name}, build"] = {"seconds": build, "bm25s_over_it": build_ratio}
        show(
            f"bm25 {name}: built in {build:.1f} s (bm25s x {build_ratio:.2f}); 100 added, searched for and removed in "
            f"{spread([1000 * one for one in update], 1)} ms"
        )
    return results


def _update(index: BM25Index, texts: list[str]) -> None:
    ids = np.arange(10**9, 10**9 + len(texts))
    index.add(texts, ids)
    index.search(texts[:10], K)
    index.remove(ids)


def maxsim_rerank(args: argparse.Namespace) -> dict[str, Any]:
    import torch
    from pylate import rank
    from pylate.scores import colbert_scores

    vectors = _vectors(args)
    draws = np.random.default_rng(0)
    jobs: list[tuple[Any, ...]] = []
    for query in list(vectors.queries)[:40]:
        places = draws.integers(0, 1400, 128)
        rows = [np.ascontiguousarray(vectors.documents[int(place)]) for place in places]
        padded = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True)
        together = Ragged.from_rows(rows, dtype=np.float32)
        halves = Ragged(together.values.astype(np.float16), together.offsets)
        jobs.append((query, rows, [torch.from_numpy(row) for row in rows], padded, together, halves))
    results: dict[str, Any] = {}
    numbers = list(range(128))

    def scored(form: int, threads: int) -> None:
        for job in jobs:
            maxsim([job[0]], job[form], threads=threads)

    for threads in args.threads:
        torch.set_num_threads(threads)
        works: dict[str, Callable[[], object]] = {
            "seedbed, a list": partial(scored, 1, threads),
            "seedbed, together": partial(scored, 4, threads),
            "seedbed, together in float16": partial(scored, 5, threads),
            "PyLate rank.rerank, a list": lambda: [rank.rerank([numbers], [job[0]], [job[2]]) for job in jobs],
            "torch, padded before": lambda: [colbert_scores(torch.from_numpy(job[0])[None], job[3]) for job in jobs],
        }
        query, rows, *_, padded, together, _ = jobs[0]
        longest = int(np.argmax(together.lengths))  # tokens of padding would count in PyLate
        expected = colbert_scores(torch.from_numpy(query)[None], padded)[0, longest]
        np.testing.assert_allclose(maxsim([query], together)[0, longest], expected, rtol=1e-5)
        for work in works.values():
            work()
        times = interleaved(works, args.rounds)
        for ours, theirs in (
            ("seedbed, a list", "PyLate rank.rerank, a list"),
            ("seedbed, together", "torch, padded before"),
            ("seedbed, together in float16", "torch, padded before"),
        ):
            faster = ratios(times[ours], times[theirs])
            milliseconds = [1000 * one / len(jobs) for one in times[ours]]
            results[f"{threads} threads, {ours} against {theirs}"] = {"milliseconds": milliseconds, "ratio": faster}
            show(f"maxsim {threads} threads  {ours:30} {spread(milliseconds, 2)} ms   x {spread(faster, 2)} {theirs}")
    return results


def _vectors(args: argparse.Namespace) -> token_vectors.TokenVectors:
    return token_vectors.load(args.cache, sentences(args.sentences))


def build_one(args: argparse.Namespace) -> None:
    """Build one index from vectors that lie in memory already; print seconds and megabytes that it grew by at most."""
    vectors = _vectors(args)
    rows = [np.ascontiguousarray(row) for row in vectors.documents]
    folder = args.cache / f"{args.build}.multivector"
    taken: dict[str, float] = {}
    if args.build == "seedbed":

        def work() -> None:
            index = MultiVectorIndex(
                token_vectors.DIM, 4, threads=args.threads[-1], memory=args.memory << 20, spill=args.cache
            )
            index.train(rows)
            index.add(iter(rows))
            index.save(folder)
    else:
        import torch
        from fast_plaid import search

        torch.set_num_threads(args.threads[-1])
        tensors = [torch.from_numpy(row) for row in rows]
        index = search.FastPlaid(index=str(folder), device="cpu")

        def work() -> None:
            index.create(documents_embeddings=tensors, nbits=4)

    started = time.perf_counter()
    taken["megabytes"] = grown_by(work)
    taken["seconds"] = time.perf_counter() - started
    paths = [folder] if folder.is_file() else list(folder.rglob("*"))
    taken["file_megabytes"] = sum(path.stat().st_size for path in paths) / 1e6
    print(json.dumps(taken))


def plaid(args: argparse.Namespace) -> dict[str, Any]:
    import torch
    from fast_plaid import search

    results: dict[str, Any] = {}
    for who in ("seedbed", "fast-plaid"):
        kept = args.cache / f"{who}.build.json"
        if not kept.exists():
            command = [sys.executable, "-m", "benchmarks.indexes_text", "--build", who, "--cache", str(args.cache)]
            command += ["--threads", str(max(args.threads)), "--memory", str(args.memory)]
            command += ["--sentences", str(args.sentences)]
            kept.write_text(
                subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
            )
        results[f"{who}, build"] = json.loads(kept.read_text())
        show(f"plaid {who:10} built: {results[f'{who}, build']}")
    vectors, collection = _vectors(args), token_vectors.cranfield()
    ours = load_index(args.cache / "seedbed.multivector")
    assert isinstance(ours, MultiVectorIndex)
    theirs = search.FastPlaid(index=str(args.cache / "fast-plaid.multivector"), device="cpu")
    queries = list(vectors.queries)
    tensors = [torch.from_numpy(np.array(row)) for row in queries]

    names = [*collection.documents, *(f"sentence {place}" for place in range(args.sentences))]

    def quality(ids: Any) -> float:
        named = [[names[place] for place in row if place >= 0] for row in ids]
        return retrieval.ndcg(named, collection.relevant, K)

    def our_ids(probes: int, candidates: int, threads: int) -> Any:
        return ours.search(queries, K, probes=probes, candidates=candidates, threads=threads)[1]

    def their_ids(probes: int, candidates: int) -> Any:
        found = theirs.search(tensors, top_k=K, n_ivf_probe=probes, n_full_scores=candidates, show_progress=False)
        return [[document for document, _ in row] for row in found]

    best = np.argsort(-maxsim(vectors.queries, vectors.documents), axis=1)[:, :K]
    results["exact, nDCG@10"] = quality(best)
    show(f"plaid exact MaxSim: nDCG@10 {results['exact, nDCG@10']:.4f}")
    for threads in args.threads:
        torch.set_num_threads(threads)
        works: dict[str, Callable[[], Any]] = {}
        for probes, candidates in ((2, 32), (4, 32), (4, 64), (8, 64), (8, 128)):
            works[f"seedbed probes {probes} candidates {candidates}"] = partial(our_ids, probes, candidates, threads)
        for probes, candidates in ((8, 8192), (2, 64), (4, 64), (4, 256), (8, 256)):
            works[f"fast-plaid probes {probes} candidates {candidates}"] = partial(their_ids, probes, candidates)
        qualities = {label: quality(work()) for label, work in works.items()}
        times = interleaved(works, args.rounds)
        rates = {label: [len(queries) / one for one in taken] for label, taken in times.items()}
        for label, rate in rates.items():
            results[f"{threads} threads, {label}"] = {"nDCG@10": qualities[label], "queries_per_second": rate}
            show(f"plaid {threads} threads  {label:40} nDCG@10 {qualities[label]:.4f}  {spread(rate, 0)} queries/s")
        for label in (one for one in works if one.startswith("fast-plaid")):
            equal = [one for one in works if one.startswith("seedbed") and qualities[one] >= qualities[label] - 0.001]
            if equal:
                chosen = max(equal, key=lambda one: sorted(rates[one])[len(rates[one]) // 2])
                faster = ratios(times[chosen], times[label])
                results[f"{threads} threads, ours over {label}"] = faster
                show(f"plaid {threads} threads  {chosen} is x {spread(faster, 1)} {label}")
    return results


COLD = """
import sys
from seedbed.embeddings.search import Searcher
print(Searcher.open(sys.argv[1], modes=("bm25",)).search(sys.argv[2], 10, "bm25")[0].id)
"""


def cold(args: argparse.Namespace) -> dict[str, Any]:
    folder = args.cache / "cold"
    folder.mkdir(parents=True, exist_ok=True)
    texts = passages(DOCUMENTS)
    if not (folder / SETTINGS).exists():
        rows = [Passage(f"{place}#0", str(place), "", "english.txt", text) for place, text in enumerate(texts)]
        index = BM25Index()
        index.add(texts)
        index.save(folder / BM25)
        write_passages(folder / PASSAGES, rows)
        write_settings(folder, SearchSettings(encoder_fingerprint=""))
    query = questions(texts, 1)[0]
    commands = {
        "python -c": [sys.executable, "-c", COLD, str(folder), query],
        "seedbed search": [sys.executable, "-m", "seedbed", "search", query, "--index", str(folder), "-k", "10"],
    }

    def work(command: list[str]) -> Callable[[], object]:
        return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    times = interleaved({name: work(command) for name, command in commands.items()}, args.rounds)
    for name, seconds in times.items():
        show(f"cold {name:15} {spread(seconds, 2)} s")
    size = sum(file.stat().st_size for file in folder.iterdir())
    return {"documents": DOCUMENTS, "bytes": size, "seconds": times}


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "bm25": bm25,
    "maxsim": maxsim_rerank,
    "plaid": plaid,
    "cold": cold,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "indexes_text.json")
    parser.add_argument("--sentences", type=int, default=SENTENCES, help="for plaid: beside the 1,400 abstracts")
    parser.add_argument("--memory", type=int, default=192, help="megabytes that building a MultiVectorIndex may take")
    parser.add_argument("--build", choices=["seedbed", "fast-plaid"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if args.build:
        build_one(args)
        return
    kept = json.loads(args.json.read_text()) if args.json.exists() else {}
    for part in args.only:
        kept[part] = PARTS[part](args)
        kept["circumstances"] = circumstances(["bm25s", "numba", "numpy", "pylate", "fast-plaid", "torch"])
        write_results(args.json, kept)


if __name__ == "__main__":
    main()
