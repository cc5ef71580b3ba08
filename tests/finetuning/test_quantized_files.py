"""Four-bit models in bitsandbytes' files: transformers and we read each other's, bit for bit; damage is named."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from seedbed.core.config import build
from seedbed.core.errors import ConfigError, FormatError
from seedbed.core.json_files import read_json
from seedbed.core.randomness import torch_generator
from seedbed.finetuning import (
    LoRAConfig,
    NF4Linear,
    add_adapter,
    load_adapter,
    load_quantized,
    quantize_nf4,
    save_adapter,
    save_quantized,
)
from seedbed.finetuning.instruct import load_decoder
from seedbed.models import Decoder, ModelConfig, save_model

_IDS = torch.arange(40)[None] % 37
_Q_PROJ = "model.layers.0.self_attn.q_proj.weight"
_STATE = f"{_Q_PROJ}.quant_state.bitsandbytes__nf4"


def base(folder: Path, dtype: torch.dtype = torch.float32) -> Decoder:
    values = {"vocab_size": 40, "hidden_size": 64, "layers": 2, "heads": 2, "kv_heads": 1, "intermediate_size": 192}
    model = Decoder(build(ModelConfig, values), torch_generator(1, "files")).to(dtype)
    save_model(model, folder)
    return model.eval()


def theirs(folder: Path, double: bool | None, dtype: torch.dtype = torch.float32) -> Any:
    """transformers' model: quantised by bitsandbytes, or (`double` none) as it lies there."""
    settings: dict[str, Any] = {"dtype": dtype, "device_map": "cpu"}
    if double is not None:
        settings["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=double, bnb_4bit_compute_dtype=dtype
        )
    return transformers.AutoModelForCausalLM.from_pretrained(folder, **settings)


def quantized(model: Any) -> dict[str, Tensor]:
    """What bitsandbytes' own state says of each layer."""
    return {name: one for name, one in model.state_dict().items() if ".weight" in name and "layers" in name}


