"""What the run's tokenizer charges for the same sentences in languages of many scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from ...core.errors import ConfigError, DataError
from ...evaluation.parallel import read_parallel
from ...reports import charts
from ...tokenizers.audit import LanguageCost, parity
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict
from ..parallel_sentences import SENTENCES

_MANY, _SOME = 3.0, 1.5  # times as many tokens as the cheapest language


class FertilityGapsSettings(Settings):
    parallel: str = Field("", description="folder or zip with one .txt a language; left empty, six built-in sentences")
    most: int = Field(24, ge=2, le=400, description="languages that the chart shows")


def measure(bench: Bench, settings: FertilityGapsSettings) -> Finding:
    texts = read_parallel(Path(settings.parallel)) if settings.parallel else SENTENCES
    if len(texts) < 2:
        raise ConfigError(f"{len(texts)} language says nothing of gaps", where="fertility-gaps.parallel")
    bench.advance(f"{len(texts)} languages")
    languages = parity(bench.tokenizer, texts, next(iter(texts))).languages
    costs = sorted((one for one in languages if one.readable), key=lambda one: one.tokens)
    if len(costs) < 2:
        raise DataError(
            f"the tokenizer knows the characters of {len(costs)} of {len(texts)} languages",
            hint="Give texts of languages that it knows by fertility-gaps.parallel.",
        )
    cheapest, dearest = costs[0], costs[-1]
    premiums = np.array([one.tokens / cheapest.tokens for one in costs])
    verdict: Verdict = (
        "holds" if premiums[-1] >= _MANY and np.median(premiums) >= _SOME
        else "holds in part" if premiums[-1] >= _SOME
        else "does not hold"
    )  # fmt: skip
    sizes = np.array([one.bytes for one in costs], dtype=float)
    plain = [one for one in costs if one.bytes_per_token < _SOME]
    sentences = (
        f"The same sentences are {cheapest.tokens:,} tokens in {cheapest.language} and {dearest.tokens:,} in "
        f"{dearest.language}, {premiums[-1]:.1f} times as many; half of {len(costs)} languages pay "
        f"{np.median(premiums):.1f} times or more.",
        f"Bytes alone differ by {sizes.max() / sizes.min():.1f} times; in {len(plain)} of the languages a token is "
        f"less than {_SOME:g} bytes, so that the tokenizer joins next to nothing there.",
    )
    shown = costs[:: max(1, -(-len(costs) // settings.most))]
    chart = charts.bars(
        [{"language": one.language, "premium": one.tokens / cheapest.tokens} for one in shown],
        "language", "premium", f"times the tokens of {cheapest.language}", lambda number: f"{number:.1f}",
    )  # fmt: skip
    rows = [_row(one, cheapest) for one in costs[:: -(-len(costs) // 12)]]
    return Finding(
        verdict, sentences, ("Language", "Tokens", "Times", "Bytes", "Bytes per token"), rows, [("", chart)],
        {"largest": float(premiums[-1]), "median": float(np.median(premiums)), "languages": float(len(costs))},
        f"Times: of {cheapest.language}, the cheapest. Every {_nth(-(-len(costs) // 12))} language.",
    )  # fmt: skip


def _row(one: LanguageCost, cheapest: LanguageCost) -> list[Any]:
    return [one.language, one.tokens, f"{one.tokens / cheapest.tokens:.2f}", one.bytes, f"{one.bytes_per_token:.2f}"]


def _nth(step: int) -> str:
    return {1: "single", 2: "second", 3: "third"}.get(step, f"{step}th")


EXHIBIT = Exhibit(
    question="Does the same text cost the same in every language?",
    claim="A tokenizer charges some languages several times as many tokens as others for the same text.",
    formula="premium of a language = tokens of the text in it / tokens of the same text in the reference.",
    source="Petrov et al. 2023, section 3; Ahia et al. 2023",
    settings=FertilityGapsSettings,
    measure=measure,
    needs=("tokenizer",),
)
