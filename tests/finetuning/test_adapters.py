"""LoRA: the arithmetic, and PEFT as the oracle in both directions."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from seedbed.core.config import build
from seedbed.core.errors import ConfigError, FormatError
from seedbed.core.randomness import torch_generator
from seedbed.finetuning import LoRAConfig, add_adapter, disable_adapter, load_adapter, merge_adapter, save_adapter
from seedbed.finetuning.quantization import quantize_nf4
from seedbed.models import Decoder, Encoder, ModelConfig, SequenceClassifier, save_model
from seedbed.training.execution import execute_blocks


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def decoder(**changes: Any) -> Decoder:
    values = {"vocab_size": 40, "hidden_size": 32, "layers": 2, "heads": 4, "kv_heads": 2, "pad_token_id": 1}
    return Decoder(build(ModelConfig, {**values, **changes}), torch_generator(1, "adapters"))


def encoder() -> Encoder:
    values = {"kind": "encoder", "vocab_size": 40, "hidden_size": 32, "layers": 2, "heads": 4, "pooler": True}
    return Encoder(build(ModelConfig, values), torch_generator(1, "adapters"))


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(0, 40, (2, 9), generator=torch_generator(2, "ids"))


def train_a_little(model: torch.nn.Module, ids: Tensor) -> None:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.5)
    for _ in range(3):
        model(ids).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_an_adapter_starts_as_nothing_trains_alone_switches_off_and_merges(ids: Tensor) -> None:
    model = decoder()
    before, plain_names = model(ids), list(model.state_dict())
    add_adapter(model, LoRAConfig(rank=4, targets=("q_proj", "down_proj")))
    assert torch.equal(model(ids), before)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(trained) == 2 * 2 * 2
    assert all("lora_" in name for name in trained)
    train_a_little(model, ids)
    after = model(ids)
    assert (after - before).abs().max() > 1e-3
    with disable_adapter(model):
        assert torch.equal(model(ids), before)
    assert torch.equal(model(ids), after)
    merge_adapter(model)
    torch.testing.assert_close(model(ids), after, atol=1e-5, rtol=0)
    assert list(model.state_dict()) == plain_names
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("rank_stabilized", [False, True])
@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "v_proj"), r"blocks\.1\..*_proj"])
def test_peft_loads_ours(targets: Any, rank_stabilized: bool, ids: Tensor, tmp_path: Path) -> None:
    model = decoder(tie_embeddings=False)
    save_model(model, tmp_path / "base")
    add_adapter(model, LoRAConfig(rank=3, alpha=5, targets=targets, rank_stabilized=rank_stabilized))
    train_a_little(model, ids)
    save_adapter(model, tmp_path / "adapter")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    theirs = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter")
    torch.testing.assert_close(theirs(ids).logits, model(ids), atol=1e-5, rtol=0)


def test_ours_loads_pefts_and_writes_the_same_tensors(ids: Tensor, tmp_path: Path) -> None:
    model = decoder()
    save_model(model, tmp_path / "base")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    settings = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
    )
    theirs = peft.get_peft_model(theirs, settings)
    theirs.save_pretrained(tmp_path / "theirs")
    load_adapter(model, tmp_path / "theirs")
    torch.testing.assert_close(model(ids), theirs(ids).logits, atol=1e-5, rtol=0)
    save_adapter(model, tmp_path / "ours")
    written, original = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("ours", "theirs"))
    assert written.keys() == original.keys()
    assert all(torch.equal(written[key], original[key]) for key in original)
    assert set(json.loads((tmp_path / "ours" / "adapter_config.json").read_text())["target_modules"]) == {
        *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    }


def test_encoders_take_hugging_face_names(ids: Tensor, tmp_path: Path) -> None:
    model = encoder()
    save_model(model, tmp_path / "base")
    # "dense" names four kinds of layer, the pooler's among them: whole paths are written.
    add_adapter(model, LoRAConfig(rank=2, targets=("query", "attention.output.dense")))
    train_a_little(model, ids)
    save_adapter(model, tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(
        transformers.AutoModel.from_pretrained(tmp_path / "base"), tmp_path / "adapter"
    )
    torch.testing.assert_close(theirs(ids).last_hidden_state, model(ids), atol=1e-5, rtol=0)
    again = load_adapter(encoder(), tmp_path / "adapter")
    assert torch.equal(again(ids), model(ids))


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (("q_proj", "typo"), "'typo' matches no linear layer.*q_proj"),
        ("x.*", "'x.*' matches"),
        ("(", "regular"),
        (r"(?:.|\w|[._])+!?\d", "takes too long"),
        ("((a{1000}){1000}){1000}", "too often"),
        ("(" * 2000 + ")" * 2000, "regular"),
        ((), "no layer"),
    ],
)
def test_targets_that_match_nothing_raise(targets: Any, message: str) -> None:
    model = decoder()
    with pytest.raises(ConfigError, match=message):
        add_adapter(model, LoRAConfig(targets=targets))
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_misuse_and_damaged_adapters_are_named(ids: Tensor, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no adapter"):
        merge_adapter(decoder())
    model = add_adapter(decoder(), LoRAConfig(rank=2))
    with pytest.raises(ConfigError, match="already"):
        add_adapter(model, LoRAConfig())
    with pytest.raises(FormatError, match=r"no place for blocks.0.*Merge"):
        save_model(model, tmp_path / "whole")
    with pytest.raises(FormatError, match="SequenceClassifier"):
        save_adapter(add_adapter(SequenceClassifier(decoder()), LoRAConfig()), tmp_path)
    save_adapter(model, tmp_path)
    settings, weights = tmp_path / "adapter_config.json", tmp_path / "adapter_model.safetensors"
    good = json.loads(settings.read_text())
    tensors = {name: tensor.clone() for name, tensor in load_file(weights).items()}
    for change, message in (
        ({"use_dora": True}, "missing tensors"),
        ({"init_lora_weights": "olora"}, "changes the base"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"r": 3}, "shape"),
        ({"r": "x"}, "rank"),
        ({"target_modules": ["q_proj"]}, "unknown tensors"),
    ):
        settings.write_text(json.dumps({**good, **change}))
        plain = decoder()
        with pytest.raises((FormatError, ConfigError), match=message):
            load_adapter(plain, tmp_path)
        assert torch.equal(plain(ids), decoder()(ids))
    settings.write_text(json.dumps(good))
    tensors.pop(min(tensors))
    save_file(tensors, weights)
    with pytest.raises(FormatError, match="1 missing tensors"):
        load_adapter(decoder(), tmp_path)
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(FormatError, match="safetensors"):
        load_adapter(decoder(), tmp_path)


@pytest.mark.parametrize("way", ["lora", "dora", "qlora", "qdora"])
def test_compiled_blocks_learn_the_same(way: str, ids: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    # The tracer without the code generator: what is traced is ours, and the generator takes minutes.
    monkeypatch.setattr(
        torch.nn.Module, "compile", functools.partialmethod(torch.nn.Module.compile, backend="aot_eager")
    )
    model = decoder(hidden_size=64)
    if way.startswith("q"):
        quantize_nf4(model)
    add_adapter(model, LoRAConfig(rank=4, magnitudes=way.endswith("dora")))
    train_a_little(model, ids)

    def gradients() -> dict[str, Tensor]:
        model.zero_grad()
        model(ids).square().mean().backward()
        return {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}

    plain = gradients()
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    execute_blocks(model, compiled=True)
    for name, gradient in gradients().items():
        torch.testing.assert_close(gradient, plain[name], atol=1e-5, rtol=1e-4)
    assert not torch._dynamo.utils.counters["graph_break"]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2  # one for all blocks
