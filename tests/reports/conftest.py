"""A run as the stages leave it, made up: the report reads artifacts, whoever wrote them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from seedbed.core.artifacts import Workspace, build_artifact, open_artifact
from seedbed.core.config import Config
from seedbed.curation.storage import CORPUS_COLUMNS, REJECTED_COLUMNS, PartWriter
from seedbed.scaling.ledger import record_forecast, record_score
from seedbed.tokenizers import train_bpe

HOSTILE = '</script></pre><img src=x onerror="alert(1)">{{ 7 * 7 }}'
_SPLITS = {"train": 40, "validation": 6, "test": 6}
_SENTENCE = (
    "json.dumps(obj) serialises an object to a string of JSON, and {} is how often this sentence was written before."
)


@pytest.fixture(scope="session")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("grown") / "run")


def make_run(run: Path) -> Path:
    """Every stage's artifact in the folder `run`, with hostile text wherever text comes from outside."""
    run.mkdir(parents=True)
    values = {"sources": ["--python-docs", f"/home/somebody/{HOSTILE.replace('/', '')}"], "recipe": {}}
    (run / "run.json").write_text(json.dumps(values))
    _build(run, "corpus", _corpus_files, _corpus_metrics())
    _build(run, "tokenizer", _tokenizer_files, _tokenizer_metrics())
    shards = {
        name: {"documents": count, "tokens": count * 90, "text_bytes": count * 300} for name, count in _SPLITS.items()
    }
    _build(run, "tokens", None, {**shards, "bytes_per_token": 3.33})
    _forecast_and_base(run)
    _build(run, "sft", _sft_files, _sft_metrics(), {"full": {"counted_per_second": 8000.0}})
    _build(run, "reward", _reward_files, _reward_metrics(), {"counted_per_second": 300.0})
    _policy(run)
    _build(run, "encoder", lambda path: _rows(path, _losses(60, 4.8, 1.9)), {
        "pairs": 8120, "parameters": 1_083_000, "epochs": 6.3, "steps": 400, "loss": 1.93, "counted": 1e5,
    })  # fmt: skip
    _build(run, "index", None, _index_metrics(), {
        "passages_per_second": 2100.0, "graph_seconds": 1.2, "exact_queries_per_second": 900.0,
        "hnsw": [{"ef": ef, "queries_per_second": 60_000 / ef} for ef in (10, 20, 40, 80, 128, 160)],
    })  # fmt: skip
    return run


def _build(
    run: Path, stage: str, write: Any, metrics: Mapping[str, Any], measurements: Mapping[str, Any] | None = None
) -> None:
    def produce(workspace: Workspace) -> Mapping[str, Any]:
        if write is not None:
            write(workspace.path)
        workspace.measurements.update(measurements or {})
        return metrics

    build_artifact(run / stage, stage, Config(), {}, produce)


def _rows(path: Path, rows: list[dict[str, Any]], name: str = "metrics.jsonl") -> None:
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def _losses(steps: int, start: float, end: float, **last: float) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {
            "step": step, "loss": end + (start - end) * math.exp(-4 * step / steps) + 0.08 * math.sin(step * 2.4),
            "learning_rate": 0.01 * min(1, step / 5, (steps - step + 1) / steps * 2),
            "gradient_norm": 1.1 + math.sin(step) / 3,
            "counted": step * 4096.0,
        }
        for step in range(1, steps + 1)
    ]  # fmt: skip
    return [*rows, {"step": steps, **last}] if last else rows


def _corpus_files(path: Path) -> None:
    for split, count in _SPLITS.items():
        with PartWriter(path / split, CORPUS_COLUMNS) as writer:
            for number in range(count):
                text = _SENTENCE.format(number) + f"\n{HOSTILE}"
                writer.add(
                    dict.fromkeys(CORPUS_COLUMNS, "") | {"id": f"{split}{number}", "text": text, "title": HOSTILE}
                )
    with PartWriter(path / "rejected", REJECTED_COLUMNS) as writer:
        common = {"source": HOSTILE, "detail": HOSTILE, "title": HOSTILE, "metadata": "{}"}
        writer.add(
            {**common, "id": HOSTILE, "text": HOSTILE, "rule": "min_characters", "value": 12.0, "threshold": 40.0}
        )
        for number in range(3):
            row = {
                "id": f"b{number}",
                "text": "twice " * 90,
                "rule": "exact_duplicate",
                "value": None,
                "threshold": None,
            }
            writer.add({**common, **row})


