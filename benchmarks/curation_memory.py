"""Whether curation's memory grows with its input: `seedbed curate --preset fineweb` of ever more made-up pages.

    python -m benchmarks.curation_memory [MEGABYTES...] [--workers 2] [--json FILE]

Pages are sentences of English texts in another order, a tenth of them copies of earlier pages with a sentence changed,
in one file of JSON Lines. Each size is curated by the command line, near-duplicates and all, in processes that are
looked at twenty times a second (Linux): the peak of each in all, and without what is mapped from files, which the
system takes back when it wants. What grows by design is a few numbers a document; the last row tells how many bytes.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.curation import documents
from benchmarks.measuring import circumstances, write_results
from seedbed.core.artifacts import open_artifact
from seedbed.core.console import show, table

_COPIES = 10  # one page in so many
_RECENT = 5_000  # pages that copies are made of


def write_pages(path: Path, megabytes: float) -> int:
    """Write about so much; returns how many pages."""
    generator = random.Random(0)
    found = re.findall(r"[A-Z][^.!?\n]{30,200}[.!?]", " ".join(documents(8)))
    recent: list[list[str]] = []
    count = size = 0
    with open(path, "w", encoding="utf-8") as file:
        while size < megabytes * 1e6:
            if count % _COPIES == _COPIES - 1:
                sentences = list(generator.choice(recent))
                sentences[generator.randrange(len(sentences))] = generator.choice(found)
            else:
                sentences = generator.choices(found, k=generator.randrange(8, 40))
                recent.append(sentences)
            text = "\n".join(" ".join(sentences[at : at + 4]) for at in range(0, len(sentences), 4))
            size += file.write(json.dumps({"text": text, "number": count}) + "\n")
            count += 1
            if len(recent) > 2 * _RECENT:
                del recent[:_RECENT]
    return count


def measure(source: Path, out: Path, workers: int) -> dict[str, Any]:
    """Peaks in megabytes, of the process that puts together and of the largest worker, in all and not mapped."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "seedbed", "curate", str(source), "--preset", "fineweb", "--out", str(out)]
    process = subprocess.Popen([*command, "--workers", str(workers)], stdout=subprocess.DEVNULL)
    peaks = {"whole": 0.0, "whole not mapped": 0.0, "worker": 0.0, "worker not mapped": 0.0, "all together": 0.0}
    while process.poll() is None:
        together = 0.0
        for pid, who in [(process.pid, "whole"), *((pid, "worker") for pid in _children(process.pid))]:
            resident, anonymous = _memory(pid)
            together += resident
            peaks[who] = max(peaks[who], resident)
            peaks[f"{who} not mapped"] = max(peaks[f"{who} not mapped"], anonymous)
        peaks["all together"] = max(peaks["all together"], together)
        time.sleep(0.05)
    assert process.returncode == 0
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return {**peaks, "seconds": time.perf_counter() - started, "processor seconds": spent}


def _memory(pid: int) -> tuple[float, float]:
    """Resident megabytes, in all and anonymous; zeros of a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0, 0.0
    sizes = {line.partition(":")[0]: line.split()[1] for line in lines if line.startswith(("VmRSS", "RssAnon"))}
    return int(sizes.get("VmRSS", 0)) / 1024, int(sizes.get("RssAnon", 0)) / 1024


def _children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("megabytes", nargs="*", type=float, default=[20, 100, 400])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the pages and corpora lie for a while")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for megabytes in options.megabytes:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            source, out = Path(folder) / "pages.jsonl", Path(folder) / "corpus"
            count = write_pages(source, megabytes)
            row = {"megabytes": megabytes, "documents": count, **measure(source, out, options.workers)}
            metrics = open_artifact(out).metrics
            row["kept"] = sum(split["documents"] for split in metrics["kept"].values())
            row["near-duplicates"] = metrics["near_duplicates"]["documents"]
        if rows:
            more = row["documents"] - rows[0]["documents"]
            grown = (row["whole not mapped"] - rows[0]["whole not mapped"]) * 2**20
            row["bytes a document more"] = round(grown / more)
        rows.append({name: round(value, 1) if isinstance(value, float) else value for name, value in row.items()})
        show(json.dumps(rows[-1]))
    measures = [(name, *(str(row.get(name, "")) for row in rows)) for name in list(rows[-1])[1:]]
    table(("MB at most, of MB", *(f"{row['megabytes']:g}" for row in rows)), measures)
    if options.json:
        write_results(options.json, {**circumstances([]), "workers": options.workers, "memory": rows})


if __name__ == "__main__":
    main()
