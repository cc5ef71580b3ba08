"""Who judges units: this process, processes of this machine, or a Ray cluster through Daft. All call the same function.

Daft has a runner for one machine too. It is not used: see docs/log.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from ..core.errors import ConfigError, ResourceError
from .work import judge_unit

ENGINES = ("local", "ray")
# Below this, starting processes takes longer than the work.
_ALONE_BYTES = 24 << 20


def processes_for(engine: str, workers: int, units: int, size: int) -> int:
    """How many processes judge `units` units of `size` bytes; 1 is this one alone."""
    if engine != "local":
        return workers
    return 1 if size < _ALONE_BYTES else min(workers, units)


def judge_units(engine: str, task: str, units: Sequence[str], processes: int) -> Iterator[str]:
    """The answers of work.judge_unit for units (JSON), in the order in which they end.

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
    left = iter(units)
    # A fork of a process with threads may hang; new interpreters do not.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        running: set[Future[str]] = set()
        try:
            while True:
                while len(running) < 2 * processes and (unit := next(left, None)) is not None:
                    running.add(pool.submit(judge_unit, task, unit))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (one.result() for one in done)
        except BrokenProcessPool:
            raise ResourceError(
                "a worker process died (killed, or out of memory)",
                hint="Give the same command again, perhaps with fewer --workers: it goes on where it stopped.",
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


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
