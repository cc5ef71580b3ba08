"""Sources: folders, files, patterns and the documentation inside Python, as a stream of documents and rejections."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from ..core.artifacts import sha256_file
from ..core.errors import DataError
from .blobs import Blob, ReadingConfig
from .decoding import check_encoding_name
from .documents import Pieces, Rejection
from .python_docs import PYTHON_DOCS, describe_python, library_files, read_python_docs
from .readers import read_blob
from .walking import find_roots, root_files, walk


def check_sources(sources: Sequence[str]) -> None:
    """Raise DataError where a source is not there or a pattern matches nothing."""
    if isinstance(sources, str):
        raise TypeError("sources is a list of paths, not one string")
    if not sources:
        raise DataError("no source was given", hint=f"Give files or folders of text, or {PYTHON_DOCS}.")
    find_roots(paths_of(sources))


def read_sources(sources: Sequence[str], config: ReadingConfig) -> Pieces:
    """Everything below the sources, in order: Python's documentation first, then the paths as given.

    Raises:
        DataError: a source that is not there. All other faults are yielded as rejections.
    """
    check_encoding_name(config.fallback_encoding)
    check_sources(sources)
    if PYTHON_DOCS in sources:
        yield from read_python_docs()
    for blob in walk(find_roots(paths_of(sources)), config.archives):
        if isinstance(blob, Blob):
            yield from read_blob(blob, config)
        else:
            yield blob


def fingerprint_sources(sources: Sequence[str]) -> str:
    """sha256 over the names (below their source root) and contents of all files of the sources.

    Equal folders in different places have equal fingerprints. For Python's documentation also the version counts.

    Raises:
        DataError: a source that is not there.
    """
    check_sources(sources)
    digest = hashlib.sha256()
    if PYTHON_DOCS in sources:
        digest.update(f"{describe_python()}\n".encode())
        for module, path in library_files():
            digest.update(f"{module}\t{sha256_file(path)}\n".encode())
    for found in root_files(find_roots(paths_of(sources))):
        digest.update(f"{found.name}\t{found.address}\t{_content(found.path)}\n".encode())
    return digest.hexdigest()


def fingerprint_files(paths: Sequence[str]) -> str:
    """sha256 over the contents of single files, in order.

    Raises:
        DataError: one that cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            digest.update(sha256_file(Path(path)).encode())
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})", where=path) from None
    return digest.hexdigest()


def _content(file: Path | Rejection) -> str:
    try:
        return sha256_file(file) if isinstance(file, Path) and file.is_file() else "not a file"
    except OSError as error:
        return f"unreadable ({error.strerror})"


def paths_of(sources: Sequence[str]) -> list[str]:
    """The sources that are paths."""
    return [source for source in sources if source != PYTHON_DOCS]
