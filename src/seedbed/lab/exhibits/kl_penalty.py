"""The price of divergence in PPO: none, a fixed one, and one that follows a target; and what estimators from samples
make of the divergence that the whole distributions have. Near the start k3 spreads less than k1; far from it the ratio
of the probabilities has a heavy tail, and k3 feels it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from ...alignment.limits import estimator_rows
from ...alignment.rollouts import Reference, freeze
from ...finetuning.instruct import load_decoder
from ...reports import charts
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict
from ..jury import Jury, trained_policy

_FREE, _FIXED, _FOLLOWING = "no price", "a fixed price", "a price that follows"
_TAIL = 4  # last iterations, whose mean is compared with the target


class KlPenaltySettings(Settings):
    iterations: int = Field(12, ge=2, description="of PPO for each price")
    learning_rate: float = Field(1e-3, gt=0, description="of PPO, high enough to go far")
    price: float = Field(0.1, gt=0, description="of a nat of divergence, in deviations of the reward")
    target: float = Field(1.0, gt=0, description="nats an answer that the third price follows")
    horizon: int = Field(32, ge=1, description="answers over which that price adapts")
    prompts: int = Field(32, ge=2, description="held-out questions for the estimators")
    samples: int = Field(8, ge=2, description="answers to each")


@dataclass(frozen=True)
class Priced:
    """One policy: what became of it, and its rows by iteration."""

    name: str
    after: Mapping[str, float]
    rows: Sequence[Mapping[str, Any]]

    @property
    def tail(self) -> float:
        """Nats an answer in the last iterations."""
        return float(np.mean([row["kl_exact"] for row in self.rows[-_TAIL:]]))


def measure(bench: Bench, settings: KlPenaltySettings) -> Finding:
    shared = {"iterations": settings.iterations, "learning_rate": settings.learning_rate, "kl_target": None}
    prices: dict[str, dict[str, Any]] = {
        _FREE: {"kl_coefficient": 0.0},
        _FIXED: {"kl_coefficient": settings.price},
        _FOLLOWING: {
            "kl_coefficient": settings.price, "kl_target": settings.target, "kl_horizon": settings.horizon
        },
    }  # fmt: skip
    policies, folders = [], {}
    for name, price in prices.items():
        config = bench.recipe.ppo.replace(**{**shared, **price})
        folders[name], metrics, rows = trained_policy(bench, name, config)
        policies.append(Priced(name, metrics["after"], rows))
    bench.advance("estimates of the divergence")
    jury = Jury.of(bench, settings.prompts, settings.samples, settings.seed)
    policy = freeze(load_decoder(folders[_FREE]))
    heard = jury.hear(policy, settings.samples)
    estimates = estimator_rows(
        _FREE, policy, Reference(bench.decoder("sft")), heard.answers, jury.config.temperature
    )  # fmt: skip
    return judge(policies, estimates, settings.target)


def judge(policies: Sequence[Priced], estimates: Sequence[Mapping[str, Any]], target: float) -> Finding:
    """The finding of the three policies and of `estimator_rows`."""
    free, fixed, following = policies
    by_name = {row["estimator"]: row for row in estimates}
    holds_back = fixed.tail < free.tail
    follows = abs(following.tail - target) < min(abs(fixed.tail - target), abs(free.tail - target))
    steadier = by_name["k3"]["deviation"] < by_name["k1"]["deviation"] and by_name["k1"]["negative"] > 0
    verdict: Verdict = (
        "holds" if holds_back and follows and steadier else "holds in part" if holds_back else "does not hold"
    )  # fmt: skip
    exact = by_name["exact"]["mean"]
    sentences = (
        f"In the last {_TAIL} iterations answers are {free.tail:.1f} nats from the start without a price, "
        f"{fixed.tail:.1f} with a fixed one and {following.tail:.1f} with one that follows {target:g}; the reward "
        f"model then scores them {free.after['proxy']:.2f}, {fixed.after['proxy']:.2f} and "
        f"{following.after['proxy']:.2f}, the gold reward "
        f"{free.after['gold']:.3f}, {fixed.after['gold']:.3f} and {following.after['gold']:.3f}.",
        f"Of {exact:.3f} nats a token, k1 estimates {by_name['k1']['mean']:.3f} with a deviation of "
        f"{by_name['k1']['deviation']:.2f} and {by_name['k1']['negative']:.0%} below zero, k3 "
        f"{by_name['k3']['mean']:.3f} with {by_name['k3']['deviation']:.2f}, and k2 {by_name['k2']['mean']:.3f} with "
        f"{by_name['k2']['deviation']:.2f}.",
    )
    rows: list[list[Any]] = [
        [one.name, one.tail, one.rows[-1]["kl_coefficient"], one.after["proxy"], one.after["gold"],
         one.rows[-1]["entropy"]]
        for one in policies
    ]  # fmt: skip
    rows += [[f"estimate by {row['estimator']}, a token", row["mean"], None, None, None, None] for row in estimates]
    points = [
        {"iteration": row["iteration"], "kl": row["kl_exact"], "series": one.name}
        for one in policies
        for row in one.rows
    ]
    spread = [{"estimator": row["estimator"], "deviation": row["deviation"]} for row in estimates]
    return Finding(
        verdict, sentences,
        ("Policy", "Nats from the start", "Last price", "Reward model’s score", "Gold reward", "Entropy of a token"),
        rows,
        [("Divergence as PPO goes on", charts.loss_curves(
            points, "iteration", "kl", "series", [one.name for one in policies], "iteration", "nats an answer"
         )),
         ("Deviation of the estimates of one token", charts.bars(spread, "estimator", "deviation", "nats"))],
        {"free": free.tail, "fixed": fixed.tail, "following": following.tail, "exact": exact,
         **{name: by_name[name]["mean"] for name in ("k1", "k2", "k3")}},
        "k1 = −log r, k2 = (log r)²/2, k3 = r − 1 − log r, with r = π₀/π of the sampled token; exact: over the whole "
        "vocabulary.",
    )  # fmt: skip


EXHIBIT = Exhibit(
    question="What does a price on divergence hold back, and can the divergence be estimated from samples?",
    claim="Without a penalty a policy drifts away from where it began; a penalty holds it, an adaptive one near its "
    "target, and k3 estimates the divergence with less spread than k1.",
    formula="r − β log π/π₀; β ← β (1 + clip(KL/target − 1, ±0.2) n/h).",
    source="Ziegler et al. 2019, section 2.2; Schulman 2020, “Approximating KL divergence”",
    settings=KlPenaltySettings,
    measure=measure,
    needs=("tokenizer", "sft", "reward"),
)
