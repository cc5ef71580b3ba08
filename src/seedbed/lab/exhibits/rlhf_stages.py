"""What each stage of learning from preferences changes in the answers: the base model, the fine-tuned one and the
policy are asked the same held-out questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import Field

from ...alignment import losses
from ...alignment.limits import Samples
from ...alignment.rewards import PARTS
from ...alignment.rollouts import answer_logits, as_sequences, describe_answers
from ...evaluation.statistics import paired_bootstrap
from ...finetuning.instruct import for_chat
from ...models import Decoder
from ...reports import charts, numbers
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict
from ..jury import Jury

_STAGES = {"base": "base", "sft": "fine-tuned", "policy": "policy"}
_SHOWN = 70  # characters of an answer


class RlhfStagesSettings(Settings):
    prompts: int = Field(64, ge=2, description="held-out questions, at most")
    samples: int = Field(4, ge=2, description="answers of each stage to each question")


@dataclass(frozen=True)
class Stage:
    """Answers of one stage.

    Attributes:
        found: means, as `describe_answers` has them.
        gold_P, proxy_P: means of each question.
        entropy: of the next token, in nats.
        example: an answer to the first question.
    """

    name: str
    found: dict[str, float]
    gold_P: np.ndarray
    proxy_P: np.ndarray
    entropy: float
    example: str


def measure(bench: Bench, settings: RlhfStagesSettings) -> Finding:
    jury = Jury.of(bench, settings.prompts, settings.samples, settings.seed)
    stages = []
    for stage, name in _STAGES.items():
        bench.advance(f"answers of the {name} model")
        model = for_chat(bench.decoder(stage), bench.tokenizer)
        stages.append(described(name, model, jury.hear(model, settings.samples), jury))
    return judge(stages, str(jury.questions[0]), settings.seed)


@torch.no_grad()
def described(name: str, model: Decoder, heard: Samples, jury: Jury) -> Stage:
    pad_id = model.config.pad_token_id
    assert pad_id is not None
    ids_BS, mask_BT = as_sequences(heard.answers, pad_id)
    entropy = float(losses.entropy(answer_logits(model, ids_BS, mask_BT, jury.config.temperature)).mean())
    found = describe_answers(heard.answers, heard.proxy_PS.ravel(), jury.gold)
    return Stage(name, found, heard.gold_PS.mean(axis=1), heard.proxy_PS.mean(axis=1), entropy, heard.answers[0].text)


def judge(stages: Sequence[Stage], question: str, seed: int) -> Finding:
    """The finding of the three stages, in their order."""
    base, tuned, policy = stages
    taught = paired_bootstrap(base.gold_P, tuned.gold_P, seed=seed)
    liked = paired_bootstrap(tuned.proxy_P, policy.proxy_P, seed=seed)
    better = paired_bootstrap(tuned.gold_P, policy.gold_P, seed=seed)
    wins = float((policy.gold_P > tuned.gold_P).mean() + (policy.gold_P == tuned.gold_P).mean() / 2)
    verdict: Verdict = (
        "holds" if taught.low > 0 and liked.low > 0 and better.low > 0
        else "holds in part" if taught.low > 0 or better.low > 0
        else "does not hold"
    )  # fmt: skip
    sentences = (
        f"Fine-tuning takes the gold reward of answers from {base.found['gold']:.3f} to {tuned.found['gold']:.3f} and "
        f"the share that ends by itself from {base.found['ended']:.0%} to {tuned.found['ended']:.0%}.",
        f"Learning from the reward then takes the reward model’s score by {_between(liked)} deviations and the gold "
        f"reward by {_between(better)} (95% confidence); the policy’s answers are better for {wins:.0%} of the "
        f"questions, and the entropy of a token goes from {tuned.entropy:.2f} to {policy.entropy:.2f} nats.",
    )
    names = {"gold": "Gold reward", "proxy": "Reward model’s score", "ended": "Ends by itself", "tokens": "Tokens"}
    rows: list[list[Any]] = [[words, *(one.found[key] for one in stages)] for key, words in names.items()]
    rows += [[f"Gold: {part}", *(one.found[part] for one in stages)] for part in PARTS if part != "ends"]
    rows.append(["Entropy of a token, nats", *(one.entropy for one in stages)])
    rows.append(["An answer", *(one.example.strip()[:_SHOWN] for one in stages)])
    parts = [{"part": part, "stage": one.name, "value": one.found[part]} for part in PARTS for one in stages]
    chart = charts.grouped_bars(
        parts, "part", "stage", "value", "part of the gold reward", [one.name for one in stages], highest=1.1,
        label=lambda one: numbers.fixed(one, 2),
    )  # fmt: skip
    return Finding(
        verdict, sentences, ("Of the answers", *(one.name for one in stages)), rows, [("", chart)],
        {"base": base.found["gold"], "tuned": tuned.found["gold"], "policy": policy.found["gold"], "wins": wins},
        f"The answers are to: {question[:_SHOWN]}. Gold: the mean of the parts, a program that nobody trains on. The "
        "reward model’s score is in its deviations.",
    )  # fmt: skip


def _between(difference: Any) -> str:
    return " to ".join(numbers.fixed(one, 3, sign=True) for one in (difference.low, difference.high))


EXHIBIT = Exhibit(
    question="What does each stage of RLHF change in the answers?",
    claim="Fine-tuning on demonstrations teaches the form of an answer, and learning from a reward model makes answers "
    "that are preferred to those.",
    formula="SFT: min −log p(answer | question); reward: min −log σ(r⁺ − r⁻); PPO: max E[r − β log π/π₀].",
    source="Ouyang et al. 2022 (InstructGPT), sections 3.1 and 4.1",
    settings=RlhfStagesSettings,
    measure=measure,
    needs=("tokenizer", "base", "sft", "reward", "policy"),
)
