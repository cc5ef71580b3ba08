"""Lists of addresses whose pages are not wanted, as RefinedWeb and DCLM begin with (Penedo et al. 2023, section 3.1).

A line of a list is a domain (`example.com`, with all below it), an address (`example.com/shop`, with all below it) or,
where it holds neither dot nor slash, a word that no part of an address may be.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

ADDRESS_KEYS = ("url", "uri", "source_url")
_PARTS = re.compile(r"[^\W_]+")


class AddressList:
    """
    Args:
        lines: empty ones and those that begin with '#' are left out.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._addresses: set[str] = set()
        self._words: set[str] = set()
        for line in map(str.strip, lines):
            if line.startswith("#") or not line:
                continue
            if "." in line or "/" in line:
                host, path = _split(line)
                self._addresses.add(host + path)
            else:
                self._words.add(line.lower())

    def find(self, address: str) -> str | None:
        """The line that speaks against an address, or None."""
        host, path = _split(address)
        if not host:
            return None
        labels = host.split(".")
        for start in range(len(labels)):
            domain = ".".join(labels[start:])
            at = 0
            while at >= 0:  # the domain, then with one part of the path more each time
                at = path.find("/", at + 1)
                for known in (domain, domain + (path if at < 0 else path[:at])):
                    if known in self._addresses:
                        return known
        return next((word for word in _PARTS.findall((host + path).lower()) if word in self._words), None)


def address_of(metadata: Mapping[str, Any]) -> str:
    """The address that a document came from, "" where it has none."""
    return next((value for key in ADDRESS_KEYS if isinstance(value := metadata.get(key), str)), "")


def _split(address: str) -> tuple[str, str]:
    """(host without www, path without its last slash)."""
    try:
        parts = urlsplit(address if "//" in address else f"//{address}")
        host = (parts.hostname or "").rstrip(".")
    except ValueError:  # brackets that are no IPv6 address
        return "", ""
    return host.removeprefix("www."), parts.path.rstrip("/")
