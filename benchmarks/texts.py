"""Texts that the benchmarks read: the shared data, where it is there, and Python's own sources."""

from __future__ import annotations

import os
import random
import sysconfig
import zipfile
from pathlib import Path

SHARED = Path(os.environ.get("SEEDBED_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


def english() -> list[str]:
    """19 MB of English, one document a file."""
    texts = [(SHARED / "text" / "tinyshakespeare.txt").read_text()]
    for name in ("abc", "genesis", "inaugural", "movie_reviews", "state_union", "webtext"):
        texts += zipped(name)
    return texts


def code(most: int = 12_000_000) -> list[str]:
    """Python's standard library, up to `most` characters."""
    texts: list[str] = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        if "site-packages" in path.parts or most <= 0:
            continue
        texts.append(path.read_text(encoding="utf-8", errors="replace"))
        most -= len(texts[-1])
    return texts


def languages() -> list[str]:
    """The Universal Declaration of Human Rights in 388 languages, one document a language."""
    return zipped("udhr2")


def cjk(size: int = 1_500_000) -> list[str]:
    """Text of `size` characters that looks like Chinese, Japanese and other languages without spaces.

    It is drawn from chains of three characters that the 388 languages hold in such scripts: there is too little such
    text to read, and repeating it would measure caches only.
    """
    texts = [text for text in languages() if sum(c >= "\u2e80" for c in text) > 0.3 * len(text)]
    generator = random.Random(0)
    drawn = []
    for text in texts:
        following: dict[str, list[str]] = {}
        for i in range(len(text) - 2):
            following.setdefault(text[i : i + 2], []).append(text[i + 2])
        for _ in range(8):
            made = text[:2]
            pieces = [made]
            for _ in range(size // len(texts) // 8):
                follows = following.get(made)
                pieces.append(generator.choice(follows) if follows else text[0])
                made = made[1] + pieces[-1]
            drawn.append("".join(pieces))
    return drawn


def zipped(name: str) -> list[str]:
    with zipfile.ZipFile(SHARED / "text" / f"{name}.zip") as archive:
        files = [file for file in archive.namelist() if file.endswith(".txt") and "README" not in file]
        return [archive.read(file).decode("utf-8", errors="replace") for file in files]


def documents(text: str, size: int = 4000) -> list[str]:
    """A text as documents of about `size` characters that end with a line."""
    found, start = [], 0
    while start < len(text):
        end = text.find("\n", start + size) + 1 or len(text)
        found.append(text[start:end])
        start = end
    return found


def size_of(texts: list[str]) -> int:
    """Bytes of UTF-8."""
    return sum(len(text.encode()) for text in texts)


def about(texts: list[str], size: float) -> list[str]:
    """Every so many-th text, so that together they have about `size` bytes."""
    step = max(1.0, size_of(texts) / size)
    return [texts[int(i * step)] for i in range(int(len(texts) / step))]
