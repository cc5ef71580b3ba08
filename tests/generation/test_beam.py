"""Beam search: transformers' answers and scores, and the best of all answers where the beam holds them all."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

from seedbed.core.errors import ConfigError, DataError
from seedbed.generation.beam import beam_search
from seedbed.models import Decoder, load_model

from .conftest import sharp

T5 = {
    "vocab_size": 14, "d_model": 32, "d_kv": 8, "num_heads": 4, "d_ff": 48, "num_layers": 2, "dropout_rate": 0.0,
    "decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 13,
}  # fmt: skip
LLAMA = {
    "vocab_size": 14, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "eos_token_id": 1, "pad_token_id": 13, "bos_token_id": 2,
}  # fmt: skip
ENDS = (1, 4, 7)


def shaken(peer: Any) -> Any:
    """Weights large enough that answers differ, and an end token that comes up now and then."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in peer.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return peer.eval()


@pytest.mark.parametrize("length_penalty", [1.0, 0.0, -1.0])
@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_answers_are_those_of_transformers(tmp_path: Path, kind: str, length_penalty: float) -> None:
    torch.set_num_threads(1)
    if kind == "t5":
        peer = shaken(T5ForConditionalGeneration(T5Config(**T5)))
    else:
        peer = shaken(LlamaForCausalLM(LlamaConfig(**LLAMA)))
    peer.save_pretrained(tmp_path)
    model = load_model(tmp_path)
    ended = 0
    for seed, beams in itertools.product(range(3), (2, 4)):
        source = np.random.default_rng(seed).integers(3, 13, size=7)
        expected = peer.generate(
            torch.from_numpy(source)[None],
            num_beams=beams,
            num_return_sequences=beams,
            do_sample=False,
            max_new_tokens=14,
            length_penalty=length_penalty,
            eos_token_id=list(ENDS),
            return_dict_in_generate=True,
            output_scores=True,
        )
        (found,) = beam_search(  # type: ignore[arg-type]
            model, [source], beams=beams, max_new_tokens=14, length_penalty=length_penalty, eos_token_ids=ENDS
        )
        start = 1 if kind == "t5" else len(source)
        for beam, ids, score in zip(found, expected.sequences, expected.sequences_scores, strict=True):
            assert beam.ids.tolist() == ids[start : start + len(beam.ids)].tolist()
            assert (ids[start + len(beam.ids) :] == 13).all()
            assert beam.score == pytest.approx(float(score), abs=1e-4)
            assert beam.score == pytest.approx(beam.logprob / len(beam.ids) ** length_penalty)
            ended += beam.ids[-1] in ENDS
    assert ended > 0


def test_a_beam_that_holds_everything_finds_the_best() -> None:
    model = sharp(vocab_size=5, hidden_size=16, heads=2, kv_heads=2)
    answers = torch.tensor(list(itertools.product(range(5), repeat=3)))
    ids = torch.cat((torch.tensor([[1, 2]]).expand(len(answers), -1), answers), dim=1)
    with torch.no_grad():
        logprobs = model(ids[:, :-1])[:, 1:].log_softmax(-1).gather(2, answers[..., None]).sum(dim=(1, 2))
    (found,) = beam_search(model, [[1, 2]], beams=25, max_new_tokens=3, eos_token_ids=())
    best = logprobs.topk(25)
    assert [beam.ids.tolist() for beam in found] == answers[best.indices].tolist()
    np.testing.assert_allclose([beam.logprob for beam in found], best.values, atol=1e-4)


def test_what_cannot_be_searched(model: Decoder) -> None:
    for prompts, message in (([[]], "not empty"), ([[1], [257]], "prompt 1: .*0 to 256"), ([[1] * 60], "exceed 64")):
        with pytest.raises(DataError, match=message):
            beam_search(model, prompts, max_new_tokens=8)
    with pytest.raises(ConfigError, match="beams"):
        beam_search(model, [[1]], beams=0)
