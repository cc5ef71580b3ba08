"""Large pages in a process of their own, with a bound on its processor time.

The HTML parser's time grows with the square of some pages' attributes or depth, and nothing can interrupt it. So pages
above a size at which that could matter go to a helper that the system ends when its time is over; the clock is the
helper's own processor time, so that what a page is does not hang on how busy the machine is.
"""

from __future__ import annotations

import functools
import json
import math
import os
import resource
import signal
import struct
import subprocess
import sys
from typing import IO

from . import extraction

SMALL_CHARACTERS = 128 << 10  # hostile pages of this size take about a second
_SIZE = struct.Struct("<Q")


class PageTimeError(Exception):
    """A page took more than its processor time."""


class PageCrashError(Exception):
    """A page ended the process that read it."""


def html_in_time(page: str, seconds: int) -> tuple[str, str]:
    """extraction.html, for at most `seconds` of processor time.

    Raises:
        PageTimeError: it took longer.
        PageCrashError: the parser crashed.
    """
    if len(page) <= SMALL_CHARACTERS:
        return extraction.html(page)
    helper = _helper()
    assert helper.stdin is not None
    assert helper.stdout is not None
    try:
        _write(helper.stdin, json.dumps([seconds, page]).encode())
        title, text = json.loads(_read(helper.stdout))
    except (BrokenPipeError, EOFError):
        _helper.cache_clear()
        helper.communicate()
        if helper.returncode == -signal.SIGXCPU:
            raise PageTimeError from None
        raise PageCrashError(f"ended with {helper.returncode}") from None
    return title, text


@functools.cache
def _helper() -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", f"from {__name__} import _serve; _serve()"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def _serve() -> None:
    """Answer pages until there are no more."""
    while True:
        try:
            seconds, page = json.loads(_read(sys.stdin.buffer))
        except EOFError:
            return
        used = resource.getrusage(resource.RUSAGE_SELF)
        most = math.ceil(used.ru_utime + used.ru_stime) + seconds
        resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))
        _write(sys.stdout.buffer, json.dumps(extraction.html(page)).encode())


def _write(stream: IO[bytes], data: bytes) -> None:
    stream.write(_SIZE.pack(len(data)))
    stream.write(data)
    stream.flush()


def _read(stream: IO[bytes]) -> bytes:
    head = stream.read(_SIZE.size)
    if len(head) < _SIZE.size:
        raise EOFError
    data = stream.read(_SIZE.unpack(head)[0])
    if len(data) < _SIZE.unpack(head)[0]:
        raise EOFError
    return data
