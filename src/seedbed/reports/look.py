"""How Seedbed's pages look: colours, light and dark, and fonts, as properties of a style; the charts' theme."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, Literal

_HERE = Path(__file__).parent


@functools.cache
def theme() -> dict[str, Any]:
    """The charts' theme; values that begin with `--` are properties of the page's style."""
    values: dict[str, Any] = json.loads((_HERE / "theme.json").read_text(encoding="utf-8"))
    return values


def properties(scheme: Literal["light", "dark"]) -> dict[str, str]:
    """Property to value; of those that are written as a pair, the scheme's."""
    values: dict[str, str | list[str]] = json.loads((_HERE / "properties.json").read_text(encoding="utf-8"))
    place = ("light", "dark").index(scheme)
    return {name: one if isinstance(one, str) else one[place] for name, one in values.items()}


def properties_css() -> str:
    """All properties as a style. It follows the reader's system, unless `data-theme` of the root says light or dark."""
    light, dark = properties("light"), properties("dark")
    darkened = {name: value for name, value in dark.items() if light[name] != value}
    return (
        f":root {{{_declarations(light)} color-scheme: light dark; }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root:not([data-theme=light]) {{{_declarations(darkened)} }} }}\n"
        f":root[data-theme=dark] {{{_declarations(darkened)} color-scheme: dark; }}\n"
        ":root[data-theme=light] { color-scheme: light; }\n"
    )


def _declarations(values: dict[str, str]) -> str:
    return "".join(f" {name}: {value};" for name, value in values.items())
