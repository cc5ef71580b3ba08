"""From timed searches to what is said of them: curves, queries per second at a recall, ratios, a table and a chart."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import altair as alt

from benchmarks.measuring import spread
from seedbed.core.console import table
from seedbed.reports.images import write_image

TARGETS = (0.90, 0.95, 0.99)


@dataclass(frozen=True)
class Point:
    """One setting of a contender: its recall, and queries per second in each round."""

    options: dict[str, Any]
    knob: Any
    recall: float
    speeds: list[float]


@dataclass(frozen=True)
class Built:
    """seconds to build; resident is what the process grew by, in bytes; stored is the size of the file."""

    options: dict[str, Any]
    seconds: float
    resident: int
    stored: int


@dataclass(frozen=True)
class Result:
    name: str
    built: list[Built]
    points: list[Point]

    def frontier(self, round: int | None = None) -> list[tuple[float, float]]:
        """(recall, queries per second) of the settings that none beats in both, recall falling."""
        speeds = [
            (point.recall, statistics.median(point.speeds) if round is None else point.speeds[round])
            for point in self.points
        ]
        frontier: list[tuple[float, float]] = []
        for one in sorted(speeds, key=lambda one: (-one[0], -one[1])):
            if not frontier or one[1] > frontier[-1][1]:
                frontier.append(one)
        return frontier

    def speed_at(self, recall: float, round: int | None = None) -> float | None:
        """Queries per second at `recall`, in one round or the median of all: None where it is not reached.

        Between two settings of the frontier the logarithm of the speed is linear in recall.
        """
        frontier = self.frontier(round)
        above = [one for one in frontier if one[0] >= recall]
        if not above:
            return None
        below = [one for one in frontier if one[0] < recall]
        (high, slow) = above[-1]
        if not below or below[0][1] <= slow:
            return slow
        low, fast = below[0]
        share = (recall - low) / (high - low)
        return math.exp((1 - share) * math.log(fast) + share * math.log(slow))

    def ratios_at(self, recall: float, other: Result) -> list[float]:
        """How many times as fast as `other` at `recall`, round by round; empty where one does not reach it."""
        rounds = min(len(point.speeds) for point in (*self.points, *other.points))
        pairs = [(self.speed_at(recall, one), other.speed_at(recall, one)) for one in range(rounds)]
        return [ours / theirs for ours, theirs in pairs if ours and theirs]


def show_results(title: str, results: Sequence[Result], count: int, reference: Result | None) -> None:
    rows = []
    for result in results:
        row: list[object] = [result.name]
        for recall in TARGETS:
            speed = result.speed_at(recall)
            row.append("" if speed is None else f"{speed:,.0f}")
        for recall in TARGETS[1:]:
            ratios = reference.ratios_at(recall, result) if reference and reference is not result else []
            row.append(spread(ratios, 2) if ratios else "")
        row.append(" / ".join(f"{one.seconds:,.1f}" for one in result.built))
        row.append(" / ".join(f"{one.resident / count:,.0f}" for one in result.built))
        row.append(" / ".join(f"{one.stored / count:,.0f}" for one in result.built))
        rows.append(row)
    ratio = [f"× at {recall:.2f}" for recall in TARGETS[1:]]
    if reference:
        title = f"{title}; {reference.name} is × times as fast"
    speeds = [f"QPS at {recall:.2f}" for recall in TARGETS]
    table(("index", *speeds, *ratio, "build s", "bytes/vector", "in its file"), rows, title=title)


def as_json(results: Sequence[Result], reference: Result | None) -> dict[str, Any]:
    found = {}
    for result in results:
        at = {f"{recall:.2f}": result.speed_at(recall) for recall in TARGETS}
        entry = asdict(result) | {"queries per second": at}
        if reference and reference is not result:
            entry[f"{reference.name} is times as fast"] = {
                f"{recall:.2f}": reference.ratios_at(recall, result) for recall in TARGETS
            }
        found[result.name] = entry
    return found


def draw(results: Sequence[Result], title: str, path: Path) -> None:
    """Recall against queries per second, one line for each contender (SVG or PNG)."""
    rows = [
        {"index": result.name, "recall": recall, "speed": speed}
        for result in results
        for recall, speed in result.frontier()
        if recall >= 0.8
    ]
    order = [result.name for result in results]
    chart = alt.Chart(alt.InlineData(values=rows)).mark_line(point=True).encode(
        x=alt.X("recall:Q", title="recall@10", scale=alt.Scale(domain=[0.8, 1]), axis=alt.Axis(format=".2f")),
        y=alt.Y("speed:Q", title="queries per second", scale=alt.Scale(type="log"), axis=alt.Axis(format="~s")),
        color=alt.Color("index:N", scale=alt.Scale(domain=order, scheme="tableau20"), legend=alt.Legend(title=None)),
        strokeDash=alt.condition("indexof(datum.index, 'seedbed') == 0", alt.value([1, 0]), alt.value([4, 3])),
    )  # fmt: skip
    write_image(chart.properties(title=title, width=620, height=420), path)
