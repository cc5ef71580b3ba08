"""`seedbed curate` killed at random moments, with another number of workers each time, until it is through.

    python -m benchmarks.fuzz_curation [--minutes 30] [--first 0]

Each round curates one small, faulty mixture of sources (text, HTML, JSON Lines, Parquet, a zip, a WARC cut short) in
units made small, so that there are a dozen. A few times it is killed with SIGKILL, some moment after it began to judge,
to compare or to write: the whole process group, as a machine does that loses its power; the first process alone, which
leaves workers without a master; or one worker. Then it is given again and ends. Its files must be those of a run that
nothing disturbed, its fingerprint the same, and what came in must be what was kept and rejected, each once. It fails at
the first difference; --first begins with that round.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.fuzzing import main
from seedbed.core.artifacts import open_artifact
from seedbed.curation.corpus import SPLITS
from seedbed.curation.storage import read_rows

_SETTINGS = (
    "near_duplicates.parameters=verified",
    "repeated_line_characters=60",
    "repeated_substring_bytes=200",
    'personal_data.kinds=["email"]',
    "mixing.temperature=2",
    "shuffle=true",
)
_OPTIONS = [part for setting in _SETTINGS for part in ("-o", setting)]
_COMMAND = """
import sys
from seedbed.curation import engines, units
units.UNIT_BYTES, units._CHUNK, engines._ALONE_BYTES = 100_000, 20_000, 0
from seedbed.cli import main
main()
"""
_MOST_KILLS = 5
_PHASES = ("beginning", "judging", "comparing", "writing splits", "done")
_WEIGHTS = (2, 4, 3, 2, 1)
_LONGEST = 0.4  # seconds from the beginning of a phase to a kill


def _texts(count: int) -> list[str]:
    generator = random.Random(0)
    made: list[str] = []
    for number in range(count):
        words = [f"word{generator.randrange(3_000)}" for _ in range(generator.randrange(4, 220))]
        if number % 5 == 4:  # a near-duplicate, or an equal one
            words = [*made[generator.randrange(len(made))].split(), "more"][: -1 if number % 2 else None]
        if number % 17 == 0:
            words.append("somebody@example.org")
        made.append(" ".join(words))
    return made


def write_sources(folder: Path) -> None:
    texts = _texts(2_400)
    folder.mkdir()
    for number, text in enumerate(texts[:600]):
        (folder / f"{number:04d}.txt").write_text(text)
    for number, text in enumerate(texts[600:900]):
        (folder / f"page-{number:04d}.html").write_text(f"<title>{number}</title><main><p>{text}</p></main>")
    rows = [json.dumps({"text": text, "number": number}) for number, text in enumerate(texts[900:1500])]
    (folder / "rows.jsonl").write_text("\n".join([*rows, "no json", *rows[:20]]) + "\n")
    pq.write_table(pa.table({"text": [*texts[1500:2100], None]}), folder / "table.parquet", row_group_size=50)
    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        for number, text in enumerate(texts[2100:]):
            archive.writestr(f"{number}.txt", text)
        archive.writestr("../outside.txt", "x")
    body = f"<title>T</title><p>{texts[0]} and more than that</p>".encode()
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + body
    head = b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://x.org/\r\n"
    head += b"Content-Type: application/http; msgtype=response\r\nContent-Length: %d\r\n\r\n" % len(http)
    whole = b"".join(gzip.compress(head + http + b"\r\n\r\n") for _ in range(20))
    (folder / "crawl.warc.gz").write_bytes(whole[:-40])
    (folder / "bytes.txt").write_bytes(b"\xff\xfe\xfa\x00" * 9)


class CurationFuzzer:
    def __init__(self, folder: Path) -> None:
        self.done: Counter[str] = Counter()
        self._folder, self._source = folder, folder / "source"
        write_sources(self._source)
        whole = folder / "whole"
        process = self._start(whole, 2)
        _, said = process.communicate()
        assert process.returncode == 0, said
        self._expected, self._fingerprint = _files(whole), open_artifact(whole).fingerprint
        self._read = open_artifact(whole).metrics["read"]["documents"]
        self._check_account(whole)

    def _start(self, out: Path, workers: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _COMMAND, "curate", str(self._source), "--out", str(out)]
        command += ["--workers", str(workers), *_OPTIONS]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=pipe, text=True, start_new_session=True)

    def round(self, seed: int) -> None:
        generator = random.Random(seed)
        out = self._folder / f"killed-{seed}"
        kills = generator.randint(1, _MOST_KILLS)
        while True:
            process = self._start(out, generator.randint(1, 3))
            if not kills:
                _, said = process.communicate()
                assert process.returncode == 0, said
                break
            kills -= 1
            (phase,), delay = generator.choices(_PHASES, _WEIGHTS), generator.uniform(0, _LONGEST)
            whom = generator.choice(("group", "group", "first", "worker"))
            while process.poll() is None and not (
                _children(process.pid) if whom == "worker" else _PHASES.index(_phase(out)) >= _PHASES.index(phase)
            ):
                time.sleep(0.002)
            time.sleep(delay)
            self._kill(process, whom, out)
        assert _files(out) == self._expected
        assert open_artifact(out).fingerprint == self._fingerprint
        assert out.with_name(f"{out.name}-report.html").is_file()
        assert not list(self._folder.glob(f".{out.name}.partial")), "a leftover"
        self._check_account(out)
        self.done["corpora"] += 1
        for path in self._folder.glob(f"*killed-{seed}*"):
            if path.is_dir():
                shutil.rmtree(path)

    def _kill(self, process: subprocess.Popen[str], whom: str, out: Path) -> None:
        if process.poll() is not None:  # it was through before; the next call must leave it as it is
            _, said = process.communicate()
            assert process.returncode == 0, said
            return
        self.done[f"killed while {_phase(out)}"] += 1
        workers = _children(process.pid)
        if whom == "worker" and workers:
            os.kill(workers[0], signal.SIGKILL)
            _, said = process.communicate()
            # Where it had nothing left to do, its death is nobody's loss.
            assert process.returncode in (0, 1), (process.returncode, said)
            assert process.returncode == 0 or "a worker process died" in said, said
            assert "Traceback" not in said, said
        elif whom == "first":
            process.kill()
            process.communicate()
        else:
            whom = "group"
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        self.done[f"kills of {whom}"] += 1

    def _check_account(self, out: Path) -> None:
        """What came in was kept or rejected, each once."""
        ids = [row["id"] for name in (*SPLITS, "rejected") for row in read_rows(out / name, ["id"])]
        assert len(ids) == len(set(ids)) == self._read, (len(ids), len(set(ids)), self._read)


def _children(pid: int) -> list[int]:
    """Processes that a process started, by the process table (Linux)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[1]) == pid:
            found.append(int(path.parent.name))
    return found


def _phase(out: Path) -> str:
    partial = out.with_name(f".{out.name}.partial")
    if out.exists():
        return "done"
    if (partial / "train").exists():
        return "writing splits"
    if (partial / "rejected").exists():
        return "comparing"
    if any(partial.rglob("*.parquet")):
        return "judging"
    return "beginning"


def _files(folder: Path) -> dict[str, str]:
    """Each file's content, but for the manifest, which holds what the clock says, as its fingerprint does not."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


if __name__ == "__main__":
    main("benchmarks.fuzz_curation", "curation", CurationFuzzer, native=False)
