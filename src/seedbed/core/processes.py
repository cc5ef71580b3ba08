"""The processes of one run, as `torchrun` starts them: who this one is, what the first does alone, and who died.

Without `torchrun` there is one process, and all of this says so.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .errors import SeedbedError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_names: list[str] = []  # host and process of each rank
_ROLL_CALL_SECONDS = 3.0  # a process that lives has noticed the loss of another, and answers, within this


class WorkerError(SeedbedError):
    """Another process of the run is gone."""


class _Stopped(Exception):
    """The launcher asked this process to end."""


def rank() -> int:
    """This process's number in the run; 0 is the first, which writes and shows."""
    return int(os.environ.get("RANK", "0"))


def count() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    return rank() == 0


def join() -> None:
    """Meet the other processes of the run; nothing happens where there is one, or they have met."""
    import torch
    import torch.distributed as dist

    if count() == 1 or dist.is_initialized():
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    with meeting():
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
        _names.extend([""] * count())
        dist.all_gather_object(_names, f"{socket.gethostname()}, process {os.getpid()}")


@contextmanager
def meeting() -> Iterator[None]:
    """Groups are formed, which no process can do without the others.

    Raises:
        WorkerError: one of them ended before, or cannot be reached.
    """
    try:
        yield
    except RuntimeError as error:
        raise WorkerError(
            f"worker {rank()} did not meet all of the {count()} processes of the run",
            hint="One ended, or cannot be reached: look at the others' logs.",
        ) from error


def leave() -> None:
    """Part from the others at the end of the run."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def agree(value: Any) -> Any:
    """The first process's `value`, in every process."""
    if count() == 1:
        return value
    import torch.distributed as dist

    join()
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def background_group() -> ProcessGroup | None:
    """A group of all processes for a thread of its own: operations of two threads on one group would mix."""
    if count() == 1:
        return None
    import torch.distributed as dist

    join()
    with meeting():
        return dist.new_group(backend="gloo")


@contextmanager
def together() -> Iterator[None]:
    """Work that all processes do in step. When one of them dies, the rest end with a WorkerError that names it.

    What breaks is a collective operation that the dead one should have joined, or the launcher asks the living to end:
    then all that live sign a list, and who has not signed after some seconds is gone.
    """
    if count() == 1:
        yield
        return

    def stop(*_: object) -> None:
        raise _Stopped

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except Exception as error:
        if not is_from_outside(error):
            raise
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher's patience is longer than the roll call
        gone = _roll_call()
        if gone:
            raise WorkerError(
                f"{', '.join(gone)} died, so worker {rank()} stops",
                hint="Look at its log; started again, the run goes on from its last checkpoint.",
            ) from error
        if isinstance(error, _Stopped):
            raise KeyboardInterrupt from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def is_from_outside(error: BaseException) -> bool:
    """Whether this process was told to end or an operation among processes broke: no mistake of its own."""
    import torch.distributed as dist

    if error.__cause__ is not None:
        return is_from_outside(error.__cause__)
    return isinstance(error, _Stopped | dist.DistError) or any(word in str(error) for word in ("gloo", "NCCL"))


def _roll_call() -> list[str]:
    """Names of the processes that do not answer."""
    missing = set(range(count()))
    try:
        store = _store()
        store.set(f"seedbed/alive/{rank()}", "yes")
        end = time.monotonic() + _ROLL_CALL_SECONDS
        while missing and time.monotonic() < end:
            missing = {one for one in missing if not store.check([f"seedbed/alive/{one}"])}
            time.sleep(0.05)
    except RuntimeError:  # the first process keeps the list, or its launcher does
        missing = {0}
    return [f"worker {one} ({_names[one]})" for one in sorted(missing)]


def _store() -> Any:
    from torch.distributed import distributed_c10d

    return distributed_c10d._get_default_store()
