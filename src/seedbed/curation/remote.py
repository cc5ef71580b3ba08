"""Sources behind URLs (s3://, gs://, https://, hf://): fetched once by fsspec into a cache, then read as files.

A file is fetched again when what its filesystem knows of it (size, time, tag) has changed. Each is written beside its
place and renamed, so that a fetch that was cut off leaves nothing that looks whole.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from ..core.artifacts import write_atomically
from ..core.errors import DataError

_CHUNK = 8 << 20


def is_remote(source: str) -> bool:
    return "://" in source


def name_of(url: str) -> str:
    """What is called at `url`: the last part of a file's or folder's address, the folder of a pattern's.

    >>> name_of("s3://bucket/docs/"), name_of("s3://bucket/crawl/part-*.gz")
    ('docs', 'crawl')
    """
    before, star, _ = url.partition("*")
    return (before.rpartition("/")[0] if star else before).rstrip("/").rpartition("/")[2]


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "seedbed" / "fetched"


def fetch(url: str) -> Path:
    """The local copy of what is at `url`: a file, or a folder with all files below it or that a pattern matches.

    Raises:
        DataError: nothing is there, or it cannot be read.
    """
    import fsspec
    from fsspec.utils import get_protocol

    try:
        filesystem, path = fsspec.core.url_to_fs(url)
        single = filesystem.isfile(path)
        found = [path] if single else filesystem.glob(path) if "*" in path else filesystem.find(path)
        files = sorted(one for one in found if single or filesystem.isfile(one))
        if not files:
            raise DataError("there is no such file or folder", where=url, hint="Check the address of the source.")
        folder = cache_folder() / hashlib.sha256(url.encode()).hexdigest()[:32]
        base = os.path.commonpath([os.path.dirname(one) for one in files])
        wanted = {folder / os.path.relpath(one, base): one for one in files}
        for local, one in wanted.items():
            _fetch_file(filesystem, one, local)
        for old in folder.rglob("*"):  # what is there no more
            if old.is_file() and not old.name.startswith(".") and old not in wanted:
                old.unlink()
    except DataError:
        raise
    # Each filesystem has errors of its own.
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise DataError(
            f"cannot be fetched ({reason})", where=url, hint=f"Is the package of {get_protocol(url)}:// installed?"
        ) from None
    return folder / Path(files[0]).name if single else folder


def _fetch_file(filesystem: Any, remote: str, local: Path) -> None:
    if ".." in local.parts:
        raise DataError("its path leaves the folder that it is fetched to", where=remote)
    key = str(filesystem.ukey(remote))
    mark = local.with_name(f".{local.name}.key")
    if local.exists() and mark.exists() and mark.read_text() == key:
        return
    local.parent.mkdir(parents=True, exist_ok=True)
    partial = local.with_name(f".{local.name}.partial")
    with filesystem.open(remote, "rb") as source, open(partial, "wb") as target:
        while chunk := source.read(_CHUNK):
            target.write(chunk)
    partial.replace(local)
    write_atomically(mark, key.encode())
