"""Who judges units: this process, processes of this machine, or a Ray cluster through Daft. All call the same function.

Daft has a runner for one machine too. It is not used: see docs/log.md.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

from ..core.errors import ConfigError, ResourceError
from .work import judge_unit

ENGINES = ("local", "ray")
# Below this, starting processes takes longer than the work.
_ALONE_BYTES = 24 << 20
_WORKER = f"from {__name__} import serve; serve()"


def processes_for(engine: str, workers: int, units: int, size: int) -> int:
    """How many processes judge `units` units of `size` bytes; 1 is this one alone."""
    if engine != "local":
        return workers
    return 1 if size < _ALONE_BYTES else min(workers, units)


def judge_units(engine: str, task: str, units: Sequence[str], processes: int) -> Iterator[str]:
    """The answers of work.judge_unit for units (JSON), in any order.

    Raises:
        ConfigError: the engine's package is not installed.
        ResourceError: a worker died.
    """
    if not units:
        return
    if engine == "ray":
        yield from _on_ray(task, units)
    elif processes == 1:
        yield from (judge_unit(task, unit) for unit in units)
    else:
        yield from _in_processes(task, units, processes)


def _in_processes(task: str, units: Sequence[str], processes: int) -> Iterator[str]:
    """By interpreters of their own: a fork of a process with threads may hang, and multiprocessing's spawn would run
    the user's script again."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        for _ in range(processes)
    ]
    free: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()
    for worker in workers:
        free.put(worker)

    def ask(unit: str) -> str:
        worker = free.get()
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            worker.stdin.write(json.dumps([task, unit]) + "\n")
            worker.stdin.flush()
            answer = worker.stdout.readline()
        except BrokenPipeError:
            answer = ""
        free.put(worker)
        if not answer.endswith("\n"):
            raise ResourceError(
                "a worker process died (killed, or out of memory)",
                hint="Give the same command again, perhaps with fewer --workers: it goes on where it stopped.",
            )
        return answer

    pool = ThreadPoolExecutor(processes)
    try:
        yield from pool.map(ask, units)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.kill()
            worker.communicate()


def serve() -> None:
    """What a worker runs: units come in as lines, answers go out as lines, until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started it is interrupted, and ends it
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    asked: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_listen, args=(asked,), daemon=True).start()
    while True:
        answers.write(judge_unit(*json.loads(asked.get())) + "\n")
        answers.flush()


def _listen(asked: SimpleQueue[str]) -> None:
    for line in sys.stdin:
        asked.put(line)
    # Whoever asked is gone. A worker that lived on might leave a part where another run, of other settings, works now.
    os._exit(0)


def _on_ray(task: str, units: Sequence[str]) -> Iterator[str]:
    """By Daft on the Ray cluster that RAY_ADDRESS names, or else on one of this machine. Sources and out must lie where
    all machines of the cluster find them."""
    os.environ["DO_NOT_TRACK"] = "1"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("DAFT_PROGRESS_BAR", "0")  # ours is shown
    try:
        import daft
        import ray
    except ImportError as error:
        raise ConfigError(
            f"engine 'ray' needs a package that is not installed ({error.name})", hint="pip install 'seedbed[cluster]'"
        ) from None
    daft.set_runner_ray(noop_if_initialized=True)

    @daft.udf(return_dtype=daft.DataType.string(), batch_size=1)
    def judged(units: daft.Series) -> list[str]:
        return [judge_unit(task, unit) for unit in units.to_pylist()]

    frame = daft.from_pydict({"unit": list(units)}).into_partitions(len(units))
    try:
        for row in frame.select(judged(daft.col("unit")).alias("answer")).iter_rows():
            yield row["answer"]
    except (ray.exceptions.RayError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ResourceError(
            f"the cluster failed ({reason})", hint="Give the same command again: it goes on where it stopped."
        ) from error
