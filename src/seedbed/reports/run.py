"""The report of a run: one page from what its artifacts hold."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import alignment_sections, charts, model_sections, numbers, search_sections, text_sections, tokenizer_pages
from .evidence import Evidence
from .model_sections import forecast_error
from .page import Card, Figure, Page, Section, Table

Metrics = dict[str, dict[str, Any]]

_TITLES = {
    "corpus": "text",
    "tokenizer": "tokenizer",
    "tokens": "token shards",
    "forecast": "forecast",
    "base": "pre-training",
    "sft": "fine-tuning",
    "reward": "reward model",
    "policy": "PPO",
    "encoder": "encoder",
    "index": "index",
}


def write_run_report(run: Path, out: Path) -> None:
    """Write the page of the run in the folder `run` to the file `out`. Stages that are not finished are left out.

    Raises:
        FormatError: an artifact's metrics cannot be read.
    """
    report_page(run).write(out)


def report_page(run: Path) -> Page:
    evidence = Evidence(run)
    made = (section(evidence) for section in _SECTIONS)
    return Page(
        _title(evidence),
        _subtitle(evidence),
        [*key_figures(evidence.metrics), *_cost_card(evidence)],
        [section for section in made if section is not None],
        "Everything on this page was measured in this run, on this machine. Equal seeds and threads give equal "
        "numbers, apart from seconds, memory and speed.",
        _facts(evidence),
    )


def key_figures(metrics: Metrics) -> list[Card]:
    """The figures that matter most, of the stages that are done."""
    return [card for maker in _CARDS for card in maker(metrics)]


def _corpus_card(metrics: Metrics) -> Iterator[Card]:
    if corpus := metrics.get("corpus"):
        kept = corpus["kept"].values()
        documents, size = sum(one["documents"] for one in kept), sum(one["bytes"] for one in kept)
        read = corpus["read"]["documents"]
        yield Card("Documents", numbers.count(documents), f"{numbers.size(size)}, of {numbers.count(read)} read")


def _tokenizer_card(metrics: Metrics) -> Iterator[Card]:
    if tokenizer := metrics.get("tokenizer"):
        found = tokenizer["fertility"]["validation"]
        note = f"{numbers.count(tokenizer['vocab_size'])} tokens"
        if found["tokens_per_word"] is not None:
            note += f"; {numbers.fixed(found['tokens_per_word'])} to a word"
        yield Card("Bytes per token", numbers.fixed(found["bytes_per_token"]), note)


def _base_card(metrics: Metrics) -> Iterator[Card]:
    if base := metrics.get("base"):
        ours, theirs = base["test"]["bits_per_byte"], base["ngram"]["test"]["bits_per_byte"]
        note = (
            f"{base['ngram']['order']}-gram: {numbers.fixed(theirs, 3)}; {numbers.percent(ours / theirs - 1, 1, True)}"
        )
        yield Card("Bits per byte, test", numbers.fixed(ours, 3), note, "good" if ours < theirs else "bad")


def _forecast_card(metrics: Metrics) -> Iterator[Card]:
    if forecast := metrics.get("forecast"):
        expected, measured = forecast["forecast"], metrics.get("base", {}).get("validation_loss")
        if measured is None:
            yield Card("Forecast loss", numbers.fixed(expected["loss"], 3), "nats per token; the run is not finished")
            return
        error, inside = forecast_error(expected, measured)
        note = f"{numbers.fixed(expected['loss'], 3)} against {numbers.fixed(measured, 3)}, "
        note += "inside the interval" if inside else "outside the interval"
        yield Card("Forecast error", numbers.percent(error, 1, True), note, "good" if inside else "bad")


def _answer_card(metrics: Metrics) -> Iterator[Card]:
    if sft := metrics.get("sft"):
        full = sft["full"]
        before, after = full["answer_loss_before"], full["answer_loss"]
        ended = f"; {numbers.percent(full['ended_share'], 0)} of answers end" if "ended_share" in full else ""
        yield Card("Answer loss", numbers.fixed(after), f"from {numbers.fixed(before)} nats per token{ended}")


def _reward_card(metrics: Metrics) -> Iterator[Card]:
    if reward := metrics.get("reward"):
        accuracy = reward["accuracy"]
        note = f"of {numbers.count(reward['held_out_pairs'])} held-out pairs ordered right"
        yield Card("Reward model", numbers.percent(accuracy), note, "good" if accuracy > 0.8 else "bad")


def _policy_card(metrics: Metrics) -> Iterator[Card]:
    if policy := metrics.get("policy"):
        before, after = policy["before"]["gold"], policy["after"]["gold"]
        gain, error = policy["gold_gain"], policy["gold_gain_error"]
        note = f"from {numbers.fixed(before, 3)}; gain {numbers.fixed(gain, 3)} ± {numbers.fixed(error, 3)}"
        tone = "good" if gain > 2 * error else "bad" if gain < -2 * error else ""
        yield Card("Gold reward after PPO", numbers.fixed(after, 3), note, tone)


def _search_cards(metrics: Metrics) -> Iterator[Card]:
    if index := metrics.get("index"):
        found = index["evaluation"]
        hybrid, bm25, dense = (found[mode]["mrr@10"] for mode in ("hybrid", "bm25", "dense"))
        note = f"hybrid; BM25 {numbers.fixed(bm25, 3)}, dense {numbers.fixed(dense, 3)}"
        yield Card("Search, MRR@10", numbers.fixed(hybrid, 3), note, "good" if hybrid >= bm25 else "bad")
        if "hnsw_recall@10" in found:
            recall = found["hnsw_recall@10"]
            note = f"of exact neighbours found, {numbers.count(index['passages'], 'passage')}"
            yield Card("HNSW recall@10", numbers.percent(recall), note, "good" if recall >= 0.98 else "bad")


_CARDS: tuple[Callable[[Metrics], Iterator[Card]], ...] = (
    _corpus_card, _tokenizer_card, _forecast_card, _base_card, _answer_card, _reward_card, _policy_card, _search_cards,
)  # fmt: skip


def _cost_card(run: Evidence) -> Iterator[Card]:
    if manifests := [one.manifest for one in run.artifacts.values()]:
        peak = max(one["peak_memory_bytes"] for one in manifests)
        note = f"on {numbers.count(manifests[0]['machine']['cpus'], 'processor')}; {numbers.memory(peak)} at most"
        yield Card("Time for all", numbers.duration(sum(one["seconds"] for one in manifests)), note)


def cost(run: Evidence) -> Section | None:
    if not run.artifacts:
        return None
    rows = [
        {"stage": _TITLES[stage], "seconds": one.manifest["seconds"], "memory": one.manifest["peak_memory_bytes"]}
        for stage, one in run.artifacts.items()
    ]
    slowest, largest = (max(rows, key=lambda row, key=key: row[key]) for key in ("seconds", "memory"))  # type: ignore[misc]
    total = sum(row["seconds"] for row in rows)
    lead = (
        f"The road took {numbers.duration(total)}. The longest stage was {slowest['stage']} with "
        f"{numbers.percent(slowest['seconds'] / total, 0)} of it; most memory was needed by {largest['stage']}, "
        f"{numbers.memory(largest['memory'])} at its peak."
    )
    blocks = [
        Figure(
            "Time", [("", charts.bars(rows, "stage", "seconds", "seconds", numbers.duration))],
            "From start to end of each stage. A stage that was interrupted counts from its last start.",
        ),
        Figure(
            "Memory",
            [("", charts.bars([{**row, "memory": row["memory"] / (1 << 20)} for row in rows], "stage", "memory", "MiB",
                              lambda one: numbers.memory(one * (1 << 20))))],
            "Peak resident memory of the process during each stage, Python and libraries included.",
        ),
    ]  # fmt: skip
    speeds = list(_speeds(run))
    table = [Table("Speed", ("Stage", "What", "Per second"), speeds, "Means over the whole stage.")] if speeds else []
    return Section("cost", "Time and memory", lead, [*blocks, *table])


def _speeds(run: Evidence) -> Iterator[tuple[str, str, str]]:
    for stage, what in (
        ("base", "tokens trained on"),
        ("sft", "answer tokens trained on"),
        ("reward", "preference pairs"),
        ("policy", "answer tokens, sampled and trained on"),
        ("encoder", "choices"),
    ):
        if stage in run.artifacts:
            measured = run.artifacts[stage].measurements
            speed = measured.get("full", measured).get("counted_per_second")
            if speed:
                yield _TITLES[stage], what, numbers.count(speed)


_SECTIONS: tuple[Callable[[Evidence], Section | None], ...] = (
    text_sections.corpus, text_sections.tokenizer, model_sections.forecast, model_sections.base,
    tokenizer_pages.learning, model_sections.finetuning, alignment_sections.reward, alignment_sections.policy,
    search_sections.search, cost,
)  # fmt: skip


def _title(run: Evidence) -> str:
    named = run.sources[:2]
    others = len(run.sources) - len(named)
    what = ", ".join([*named, *([f"{others} more"] if others else [])]) or "text"
    return f"Grown from {what}: a language model and a search engine"


def _subtitle(run: Evidence) -> str:
    metrics = run.metrics
    if not metrics:
        return "No stage of this run is finished."
    parts = []
    if "base" in metrics:
        parts.append(f"a decoder of {numbers.short(metrics['base']['parameters'])} parameters, taught to answer")
    if "index" in metrics:
        parts.append(f"a search engine over {numbers.count(metrics['index']['passages'], 'passage')}")
    made = f"This run made {' and '.join(parts)}. " if parts else ""
    return made + "What follows is how well each stage did, what it cost, and where it fell short."


def _facts(run: Evidence) -> dict[str, str]:
    if not run.artifacts:
        return {}
    manifest = next(reversed(run.artifacts.values())).manifest
    machine = manifest["machine"]
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("torch", "numpy", "pyarrow", "altair")
    )
    return {
        "Processor": f"{machine['processor']}, {machine['cpus']} used, {machine['simd']}",
        "Memory": numbers.memory(machine["memory_bytes"]),
        "System": f"{machine['system']}, Python {machine['python']}",
        "Versions": f"seedbed {manifest['version']}, {versions}",
        "Last artifact": f"{manifest['stage']} {manifest['fingerprint'][:16]}",
    }
