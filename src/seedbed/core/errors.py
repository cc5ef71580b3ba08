"""Errors for users. Each says what was wrong, where (file, line, key) and what to do.

Programming mistakes raise the ordinary Python errors; these are for input, files, configuration and
resources, and the command line prints them as one sentence without a traceback.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FULL = 1 << 16  # bytes free on a disk that has no room for anything


class SeedbedError(Exception):
    """Base of all errors meant for users.

    Args:
        message: what was wrong, one sentence.
        where: the file, line or key, if there is one.
        hint: what to do about it.
    """

    def __init__(self, message: str, *, where: str | Path | None = None, hint: str | None = None) -> None:
        self.message, self.where, self.hint = message, None if where is None else str(where), hint
        super().__init__(self.sentence())

    def sentence(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text.rstrip('.')}. {self.hint}" if self.hint else text


class ConfigError(SeedbedError):
    """A recipe, an override or an option that cannot be used."""


class DataError(SeedbedError):
    """Text, tables or vectors that cannot be used."""


class FormatError(SeedbedError):
    """A file that is damaged, of another format or from a newer version."""


class ArtifactError(SeedbedError):
    """An artifact that is missing, incomplete, damaged or made from other inputs."""


class ResourceError(SeedbedError):
    """Not enough disk, memory or devices."""


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn errors of writing below `path`, whichever library met them, into one clear sentence."""
    try:
        yield
    except (SeedbedError, KeyboardInterrupt, SystemExit):
        raise
    # Checkpoint errors of torch are no Exception.
    except BaseException as error:
        if _out_of_space(error, path):
            raise ResourceError(
                "no space left on the device",
                where=path,
                hint="Free some space and give the same command again: it goes on where it stopped.",
            ) from error
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise ResourceError(
                f"cannot write here ({error.strerror})", where=error.filename or path, hint="Choose another --out."
            ) from error
        raise


def _out_of_space(error: BaseException, path: Path) -> bool:
    """Whether writing failed for want of space: by the error's number or words, or because the disk is full now.

    Some writers report a full disk only as a file that came out shorter than it should.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    if os.strerror(errno.ENOSPC) in str(error):
        return True
    existing = next((folder for folder in (path, *path.parents) if folder.exists()), Path("/"))
    return shutil.disk_usage(existing).free < _FULL
