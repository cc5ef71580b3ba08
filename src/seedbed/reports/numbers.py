"""Numbers as people read them."""

from __future__ import annotations

import math
from typing import Any

_SIZES = ("bytes", "kB", "MB", "GB", "TB")
_MEMORY = ("bytes", "KiB", "MiB", "GiB", "TiB")


def value(number: Any) -> str:
    """Thousands apart, four significant digits; what is no number as it is."""
    if number is None:
        return ""
    if isinstance(number, bool):
        return "yes" if number else "no"
    if isinstance(number, int):
        return f"{number:,}"
    if not isinstance(number, float):
        return str(number)
    if not math.isfinite(number):
        return "not a number" if math.isnan(number) else "infinite"
    if number == 0 or 0.001 <= abs(number) < 1000:
        return _minus(f"{number:.4g}")
    return _minus(f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.2e}")


def fixed(number: float, digits: int = 2, sign: bool = False) -> str:
    return _minus(f"{number:+,.{digits}f}" if sign else f"{number:,.{digits}f}")


def percent(share: float, digits: int = 1, sign: bool = False) -> str:
    return fixed(100 * share, digits, sign) + "%"


def count(number: float, noun: str = "", plural: str = "") -> str:
    """ "1 document", "9,012 documents"."""
    if not noun:
        return f"{number:,.0f}"
    return f"{number:,.0f} {noun if number == 1 else plural or noun + 's'}"


def short(number: float) -> str:
    """ "812", "43.1 thousand", "1.63 million"."""
    for bound, name in ((1e9, "billion"), (1e6, "million"), (1e4, "thousand")):
        if abs(number) >= bound:
            return f"{number / (1e3 if name == 'thousand' else bound):.3g} {name}"
    return f"{number:,.0f}"


def tight(number: float) -> str:
    """ "812", "43k", "1.6M": for the axes and legends of charts."""
    for bound, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= bound:
            return f"{number / bound:.3g}{letter}"
    return f"{number:.3g}"


def size(number: float) -> str:
    """Bytes of data, in powers of 1000."""
    return _scaled(number, 1000, _SIZES)


def memory(number: float) -> str:
    """Bytes of memory, in powers of 1024."""
    return _scaled(number, 1024, _MEMORY)


def duration(seconds: float) -> str:
    """ "0.4 s", "48 s", "4 min 31 s", "2 h 5 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _scaled(number: float, base: int, names: tuple[str, ...]) -> str:
    power = 0
    while abs(number) >= base and power < len(names) - 1:
        number, power = number / base, power + 1
    return f"{number:,.0f} {names[power]}" if power == 0 or number >= 100 else f"{number:.3g} {names[power]}"


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}") if text.startswith("-") else text
