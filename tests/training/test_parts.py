"""The pieces of training against their plain twins."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from seedbed.core.errors import ConfigError
from seedbed.training.objectives import linear_cross_entropy, loss_and_slope
from seedbed.training.optimizers import Muon, build_optimizers, orthogonalize
from seedbed.training.schedules import learning_rate_factor


@pytest.mark.parametrize(("z_loss", "biased"), [(0.0, False), (0.01, False), (0.01, True)])
def test_linear_cross_entropy_equals_the_plain_one(z_loss: float, biased: bool) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(600, 12, dtype=torch.double, requires_grad=True)
    weight = torch.randn(31, 12, dtype=torch.double, requires_grad=True)
    targets, weights = torch.randint(0, 31, (600,)), torch.rand(600)
    bias = torch.randn(31, dtype=torch.double, requires_grad=True) if biased else None
    inputs = [hidden, weight] if bias is None else [hidden, weight, bias]
    logits = F.linear(hidden, weight, bias)
    plain = ((F.cross_entropy(logits, targets, reduction="none") + z_loss * logits.logsumexp(-1) ** 2) * weights).sum()
    expected = torch.autograd.grad(plain * 3, inputs)
    ours = linear_cross_entropy(hidden, weight, targets, weights, z_loss, bias)
    found = torch.autograd.grad(ours * 3, inputs)
    assert float(ours.detach()) == pytest.approx(float(plain.detach()), rel=1e-5)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    frozen = linear_cross_entropy(hidden, weight.detach(), targets, weights, z_loss, bias)
    assert torch.equal(torch.autograd.grad(frozen * 3, [hidden])[0], found[0])
    # What devices compile: with the gradient of the logits, all others follow.
    with torch.no_grad():
        loss, slope = loss_and_slope(hidden @ weight.T, targets[:, None], weights[:, None], z_loss, bias)
    assert float(loss) == pytest.approx(float(plain.detach()), rel=1e-5)
    assert torch.allclose(slope @ weight * 3, expected[0], atol=1e-5)
    twice = linear_cross_entropy(hidden, weight, targets, weights)
    torch.autograd.grad(twice, inputs[:2], retain_graph=True)
    with pytest.raises(RuntimeError, match="handed out already"):
        torch.autograd.grad(twice, inputs[:2])


@pytest.mark.parametrize("shape", [(8, 8), (40, 10), (10, 40)])
def test_orthogonalize_keeps_directions_and_levels_sizes(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(3, *shape)
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    for dtype in (torch.float32, torch.bfloat16):
        found = orthogonalize(matrix, dtype)
        assert bool(((torch.linalg.svdvals(found) > 0.4) & (torch.linalg.svdvals(found) < 1.3)).all())
        assert float(F.cosine_similarity(found.flatten(), (u @ vh).flatten(), dim=0)) > 0.97
    assert torch.allclose(orthogonalize(matrix[1]), orthogonalize(matrix)[1], atol=1e-5)


def test_muon_equals_pytorchs() -> None:
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(24, 8)) for _ in range(3)]
    theirs = [nn.Parameter(one.detach().clone()) for one in ours]
    one = Muon(ours, lr=0.01, momentum=0.9, weight_decay=0.1)
    other = torch.optim.Muon(theirs, lr=0.01, momentum=0.9, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(24, 8)
            b.grad = a.grad.clone()
        one.step()
        other.step()
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=5e-3)  # PyTorch's iterates in bfloat16


def test_muon_takes_the_matrices_of_the_blocks() -> None:
    class Tiny(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(9, 4), nn.Linear(4, 9)
            self.blocks = nn.ModuleList([nn.Linear(4, 4)])

    model = Tiny()
    options = {"weight_decay": 0.1, "betas": (0.9, 0.95), "momentum": 0.95, "embedding_factor": 5.0}
    muon, adamw = build_optimizers(model, "muon", **options)
    assert [group["factor"] for one in (muon, adamw) for group in one.param_groups] == [1.0, 5.0, 5.0]
    assert build_optimizers(model, "adamw", **options)[0].param_groups[0]["factor"] == 1.0
    assert [one is model.blocks[0].weight for one in muon.param_groups[0]["params"]] == [True]
    assert {one.shape: group["weight_decay"] for group in adamw.param_groups for one in group["params"]} == {
        (9, 4): 0.1, (4,): 0.0, (9,): 0.0
    }  # fmt: skip
    with pytest.raises(ConfigError, match="no matrix"):
        build_optimizers(nn.Linear(2, 2), "muon", weight_decay=0.0, betas=(0.9, 0.95), momentum=0.9)


@pytest.mark.parametrize("schedule", ["wsd", "cosine", "constant"])
def test_schedules_rise_and_fall(schedule: str) -> None:
    factors = [
        learning_rate_factor(step, 100, schedule, warmup_steps=10, decay_fraction=0.4, final_factor=0.1)  # type: ignore[arg-type]
        for step in range(100)
    ]
    assert all(a < b for a, b in pairwise(factors[:11]))
    assert all(a >= b for a, b in pairwise(factors[10:]))
    assert max(factors) == pytest.approx(1.0)
    assert factors[0] > 0
    if schedule != "constant":
        assert factors[-1] == pytest.approx(0.1, abs=0.03)
    if schedule == "wsd":
        assert factors[59] == 1.0 > factors[61]
