"""API keys: random texts that are told once, when they are made, and kept as hashes.

A key has 256 random bits, so a plain SHA-256 of it can no more be guessed than the key; slow hashes are for passwords.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import stat
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from ..core.config import Config, build
from ..core.errors import ConfigError, disk_errors
from ..core.json_files import read_json

_BEGINNING = "sk-seedbed-"  # by which people and scanners of leaked secrets know it


class Key(Config):
    """What is kept of a key."""

    id: str
    name: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    created: str


class KeyRing:
    """The keys of a file, read again when the file has changed, so that a key that was taken away opens nothing."""

    def __init__(self, path: Path) -> None:
        """Raises: ConfigError: the file cannot be read, or others than its owner can."""
        self.path = path
        self._version = self._stamp()
        self.keys = read_keys(path)

    def owner(self, secret: str) -> str | None:
        """The id of a key, None where it is none of ours. Takes as long whichever it is."""
        if self._stamp() != self._version:
            self._version, self.keys = self._stamp(), read_keys(self.path)
        digest, found = _hash(secret), None
        for key in self.keys:
            if hmac.compare_digest(digest, key.sha256):
                found = key.id
        return found

    def _stamp(self) -> tuple[int, int]:
        try:
            about = self.path.stat()
        except OSError as error:
            hint = f"Make one: seedbed keys new --file {self.path}"
            raise ConfigError(f"cannot be read ({error.strerror})", where=self.path, hint=hint) from None
        return about.st_mtime_ns, about.st_size


def read_keys(path: Path) -> list[Key]:
    """Raises: ConfigError: it cannot be read, holds something else, or others than its owner can read it."""
    if path.exists() and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError("others can read this file of keys", where=path, hint=f"chmod 600 {path}")
    rows = read_json(path, list)
    if not all(isinstance(row, dict) for row in rows):
        raise ConfigError("this is no file of keys", where=path, hint="Make one: seedbed keys new.")
    return [build(Key, row, where=path) for row in rows]


def new_key(path: Path, name: str) -> str:
    """Make a key and add it to the file, which only its owner may read; the key itself is kept nowhere."""
    keys = read_keys(path) if path.exists() else []
    secret = _BEGINNING + secrets.token_urlsafe(32)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    write_keys(path, [*keys, Key(id=secrets.token_hex(4), name=name, sha256=_hash(secret), created=now)])
    return secret


def write_keys(path: Path, keys: Sequence[Key]) -> None:
    text = json.dumps([key.model_dump() for key in keys], indent=2) + "\n"
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        # Never readable by others, not even for a moment.
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        partial.replace(path)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
