"""Parallel text: a folder or a zip archive with one text file a language, named by the language's code."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from ..core.errors import DataError
from ..curation.blobs import READ_ERRORS, ArchiveLimits, Blob, read_fault
from ..curation.documents import Rejection
from ..curation.walking import find_roots, walk
from .languages import language_name

_LARGEST_TEXT = 1 << 26  # bytes of one language
_LIMITS = ArchiveLimits(max_archive_bytes=1 << 30, max_members=10_000)


def read_parallel(path: str | Path) -> dict[str, str]:
    """Language to text, in the order of the files' names. Indentation is layout, so the lines are stripped.

    Raises:
        DataError: no text files, one that is too large or no UTF-8, or an archive that is damaged, whose paths leave it
            or that expands beyond all measure; names the file.
    """
    texts: dict[str, str] = {}
    for found in walk(find_roots([str(path)]), _LIMITS):
        if isinstance(found, Rejection):
            if found.rule != "unsupported":
                raise _refused(found)
        elif found.format == "text":
            code = PurePosixPath(found.source.rsplit("!", 1)[-1]).name.split(".")[0]
            name = language_name(code)
            texts[name if name not in texts else f"{name} [{code}]"] = _read(found)
    if not texts:
        raise DataError("there is no text file in it", where=path, hint="Parallel text is one .txt file a language.")
    return texts


def _read(blob: Blob) -> str:
    try:
        with blob.open() as stream:
            data = stream.read(_LARGEST_TEXT + 1)
    except READ_ERRORS as error:
        raise _refused(read_fault(blob, error)) from None
    if len(data) > _LARGEST_TEXT:
        raise DataError(f"the text is larger than {_LARGEST_TEXT:,} bytes", where=blob.source)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"the text is not UTF-8 ({error.reason} at byte {error.start:,})", where=blob.source) from None
    return "\n".join(line for line in map(str.strip, text.splitlines()) if line)


def _refused(rejection: Rejection) -> DataError:
    return DataError(f"{rejection.detail} ({rejection.rule})", where=rejection.source)
