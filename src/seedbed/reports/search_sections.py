"""The search engine: its encoder, its quality and its index."""

from __future__ import annotations

from typing import Any

from . import charts, numbers
from .evidence import Evidence, training_rows
from .page import Block, Figure, Section, Table

_MODES = {"bm25": "BM25", "dense": "dense", "hybrid": "hybrid"}
_MEASURES = {"mrr@10": "MRR@10", "ndcg@10": "nDCG@10", "recall@10": "recall@10"}


def search(run: Evidence) -> Section | None:
    if "encoder" not in run.artifacts and "index" not in run.artifacts:
        return None
    blocks: list[Block] = []
    lead = ""
    if "index" in run.artifacts:
        index = run.metrics["index"]
        lead += _quality_words(index)
        blocks.append(_quality(index["evaluation"]))
    if "encoder" in run.artifacts:
        encoder = run.metrics["encoder"]
        lead += (
            f" The vectors come from an encoder of {numbers.short(encoder['parameters'])} parameters, which learned "
            f"from {numbers.count(encoder['pairs'], 'pair')} to tell the right text from its neighbours."
        )
        blocks.append(_encoder_loss(run))
    if "index" in run.artifacts:
        blocks += _graph(run)
    return Section("search", "Search", lead.strip(), blocks, run.stamp("encoder", "index"))


def _quality_words(index: dict[str, Any]) -> str:
    found = index["evaluation"]
    scores = {name: found[name]["mrr@10"] for name in _MODES}
    best = (
        "ahead of either" if scores["hybrid"] >= max(scores["bm25"], scores["dense"]) else "not the best of the three"
    )
    return (
        f"{numbers.count(index['passages'], 'passage')} can be searched by words (BM25), by vectors (dense) and by "
        f"both (hybrid). For {numbers.count(found['queries'])} held-out queries whose right document is known, the "
        f"mean reciprocal rank within ten is {numbers.fixed(scores['bm25'], 3)} by words, "
        f"{numbers.fixed(scores['dense'], 3)} by vectors and {numbers.fixed(scores['hybrid'], 3)} by both together, "
        f"{best}."
    )


def _quality(found: dict[str, Any]) -> Figure:
    rows = [
        {"measure": title, "mode": mode, "value": found[name][key]}
        for key, title in _MEASURES.items()
        for name, mode in _MODES.items()
        if key in found[name]
    ]
    chart = charts.grouped_bars(
        rows, "measure", "mode", "value", "mean over queries", list(_MODES.values()),
        colours=("hybrid", "dense", "BM25"), label=numbers.fixed, highest=1.0,
    )  # fmt: skip
    return Figure(
        "How well it finds", [("", chart)],
        "MRR@10: how near the top the right document stands. recall@10: how often it is among the first ten. Higher is "
        "better; 1 is perfect.",
    )  # fmt: skip


def _encoder_loss(run: Evidence) -> Figure:
    rows = [
        {"step": row["step"], "loss": row["loss"], "split": "training"} for row in training_rows(run.rows("encoder"))
    ]
    chart = charts.loss_curves(rows, "step", "loss", "split", ["training"], "step", "loss, nats per choice")
    return Figure(
        "Training the encoder", [("", chart)],
        "Each query chooses its text among those of the whole batch. Faint: each step. Lower is better.",
    )  # fmt: skip


def _graph(run: Evidence) -> list[Block]:
    index, measured = run.metrics["index"], run.artifacts["index"].measurements
    blocks: list[Block] = []
    recalls = {one["ef"]: one["recall@10"] for one in index["evaluation"].get("hnsw", ())}
    rows = [
        {"ef": one["ef"], "recall": recalls[one["ef"]], "speed": one["queries_per_second"]}
        for one in measured.get("hnsw", ())
        if one["ef"] in recalls
    ]
    if rows:
        blocks.append(Figure(
            "Recall against speed",
            [("", charts.recall_against_speed(rows, measured.get("exact_queries_per_second")))],
            "HNSW searches a graph instead of comparing with every vector. A wider search (ef) finds more of the true "
            "neighbours and takes longer; the numbers are ef. Up and to the right is better.",
        ))  # fmt: skip
    blocks.append(_facts(index, measured))
    return blocks


def _facts(index: dict[str, Any], measured: dict[str, Any]) -> Table:
    found = index["evaluation"]
    memory, predicted = index["memory_bytes"], index["memory_bytes_predicted"]
    off = numbers.percent(predicted / memory - 1, 1, True)
    rows: list[tuple[object, ...]] = [
        ("Documents", numbers.count(index["documents"])),
        ("Passages", numbers.count(index["passages"])),
        ("Passages longer than the encoder reads", numbers.count(index["truncated_passages"])),
        ("Weight of the vectors in hybrid search", numbers.value(index["dense_weight"])),
        ("Memory of the graph, measured", numbers.memory(memory)),
        ("Memory of the graph, predicted", f"{numbers.memory(predicted)} ({off})"),
        ("Index files", numbers.size(index["file_bytes"])),
    ]  # fmt: skip
    if "hnsw_recall@10" in found:
        rows.append(("Recall@10 of the graph as it is used", numbers.percent(found["hnsw_recall@10"], 2)))
    for title, key in (
        ("Passages encoded", "passages_per_second"),
        ("Exact search, queries", "exact_queries_per_second"),
    ):
        if key in measured:
            rows.append((title, f"{numbers.count(measured[key])} per second"))
    return Table("The index", ("", ""), rows, "The weight was chosen on the validation split’s queries.")