@pytest.mark.parametrize("double", [True, False])
def test_transformers_opens_ours_as_what_bitsandbytes_makes(tmp_path: Path, double: bool) -> None:
    ours = quantize_nf4(base(tmp_path / "base"), double=double)
    assert isinstance(ours, Decoder)
    save_quantized(ours, tmp_path / "ours")
    found, expected = theirs(tmp_path / "ours", None), theirs(tmp_path / "base", double)
    mine, their = quantized(found), quantized(expected)
    assert mine.keys() == their.keys()
    assert any(name.endswith("bitsandbytes__nf4") for name in mine)
    for name, tensor in their.items():
        assert torch.equal(mine[name], tensor) or name.endswith("bitsandbytes__nf4"), name
    weight = found.get_submodule("model.layers.1.mlp.down_proj").weight
    unpacked = importlib.import_module("bitsandbytes.functional").dequantize_4bit(weight.data, weight.quant_state)
    torch.testing.assert_close(ours.blocks[1].feedforward.down_proj.weight, unpacked, atol=1e-7, rtol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(found(_IDS).logits, expected(_IDS).logits)


@pytest.mark.parametrize(("double", "dtype"), [(True, torch.float32), (False, torch.float32), (True, torch.bfloat16)])
def test_theirs_opens_here(tmp_path: Path, double: bool, dtype: torch.dtype) -> None:
    ours = quantize_nf4(base(tmp_path / "base", dtype), double=double)
    theirs(tmp_path / "base", double, dtype).save_pretrained(tmp_path / "theirs")
    found = load_quantized(tmp_path / "theirs")
    assert isinstance(found, Decoder)
    for name, tensor in ours.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name
    assert found.blocks[0].attention.q_proj.weight.dtype == dtype
    assert torch.equal(found(_IDS), ours(_IDS))


def test_an_adapter_knows_its_base_after_it_was_saved_in_four_bits(tmp_path: Path) -> None:
    model = add_adapter(base(tmp_path / "base"), LoRAConfig(rank=2))
    save_adapter(model, tmp_path / "adapter")
    ours = quantize_nf4(base(tmp_path / "base"), targets=("q_proj", "down_proj"))
    for name in ("once", "twice"):
        save_quantized(ours, tmp_path / name)
    assert (tmp_path / "once/model.safetensors").read_bytes() == (tmp_path / "twice/model.safetensors").read_bytes()
    again = load_decoder(tmp_path / "once")
    kinds = {path.rpartition(".")[2] for path, one in again.named_modules() if isinstance(one, NF4Linear)}
    assert kinds == {"q_proj", "down_proj"}
    load_adapter(again, tmp_path / "adapter")
    with torch.no_grad():
        # On a CPU bitsandbytes multiplies in half precision.
        torch.testing.assert_close(theirs(tmp_path / "once", None)(_IDS).logits, ours(_IDS), atol=3e-2, rtol=0)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda t: t.update({f"{_Q_PROJ}.absmax": t[f"{_Q_PROJ}.absmax"][:-1]}), "63 numbers of uint8; 64"),
        (lambda t: t.update({_Q_PROJ: t[_Q_PROJ].float()}), "2048 numbers of float32; 2048 of uint8"),
        (lambda t: t.pop(f"{_Q_PROJ}.nested_absmax"), "'weight.nested_absmax' is missing"),
        (lambda t: t.update({f"{_Q_PROJ}.quant_map": t[f"{_Q_PROJ}.quant_map"] * 2}), "other values than NF4's"),
        (lambda t: t.update({f"{_Q_PROJ}.nested_absmax": torch.tensor([float("inf")])}), "no finite number"),
        (lambda t: t.pop(_STATE), "has no 'weight.quant_state"),
        (lambda t: t.update({_STATE: t[_STATE][:-1]}), "is no JSON object"),
        (lambda t: t.update(changed(t, blocksize=128)), "'blocksize' is 128, not 64"),
        (lambda t: t.update(changed(t, nested_offset=float("nan"))), "'nested_offset' is nan"),
        (lambda t: t.update(changed(t, dtype="complex64")), "'dtype' is 'complex64'"),
        (lambda t: t.update(changed(t, shape=[32, 128])), r"has shape \[32, 128\]"),
        (lambda t: t.update({f"{_Q_PROJ}.left_over": torch.zeros(1)}), "is unknown"),
    ],
)
def test_damage_is_named(tmp_path: Path, change: Any, problem: str) -> None:
    save_quantized(quantize_nf4(base(tmp_path / "base")), tmp_path / "ours")
    tensors = load_file(tmp_path / "ours/model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "ours/model.safetensors")
    with pytest.raises(FormatError, match=problem):
        load_quantized(tmp_path / "ours")


def changed(tensors: dict[str, Tensor], **values: Any) -> dict[str, Tensor]:
    state = json.loads(tensors[_STATE].numpy().tobytes()) | values
    return {_STATE: torch.frombuffer(bytearray(json.dumps(state).encode()), dtype=torch.uint8)}


def test_what_is_not_nf4_is_refused(tmp_path: Path) -> None:
    model = base(tmp_path / "base")
    with pytest.raises(ConfigError, match="no layer of the model is quantised"):
        save_quantized(model, tmp_path / "ours")
    with pytest.raises(FormatError, match="not quantised"):
        load_quantized(tmp_path / "base")
    save_quantized(quantize_nf4(model), tmp_path / "ours")
    values = read_json(tmp_path / "ours/config.json")
    values["quantization_config"]["bnb_4bit_quant_type"] = "fp4"
    (tmp_path / "ours/config.json").write_text(json.dumps(values))
    with pytest.raises(FormatError, match="'bnb_4bit_quant_type' is 'fp4'"):
        load_quantized(tmp_path / "ours")