def _corpus_metrics() -> dict[str, Any]:
    kept = {
        name: {"documents": count * 180, "bytes": count * 54_000, "characters": count * 53_900}
        for name, count in _SPLITS.items()
    }
    return {
        "sources": 214, "read": {"documents": 9_800, "bytes": 3_100_000}, "kept": kept,
        "drops": [
            {"rule": "min_characters", "documents": 350, "bytes": 9_000, "examples": []},
            {"rule": "exact_duplicate", "documents": 85, "bytes": 20_000, "examples": []},
            {"rule": "max_repeated_line_share", "documents": 5, "bytes": 4_000, "examples": []},
        ],
        "languages": {"en": 9_270, "unknown": 60, "la": 20, "fr": 10},
    }  # fmt: skip


def _tokenizer_files(path: Path) -> None:
    texts = [_SENTENCE.format(number) for number in range(30)]
    train_bpe(texts, 400, "llama3", ("<|endoftext|>", "<|pad|>"), 2, 1).save(path)


def _tokenizer_metrics() -> dict[str, Any]:
    split = {
        "texts": 10, "words": 100, "characters": 600, "bytes": 610, "tokens": 170, "tokens_per_word": 1.71,
        "bytes_per_token": 3.59, "characters_per_token": 3.53, "continued_words": 0.412, "unused_tokens": 12,
    }  # fmt: skip
    held = {**split, "tokens_per_word": 1.84, "bytes_per_token": 3.36, "unused_tokens": 702}
    return {"vocab_size": 4096, "fingerprint": "ab" * 32, "fertility": {"train": split, "validation": held}}


def _forecast_and_base(run: Path) -> None:
    runs = [
        {
            "name": f"{params}-{tokens}", "params": params, "tokens": tokens, "unique_tokens": tokens,
            "loss": 2.2 + 90 / params**0.34 + 700 / tokens**0.5, "bits_per_byte": 1.9,
        }
        for params in (330_000, 545_000, 1_030_000)
        for tokens in (102_400, 204_800, 307_200)
    ]  # fmt: skip
    expected = {
        "params": 2_360_000, "tokens": 819_200, "unique_tokens": 640_000, "effective_tokens": 790_000.0, "loss": 3.642,
        "low": 3.551, "high": 3.733, "level": 0.9, "bits_per_byte": 1.561, "bits_per_byte_low": 1.522,
        "bits_per_byte_high": 1.6, "runs": 9,
    }  # fmt: skip
    _build(run, "forecast", None, {"runs": runs, "forecast": expected})
    body = {**expected, "artifact": open_artifact(run / "forecast").fingerprint}
    entry = record_forecast(run / "ledger.jsonl", body)
    end = {"validation_loss": 3.598, "bits_per_byte": 1.543}
    _build(run, "base", lambda path: _rows(path, _losses(120, 8.2, 3.5, **end)), {
        **end, "steps": 200, "loss": 3.4, "counted": 819_200.0, "parameters": 2_360_000, "tokens": 819_200,
        "unique_tokens": 640_000, "epochs": 1.28, "validation": {"loss": 3.57, "bits_per_byte": 1.531},
        "test": {"loss": 3.6, "bits_per_byte": 1.544},
        "ngram": {
            "order": 5, "validation": {"loss": 4.1, "bits_per_byte": 1.742},
            "test": {"loss": 4.12, "bits_per_byte": 1.75},
        },
    }, {"seconds": 70.0, "counted_per_second": 11_700.0})  # fmt: skip
    record_score(run / "ledger.jsonl", entry, end["validation_loss"])


def _sft_files(path: Path) -> None:
    _rows(path, _losses(90, 4.1, 2.0, answer_loss=2.31))
    _rows(path, _losses(50, 4.1, 2.5, answer_loss=2.74), "metrics-lora.jsonl")


