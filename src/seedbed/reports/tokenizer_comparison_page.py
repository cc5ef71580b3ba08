"""The comparison of tokenizers as a page, its JSON and its charts."""

from __future__ import annotations

import json
from pathlib import Path

from ..core.artifacts import write_atomically
from ..core.errors import disk_errors
from ..core.json_files import json_bytes
from ..evaluation.tokenizer_comparison import Comparison
from . import charts, numbers
from .images import write_image
from .page import Block, Card, Figure, Page, Pieces, Section, Table

_TITLES = {"bpe": "BPE", "wordpiece": "WordPiece", "unigram": "Unigram"}


def write_comparison(result: Comparison, out: Path) -> None:
    """Write compare.json, index.html and the charts as SVG and PNG into the folder `out`."""
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / "compare.json", json_bytes(json.loads(json.dumps(result.to_json()))))
        comparison_page(result).write(out / "index.html")
        for name, (measure, title) in _charted(result).items():
            for suffix in (".svg", ".png"):
                write_image(size_chart(result, measure, title), out / f"{name}{suffix}", width=520)


_CHARTS = {
    "compression": ("bytes_per_token", "bytes per token"),
    "fertility": ("tokens_per_word", "tokens per word"),
    "renyi": ("renyi_efficiency", "Rényi efficiency"),
}


def _charted(result: Comparison) -> dict[str, tuple[str, str]]:
    """The measures that there are: where white space parts no words there is no fertility."""
    costs = [one.cost for one in result.trained]
    return {
        name: one
        for name, one in _CHARTS.items()
        if all(cost[one[0]] is not None for cost in costs)  # type: ignore[literal-required]
    }


def size_chart(result: Comparison, measure: str, title: str) -> charts.Chart:
    rows = [
        {"size": one.vocab_size, "algorithm": _title(one.algorithm), "value": one.cost[measure]}  # type: ignore[literal-required]
        for one in result.trained
    ]
    return charts.by_size(rows, "value", "algorithm", _order(result), "vocabulary", title)


def comparison_page(result: Comparison) -> Page:
    best = max(result.trained, key=lambda one: one.cost["bytes_per_token"])
    fastest = max(result.trained, key=lambda one: one.megabytes_per_second)
    sections = [_costs(result), _overlap(result), _cuts(result)]
    return Page(
        "Tokenizers side by side",
        f"{', '.join(_order(result))}: trained on {numbers.size(result.train_bytes)}, measured on "
        f"{numbers.size(result.held_out_bytes)} of the same source that they have not seen.",
        [
            Card("Most bytes per token", numbers.fixed(best.cost["bytes_per_token"]),
                 f"{_title(best.algorithm)}, {numbers.count(best.vocab_size)} ids"),
            Card("Fastest encoding", f"{numbers.fixed(fastest.megabytes_per_second, 0)} MB/s",
                 f"{_title(fastest.algorithm)}, {numbers.count(fastest.vocab_size)} ids, one thread"),
        ],
        [section for section in sections if section is not None],
        "Seconds and speeds are of this machine and of what else ran on it.",
    )  # fmt: skip


def _costs(result: Comparison) -> Section:
    rows = [
        (
            _title(one.algorithm), one.vocab_size, numbers.fixed(one.cost["bytes_per_token"]),
            "—" if one.cost["tokens_per_word"] is None else numbers.fixed(one.cost["tokens_per_word"]),
            "—" if one.cost["continued_words"] is None else numbers.percent(one.cost["continued_words"]),
            numbers.percent(one.cost["unknown_share"], 2), numbers.percent(one.cost["renyi_efficiency"]),
            numbers.duration(one.train_seconds), f"{numbers.fixed(one.megabytes_per_second, 0)} MB/s",
        )
        for one in result.trained
    ]  # fmt: skip
    columns = ("Algorithm", "Ids", "Bytes per token", "Tokens per word", "Continued words", "Unknown", "Rényi",
               "Training", "Encoding")  # fmt: skip
    panels = [(title.capitalize(), size_chart(result, measure, title)) for measure, title in _charted(result).values()]
    blocks: list[Block] = [
        Figure("By size of the vocabulary", panels, "On held-out text. More bytes to a token is cheaper.", wide=True),
        Table(
            "Measured",
            columns,
            rows,
            "Encoding: one thread, caches warm, the best of some rounds. BPE pays for white space and gives it back; "
            "WordPiece and Unigram, as they are used, keep at most that there was some.",
            wide=True,
        ),
    ]
    lead = (
        "A larger vocabulary buys longer tokens, and a less even use of them: the Rényi efficiency falls. A vocabulary "
        "that does not know a character loses it, and the share of unknown tokens says how often."
    )
    return Section("costs", "What text costs", lead, blocks)


def _overlap(result: Comparison) -> Section | None:
    if not result.overlaps:
        return None
    rows = [
        (one.wanted_size, *(_title(name) for name in one.algorithms), numbers.percent(one.jaccard))
        for one in result.overlaps
    ]
    lead = "How many of their tokens two vocabularies share, by their text, of all that either has (Jaccard)."
    return Section("overlap", "Vocabularies", lead, [Table("Overlap", ("Ids", "One", "Other", "Shared"), rows)])


def _cuts(result: Comparison) -> Section:
    items = [
        (
            f"{_title(one.algorithm)}, {numbers.count(one.vocab_size)} ids: {numbers.count(len(one.pieces), 'token')}",
            one.pieces,
        )
        for one in result.trained
    ]
    return Section(
        "cuts", "One sentence", "The same sentence, cut by each.",
        [Pieces("", items, "Each colour is one token.", wide=True)],
    )  # fmt: skip


def _title(name: str) -> str:
    return _TITLES.get(name, name)


def _order(result: Comparison) -> list[str]:
    return list(dict.fromkeys(_title(one.algorithm) for one in result.trained))
