"""Make the README's picture of an audit: `python docs/make_audit_image.py runs/demo PARALLEL`.

PARALLEL is a folder or zip of parallel text, such as the Universal Declaration of Human Rights in NLTK data (udhr2).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import altair as alt

from seedbed.evaluation.languages import well_known
from seedbed.evaluation.parallel import read_parallel
from seedbed.evaluation.tokenizer_audit import Materials, TokenizerAudit, audit_tokenizer
from seedbed.reports import charts, numbers
from seedbed.reports.images import write_image
from seedbed.reports.tokenizer_pages import trained_chart

_BARS = 20


def picture(result: TokenizerAudit) -> alt.HConcatChart:
    """Premiums of some languages, and what the weights know of the training."""
    assert result.parity is not None
    assert result.glitches is not None
    assert result.counts is not None
    reference = result.parity.reference
    chosen = {*well_known(one.language for one in result.parity.languages), reference}
    known = [one for one in result.parity.languages if one.language in chosen]
    step = (len(known) - 1) / (_BARS - 1)
    shown = [known[round(place * step)] for place in range(_BARS)]
    rows = [{"language": one.language.split(" (")[0], "premium": one.premium} for one in shown]
    premium = charts.bars(rows, "language", "premium", f"tokens, {reference} = 1", numbers.fixed)
    height = _BARS * 24
    # The other chart's legend stands under its title.
    title = alt.Title(f"The same text in {len(result.parity.languages)} languages: {_BARS} of them", offset=30)
    left = premium.properties(width=420, height=height, title=title)
    never = result.glitches.never_occurred
    right = trained_chart(result.glitches, result.counts).properties(
        width=520, height=height, title=f"Ids by what the weights know of them; {never} were never trained on"
    )
    return alt.hconcat(left, right, spacing=36).resolve_scale(color="independent")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a run with its base model")
    parser.add_argument("parallel", type=Path, help="a folder or zip of parallel text")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images" / "tokenizer_audit.png")
    given = parser.parse_args()
    result = audit_tokenizer(Materials.found(given.run), read_parallel(given.parallel))
    write_image(picture(result), given.out, scale=1.5)
    print(f"{given.out}: {given.out.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