def _sft_metrics() -> dict[str, Any]:
    common = {"answer_loss_before": 4.213, "steps": 300, "loss": 2.1, "counted": 4e4}
    return {
        "rows": 7_412, "held_out_rows": 256, "replayed_rows": 0, "too_long": 3, "without_answer": 0,
        "full": {**common, "answer_loss": 2.31, "trainable_parameters": 2_360_000, "ended_share": 0.97},
        "lora": {**common, "answer_loss": 2.74, "trainable_parameters": 72_000, "steps": 100, "ended_share": 0.91},
    }  # fmt: skip


def _reward_files(path: Path) -> None:
    _rows(path, _losses(80, 0.72, 0.31))
    pair = {"prompt": f"What does `{HOSTILE}` do?", "chosen": HOSTILE, "rejected": f"the the the {HOSTILE}"}
    _rows(path, [pair, pair, pair], "preferences/validation.jsonl")


def _reward_metrics() -> dict[str, Any]:
    calibration = [
        {
            "belief": 0.525 + 0.05 * place,
            "accuracy": 0.5 + 0.05 * place + 0.03 * math.sin(place),
            "pairs": 14 + 9 * place,
        }
        for place in range(10)
    ]
    return {
        "steps": 80, "pairs": 288, "accuracy": 0.873, "loss": 0.33, "margin": 1.9, "calibration_error": 0.031,
        "calibration": calibration, "held_out_pairs": 288, "train_pairs": 1_130, "too_long": 0, "train_accuracy": 0.91,
        "score_mean": 0.1, "score_deviation": 1.7, "candidates": {"gold": 0.61},
    }  # fmt: skip


def _policy(run: Path) -> None:
    rows = [
        {
            "step": 4 * number, "iteration": number, "gold": 0.62 + 0.2 * (1 - math.exp(-number / 6)),
            "proxy": 1.4 * (1 - math.exp(-number / 7)), "kl": 0.35 * number, "kl_exact": 0.34 * number,
            "entropy": 3.1 - 0.04 * number, "tokens": 21 + 3 * math.sin(number / 3), "distinct": 1 - 0.004 * number,
        }
        for number in range(1, 17)
    ]  # fmt: skip
    before = {
        "gold": 0.634, "ends": 0.86, "sentence": 0.71, "names": 0.22, "fresh": 0.83, "proxy": 0.02,
        "tokens": 21.4, "length": 0.7,
        "distinct": 0.99,
    }  # fmt: skip
    after = {
        "gold": 0.801, "ends": 0.99, "sentence": 0.93, "names": 0.48, "fresh": 0.95, "proxy": 1.31,
        "tokens": 18.2, "length": 0.9,
        "distinct": 0.93,
    }  # fmt: skip
    _build(run, "policy", lambda path: _rows(path, rows), {
        "before": before, "after": after, "gold_gain": 0.167, "gold_gain_error": 0.013, "proxy_gain": 1.29,
        "iterations": 16, "kl": 5.6, "entropy": 2.46, "first_ratio": 1.0, "first_clipped": 0.0,
    })  # fmt: skip


def _index_metrics() -> dict[str, Any]:
    hnsw = [{"ef": ef, "recall@10": 1 - 0.5 / ef} for ef in (10, 20, 40, 80, 128, 160)]
    modes = {
        mode: {"mrr@10": score, "ndcg@10": score + 0.04, "recall@10": score + 0.15}
        for mode, score in (("bm25", 0.612), ("dense", 0.574), ("hybrid", 0.688))
    }
    return {
        "documents": 9_360, "passages": 11_204, "truncated_passages": 31, "dense_weight": 0.4, "fusion_constant": 10.0,
        "validation_mrr": 0.69, "memory_bytes": 10_250_000, "memory_bytes_predicted": 10_190_000,
        "file_bytes": 14_100_000,
        "evaluation": {"queries": 468, **modes, "hnsw": hnsw, "hnsw_recall@10": 0.9961},
    }  # fmt: skip
