"""Memory is predicted without being taken: against processes that train and are measured."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from seedbed.core.errors import ResourceError
from seedbed.finetuning import estimate_memory
from seedbed.models.config import ModelConfig
from seedbed.training import TrainerConfig
from seedbed.training.calibration import Calibration, calibrate
from seedbed.training.memory import _large_peak, cache_bytes, require_memory, step_memory
from seedbed.training.quantized_states import dynamic_code

_TRAIN = """
import json, sys
from seedbed.core.config import build
from seedbed.core.devices import peak_memory_bytes, set_threads
from seedbed.models import Decoder
from seedbed.models.config import ModelConfig
from seedbed.training import TrainerConfig
from seedbed.training.calibration import _steps
model, training = json.load(sys.stdin)
set_threads(1)
_steps(build(ModelConfig, model), build(TrainerConfig, training), 0.0)
print(peak_memory_bytes())
"""
_WIDE = ModelConfig(vocab_size=8192, hidden_size=384, layers=4, heads=6, kv_heads=2, context_length=128)
_LONG = ModelConfig(
    vocab_size=2048, hidden_size=128, layers=5, heads=4, context_length=512, activation="gelu", norm="layer",
    positions="learned", tie_embeddings=False,
)  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is measured on Linux")
def test_peak_memory_is_foretold_within_ten_per_cent() -> None:
    model, training = _LONG, TrainerConfig(batch_size=12, accumulation=2)
    calibration = calibrate(model, training, seconds=0.1, threads=1)
    predicted = estimate_memory(model, training, calibration=calibration)
    job = json.dumps([model.model_dump(mode="json"), training.model_dump(mode="json")])
    done = subprocess.run([sys.executable, "-c", _TRAIN], input=job, capture_output=True, text=True, check=True)
    measured = int(done.stdout.splitlines()[-1])
    assert predicted.peak == pytest.approx(measured, rel=0.1)
    assert predicted.peak - predicted.process > 0.2 * measured  # the model counts, not the interpreter alone
    assert calibration.seconds_per_step > 0


def test_parts_are_those_of_the_step() -> None:
    training = TrainerConfig(batch_size=4, optimizer="adamw")
    found = step_memory(_WIDE, training)
    weights = 4 * _WIDE.parameter_count()
    assert found.weights == found.gradients == weights
    assert found.optimizer == pytest.approx(2 * weights, rel=1e-3)
    assert found.peak >= found.weights + found.optimizer + found.activations
    muon = step_memory(_WIDE, training.replace(optimizer="muon"))
    assert weights < muon.optimizer < found.optimizer
    eight = step_memory(_WIDE, training.replace(optimizer="adamw8bit"))
    assert eight.optimizer == pytest.approx(found.optimizer / 4, rel=0.05)
    assert type(dynamic_code(signed=True)) is torch.Tensor  # no fake one was kept
    averaged = step_memory(_WIDE, training.replace(optimizer="schedulefree", schedule="constant"))
    assert averaged.optimizer == pytest.approx(2 * weights, rel=1e-3)
    deeper = step_memory(_WIDE.replace(layers=8), training)
    assert deeper.activations > 1.5 * found.activations
    assert step_memory(_WIDE, training.replace(accumulation=4)).activations < 0.4 * found.activations


def test_what_methods_save() -> None:
    training = TrainerConfig(batch_size=1)
    full, lora, qlora, offload = (
        estimate_memory(_WIDE, training, method) for method in ("full", "lora", "qlora", "offload")
    )
    assert lora.gradients < 0.1 * full.gradients
    assert lora.weights == pytest.approx(full.weights, rel=0.05)
    blocks = 4 * _WIDE.parameter_count(embeddings=False)
    assert lora.weights - qlora.weights == pytest.approx(blocks * (1 - 4.127 / 32), rel=1e-3)
    assert offload.peak + offload.host == full.peak
    assert qlora.peak < lora.peak < full.peak
    assert full.fits(full.peak)
    assert not full.fits(full.peak - 1)
    measured = Calibration(1.0, 1e9, process_bytes=1000, overhead=1.5, threads=1)
    assert estimate_memory(_WIDE, training, calibration=measured).peak == round(1.5 * full.peak) + 1000
    with_cache = estimate_memory(_WIDE, training, cache_tokens=100)
    assert with_cache.peak - full.peak == with_cache.cache == 2 * 2 * 64 * 100 * 4 * 4


def test_caches_and_mixtures() -> None:
    windowed = _WIDE.replace(window=16, global_every=2)
    assert cache_bytes(windowed, 64) == 2 * 2 * 64 * 4 * (2 * 64 + 2 * 16)
    mixture = _WIDE.replace(experts=4, experts_per_token=2)
    found = step_memory(mixture, TrainerConfig(batch_size=2, optimizer="adamw"))
    assert found.weights == 4 * mixture.parameter_count()
    assert found.peak > 3 * found.weights


def test_a_batch_that_cannot_fit_is_refused_before_it_is_tried() -> None:
    huge = _WIDE.replace(context_length=4096)
    with pytest.raises(ResourceError, match="a step needs"):
        require_memory(huge, TrainerConfig(batch_size=4096))
    require_memory(_WIDE, TrainerConfig(batch_size=1))


def test_the_peak_of_many_rows_is_about_that_of_a_walk_through_them() -> None:
    training = TrainerConfig(batch_size=96, optimizer="adamw")
    assert _large_peak(_WIDE, training) == pytest.approx(step_memory(_WIDE, training).peak, rel=0.1)


def test_activations_computed_again_are_foretold() -> None:
    training = TrainerConfig(batch_size=8, optimizer="adamw")
    kept = step_memory(_WIDE, training).activations
    assert step_memory(_WIDE, training.replace(recompute=True)).activations < 0.4 * kept
    assert step_memory(_WIDE, training.replace(precision="bfloat16")).activations < 0.9 * kept


def test_no_memory_is_taken() -> None:
    huge = ModelConfig(vocab_size=128_000, hidden_size=8192, layers=2, heads=64, kv_heads=8, context_length=1024)
    found = step_memory(huge, TrainerConfig(batch_size=2))
    assert found.peak > 2**34
    assert torch.ones(1).sum() == 1  # tensors are real again
