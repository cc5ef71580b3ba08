"""GGUF files: llama.cpp computes the same logits from them and cuts texts into the same ids."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import torch
from typer.testing import CliRunner

from seedbed.cli.app import app
from seedbed.core.config import build
from seedbed.core.errors import ConfigError, DataError, FormatError
from seedbed.core.randomness import torch_generator
from seedbed.generation import Engine, Sampling, export_gguf
from seedbed.models import Decoder, ModelConfig, save_model
from seedbed.tokenizers import Tokenizer, chat, train_bpe, train_unigram
from seedbed.tokenizers.chat import CHATML

from ..models.shaking import shaken

gguf = pytest.importorskip("gguf")

TEXTS = ["the quick brown fox jumps over the lazy dog. " * 20, "Lorem ipsum dolor 12345, don't we'll\n\n  ok"] * 3
BIASES = {"qkv_bias": True, "output_bias": True, "feedforward_bias": True}
MODELS: dict[str, dict[str, Any]] = {
    "qwen3": {"tie_embeddings": False, "rope_theta": 1e6},
    "qwen3-linear": {"rope_scaling": {"kind": "linear", "factor": 3.0}},
    "qwen3-ntk": {"rope_scaling": {"kind": "ntk", "factor": 3.0}},
    "qwen3-yarn": {
        "rope_scaling": {"kind": "yarn", "factor": 4.0, "original_context": 16, "attention_factor": 1.3},
    },
    "llama": {"qk_norm": False, "head_dim": 32},
    "llama3": {"qk_norm": False, "rope_scaling": {"kind": "llama3", "factor": 8.0, "original_context": 32}},
    "mistral": {"qk_norm": False, "window": 24},
    "qwen2": {"qk_norm": False, "qkv_bias": True},
    "qwen2-wide": {"qk_norm": False, "qkv_bias": True, "head_dim": 32},
    "gpt2": {
        "qk_norm": False, "kv_heads": 4, "norm": "layer", "activation": "gelu_tanh", "positions": "learned", **BIASES,
    },
}  # fmt: skip


def decoder(**changes: Any) -> Decoder:
    values = {"vocab_size": 320, "hidden_size": 64, "layers": 2, "heads": 4, "kv_heads": 2, "context_length": 64}
    return shaken(Decoder(build(ModelConfig, {**values, **changes})))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    torch.set_num_threads(1)
    return train_bpe(TEXTS, 300, special_tokens=("<|endoftext|>", "<|im_start|>", "<|im_end|>"), chat_template=CHATML)


@pytest.fixture
def ids() -> list[int]:
    return torch.randint(3, 290, (22,), generator=torch_generator(2, "ids")).tolist()


@contextmanager
def opened(path: Path, **settings: Any) -> Iterator[Any]:
    llama_cpp = pytest.importorskip("llama_cpp")
    full = {"n_ctx": 64, "n_threads": 1, "n_batch": 64, "logits_all": True, "type_k": 0, "type_v": 0, **settings}
    llama = llama_cpp.Llama(str(path), verbose=False, **full)
    yield llama
    llama.close()


def logits_of(path: Path, ids: list[int]) -> np.ndarray:
    with opened(path) as llama:
        llama.eval(ids)
        return np.array(llama.scores[: len(ids)])


@torch.no_grad()
def logits(model: Decoder, ids: list[int]) -> np.ndarray:
    return model(torch.tensor([ids]))[0].numpy()


@pytest.mark.parametrize("name", MODELS)
def test_llama_cpp_computes_the_same_logits(name: str, ids: list[int], tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = decoder(**MODELS[name])
    written = export_gguf(model, tokenizer, tmp_path / "model.gguf", "f32")
    assert set(written.types) == {"F32"}
    # llama.cpp looks GELU up in a table of F16.
    np.testing.assert_allclose(
        logits_of(written.path, ids), logits(model, ids), atol=1e-3 if name == "gpt2" else 2e-5, rtol=0
    )


@pytest.mark.parametrize(
    ("type", "rounding"), [("bf16", 0.01), ("f16", 0.0015), ("q8_0", 0.04), ("q5_1", 0.04), ("q4_0", 0.04)]
)
def test_quantised_weights_are_those_of_our_twin(
    type: str, rounding: float, ids: list[int], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    twin = decoder()
    path = export_gguf(twin, tokenizer, tmp_path / "model.gguf", type).path
    kind = gguf.GGMLQuantizationType[type.upper()]
    with torch.no_grad():
        for parameter in twin.parameters():
            if parameter.dim() == 2:
                stored = gguf.dequantize(gguf.quantize(parameter.numpy(), kind), kind)
                parameter.copy_(torch.from_numpy(stored.reshape(parameter.shape)))
    read = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    assert read["blk.1.ffn_down.weight"].tensor_type == kind
    values = gguf.dequantize(read["blk.1.ffn_down.weight"].data, kind)
    assert np.array_equal(values, twin.state_dict()["blocks.1.feedforward.down_proj.weight"].numpy())
    # llama.cpp rounds what goes into a product, too: to bf16, to F16, or to q8_0 beside quantised weights.
    theirs, expected = logits_of(path, ids), logits(twin, ids)
    assert (theirs - expected).std() < rounding * expected.std()


def test_rows_that_are_no_blocks_are_kept_in_f16(ids: list[int], tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = decoder(hidden_size=40, head_dim=16)
    written = export_gguf(model, tokenizer, tmp_path / "model.gguf", "q8_0")
    assert written.types == {"F16": 1 + 2 * 5, "Q8_0": 2 * 2, "F32": 2 * 4 + 1}
    expected = logits(model, ids)
    assert (logits_of(written.path, ids) - expected).std() < 0.02 * expected.std()


def test_greedy_tokens_are_the_same_and_so_are_the_bytes(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = decoder()
    with torch.no_grad():
        model.embedding.weight.mul_(20)  # no near ties
    written = export_gguf(model, tokenizer, tmp_path / "a" / "model.gguf", "f32")
    again = export_gguf(model, tokenizer, tmp_path / "b" / "model.gguf", "f32")
    assert written.path.read_bytes() == again.path.read_bytes()
    assert [file.name for file in written.path.parent.iterdir()] == ["model.gguf"]
    prompt = tokenizer.encode("the quick").tolist()
    ours = Engine(model, tokenizer).generate([prompt], Sampling(temperature=0, max_new_tokens=24))[0].ids.tolist()
    with opened(written.path) as llama:
        stream = llama.generate(prompt, temp=0.0, repeat_penalty=1.0)
        assert [next(stream) for _ in ours] == ours


PIECES = (
    "a  b   c\n\n\n d \t e  \r\n \r\n  x   ", "1234567 12 ½ ² ٣٤٥ 1,000.50", "don't WE'LL I'Ve ''' !!!??? __x__", "   ",
    "👩‍👩‍👧‍👦 ❤️‍🔥 a\u0301\u200b\u00a0b\u3000c", "\n\n", "def f(x):\n    return x+1  # ok\n\tif a&&b {\n",
    "<|im_end|> tail", "",
)  # fmt: skip


@pytest.fixture(scope="module")
def languages(shared_data: Callable[[str], Path]) -> list[str]:
    """A paragraph in each of some hundred languages."""
    with zipfile.ZipFile(shared_data("text/udhr2.zip")) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".txt"))
        return [archive.read(name).decode("utf-8-sig")[1500:2100] for name in names[::3]]


@pytest.mark.parametrize(
    ("pattern", "whole_words"), [("gpt2", False), ("llama3", False), ("qwen2", False), ("llama3", True)]
)
def test_texts_are_the_same_ids(pattern: str, whole_words: bool, languages: list[str], tmp_path: Path) -> None:
    tokenizer = train_bpe(
        languages, 1500, pattern, special_tokens=("<|endoftext|>", "<|im_end|>"), chat_template=CHATML
    )
    if whole_words:
        tokenizer.save(tmp_path)
        document = json.loads((tmp_path / "tokenizer.json").read_text())
        document["model"]["ignore_merges"] = True
        (tmp_path / "tokenizer.json").write_text(json.dumps(document))
        tokenizer = Tokenizer.load(tmp_path)
    model = decoder(vocab_size=tokenizer.vocab_size + 7, hidden_size=32, layers=1)
    path = export_gguf(model, tokenizer, tmp_path / "model.gguf").path
    with opened(path, vocab_only=True) as llama:
        for text in (*languages, *PIECES):
            for special in (True, False):
                expected = tokenizer.encode(text, parse_special=special).tolist()
                assert llama.tokenize(text.encode(), add_bos=False, special=special) == expected
            assert llama.detokenize(expected, special=True).decode() == text
            assert llama.tokenize(text.encode(), add_bos=True, special=True) == tokenizer.encode(text).tolist()
        assert (llama.token_eos(), llama.n_vocab()) == (tokenizer.eos_token_id, tokenizer.vocab_size + 7)
        template = llama.metadata["tokenizer.chat_template"]
        assert "generation %" not in template
        messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
        plain = tokenizer.with_roles(chat_template=template)
        assert chat.render(plain, messages) == chat.render(tokenizer, messages)


def sentencepiece_tokenizer(lines: list[str], path: Path, **options: Any) -> Tokenizer:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=3000, minloglevel=2, hard_vocab_limit=False,
        character_coverage=0.99, **options,
    )  # fmt: skip
    path.write_bytes(model.getvalue())
    return Tokenizer.from_sentencepiece(path)


WHOLE = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False, "byte_fallback": True}


@pytest.mark.parametrize("options", [{"model_type": "bpe", **WHOLE}, {"model_type": "unigram"}], ids=str)
def test_texts_are_the_same_ids_of_sentencepiece(options: dict[str, Any], languages: list[str], tmp_path: Path) -> None:
    tokenizer = sentencepiece_tokenizer(languages[::2], tmp_path / "spm.model", **options)
    model = decoder(vocab_size=tokenizer.vocab_size, hidden_size=32, layers=1)
    with opened(export_gguf(model, tokenizer, tmp_path / "model.gguf").path, vocab_only=True) as llama:
        for text in (*languages, *PIECES, " lead", "▁a", "a ▁ b"):
            for special in (True, False):
                expected = tokenizer.encode(text, parse_special=special).tolist()
                assert llama.tokenize(text.encode(), add_bos=False, special=special) == expected


def test_sentencepiece_models_that_llama_cpp_reads_otherwise_are_refused(tmp_path: Path) -> None:
    for number, (options, message) in enumerate(
        [
            ({"user_defined_symbols": ["fox"]}, "pieces that a user defined"),
            ({"treat_whitespace_as_suffix": True}, "spaces to stand before"),
            ({"model_type": "bpe"}, "changes no text and falls back on bytes"),
            ({"add_dummy_prefix": False}, "joins spaces"),
        ]
    ):
        tokenizer = sentencepiece_tokenizer(TEXTS, tmp_path / f"{number}.model", **options)
        with pytest.raises(ConfigError, match=message):
            export_gguf(decoder(), tokenizer, tmp_path / "model.gguf")


def test_files_without_a_tokenizer_take_ids(ids: list[int], tmp_path: Path) -> None:
    model = decoder()
    path = export_gguf(model, None, tmp_path / "model.gguf", "f32").path
    np.testing.assert_allclose(logits_of(path, ids), logits(model, ids), atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pattern": "o200k"}, "no pre-tokeniser that cuts text as this one does .'o200k'.*gpt2, llama3 or qwen2"),
        ({"pattern": r"\p{L}+|\P{L}"}, "its expressions"),
        ({"special_tokens": ()}, "which token ends a text"),
    ],
)
def test_tokenizers_that_llama_cpp_has_no_equal_of_are_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    other = train_bpe(TEXTS, 290, **change)
    with pytest.raises(ConfigError, match=message):
        export_gguf(decoder(), other, tmp_path / "model.gguf")
    assert not list(tmp_path.iterdir())


def test_other_refusals_say_what_to_do(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    with pytest.raises(ConfigError, match=r"'q3' is no type of GGUF weights\. Known: f32, bf16"):
        export_gguf(decoder(), tokenizer, path, "q3")
    with pytest.raises(ConfigError, match="has 300 ids, and the model 280"):
        export_gguf(decoder(vocab_size=280), tokenizer, path)
    with pytest.raises(ConfigError, match="no Unigram tokenizer"):
        export_gguf(decoder(), train_unigram(TEXTS, 60), path)
    with pytest.raises(FormatError, match="ramp from 32 turns to 1"):
        export_gguf(decoder(rope_scaling={"kind": "yarn", "factor": 2.0, "beta_fast": 16.0}), tokenizer, path)
    with pytest.raises(FormatError, match="rotary positions of kind llama3"):
        export_gguf(decoder(rope_scaling={"kind": "llama3", "factor": 2.0}), tokenizer, path)
    with pytest.raises(FormatError, match="positions='alibi'"):
        export_gguf(decoder(positions="alibi"), tokenizer, path)
    broken = decoder()
    with torch.no_grad():
        broken.blocks[1].feedforward.up_proj.weight[0, 0] = float("nan")  # type: ignore[index,union-attr]
    with pytest.raises(DataError, match=r"'blk.1.ffn_up.weight' holds NaN"):
        export_gguf(broken, tokenizer, path)
    with torch.no_grad():
        broken.blocks[1].feedforward.up_proj.weight[0, 0] = 1e6  # type: ignore[index,union-attr]
    with pytest.raises(DataError, match="too large for Q8_0"):
        export_gguf(broken, tokenizer, path)
    assert not list(tmp_path.iterdir())


def test_the_command_writes_what_the_function_writes(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = decoder()
    save_model(model, tmp_path / "model", tokenizer)
    result = CliRunner().invoke(
        app, ["export", "gguf", str(tmp_path / "model"), "--out", str(tmp_path / "one.gguf"), "--type", "q4_0"]
    )
    assert result.exit_code == 0, result.output
    assert "15 in Q4_0" in result.output
    other = export_gguf(model, tokenizer, tmp_path / "two.gguf", "q4_0", name="one")
    assert other.path.read_bytes() == (tmp_path / "one.gguf").read_bytes()


def test_transformers_generates_the_same_tokens_and_writes_the_same_chat(tokenizer: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = decoder(tie_embeddings=False, eos_token_id=tokenizer.token_to_id("<|im_end|>"))
    with torch.no_grad():
        model.embedding.weight.mul_(20)
    save_model(model, tmp_path / "model", tokenizer)
    arguments = ["export", "huggingface", str(tmp_path / "model"), "--out", str(tmp_path / "out"), "--dtype"]
    assert CliRunner().invoke(app, [*arguments, "float8"]).exit_code == 1
    result = CliRunner().invoke(app, [*arguments, "float32", "--shard-megabytes", "1"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "model.safetensors.index.json").exists()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    reader = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    messages = [{"role": "user", "content": "the lazy dog?"}]
    text = chat.render(tokenizer, messages, add_generation_prompt=True)
    assert reader.apply_chat_template(messages, add_generation_prompt=True, tokenize=False) == text
    prompt = reader(text, return_tensors="pt", add_special_tokens=False)
    assert prompt["input_ids"][0].tolist() == chat.encode(tokenizer, messages, add_generation_prompt=True)[0].tolist()
    greedy = Sampling(temperature=0, max_new_tokens=20)
    expected = Engine(model).generate([prompt["input_ids"][0].numpy()], greedy, decode=False)  # as if all ids had texts
    generated = theirs.generate(**prompt, do_sample=False, max_new_tokens=20)[0, prompt["input_ids"].shape[1] :]
    assert generated.tolist() == expected[0].ids.tolist()
