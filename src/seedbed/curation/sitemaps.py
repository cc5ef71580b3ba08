"""Sitemaps (sitemaps.org, protocol 0.9) that were saved beside the pages they list: given as a source, a sitemap says
which pages are read, in which order, and what their addresses are.

A page is looked for below the sitemap's folder, under its address's path alone or with the host before it, as it is, as
`.html` and as the `index.html` of a folder: so save `wget --mirror` and its like.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .blobs import FREE_BYTES, READ_ERRORS, leaves_archive, unique_name, unpacked, unreadable, without_packing
from .documents import Rejection

_MOST_BYTES = 50 << 20  # of the protocol
_ROOT = re.compile(rb"<(?:\w{1,20}:)?(urlset|sitemapindex)[\s>]")
_ADDRESS = re.compile(r"<(?:\w{1,20}:)?loc>([^<]{1,4096})</")
_DEEPEST = 3  # an index names sitemaps, and no further index by the protocol


def is_sitemap(path: Path) -> bool:
    """Whether a file is a sitemap or an index of some, by its name and its beginning."""
    inner, packing = without_packing(path.name)
    if not inner.lower().endswith(".xml") or not path.is_file():
        return False
    try:
        return _ROOT.search(_read(path, packing, 4096)) is not None
    except READ_ERRORS:
        return False


def listed_pages(name: str, path: Path) -> Iterator[tuple[str, Path | Rejection, str]]:
    """(name, file, address) of each page that a sitemap lists, once; a Rejection where it was not saved."""
    used: set[str] = set()
    for member, found, address in _pages(name, path, path.parent, set(), 1):
        unique = unique_name(member, used)
        yield unique, found if isinstance(found, Path) else replace(found, id=unique, source=unique), address


def _pages(
    name: str, path: Path, folder: Path, seen: set[str], depth: int
) -> Iterator[tuple[str, Path | Rejection, str]]:
    try:
        data = _read(path, without_packing(path.name)[1], _MOST_BYTES + 1)
    except READ_ERRORS as error:
        yield name, unreadable(name, f"the sitemap cannot be read to its end ({error})"), ""
        return
    if len(data) > _MOST_BYTES:
        detail = "a sitemap larger than the protocol allows; what is beyond that is not read"
        yield f"{name}#rest", Rejection("", "", "", "too_large", detail, None, _MOST_BYTES), ""
    root = _ROOT.search(data[:4096])
    is_index = root is not None and root[1] == b"sitemapindex"
    for found in _ADDRESS.finditer(data[:_MOST_BYTES].decode("utf-8", "replace")):
        address = html.unescape(found[1]).strip()
        if address in seen:
            continue
        seen.add(address)
        member, saved = _saved(name, address, folder)
        if is_index and isinstance(saved, Path) and depth < _DEEPEST:
            yield from _pages(name, saved, folder, seen, depth + 1)
        else:
            yield member, saved, address


def _saved(name: str, address: str, folder: Path) -> tuple[str, Path | Rejection]:
    try:
        parts = urlsplit(address)
        host = parts.hostname or "."
    except ValueError:
        return f"{name}!{address}", Rejection("", "", "", "not_saved", f"{address} is no address")
    inner = unquote(parts.path).lstrip("/") + (f"?{parts.query}" if parts.query else "")
    member = f"{name}!{inner or 'index.html'}"
    if "\0" in inner or leaves_archive(host) or (inner and leaves_archive(inner)):
        return member, Rejection("", "", "", "unsafe_path", "its address leaves the sitemap's folder")
    for base in (folder, folder / host):
        for candidate in (base / inner, base / f"{inner.rstrip('/')}.html", base / inner / "index.html"):
            if candidate.is_file():
                return member, candidate
    return member, Rejection("", "", "", "not_saved", f"{address} was not saved beside the sitemap")


def _read(path: Path, packing: str, size: int) -> bytes:
    with open(path, "rb") as file:
        return (unpacked(file, packing, max(size, FREE_BYTES)) if packing else file).read(size)
