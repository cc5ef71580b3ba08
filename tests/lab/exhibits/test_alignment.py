"""Exhibits of alignment, against enumeration and formulas written out."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from seedbed.alignment.limits import Samples
from seedbed.alignment.rewards import gold_parts, gold_reward
from seedbed.finetuning.instruct import for_chat
from seedbed.lab.bench import Bench
from seedbed.lab.exhibits import kl_penalty, mode_collapse, reward_hacking, rlhf_stages
from seedbed.lab.jury import Jury, trained_policy

from ..conftest import Measure


def _stage(name: str, gold: np.ndarray, proxy: np.ndarray) -> rlhf_stages.Stage:
    parts = dict.fromkeys(("ends", "sentence", "names", "length", "fresh", "ended", "tokens"), 0.5)
    found = {**parts, "gold": float(gold.mean()), "proxy": float(proxy.mean())}
    return rlhf_stages.Stage(name, found, gold, proxy, 2.0, "An answer.")


def test_stages_are_told_apart_question_by_question() -> None:
    noise = np.random.default_rng(0).normal(0, 0.05, 50)
    base, tuned, policy = (_stage(name, at + noise, at + noise) for name, at in (("a", 0.2), ("b", 0.6), ("c", 0.7)))
    finding = rlhf_stages.judge((base, tuned, policy), "Why?", 0)
    assert finding.verdict == "holds"
    assert finding.numbers["wins"] == 1
    assert rlhf_stages.judge((base, tuned, tuned), "Why?", 0).verdict == "holds in part"
    assert rlhf_stages.judge((base, tuned, tuned), "Why?", 0).numbers["wins"] == 0.5
    assert rlhf_stages.judge((tuned, base, base), "Why?", 0).verdict == "does not hold"


def test_rewards_of_a_runs_stages_against_the_gold_program(measure: Measure, bench: Bench) -> None:
    finding = measure("rlhf-stages", prompts=3, samples=2)
    jury = Jury.of(bench, 3, 2, 0)
    for stage, column in (("base", "base"), ("sft", "tuned"), ("policy", "policy")):
        answers = jury.hear(for_chat(bench.decoder(stage), bench.tokenizer), 2).answers
        gold = [gold_reward(gold_parts(one.question, one.text, one.ended, jury.gold)) for one in answers]
        assert finding.numbers[column] == pytest.approx(np.mean(gold))
    tokens = next(row for row in finding.rows if row[0] == "Tokens")
    assert tokens[3] == pytest.approx(np.mean([len(one.ids) for one in answers]))


def test_divergences_of_a_policy_against_both_distributions_written_out(measure: Measure, bench: Bench) -> None:
    settings = {"iterations": 2, "learning_rate": 1e-2, "prompts": 3, "samples": 2}
    finding = measure("kl-penalty", **settings)
    config = bench.recipe.ppo.replace(iterations=2, learning_rate=1e-2, kl_coefficient=0.0, kl_target=None)
    path, _, rows = trained_policy(bench, "no price", config)
    assert finding.numbers["free"] == pytest.approx(np.mean([row["kl_exact"] for row in rows]))
    from seedbed.models import load_model

    policy, start = load_model(path).eval(), bench.decoder("sft")
    exact, k1, k2, k3 = [], [], [], []
    for answer in Jury.of(bench, 3, 2, 0).hear(policy, 2).answers:
        ids = torch.from_numpy(answer.sequence.astype(np.int64))[None]
        with torch.no_grad():
            ours, theirs = (
                one(ids)[0, len(answer.prompt_ids) - 1 : -1].double().log_softmax(-1) for one in (policy, start)
            )
        exact += (ours.exp() * (ours - theirs)).sum(-1).tolist()
        taken = torch.from_numpy(answer.ids.astype(np.int64))[:, None]
        log_ratio = (theirs.gather(1, taken) - ours.gather(1, taken))[:, 0].numpy()
        k1, k2 = k1 + (-log_ratio).tolist(), k2 + (log_ratio**2 / 2).tolist()
        k3 += (np.exp(log_ratio) - 1 - log_ratio).tolist()
    for name, values in (("exact", exact), ("k1", k1), ("k2", k2), ("k3", k3)):
        assert finding.numbers[name] == pytest.approx(np.mean(values), rel=1e-3, abs=1e-5)


def _policy(name: str, *nats: float) -> kl_penalty.Priced:
    rows = [
        {"iteration": place, "kl_exact": one, "kl_coefficient": 0.1, "entropy": 2.0}
        for place, one in enumerate(nats, 1)
    ]
    return kl_penalty.Priced(name, {"proxy": 0.5, "gold": 0.5}, rows)


def test_a_price_is_judged_by_where_the_policy_ends() -> None:
    def estimates(k1: float) -> list[dict[str, object]]:
        spreads = {"exact": 0.1, "k1": k1, "k2": 1.0, "k3": 0.5}
        return [
            {"estimator": name, "mean": 0.2, "deviation": one, "negative": 0.3 * (name == "k1")}
            for name, one in spreads.items()
        ]

    free, fixed, following = _policy("free", 1, 9), _policy("fixed", 1, 4), _policy("following", 1, 1.2)
    assert kl_penalty.judge((free, fixed, following), estimates(1.0), 1.0).verdict == "holds"
    assert kl_penalty.judge((free, fixed, following), estimates(0.1), 1.0).verdict == "holds in part"
    assert kl_penalty.judge((fixed, free, following), estimates(1.0), 1.0).verdict == "does not hold"


def _rows(proxy: np.ndarray, gold: np.ndarray) -> list[dict[str, float]]:
    return [
        {"iteration": place, "kl_exact": 0.3 * place, "proxy": float(one), "gold": float(other)}
        for place, (one, other) in enumerate(zip(proxy, gold, strict=True))
    ]


def test_the_fall_of_the_best_of_n_against_all_draws() -> None:
    random = np.random.default_rng(1)
    proxy = random.standard_normal((3, 8))
    gold = -((proxy - 0.5) ** 2)
    fall, error = reward_hacking.fall_of_best(Samples([], gold, proxy))

    def expected(prompt: int, n: int) -> float:
        chosen = [max(draw, key=lambda place: proxy[prompt, place]) for draw in combinations(range(8), n)]
        return float(np.mean([gold[prompt, place] for place in chosen]))

    table = np.array([[expected(prompt, n) for n in (1, 2, 4, 8)] for prompt in range(3)])
    best = table.mean(axis=0).argmax()
    assert fall == pytest.approx((table[:, best] - table[:, 3]).mean())
    assert error == pytest.approx((table[:, best] - table[:, 3]).std(ddof=1) / 3**0.5)


def test_a_reward_is_hacked_where_gold_falls_as_the_proxy_rises() -> None:
    random = np.random.default_rng(2)
    way = np.linspace(0, 1, 20)
    proxy = random.standard_normal((30, 16))
    honest = Samples([], proxy + 0.1 * random.standard_normal(proxy.shape), proxy)
    rising, bending, stopping = way, way * (1 - way), np.minimum(way, 0.4)
    gold = {
        name: one + random.normal(0, 0.003, 20) for name, one in zip("rbs", (rising, bending, stopping), strict=True)
    }
    assert reward_hacking.judge(honest, _rows(way, gold["b"])).verdict == "holds"
    assert reward_hacking.judge(honest, _rows(way, gold["s"])).verdict == "holds in part"
    assert reward_hacking.judge(honest, _rows(way, gold["r"])).verdict == "does not hold"
    means = [gold["b"][place : place + 5].mean() for place in range(16)]
    assert reward_hacking.fall_of_path(gold["b"])[0] == pytest.approx(max(means) - means[-1])


def test_reward_hacking_measures_a_run(measure: Measure, bench: Bench) -> None:
    finding = measure("reward-hacking", iterations=8, prompts=3, samples=4)
    assert [row[0] for row in finding.rows[:3]] == ["best of 1", "best of 2", "best of 4"]
    heard = Jury.of(bench, 3, 2, 0).hear(bench.decoder("sft"), 4)
    chosen = heard.proxy_PS.argmax(axis=1)
    assert finding.rows[2][3] == pytest.approx(np.take_along_axis(heard.gold_PS, chosen[:, None], 1).mean())


def test_the_chance_of_a_right_answer_against_all_draws() -> None:
    random = np.random.default_rng(3)
    wide, narrow = random.uniform(0, 1, (40, 8)), np.repeat(random.uniform(0.45, 1, (40, 1)), 8, axis=1)
    row = {"gold": 0.5, "divergence": 1.0, "self_bleu": 0.2, "unique": 1.0}
    rows = {
        "fine-tuned": {**row, "entropy": 3.0, "distinct_2": 0.9},
        "policy": {**row, "entropy": 1.0, "distinct_2": 0.4},
    }
    settings = mode_collapse.ModeCollapseSettings(right=0.5)
    finding = mode_collapse.judge(rows, {"fine-tuned": wide, "policy": narrow}, settings)
    for k in (1, 2, 4, 8):
        table = next(one for one in finding.rows if one[0] == f"pass@{k}")
        draws = [(wide[:, list(draw)] >= 0.5).any(axis=1).mean() for draw in combinations(range(8), k)]
        assert table[1] == pytest.approx(np.mean(draws))
        assert table[2] == pytest.approx((narrow[:, 0] >= 0.5).mean())
    assert finding.verdict == "holds"
    swapped = {"fine-tuned": rows["policy"], "policy": rows["fine-tuned"]}
    assert mode_collapse.judge(swapped, {"fine-tuned": wide, "policy": narrow}, settings).verdict == "does not hold"


def test_mode_collapse_measures_a_run(measure: Measure, bench: Bench) -> None:
    finding = measure("mode-collapse", prompts=3, samples=2)
    heard = Jury.of(bench, 3, 2, 0).hear(bench.decoder("policy"), 2)
    words = [one.text.lower() for one in heard.answers]
    assert len(words) == 6
    assert next(row for row in finding.rows if row[0] == "Gold reward")[2] == pytest.approx(heard.gold_PS.mean())
