"""Our vector indexes beside the libraries that people use for it: recall against queries per second.

    python -m benchmarks.indexes [--sets minilm words] [--only HNSW hnswlib] [--count 20000] [--rounds 5]
                                 [--threads 1] [--build-threads 2] [--json benchmarks/results] [--built-only]

Each index is built in a process of its own, which is timed and whose growth is its memory, and kept in a folder outside
the repository until its library, its options or the set change (ours: until the native code does). Then one process,
held on as many processors as it may use threads, loads them all and lets them answer the same queries in interleaved
rounds, so that a busy moment of the machine falls on all of them alike; ratios are taken within a round. Every
contender has a few variants of its build options, and its curve is the best of them at each recall.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import index_data
from benchmarks.index_contenders import OURS, Contender
from benchmarks.index_data import CACHE, SETS, K
from benchmarks.index_peers import PEERS
from benchmarks.index_report import Built, Point, Result, as_json, draw, show_results
from benchmarks.measuring import circumstances, seconds, write_results
from seedbed import _native
from seedbed.core.console import console, show

CONTENDERS = {contender.name: contender for contender in (*OURS, *PEERS)}
_ENOUGH = 0.997  # wider searches than the first that reaches this say nothing more, nor those that find no more
_WORTH = 0.8  # recall below which nobody looks


def kept_at(
    cache: Path, contender: Contender, options: dict[str, Any], set_name: str, count: int, threads: int
) -> Path:
    """Where a built index is kept; another version of what built it is kept elsewhere."""
    if contender.package == "seedbed":
        version = hashlib.sha256(Path(str(_native.__file__)).read_bytes()).hexdigest()[:12]
    else:
        version = importlib.metadata.version(contender.package)
    described = "-".join(f"{key}{value}" for key, value in options.items())
    name = f"{contender.graph or contender.name} {described} {version} {threads}".replace(" ", "_").replace("/", "_")
    return cache / "built" / f"{set_name}.{count}" / name


def build(job: dict[str, Any]) -> None:
    """Build one variant of one contender on one set, and keep it with what it took."""
    contender, folder = CONTENDERS[job["contender"]], Path(job["folder"])
    data = index_data.load(job["set"], job["count"], Path(job["cache"]))
    warm_up = data.vectors[: min(2000, len(data.vectors))]
    contender.build(warm_up, job["threads"], **job["options"])  # libraries load and compile themselves
    before = _resident()
    started = time.perf_counter()
    index = contender.build(data.vectors, job["threads"], **job["options"])
    took = time.perf_counter() - started
    resident = _resident() - before
    temporary = folder.with_suffix(".writing")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    contender.save(index, temporary / "index")
    stored = sum(path.stat().st_size for path in (temporary / "index", *(temporary / "index").rglob("*")))
    (temporary / "built.json").write_text(json.dumps(asdict(Built(job["options"], took, resident, stored))))
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def _resident() -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(job: dict[str, Any]) -> None:
    """Load all that was built for one set, find recalls, and time the settings that matter in interleaved rounds."""
    data = index_data.load(job["set"], job["count"], Path(job["cache"]))
    threads = job["threads"]
    works: list[tuple[str, Contender, Any, dict[str, Any], Any, float]] = []
    for name, options, folder in job["built"]:
        contender = CONTENDERS[name]
        index = contender.load(Path(folder) / "index", data.vectors.shape[1], threads, **options)
        contender.search(index, data.queries[:50], K, contender.knobs[0], threads)
        best, in_vain = 0.0, 0
        for knob in contender.knobs:
            recall = data.recall(contender.search(index, data.queries, K, knob, threads))
            in_vain = 0 if recall > best + 0.0005 else in_vain + 1
            best = max(best, recall)
            if recall >= _WORTH or knob == contender.knobs[-1]:
                works.append((name, contender, index, options, knob, recall))
            if recall >= _ENOUGH or in_vain == contender.patience:
                break
    times: list[list[float]] = [[] for _ in works]
    for _ in range(job["rounds"]):
        for (_name, contender, index, _options, knob, _recall), taken in zip(works, times, strict=True):
            taken.append(seconds(lambda: contender.search(index, data.queries, K, knob, threads)))  # noqa: B023 - called at once
    for (name, _contender, _index, options, knob, recall), taken in zip(works, times, strict=True):
        point = Point(options, knob, recall, [len(data.queries) / one for one in taken])
        print(json.dumps({"name": name, **asdict(point)}))


def in_a_process(what: str, job: dict[str, Any], processors: int) -> str:
    """Output of a job in a fresh process that is held on so many processors, as are the pools of its libraries."""
    pools = {name: str(processors) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")}
    available = sorted(os.sched_getaffinity(0))[-processors:]
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.indexes", "--job", what, json.dumps(job)],
        env=os.environ | pools,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, available),
    ).stdout


def built(set_name: str, count: int | None, contenders: list[Contender], options: argparse.Namespace) -> Any:
    """(contender, options, folder) of every variant, built where it is not kept."""
    job = {"set": set_name, "count": count, "cache": str(options.cache), "threads": options.build_threads}
    found = []
    for contender in contenders:
        for variant in map(dict, contender.variants[: options.variants]):
            size = min(count or SETS[set_name].count, SETS[set_name].count)
            folder = kept_at(options.cache, contender, variant, set_name, size, options.build_threads)
            if not (folder / "built.json").exists() or (options.rebuild and contender.package == "seedbed"):
                more = {"contender": contender.name, "options": variant, "folder": str(folder)}
                try:
                    in_a_process("build", job | more, options.build_threads)
                except subprocess.CalledProcessError as error:
                    show(f"{contender.name} {variant}: cannot be built ({error})")
                    continue
                took = json.loads((folder / "built.json").read_text())["seconds"]
                show(f"{set_name}: {contender.name} {variant} built in {took:,.1f} s")
            found.append((contender.name, variant, str(folder)))
    return found


def results_of(kept: list[tuple[str, dict[str, Any], str]], lines: list[str]) -> list[Result]:
    results: dict[str, Result] = {}
    for name, _, folder in kept:
        made = Built(**json.loads((Path(folder) / "built.json").read_text()))
        results.setdefault(name, Result(name, [], [])).built.append(made)
    for line in lines:
        point = json.loads(line)
        results[point.pop("name")].points.append(Point(**point))
    return list(results.values())


def chosen(only: list[str] | None) -> list[Contender]:
    """Those whose names hold one of the words of `only`, and that can be used here."""
    found = []
    for contender in CONTENDERS.values():
        if only and not any(word.lower() in contender.name.lower() for word in only):
            continue
        if why := contender.missing():
            show(f"{contender.name} is left out: {why}")
        else:
            found.append(contender)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Vector indexes: recall against queries per second.")
    parser.add_argument("--sets", nargs="+", choices=[*SETS], default=[*SETS])
    parser.add_argument("--only", nargs="+", help="contenders whose names hold one of these words")
    parser.add_argument("--count", type=int, help="only so many vectors of each set")
    parser.add_argument("--variants", type=int, help="only so many build options of each, the first ones")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of the searches, and processors that they are held on")
    parser.add_argument("--build-threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--reference", help="name of the index whose ratios are printed (default: the fastest of ours)")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of sets and built indexes")
    parser.add_argument("--built-only", action="store_true", help="build what is missing, measure nothing")
    parser.add_argument("--rebuild", action="store_true", help="build ours anew")
    parser.add_argument(
        "--json", type=Path, help="folder for indexes-SET.json and the charts, such as benchmarks/results"
    )
    parser.add_argument("--job", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        {"build": build, "measure": measure}[options.job[0]](json.loads(options.job[1]))
        return
    if not console.is_terminal:
        console.width = 170
    contenders = chosen(options.only)
    for set_name in options.sets:
        data = index_data.load(set_name, options.count, options.cache)
        count, dim = data.vectors.shape
        kept = built(set_name, options.count, contenders, options)
        if options.built_only:
            continue
        job = {
            "set": set_name, "count": options.count, "cache": str(options.cache), "threads": options.threads,
            "rounds": options.rounds, "built": kept,
        }  # fmt: skip
        results = results_of(kept, in_a_process("measure", job, options.threads).splitlines())
        ours = [one for one in results if CONTENDERS[one.name].package == "seedbed"]
        named = [one for one in ours if one.name == options.reference]
        reference = next(iter(named or sorted(ours, key=lambda one: -(one.speed_at(0.95) or 0))), None)
        title = f"{set_name}: {count:,} × {dim}, {len(data.queries):,} queries on {options.threads} thread(s)"
        show_results(title, results, count, reference)
        if options.json:
            packages = sorted({CONTENDERS[one.name].package for one in results} | {"numpy"})
            content = {
                "circumstances": circumstances(packages), "date": time.strftime("%Y-%m-%d"), "set": set_name,
                "vectors": count, "dim": dim, "queries": len(data.queries), "threads": options.threads,
                "build threads": options.build_threads, "indexes": as_json(results, reference),
            }  # fmt: skip
            suffix = "" if options.threads == 1 else f"-{options.threads}-threads"
            write_results(options.json / f"indexes-{set_name}{suffix}.json", content)
            draw(results, title, options.json / f"indexes-{set_name}{suffix}.svg")


if __name__ == "__main__":
    main()
