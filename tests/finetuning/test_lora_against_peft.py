"""LoRA, DoRA, PiSSA, several adapters, four-bit bases; PEFT is the oracle of outputs, gradients, merges and files."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from torch import Tensor

from seedbed.core.config import build
from seedbed.core.errors import ConfigError, FormatError
from seedbed.core.randomness import torch_generator
from seedbed.finetuning import (
    LoRAConfig,
    adapter_names,
    add_adapter,
    disable_adapter,
    load_adapter,
    merge_adapter,
    quantize_nf4,
    remove_adapter,
    save_adapter,
    unmerge_adapter,
    use_adapters,
)
from seedbed.finetuning.lora import LoRALinear
from seedbed.models import Decoder, ModelConfig, save_model

_TARGETS = ["q_proj", "down_proj"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(0, 40, (4, 33), generator=torch_generator(2, "ids"))


def decoder(seed: int = 1) -> Decoder:
    values = {"vocab_size": 40, "hidden_size": 64, "layers": 2, "heads": 4, "kv_heads": 2, "qkv_bias": False}
    return Decoder(build(ModelConfig, values), torch_generator(seed, "adapters"))


def pair(folder: Path, **settings: Any) -> tuple[Decoder, Any, str]:
    """The same base and adapter here and in PEFT, which made it, and where it lies."""
    torch.manual_seed(3)
    model = decoder()
    save_model(model, folder / "base")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder / "base")
    settings = {"r": 4, "lora_alpha": 8, "target_modules": _TARGETS, "init_lora_weights": False} | settings
    theirs = peft.get_peft_model(theirs, peft.LoraConfig(task_type="CAUSAL_LM", **settings))
    if settings.get("use_dora"):
        for name, parameter in theirs.named_parameters():
            if "magnitude" in name:
                parameter.data *= 1 + 0.2 * torch.rand_like(parameter)
    theirs.save_pretrained(folder / "theirs")
    return load_adapter(model, folder / "theirs"), theirs, str(folder / "theirs")


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, {"use_dora": True}, {"init_lora_weights": "pissa"}])
@pytest.mark.parametrize("rows", [1, 4])  # few tokens go through A and B, many through the sum
def test_outputs_gradients_and_merges_equal_pefts(settings: Any, rows: int, ids: Tensor, tmp_path: Path) -> None:
    ours, theirs, _ = pair(tmp_path, **settings)
    ids = ids[:rows, :9] if rows == 1 else ids
    mine, their = ours(ids), theirs(ids).logits
    torch.testing.assert_close(mine, their, atol=1e-6, rtol=1e-5)
    mine.square().mean().backward()
    their.square().mean().backward()
    names = {"A": "lora_A", "B": "lora_B", "m": "magnitude"}
    ours_of = {key: [p.grad for n, p in ours.named_parameters() if part in n] for key, part in names.items()}
    theirs_of = {key: [p.grad for n, p in theirs.named_parameters() if part in n] for key, part in names.items()}
    assert len(ours_of["A"]) == 4
    for key, found in ours_of.items():
        assert len(found) == len(theirs_of[key])
        for one, other in zip(found, theirs_of[key], strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
    merged = merge_adapter(ours)
    torch.testing.assert_close(merged(ids), theirs.merge_and_unload()(ids).logits, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("changes", [{"magnitudes": True}, {"initialization": "pissa"},
                                     {"initialization": "pissa", "rank_stabilized": True}])  # fmt: skip
def test_peft_opens_ours(changes: Any, ids: Tensor, tmp_path: Path) -> None:
    model = decoder()
    save_model(model, tmp_path / "base")
    before = model(ids)
    add_adapter(model, LoRAConfig(rank=3, alpha=5, targets=tuple(_TARGETS), **changes))
    torch.testing.assert_close(model(ids), before, atol=1e-6, rtol=1e-5)
    train_a_little(model, ids)
    assert (model(ids) - before).abs().max() > 1e-3
    with disable_adapter(model):
        assert torch.equal(model(ids), before)
    save_adapter(model, tmp_path / "ours")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    theirs = peft.PeftModel.from_pretrained(theirs, tmp_path / "ours")
    torch.testing.assert_close(theirs(ids).logits, model(ids), atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(load_adapter(decoder(), tmp_path / "ours")(ids), model(ids), atol=1e-6, rtol=1e-5)


def train_a_little(model: torch.nn.Module, ids: Tensor) -> None:
    optimizer = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.5)
    for _ in range(3):
        model(ids).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_several_adapters_add_up_as_pefts_do(ids: Tensor, tmp_path: Path) -> None:
    ours, theirs, _ = pair(tmp_path, use_dora=True)
    (tmp_path / "second").mkdir()
    _, _, second = pair(tmp_path / "second", r=2, target_modules=["q_proj", "v_proj"])
    load_adapter(ours, second, name="second")
    theirs.load_adapter(second, "second")
    assert adapter_names(ours) == ["default", "second"]
    for active in (["default"], ["second"], ["default", "second"]):
        use_adapters(ours, *active)
        theirs.base_model.set_adapter(active)
        torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-6, rtol=1e-5)
    trained = {name.split(".adapters.")[1].split(".")[0] for name, p in ours.named_parameters() if p.requires_grad}
    assert trained == {"default", "second"}
    save_adapter(ours, tmp_path / "again", name="second")
    assert (tmp_path / "again" / "adapter_config.json").exists()
    use_adapters(ours)
    assert torch.equal(ours(ids), decoder()(ids))
    with pytest.raises(ConfigError, match=r"no adapter 'third'.*default, second"):
        use_adapters(ours, "third")
    remove_adapter(remove_adapter(ours, "default"), "second")
    assert list(ours.state_dict()) == list(decoder().state_dict())


def test_what_was_merged_is_taken_out_bit_for_bit(ids: Tensor) -> None:
    model = add_adapter(decoder(), LoRAConfig(rank=3, magnitudes=True))
    train_a_little(model, ids)
    before, weights = model(ids), {name: one.clone() for name, one in model.state_dict().items()}
    merge_adapter(model, keep=True)
    torch.testing.assert_close(model(ids), before, atol=1e-6, rtol=1e-5)
    with disable_adapter(model):
        assert torch.equal(model(ids), decoder()(ids))
    with pytest.raises(ConfigError, match="unmerge"):
        merge_adapter(model)
    unmerge_adapter(model)
    assert torch.equal(model(ids), before)
    assert all(torch.equal(one, weights[name]) for name, one in model.state_dict().items())
    with pytest.raises(ConfigError, match="keep=True"):
        unmerge_adapter(model)


@pytest.mark.parametrize("magnitudes", [False, True])
def test_a_base_in_four_bits_computes_as_its_rounded_weights(magnitudes: bool, ids: Tensor, tmp_path: Path) -> None:
    config = LoRAConfig(rank=3, magnitudes=magnitudes)
    quantized, rounded = quantize_nf4(decoder()), decoder()
    for name, module in quantized.named_modules():
        if type(module).__name__ == "NF4Linear":
            rounded.get_submodule(name).weight.data.copy_(module.weight)
    for model in (quantized, rounded):
        add_adapter(model, config)
        train_a_little(model, ids)
    torch.testing.assert_close(quantized(ids), rounded(ids), atol=1e-6, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(quantized(ids[:1, :3]), rounded(ids[:1, :3]), atol=1e-6, rtol=1e-5)
    # The adapter's base is known by the weights that were rounded: it goes onto those as well.
    save_adapter(quantized, tmp_path)
    load_adapter(decoder(), tmp_path)
    with pytest.raises(ConfigError, match="dequantize=True"):
        merge_adapter(quantized)
    merged = merge_adapter(copy.deepcopy(quantized), dequantize=True)
    torch.testing.assert_close(merged(ids), rounded(ids), atol=1e-6, rtol=1e-5)
    assert not any(isinstance(one, LoRALinear) for one in merged.modules())


def test_an_adapter_of_another_base_is_refused(ids: Tensor, tmp_path: Path) -> None:
    save_adapter(add_adapter(decoder(), LoRAConfig(rank=2)), tmp_path)
    other = decoder(seed=2)
    with pytest.raises(FormatError, match="another base model"):
        load_adapter(other, tmp_path)
    assert torch.equal(other(ids), decoder(seed=2)(ids))
    load_adapter(other, tmp_path, check_base=False)


def test_dropout_falls_on_the_adapter_alone(ids: Tensor) -> None:
    model = add_adapter(decoder(), LoRAConfig(rank=3, dropout=0.5))
    assert torch.equal(model.train()(ids), decoder()(ids))
    train_a_little(model, ids)
    assert not torch.equal(model(ids), model(ids))
    assert torch.equal(model.eval()(ids), model(ids))
