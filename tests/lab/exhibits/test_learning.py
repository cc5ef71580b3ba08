"""Exhibits of pre-training, scaling and fine-tuning, against counts by hand, closed forms and NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from seedbed.datasets.loader import PackedBatches
from seedbed.finetuning.comparison import Comparison, Point, Tuned, Way, text_windows
from seedbed.lab.bench import Bench
from seedbed.lab.exhibits import (
    diminishing_returns,
    finetuning_methods,
    finetuning_ranks,
    forgetting,
    pretraining,
    scaling_laws,
)
from seedbed.lab.tuning import OWN, Workshop
from seedbed.models import Decoder, ModelConfig
from seedbed.scaling.runs import Run, RunTable

from ..conftest import Measure


def test_simpler_models_and_groups_of_pretraining_against_counts() -> None:
    tokens = np.array([0, 1, 0, 1, 0, 2, 3, 0])
    bigrams = pretraining.Bigrams(tokens, 4, 2.0)
    unigram = np.array([5, 3, 2, 2]) / 12
    np.testing.assert_allclose(bigrams.unigram_V, unigram, rtol=1e-6)
    after_zero = (np.array([0, 2, 1, 0]) + 2 * unigram) / 5
    np.testing.assert_allclose(bigrams([3, 0]), [(np.array([1, 0, 0, 0]) + 2 * unigram) / 3, after_zero], rtol=1e-6)
    assert pretraining.frequency_groups(torch.tensor([0.1, 0.5, 0.2, 0.2])).tolist() == [2, 0, 1, 2]
    assert pretraining.half_step([0, 10, 20], [8.0, 6.0, 4.0]) == 10
    assert pretraining.half_step([0, 10, 20], [8.0, 5.0, 4.0]) == pytest.approx(10 * 2 / 3)


def test_pretraining_looks_are_losses_and_divergences_of_the_model(measure: Measure, bench: Bench) -> None:
    finding = measure("pretraining", steps=4, every=2, windows=4)
    assert [row[0] for row in finding.rows] == [0, 2, 4]
    settings = pretraining.PretrainingSettings(windows=4)
    length = bench.recipe.pretraining.context_length
    held = pretraining.HeldOut.of(bench.tokens(), bench.tokens("validation"), length, settings)
    model = bench.decoder("base")
    with torch.no_grad():
        logs = model(held.ids_WT).log_softmax(-1).numpy()
    losses = -np.take_along_axis(logs, held.targets_WT.numpy()[..., None], axis=2)[..., 0]
    seen = pretraining.look(model, held)
    groups = held.group_WT.numpy()
    for place, name in enumerate(pretraining.GROUPS):
        assert seen[name] == pytest.approx(losses[groups == place].mean(), rel=1e-4)
    unigram = held.unigram_V.numpy()
    assert seen["unigram"] == pytest.approx((unigram * (np.log(unigram) - logs)).sum(-1).mean(), rel=1e-3)
    assert finding.numbers["early"] == pytest.approx(losses[:, 0].mean(), rel=1e-4)
    assert finding.numbers["late"] == pytest.approx(losses[:, 64:].mean(), rel=1e-4)


def test_scaling_laws_tell_a_power_law_from_a_straight_line() -> None:
    params, tokens = (one.ravel() for one in np.meshgrid([1e5, 3e5, 1e6, 3e6], [1e6, 1e7, 1e8]))
    loss = 2.0 + 300 / params**0.4 + 200 / tokens**0.35
    law, line = scaling_laws.left_out(RunTable.checked(params, tokens, loss))
    assert law.max() < 1e-3 < line.mean()
    flat = RunTable.checked(params, tokens, 40 * params**-0.1 * tokens**-0.05)
    assert scaling_laws.straight_line(flat, 2e5, 5e8) == pytest.approx(40 * 2e5**-0.1 * 5e8**-0.05)


def test_scaling_laws_find_the_exponents_of_a_ladder_and_the_error_of_its_forecast() -> None:
    runs = [
        Run("", params, tokens, tokens, 2.0 + 300 / params**0.4 + 200 / tokens**0.35, 1.0)
        for params in (10**5, 3 * 10**5, 10**6, 3 * 10**6) for tokens in (10**6, 10**7, 10**8)
    ]  # fmt: skip
    told = {"params": 10**7, "tokens": 10**9, "loss": 2.7, "low": 2.6, "high": 2.8, "level": 0.9}
    settings = scaling_laws.ScalingLawsSettings(bootstrap=4)
    finding = scaling_laws.judge(runs, told, 2.75, settings)
    assert finding.numbers["alpha"] == pytest.approx(0.4, rel=0.01)
    assert finding.numbers["beta"] == pytest.approx(0.35, rel=0.01)
    assert finding.numbers["missed"] == pytest.approx(2.75 / 2.7 - 1)
    assert finding.verdict == "holds"
    assert scaling_laws.judge(runs, told, 2.79, settings).verdict == "holds in part"
    assert scaling_laws.judge(runs, told, 3.5, settings).verdict == "does not hold"


def test_worth_of_repeated_tokens_is_read_off_the_curve_of_new_ones() -> None:
    fresh = {size: [10 - np.log2(size)] for size in (64, 128, 256, 512)}
    for tokens in (64, 100, 300, 700, 32):
        assert diminishing_returns.worth(fresh, 10 - np.log2(tokens)) == pytest.approx(tokens)
    uneven = {64: [5.0, 3.0], 128: [2.0, 2.0], 512: [1.0]}  # from seed to seed; lengths that do not double
    finding = diminishing_returns.judge(uneven, {1: [2.0, 2.0], 4: [2.1], 16: [4.0]}, 128)
    assert finding.numbers["first_gain"] == pytest.approx(2.0)
    assert finding.numbers["last_gain"] == pytest.approx(0.5)
    assert finding.numbers["few"] == pytest.approx(2 ** (-0.1 / 2))
    assert finding.numbers["most"] == pytest.approx(0.5)
    assert finding.verdict == "holds"
    assert diminishing_returns.judge(uneven, {1: [2.0], 16: [1.9]}, 128).verdict == "holds in part"
    rising = {64: [3.0], 128: [2.9], 256: [2.0]}
    assert diminishing_returns.judge(rising, {1: [2.9], 16: [2.8]}, 128).verdict == "does not hold"


def test_diminishing_returns_train_on_so_much_text(measure: Measure, bench: Bench) -> None:
    sizes = {"hidden_size": 8, "layers": 1, "heads": 1}
    finding = measure("diminishing-returns", **sizes, steps=(1, 2, 3), repeated_steps=4, epochs=(2,), seeds=2)
    recipe = bench.recipe.pretraining
    batch = recipe.training.batch_size * recipe.context_length
    assert [row[1] for row in finding.rows] == [batch, 2 * batch, 3 * batch, 4 * batch, 4 * batch]
    batches = PackedBatches(bench.tokens(), recipe.training.batch_size, recipe.context_length, limit_tokens=2 * batch)
    assert batches.tokens_per_epoch * finding.rows[-1][2] == 4 * batch


def test_ranks_of_differences_against_numpy(tmp_path: Path) -> None:
    config = ModelConfig(vocab_size=40, hidden_size=16, layers=1, heads=2, context_length=16)
    base, tuned = (Decoder(config, torch.Generator().manual_seed(0)) for _ in range(2))
    random = np.random.default_rng(0)
    with torch.no_grad():
        for _, weight in tuned.named_parameters():
            if weight.dim() == 2:
                low = random.standard_normal((weight.shape[0], 2)) @ random.standard_normal((2, weight.shape[1]))
                weight += torch.from_numpy(0.1 * low).float()
    moved = {one.kind: one for one in finetuning_ranks.moves(base, tuned, 0)}
    weight, after = (model.blocks[0].attention.q_proj.weight.detach().numpy() for model in (base, tuned))
    squares = np.linalg.svd(after - weight, compute_uv=False) ** 2
    assert moved["q"].rank == 1 + np.argmax(squares.cumsum() >= 0.9 * squares.sum())
    assert moved["q"].distance == pytest.approx(np.linalg.norm(after - weight) / np.linalg.norm(weight), rel=1e-5)
    assert moved["q"].chance > 4
    ids = torch.arange(12)[None]
    with torch.no_grad():
        torch.testing.assert_close(finetuning_ranks.cut(base, tuned, 2)(ids), tuned(ids), atol=1e-4, rtol=1e-4)
        assert (finetuning_ranks.cut(base, tuned, 1)(ids) - tuned(ids)).abs().max() > 1e-2


def test_ranks_of_a_run_reach_all_that_was_learned(measure: Measure, bench: Bench) -> None:
    finding = measure("finetuning-ranks", ranks=(1, 32), rows=8)
    base, tuned = bench.decoder("base"), bench.decoder("sft")
    whole = finetuning_ranks.cut(base, tuned, 32)
    ids = torch.arange(40)[None]
    with torch.no_grad():
        torch.testing.assert_close(whole(ids), tuned(ids), atol=1e-3, rtol=1e-3)
    assert finding.numbers["before"] != finding.numbers["after"]
    assert {row[0] for row in finding.rows} >= {"q", "down", "embedding"}


def _tuned(way: Way, learned: float, forgotten: float, *, train: float = 1.0, lowest: float = 9.0) -> Tuned:
    """A way that began at 5 nats on rows held out and at 3 on the old text."""
    ends = [(5.0, 5.0, 3.0), (4.0, lowest, 3.0), (train, 5 - learned, 3 + forgotten)]
    points = [Point(step, seen, held, {OWN: text}) for step, (seen, held, text) in enumerate(ends)]
    return Tuned(way, points, 1.0, 1000 if way.method == "full" else 100, 0)


def _comparison(*tuned: Tuned) -> Comparison:
    return Comparison(list(tuned), [], [], [OWN], 16, 1000, 10, 10.0)


def test_methods_are_judged_by_what_the_best_of_each_learns() -> None:
    full, worse, lora, qlora = (
        Way(method="full", learning_rate=1e-3), Way(method="full", learning_rate=1e-4),
        Way(method="lora", rank=4, learning_rate=1e-3), Way(method="qlora", rank=4, learning_rate=1e-3),
    )  # fmt: skip
    state = {full.name: 400, worse.name: 400, lora.name: 200, qlora.name: 100}

    def judged(by_lora: float, by_qlora: float) -> finetuning_methods.Finding:
        ways = ((worse, 0.5), (full, 2.0), (lora, by_lora), (qlora, by_qlora))
        found = _comparison(*(_tuned(way, learned, 0.1) for way, learned in ways))
        return finetuning_methods.judge(found, state, {full.name: 2.0, lora.name: 1.0, qlora.name: 3.0})

    assert judged(1.96, 1.92).verdict == "holds"
    assert judged(1.96, 1.92).numbers["qlora"] == pytest.approx(0.96)
    assert judged(1.96, 1.6).verdict == "holds in part"
    assert judged(1.0, 1.9).verdict == "does not hold"


def test_forgetting_is_judged_by_what_replay_saves() -> None:
    plain, replay = (Way(method="full", learning_rate=1e-3, remedy=one, strength=0.25) for one in ("none", "replay"))
    overfit = _tuned(plain, 2.0, 1.0, train=0.5, lowest=2.5)
    assert forgetting.judge(_comparison(overfit, _tuned(replay, 1.9, 0.4))).verdict == "holds"
    assert forgetting.judge(_comparison(overfit, _tuned(replay, 1.0, 0.4))).verdict == "holds in part"
    finding = forgetting.judge(_comparison(_tuned(plain, 2.0, -0.1), _tuned(replay, 1.9, -0.2)))
    assert finding.verdict == "does not hold"
    assert forgetting.judge(_comparison(overfit, _tuned(replay, 1.9, 0.4))).numbers["again"] == pytest.approx(0.5)


def test_ways_are_measured_on_a_runs_text_and_kept(bench: Bench) -> None:
    shop = Workshop(bench, rows=16, held_out=4, steps=2, characters=4000)
    ways = (Way(method="full", learning_rate=1e-2), Way(method="qlora", rank=2, learning_rate=1e-2))
    found = shop.tuned(ways, evaluations=1)
    assert shop.tuned(ways, evaluations=1) == found
    model = shop.model()
    measured = text_windows(bench.tokenizer, shop.text, model.config.context_length, OWN)[1]
    nats, count = 0.0, 0
    for window in measured:
        ids = torch.from_numpy(window.astype(np.int64))
        with torch.no_grad():
            logs = model(ids[None, :-1])[0].log_softmax(-1)
        nats, count = nats - float(logs.gather(1, ids[1:, None]).sum()), count + len(ids) - 1
    assert found.tuned[0].points[0].texts[OWN] == pytest.approx(nats / count, rel=1e-4)
    numbers = sum(one.numel() for one in model.parameters())
    assert found.tuned[0].trained == numbers
    assert shop.state_bytes(found.tuned[0]) >= 16 * numbers
    assert shop.state_bytes(found.tuned[1]) < 4 * numbers + 12 * found.tuned[1].trained


def test_methods_and_forgetting_measure_a_run(measure: Measure) -> None:
    finding = measure(
        "finetuning-methods", steps=1, rows=16, held_out=4, ranks=(2,), full_rates=(1e-3,), adapter_rates=(1e-3,)
    )
    assert [row[0] for row in finding.rows] == ["full, 0.001", "LoRA r2, 0.001", "QLoRA r2, 0.001"]
    finding = measure("forgetting", steps=2, rows=16, held_out=4, evaluations=2)
    assert [row[0] for row in finding.rows] == ["plain", "replay", "EWC", "LoRA"]
    assert finding.rows[0][5] == pytest.approx(finding.rows[0][4] - finding.rows[0][3])
