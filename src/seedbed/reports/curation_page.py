"""A corpus as a page: what came in, what each step took, and why, with the texts that tell it."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.artifacts import Artifact, open_artifact
from ..curation.filters import SCORES
from ..curation.storage import part_files, read_rows
from . import charts, numbers
from .page import Block, Card, Figure, Page, Quotes, Section, Table

_EXCERPT = 420
_RULES = 8
_BINS = 12
_CLUSTERS, _MEMBERS = 3, 3
# What is held of a corpus does not grow with it, but for 8 bytes a member of a cluster.
_CANDIDATES, _SAMPLE = 100, 100_000
_SPLITS = ("train", "validation", "test")
# Rules of thumb for sizing a corpus before there is a tokenizer or a fit of one's own.
_BYTES_PER_TOKEN = 4.0
_TOKENS_PER_PARAMETER = 20  # Hoffmann et al. 2022
_USEFUL_EPOCHS = 4  # Muennighoff et al. 2023: to there repeated data is nearly as good as new
_MODELS = (10e6, 100e6, 1e9, 7e9)


def write_curation_report(corpus: str | Path, path: Path) -> None:
    """Write the page of the corpus artifact at `corpus` to `path`."""
    curation_page(open_artifact(corpus, "corpus")).write(path)


def curation_page(artifact: Artifact) -> Page:
    metrics = artifact.metrics
    read, kept = metrics["read"], _kept(metrics)
    clusters = metrics.get("near_duplicates")
    config = artifact.config
    cards = [
        Card("Documents kept", numbers.count(kept["documents"]), f"of {numbers.count(read['documents'])} that came in"),
        Card("Text", numbers.size(kept["bytes"]), f"about {numbers.short(kept['bytes'] / _BYTES_PER_TOKEN)} tokens"),
        Card("Rules broken", numbers.count(len(metrics["drops"])), f"preset {config['preset']}"),
    ]
    if clusters:
        note = f"the largest of {numbers.count(clusters['largest'], 'document')}"
        cards.append(Card("Clusters of near-duplicates", numbers.count(clusters["clusters"]), note))
    sections = [
        _funnel(metrics),
        _rules(artifact),
        _scores(artifact),
        _clusters(artifact),
        _where_from(metrics),
        _exhaustion(kept["bytes"]),
    ]
    return Page(
        f"Corpus {artifact.path.resolve().name}",
        f"{numbers.count(metrics['sources'], 'source')}, {numbers.size(read['bytes'])}, preset {config['preset']}.",
        cards,
        [section for section in sections if section is not None],
        "Every document that came in is in the corpus or in its folder rejected, with the rule that refused it.",
    )


def _kept(metrics: Mapping[str, Any]) -> dict[str, int]:
    return {name: sum(split[name] for split in metrics["kept"].values()) for name in ("documents", "bytes")}


def _funnel(metrics: Mapping[str, Any]) -> Section:
    funnel = metrics["funnel"]
    rows = [
        (
            one["step"], one["documents"],
            numbers.percent(one["documents"] / max(funnel[0]["documents"], 1)), numbers.size(one["bytes"]),
        )
        for one in funnel
    ]  # fmt: skip
    blocks: list[Block] = [
        Figure(
            "Documents left after each step",
            [("", charts.bars(funnel, "step", "documents", "documents", numbers.count))],
            "Steps that took nothing are left out.",
        ),
        Table("The same in numbers", ("After", "Documents", "Share", "Text"), rows),
    ]
    extras = [(f"Masked: {kind}", count) for kind, count in metrics["personal_data"].items()]
    if metrics["dropped_lines"]:
        extras.append(("Lines dropped from documents that stayed", metrics["dropped_lines"]))
    if metrics["repeated_lines"]:
        extras.append(("Lines taken out that occur before", metrics["repeated_lines"]))
    if metrics["repaired"]:
        extras.append(("Documents of files whose encoding was repaired", metrics["repaired"]))
    if extras:
        blocks.append(Table("Changed within documents", ("What", "Times"), extras))
    first, last = funnel[0]["documents"], funnel[-1]["documents"]
    share = numbers.percent(last / max(first, 1))
    lead = f"Of {numbers.count(first, 'document')} {numbers.count(last)} went all the way ({share})."
    return Section("funnel", "Funnel", lead, blocks)


@dataclass
class _Nearest:
    """Of one rule the dropped and the kept document whose values lie nearest to its bound."""

    rule: str
    bound: float
    dropped: tuple[float, dict[str, Any]] | None = None
    kept: tuple[float, str] | None = None

    @property
    def score(self) -> str:
        return self.rule.partition("_")[2]

    def passes(self, value: float) -> bool:
        return value >= self.bound if self.rule.startswith("min") else value <= self.bound


def _rules(artifact: Artifact) -> Section | None:
    drops = artifact.metrics["drops"]
    if not drops:
        return None
    bars = charts.bars(drops[:20], "rule", "documents", "documents", numbers.count)
    blocks: list[Block] = [
        Figure("Dropped by rule", [("", bars)], "A document is refused by the first rule that it breaks.", wide=True)
    ]
    nearest = _nearest(artifact, [drop["rule"] for drop in drops])
    texts = _texts(artifact, {one.kept[1] for one in nearest if one.kept})
    for one in nearest:
        items = []
        if one.dropped is not None:
            row = one.dropped[1]
            items.append((f"dropped · {row['id']} · {numbers.value(row['value'])}", _excerpt(row["text"])))
        if one.kept is not None and one.kept[1] in texts:
            items.append((f"kept · {one.kept[1]} · {numbers.value(one.kept[0])}", _excerpt(texts[one.kept[1]])))
        caption = f"{SCORES[one.score]}: bound {numbers.value(one.bound)}. The nearest to it on both sides."
        blocks.append(Quotes(one.rule, items, caption))
    others = _first_of(artifact, [drop["rule"] for drop in drops if not drop["rule"].startswith(("min_", "max_"))])
    if others:
        blocks.append(Quotes("The first that other rules refused", others, wide=True))
    lead = (
        f"{numbers.count(len(drops), 'rule')} refused something, most of all “{drops[0]['rule']}” "
        f"({numbers.count(drops[0]['documents'], 'document')}). Bounds are configuration: the scores of every document "
        "are in the folder scores."
    )
    return Section("rules", "Rules", lead, blocks)


def _nearest(artifact: Artifact, rules: list[str]) -> list[_Nearest]:
    wanted: dict[str, _Nearest] = {}
    names = [rule for rule in rules if rule.startswith(("min_", "max_"))][:_RULES]
    for row in read_rows(artifact.path / "rejected"):
        if row["rule"] not in names:
            continue
        one = wanted.setdefault(row["rule"], _Nearest(row["rule"], row["threshold"]))
        if one.dropped is None or abs(row["value"] - one.bound) < one.dropped[0]:
            one.dropped = abs(row["value"] - one.bound), row
    # Of those that pass a few are held, in heaps, as most are kept: what other rules refused is only known afterwards.
    passing: dict[str, list[tuple[float, int, float, str]]] = {rule: [] for rule in wanted}
    for number, row in enumerate(_score_rows(artifact, [one.score for one in wanted.values()])):
        for rule, one in wanted.items():
            value = row[one.score]
            if not math.isnan(value) and one.passes(value):
                item = (-abs(value - one.bound), -number, value, row["id"])
                (heapq.heappush if len(passing[rule]) < _CANDIDATES else heapq.heappushpop)(passing[rule], item)
    ids = {item[3] for items in passing.values() for item in items}
    refused = {row["id"] for row in read_rows(artifact.path / "rejected", ["id"]) if row["id"] in ids}
    for rule, one in wanted.items():
        kept = [item for item in passing[rule] if item[3] not in refused]
        if kept:
            one.kept = max(kept)[2:]
    return [wanted[name] for name in names if name in wanted]


def _score_rows(artifact: Artifact, scores: list[str]) -> Iterator[dict[str, Any]]:
    yield from read_rows(artifact.path / "scores", ["id", *dict.fromkeys(scores)])


def _texts(artifact: Artifact, ids: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for folder in (*_SPLITS, "rejected"):
        if len(found) < len(ids):
            rows = read_rows(artifact.path / folder, ["id", "text"])
            found |= {row["id"]: row["text"] for row in rows if row["id"] in ids}
    return found


def _first_of(artifact: Artifact, rules: list[str]) -> list[tuple[str, str]]:
    found: dict[str, dict[str, Any]] = {}
    for row in read_rows(artifact.path / "rejected"):
        if row["rule"] in rules:
            found.setdefault(row["rule"], row)
        if len(found) == len(rules):
            break
    return [
        (f"{rule} · {found[rule]['id']} · {found[rule]['detail']}", _excerpt(found[rule]["text"]))
        for rule in rules
        if rule in found
    ]


def _excerpt(text: str) -> str:
    if not text.strip():
        return "(no text)"
    return text if len(text) <= _EXCERPT else text[:_EXCERPT].rstrip() + " …"


def _scores(artifact: Artifact) -> Section | None:
    """Histograms of lengths and of the scores whose rules dropped most."""
    lengths = artifact.metrics["lengths"]
    rows = [{"length": f"{int(low):,} to {2 * int(low) - 1:,}", "documents": count} for low, count in lengths.items()]
    panels = [("characters of kept documents", charts.bars(rows, "length", "documents", "documents", numbers.count))]
    rules = [drop["rule"] for drop in artifact.metrics["drops"] if drop["rule"].startswith(("min_", "max_"))][:3]
    bounds = {row["rule"]: row["threshold"] for row in read_rows(artifact.path / "rejected", ["rule", "threshold"])}
    names = [rule.partition("_")[2] for rule in rules]
    classes = _classes(artifact, {name: bounds[rule] for rule, name in zip(rules, names, strict=True)})
    counts = {name: [0] * len(one.labels) for name, one in classes.items()}
    for row in _score_rows(artifact, list(classes)):
        for name, one in classes.items():
            if not math.isnan(row[name]):
                counts[name][one.of(row[name])] += 1
    for rule, name in zip(rules, names, strict=True):
        if name in classes:
            bins = [
                {"value": label, "documents": count}
                for label, count in zip(classes[name].labels, counts[name], strict=True)
            ]
            title = f"{name}, bound {numbers.value(bounds[rule])}"
            panels.append((title, charts.bars(bins, "value", "documents", "documents", numbers.count)))
    lead = "How long the kept documents are, and how all that were measured lie by the scores whose rules took most."
    return Section("scores", "Scores", lead, [Figure("Histograms", panels, "", wide=True)])


@dataclass
class _Classes:
    """Equally wide classes of values; what lies beyond counts with the outermost."""

    low: float
    width: float
    labels: list[str]

    def of(self, value: float) -> int:
        return min(max(int((value - self.low) / self.width), 0), len(self.labels) - 1)


def _classes(artifact: Artifact, bounds: Mapping[str, float]) -> dict[str, _Classes]:
    """Classes for each score that was measured, by a sample of the documents."""
    values: dict[str, list[float]] = {name: [] for name in bounds}
    step = artifact.metrics["read"]["documents"] // _SAMPLE + 1
    for row in itertools.islice(_score_rows(artifact, list(bounds)), 0, None, step):
        for name in values:
            if not math.isnan(row[name]):
                values[name].append(row[name])
    return {name: _classes_of(found, bounds[name]) for name, found in values.items() if found}


def _classes_of(values: list[float], bound: float) -> _Classes:
    """Between the 1st and 99th percentile; one class ends at the bound."""
    ordered = sorted(values)
    low, high = ordered[len(ordered) // 100], ordered[-1 - len(ordered) // 100]
    if low == high:
        return _Classes(low, 1, [numbers.value(low)])
    if high - low < _BINS and all(value.is_integer() for value in ordered):
        return _Classes(low, 1, [numbers.value(number) for number in range(int(low), int(high) + 1)])
    width = (high - low) / _BINS
    if low < bound < high:
        low = bound - math.ceil((bound - low) / width) * width
    edges = [numbers.value(low + n * width) for n in range(math.ceil((high - low) / width - 1e-9) + 1)]
    return _Classes(low, width, [f"{start} to {end}" for start, end in itertools.pairwise(edges)])


def _clusters(artifact: Artifact) -> Section | None:
    found = artifact.metrics.get("near_duplicates")
    if not found or not part_files(artifact.path / "clusters"):
        return None
    rows = read_rows(artifact.path / "clusters", ["keeper"])
    hashes = np.fromiter((hash(row["keeper"]) for row in rows), np.int64)
    keepers, starts, sizes = np.unique(hashes, return_index=True, return_counts=True)
    order = np.lexsort((starts, -sizes))[:_CLUSTERS]  # of equal sizes the first
    members: dict[int, list[dict[str, Any]]] = {int(keepers[place]): [] for place in order}
    names: dict[int, str] = {}
    for row in read_rows(artifact.path / "clusters"):
        mine = members.get(hash(row["keeper"]))
        if mine is not None:
            names[hash(row["keeper"])] = row["keeper"]
            if row["id"] != row["keeper"] and len(mine) < _MEMBERS - 1:
                mine.append(row)
    largest = {names[keeper]: int(sizes[place]) for keeper, place in zip(members, order, strict=True)}
    texts = _texts(artifact, {*largest, *(row["id"] for rows in members.values() for row in rows)})
    by_size = zip(*(found.tolist() for found in np.unique(sizes, return_counts=True)), strict=True)
    bars = [{"size": numbers.count(size, "document"), "clusters": count} for size, count in by_size][:15]
    blocks: list[Block] = []
    if bars:
        chart = charts.bars(bars, "size", "clusters", "clusters", numbers.count)
        blocks.append(Figure("Clusters by size", [("", chart)], "", wide=True))
    for (keeper, size), others in zip(largest.items(), members.values(), strict=True):
        items = [(f"keeper · {keeper}", _excerpt(texts.get(keeper, "")))]
        items += [
            (f"{row['id']} · similarity {numbers.fixed(row['similarity'])}", _excerpt(texts.get(row["id"], "")))
            for row in others
        ]
        blocks.append(Quotes(f"A cluster of {numbers.count(size, 'document')}", items))
    linked = f"{numbers.count(found['documents'], 'document')} in {numbers.count(found['clusters'], 'cluster')}"
    lead = f"Pairs that are as similar as the bound asks link {linked}."
    if compared := artifact.measurements.get("near_duplicates"):
        pairs = numbers.count(compared["candidates"], "pair")
        lead = f"{pairs} were compared and {numbers.count(compared['similar'])} of them similar. They link {linked}."
    return Section("clusters", "Near-duplicates", lead, blocks)


def _where_from(metrics: Mapping[str, Any]) -> Section:
    groups = sorted(metrics["groups"].items(), key=lambda item: (-item[1]["read"], item[0]))[:15]
    sources = [
        (name, one["read"], one["kept"], numbers.percent(one["kept"] / max(one["read"], 1))) for name, one in groups
    ]
    kept = metrics["languages"]
    told = list(metrics["languages_read"].items())[:12]
    languages = [(code or "not told", count, kept.get(code, 0)) for code, count in told]
    blocks: list[Block] = [
        Table("By source", ("Top folder or file", "Came in", "Kept", "Share"), sources),
        Table("By language", ("Language", "Came in", "Kept"), languages),
        Table(
            "By split", ("Split", "Documents", "Text"),
            [(name, one["documents"], numbers.size(one["bytes"])) for name, one in metrics["kept"].items()],
        ),
    ]  # fmt: skip
    return Section(
        "sources", "Sources and languages", "Where documents came from and what they are written in.", blocks
    )


def _exhaustion(size: int) -> Section:
    tokens = size / _BYTES_PER_TOKEN
    rows = []
    for parameters in _MODELS:
        needed = _TOKENS_PER_PARAMETER * parameters
        epochs = needed / max(tokens, 1)
        verdict = (
            "enough" if epochs <= 1 else "repeated, nearly as good as new" if epochs <= _USEFUL_EPOCHS else "exhausted"
        )
        rows.append((numbers.short(parameters), numbers.short(needed), numbers.fixed(epochs, 1), verdict))
    lead = (
        f"At {_BYTES_PER_TOKEN:.0f} bytes to a token there are about {numbers.short(tokens)} tokens. A model trained "
        f"compute-optimally sees {_TOKENS_PER_PARAMETER} tokens a parameter (Hoffmann et al. 2022); beyond "
        f"{_USEFUL_EPOCHS} epochs repetition gives little (Muennighoff et al. 2023). So this is enough for about "
        f"{numbers.short(tokens / _TOKENS_PER_PARAMETER)} parameters in one epoch, and for "
        f"{numbers.short(_USEFUL_EPOCHS * tokens / _TOKENS_PER_PARAMETER)} in {_USEFUL_EPOCHS}."
    )
    table = Table("Epochs by size of the model", ("Parameters", "Tokens", "Epochs", "Data"), rows, wide=True)
    return Section("exhaustion", "How far it reaches", lead, [table])
