"""One self-contained HTML page: cards, sections, tables and Vega-Lite charts, all inlined, so that it opens offline.

Text from outside is escaped by the template. Should that ever fail, the page's content security policy still runs the
two scripts whose hashes it names and no other, and loads nothing.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.artifacts import write_atomically
from . import numbers
from .look import properties_css, theme

if TYPE_CHECKING:
    import altair as alt

_HERE = Path(__file__).parent
# "12.3 MB", "+4.1%", "1.2 to 3.4", "9.7 MiB (+1%)", "0.31 ± 0.02", "900 per second": cells that stand to the right.
_QUANTITY = re.compile(
    r"[+−±]?\d[\d,.]*(e[+−-]?\d+)?( ?%| [A-Za-z]{1,3}| per second)?"
    r"( to [\d,.]+| \([^()]+\)| ± [\d,.]+%?| \[[^\[\]]+\])?"
)


@dataclass(frozen=True)
class Card:
    """A key figure at the top of the page."""

    label: str
    value: str
    note: str = ""
    tone: str = ""  # "good" | "fair" | "bad" | "" (neutral)


@dataclass(frozen=True)
class Figure:
    """A chart, or several small ones of one kind, each with its own heading."""

    title: str
    panels: Sequence[tuple[str, alt.LayerChart | alt.Chart | Mapping[str, Any]]]  # charts, or what they are as JSON
    caption: str
    wide: bool = False
    kind: str = "figure"

    def specs(self) -> list[tuple[str, str]]:
        return [(heading, _spec(chart)) for heading, chart in self.panels]


@dataclass(frozen=True)
class Table:
    """A table; columns of quantities stand to the right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""
    wide: bool = False
    kind: str = "table"

    def cells(self) -> list[list[str]]:
        return [[numbers.value(value) for value in row] for row in self.rows]

    def numeric(self) -> list[bool]:
        return [_all_quantities([row[place] for row in self.rows]) for place in range(len(self.columns))]


@dataclass(frozen=True)
class Quotes:
    """Texts shown as they are: samples, rejected documents, answers."""

    title: str
    items: Sequence[tuple[str, str]]  # (label, text)
    caption: str = ""
    wide: bool = False
    kind: str = "quotes"


@dataclass(frozen=True)
class Pieces:
    """A text cut into pieces, each set apart."""

    title: str
    items: Sequence[tuple[str, Sequence[str]]]  # (label, pieces)
    caption: str = ""
    wide: bool = False
    kind: str = "pieces"


@dataclass(frozen=True)
class Claim:
    """What others claim, with its formula and its source, and what was found: a verdict and the sentences behind it."""

    claim: str
    verdict: str
    tone: str  # as of a card
    findings: Sequence[str]
    formula: str
    source: str
    title: str = ""
    caption: str = ""
    wide: bool = True
    kind: str = "claim"


@dataclass(frozen=True)
class Link:
    """A section in the list at the top of a long page, with a word about it."""

    key: str
    title: str
    note: str
    tone: str = ""


Block = Figure | Table | Quotes | Pieces | Claim


@dataclass(frozen=True)
class Section:
    """A stage of the road: what it did, in a sentence or two, then its evidence."""

    key: str
    title: str
    lead: str
    blocks: Sequence[Block] = ()
    stamp: str = ""  # seconds and memory, at the right of the title

    def layout(self) -> list[tuple[Block, bool]]:
        """The blocks in two columns: (block, whether it takes both). One left without a neighbour takes both."""
        placed: list[tuple[Block, bool]] = []
        left = False  # the last block stands in the left column
        for block in self.blocks:
            if block.wide and left:
                placed[-1] = (placed[-1][0], True)
            left = not block.wide and not left
            placed.append((block, block.wide))
        if left:
            placed[-1] = (placed[-1][0], True)
        return placed


@dataclass(frozen=True)
class Page:
    title: str
    subtitle: str
    cards: Sequence[Card]
    sections: Sequence[Section]
    footer: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    overview: Sequence[Link] = ()

    def html(self) -> str:
        import jinja2

        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_HERE),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
        )
        script = (_HERE / "page.js").read_text(encoding="utf-8")
        scripts = [vega_bundle(), script.replace("__THEME__", json.dumps(theme(), sort_keys=True))]
        style = properties_css() + (_HERE / "page.css").read_text(encoding="utf-8")
        return environment.get_template("page.html.j2").render(
            page=self, style=style, scripts=scripts, policy=_policy(scripts)
        )

    def write(self, path: Path) -> None:
        write_atomically(path, self.html().encode("utf-8"))


def _all_quantities(values: Sequence[object]) -> bool:
    filled = [value for value in values if value not in ("", None)]
    return bool(filled) and all(
        isinstance(value, int | float) or (isinstance(value, str) and _QUANTITY.fullmatch(value) is not None)
        for value in filled
    )


def _spec(chart: alt.LayerChart | alt.Chart | Mapping[str, Any]) -> str:
    """Vega-Lite as JSON that can stand inside a script element. The page brings the theme and knows the schema."""
    whole = chart if isinstance(chart, Mapping) else chart.to_dict(validate=False)
    values = {name: one for name, one in whole.items() if name not in ("$schema", "config")}
    return json.dumps(values, separators=(",", ":"), sort_keys=True, allow_nan=False).replace("<", "\\u003c")


def _policy(scripts: Sequence[str]) -> str:
    """Vega compiles its expressions, hence unsafe-eval; nothing inline runs besides `scripts`."""
    hashes = (base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in scripts)
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    return f"default-src 'none'; script-src 'unsafe-eval' {allowed}; style-src 'unsafe-inline'; img-src data:"


@functools.cache
def vega_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, from the library that carries them."""
    import vl_convert

    script: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return script.replace("</script", "<\\/script").replace("\r", "")
