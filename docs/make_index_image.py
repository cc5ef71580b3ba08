"""Make the README's picture of indexes: `python docs/make_index_image.py runs/demo` (or vectors.npy, or an index)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import altair as alt

from seedbed.evaluation.index_explanation import Explanation, explain_indexes
from seedbed.evaluation.vector_sources import read_vector_set
from seedbed.reports.images import write_image
from seedbed.reports.index_pages import dimension_chart, frontier_panels, rate_chart


def picture(result: Explanation) -> alt.VConcatChart:
    """Recall against speed for all indexes, and below it where they reach their limits."""
    count = f"{len(result.sample.vectors):,} vectors of {result.sample.vectors.shape[1]} dimensions"

    def drawn(chart: alt.Chart | alt.LayerChart, title: str, height: int) -> alt.Chart | alt.LayerChart:
        framed: alt.Chart | alt.LayerChart = chart.properties(
            width=440, height=height, title=alt.Title(title, offset=30)
        )
        return framed

    frontier = [drawn(chart, f"{heading}: {count}", 300) for heading, chart in frontier_panels(result)]
    limits = [drawn(dimension_chart(result), "Recall of one graph as dimension grows", 190)]
    if result.rates:
        limits.append(drawn(rate_chart(result), "What product codes lose as their bits fall", 190))
    rows = [alt.hconcat(*row, spacing=36).resolve_scale(color="independent") for row in (frontier, limits)]
    return alt.vconcat(*rows, spacing=30).resolve_scale(color="independent")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="vectors in a .npy file, a run or an index file")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images" / "indexes_explained.png")
    given = parser.parse_args()
    result = explain_indexes(read_vector_set(given.source))
    write_image(picture(result), given.out, scale=1.4)
    print(f"{given.out}: {given.out.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
