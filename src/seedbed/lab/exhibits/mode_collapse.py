"""Diversity before and after learning from a reward: the fine-tuned model's answers and the policy's to the same
questions, how different they are, and how often one of many is right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

from ...alignment.best_of_n import pass_at_k
from ...alignment.limits import diversity_row
from ...alignment.rollouts import Reference
from ...evaluation.statistics import Difference, paired_bootstrap
from ...reports import index_charts, numbers
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict
from ..jury import Jury

_BEFORE, _AFTER = "fine-tuned", "policy"
_MEASURES = {
    "entropy": "Entropy of a token, nats", "unique": "Different answers to a question",
    "distinct_2": "Distinct pairs of words",
    "self_bleu": "BLEU with the others", "gold": "Gold reward", "divergence": "Nats from the fine-tuned model",
}  # fmt: skip


class ModeCollapseSettings(Settings):
    prompts: int = Field(64, ge=2, description="held-out questions, at most")
    samples: int = Field(16, ge=2, description="answers to each: the largest k")
    right: float = Field(0.9, gt=0, le=1, description="gold reward from which an answer counts as right")


def measure(bench: Bench, settings: ModeCollapseSettings) -> Finding:
    jury = Jury.of(bench, settings.prompts, settings.samples, settings.seed)
    start = bench.decoder("sft")
    rows, gold = {}, {}
    for name, stage in ((_BEFORE, "sft"), (_AFTER, "policy")):
        bench.advance(f"{settings.samples} answers each of the {name} model")
        model = bench.decoder(stage)
        heard = jury.hear(model, settings.samples)
        rows[name] = diversity_row(name, heard, model, Reference(start), jury.config)
        gold[name] = heard.gold_PS
    return judge(rows, gold, settings)


def judge(
    rows: Mapping[str, Mapping[str, Any]], gold: Mapping[str, np.ndarray], settings: ModeCollapseSettings
) -> Finding:
    """The finding of `diversity_row`s and of gold rewards (P, S), before and after."""
    samples = gold[_BEFORE].shape[1]
    counts = [1 << power for power in range(samples.bit_length()) if 1 << power <= samples]
    passes = {
        name: {k: pass_at_k(one >= settings.right, k) for k in counts} for name, one in gold.items()
    }  # fmt: skip
    differences = {k: paired_bootstrap(passes[_BEFORE][k], passes[_AFTER][k], seed=settings.seed) for k in counts}
    once, many = differences[counts[0]], differences[counts[-1]]
    before, after = rows[_BEFORE], rows[_AFTER]
    narrower = after["entropy"] < before["entropy"] and after["distinct_2"] < before["distinct_2"]
    verdict: Verdict = (
        "holds" if narrower and once.low > 0 and many.mean < once.mean
        else "holds in part" if narrower
        else "does not hold"
    )  # fmt: skip
    sentences = (
        f"From the fine-tuned model to the policy the entropy of a token goes from {before['entropy']:.2f} to "
        f"{after['entropy']:.2f} nats, distinct pairs of words from {before['distinct_2']:.0%} to "
        f"{after['distinct_2']:.0%}, and the BLEU of an answer with the others from {before['self_bleu']:.2f} to "
        f"{after['self_bleu']:.2f}.",
        f"One answer is right for {_shares(passes, counts[0])} of the questions (difference {_between(once)}), one of "
        f"{counts[-1]} for {_shares(passes, counts[-1])} (difference {_between(many)}, 95% confidence).",
    )
    table: list[list[Any]] = [[words, before[key], after[key]] for key, words in _MEASURES.items()]
    table += [[f"pass@{k}", *(float(passes[name][k].mean()) for name in (_BEFORE, _AFTER))] for k in counts]
    points = [
        {"k": k, "pass": float(passes[name][k].mean()), "series": name} for name in (_BEFORE, _AFTER) for k in counts
    ]
    chart = index_charts.lines(
        points, "k", "pass", (_BEFORE, _AFTER), "answers tried", "questions with a right one", x_values=counts,
        y_axis=".0%",
    )  # fmt: skip
    return Finding(
        verdict, sentences, ("Of the answers", _BEFORE, _AFTER), table, [("", chart)],
        {"entropy_before": before["entropy"], "entropy_after": after["entropy"], "once": once.mean, "many": many.mean},
        f"Right: a gold reward of {settings.right:g} or more. pass@k: the chance that one of k answers is right.",
    )  # fmt: skip


def _shares(passes: Mapping[str, Mapping[int, np.ndarray]], k: int) -> str:
    return " and ".join(f"{passes[name][k].mean():.0%}" for name in (_BEFORE, _AFTER))


def _between(difference: Difference) -> str:
    return " to ".join(numbers.percent(one, 0, sign=True) for one in (difference.low, difference.high))


EXHIBIT = Exhibit(
    question="Does learning from a reward make answers more alike, and what does that cost when many are tried?",
    claim="Reinforcement learning concentrates a model on fewer answers: the first one is right more often, while "
    "trying many gains less than before.",
    formula="pass@k = E[1 − C(N − c, k) / C(N, k)], c of N answers right; entropy H = −Σ π log π.",
    source="Kirk et al. 2024, section 6; Yue et al. 2025, section 3; Chen et al. 2021, section 2.1",
    settings=ModeCollapseSettings,
    measure=measure,
    needs=("tokenizer", "sft", "reward", "policy"),
)
