"""The lab's page: every finished exhibit with its question, its chart, its table and its verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..reports import numbers
from ..reports.page import Card, Claim, Figure, Link, Page, Section, Table
from .exhibit import VERDICTS
from .runner import Shown, finished

_HALF = 50  # letters of headings that half of the page has room for
_TONES = dict(zip(VERDICTS, ("good", "fair", "bad"), strict=True))


def write_lab_page(out: Path) -> Path:
    """Write `out`/index.html of the exhibits that are finished below `out`."""
    path = out / "index.html"
    lab_page(finished(out)).write(path)
    return path


def lab_page(shown: Sequence[Shown]) -> Page:
    verdicts: Counter[str] = Counter(one.finding.verdict for one in shown)
    cards = [
        Card(f"Claim {verdict}", str(verdicts[verdict]), f"of {numbers.count(len(shown), 'exhibit')}", _TONES[verdict])
        for verdict in VERDICTS
    ]
    return Page(
        "The lab",
        "What the textbooks say of language models and search, measured on this run.",
        cards,
        [_section(one) for one in shown],
        "Every number was measured in this run, on this machine. A verdict is about the claim here, at this size, and "
        "no more.",
        {"Time for all": numbers.duration(sum(one.seconds for one in shown))},
        [Link(one.name, one.title, one.finding.verdict, _TONES[one.finding.verdict]) for one in shown],
    )


def _section(shown: Shown) -> Section:
    finding = shown.finding
    claim = Claim(
        shown.claim, finding.verdict, _TONES[finding.verdict], finding.sentences, shown.formula, shown.source
    )  # fmt: skip
    figure = Figure("", finding.charts, "", wide=len(finding.charts) > 1)
    table = Table("", finding.columns, finding.rows, finding.caption, wide=sum(map(len, finding.columns)) > _HALF)
    return Section(shown.name, shown.title, shown.question, [claim, figure, table], numbers.duration(shown.seconds))
