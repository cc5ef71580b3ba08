"""The engine: cached equals uncached, batched equals single, streams equal texts, and every way to stop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from seedbed.core.errors import ConfigError, DataError
from seedbed.generation import Engine, Lookup, Request, Sampling
from seedbed.generation.requests import Prompt
from seedbed.models import Decoder

from .conftest import ByteTokenizer

GREEDY = Sampling(temperature=0, max_new_tokens=12)


def greedy_without_cache(model: Decoder, prompt: np.ndarray, tokens: int) -> tuple[list[int], list[float]]:
    ids, logprobs = list(map(int, prompt)), []
    for _ in range(tokens):
        scores = model(torch.tensor([ids]))[0, -1].log_softmax(-1)
        ids.append(int(scores.argmax()))
        logprobs.append(float(scores[ids[-1]].detach()))
    return ids[len(prompt) :], logprobs


def test_greedy_batches_equal_uncached_single_prompts(model: Decoder, prompts: list[np.ndarray]) -> None:
    engine = Engine(model, eos_token_ids=())
    for result, prompt in zip(engine.generate(prompts, GREEDY), prompts, strict=True):
        ids, logprobs = greedy_without_cache(model, prompt, GREEDY.max_new_tokens)
        assert result.ids.tolist() == ids
        np.testing.assert_allclose(result.logprobs, logprobs, atol=1e-4)
        assert result.finish_reason == "length"
        assert result.text == ""


def test_a_sampled_request_does_not_depend_on_its_neighbours(model: Decoder, prompts: list[np.ndarray]) -> None:
    engine = Engine(model, eos_token_ids=range(40))
    requests = [
        Sampling(temperature=0.9, max_new_tokens=20, seed=1),
        Sampling(temperature=0, max_new_tokens=3),
        Sampling(temperature=1.5, top_k=40, max_new_tokens=25, seed=2),
        Sampling(top_p=0.8, repetition_penalty=1.3, max_new_tokens=9, seed=3),
        Sampling(min_p=0.05, max_new_tokens=30, seed=4),
    ]
    together = engine.generate(prompts, requests)
    for prompt, request, expected in zip(prompts, requests, together, strict=True):
        (alone,) = engine.generate([prompt], [request])
        assert alone.ids.tolist() == expected.ids.tolist()
        np.testing.assert_allclose(alone.logprobs, expected.logprobs, atol=1e-4)
        assert alone.finish_reason == expected.finish_reason
    again = [
        Engine(model, eos_token_ids=range(40), batch_size=2).generate(prompts, requests)[row].ids for row in (0, 4)
    ]
    assert [row.tolist() for row in again] == [together[0].ids.tolist(), together[4].ids.tolist()]


def test_one_sampling_draws_another_stream_for_every_prompt(model: Decoder, prompts: list[np.ndarray]) -> None:
    sampling = Sampling(max_new_tokens=16, seed=5)
    engine = Engine(model, eos_token_ids=())
    first, second = engine.generate([prompts[0], prompts[0]], sampling)
    assert first.ids.tolist() != second.ids.tolist()
    assert engine.generate([prompts[0]], sampling)[0].ids.tolist() == first.ids.tolist()
    assert engine.generate([prompts[0]], sampling.replace(seed=6))[0].ids.tolist() != first.ids.tolist()


def test_log_probabilities_are_those_of_the_temperature(model: Decoder, prompts: list[np.ndarray]) -> None:
    sampling = Sampling(temperature=0.7, top_k=5, repetition_penalty=1.2, max_new_tokens=10)
    (result,) = Engine(model, eos_token_ids=()).generate([prompts[2]], sampling)
    ids = torch.tensor(np.concatenate((prompts[2], result.ids)))
    scores = (model(ids[None, :-1])[0, len(prompts[2]) - 1 :] / 0.7).log_softmax(-1)
    expected = scores.gather(1, torch.tensor(result.ids)[:, None])[:, 0].detach().numpy()
    np.testing.assert_allclose(result.logprobs, expected, atol=1e-4)


def test_end_tokens_finish_a_request_and_are_kept_in_the_ids(model: Decoder, prompts: list[np.ndarray]) -> None:
    plain = Engine(model, ByteTokenizer(), eos_token_ids=()).generate(prompts, GREEDY)
    end = int(plain[0].ids[4])
    for before, after in zip(
        plain, Engine(model, ByteTokenizer(), eos_token_ids=[end]).generate(prompts, GREEDY), strict=True
    ):
        ids = before.ids.tolist()
        stop = ids.index(end) + 1 if end in ids else len(ids)
        assert after.ids.tolist() == ids[:stop]
        assert after.finish_reason == ("stop" if end in ids else "length")
        assert after.text == ByteTokenizer().decode(ids[: stop - 1] if end in ids else ids)


def test_streams_and_stop_strings_agree_with_generate(model: Decoder) -> None:
    engine = Engine(model, ByteTokenizer())
    for seed in range(6):
        free = Sampling(temperature=1.3, max_new_tokens=30, seed=seed)
        (whole,) = engine.generate(["é€"], free)
        assert "".join(engine.stream("é€", free)) == whole.text
        for stop in (whole.text[5], whole.text[6:9], "never to be met"):
            stopped = free.replace(stop=("never", stop))
            (cut,) = engine.generate(["é€"], stopped)
            place = whole.text.find(stop)
            assert cut.text == (whole.text if place < 0 else whole.text[:place])
            assert cut.finish_reason == ("stop" if place >= 0 else whole.finish_reason)
            assert cut.ids.tolist() == whole.ids[: len(cut.ids)].tolist()
            assert "".join(engine.stream("é€", stopped)) == cut.text


@pytest.mark.parametrize("plain", [False, True])
def test_streamed_pieces_are_whole_characters(plain: bool) -> None:
    class Bytes(ByteTokenizer):
        text_is_bytes = plain

        def decode_bytes(self, ids: Any, skip_special_tokens: bool = False) -> bytes:
            return bytes(ids)

    request = Request("request", Prompt(np.array([1])), Sampling(), (0,), 12, tokenizer=Bytes())  # type: ignore[arg-type]
    pieces = []
    for byte in "aé€😀".encode():
        request.add(byte, 0.0)
        pieces.append(request.take())
    assert [piece for piece in pieces if piece] == ["a", "é", "€", "😀"]


def test_ids_that_the_tokenizer_lacks_are_never_chosen(model: Decoder) -> None:
    class Smaller(ByteTokenizer):
        known = np.arange(200) % 2 == 1  # with holes, and fewer than the embedding has rows

    warm = Sampling(temperature=5.0, max_new_tokens=40)
    for draft in (None, Lookup()):
        for sampling in (warm, Sampling(temperature=0, max_new_tokens=40)):
            engine = Engine(model, Smaller(), eos_token_ids=[0], draft=draft)  # type: ignore[arg-type]
            ids = engine.generate([np.array([5, 6, 7])], sampling)[0].ids
            assert all(token == 0 or (token < 200 and token % 2) for token in ids)
    plain = Engine(model).generate([np.array([5, 6, 7])], warm)[0].ids
    assert not all(token < 200 and token % 2 for token in plain)


def test_the_context_ends_a_request_and_bounds_a_prompt(model: Decoder) -> None:
    engine = Engine(model, eos_token_ids=())
    prompt = np.arange(1, 61)
    (result,) = engine.generate([prompt], GREEDY)
    assert (len(result.ids), result.finish_reason) == (4, "length")
    assert result.ids.tolist() == greedy_without_cache(model, prompt, 4)[0]
    with pytest.raises(DataError, match=r"prompt 0: 64 tokens leave no room in the context of 64.*truncate"):
        engine.generate([np.arange(64)], GREEDY)
    (cut,) = engine.generate([np.arange(100)], GREEDY, truncate="left")
    assert cut.ids.tolist() == greedy_without_cache(model, np.arange(48, 100), 12)[0]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [([], "empty"), ([257], "from 0 to 256"), ([-1], "from 0 to 256"), ([0.5], "integers"), ([[1, 2]], "one row")],
)
def test_bad_prompts_are_named(model: Decoder, prompt: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"prompt 1: .*{message}"):
        Engine(model).generate([[1], prompt], GREEDY)


def test_other_misuse_is_named(model: Decoder) -> None:
    for call in (
        lambda: Engine(model).generate(["text"], GREEDY),
        lambda: Engine(model).generate([[1]], Sampling(stop=("x",))),
        lambda: list(Engine(model).stream([1])),
        lambda: Engine(model, cache="ring"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ConfigError, match=r"tokenizer|'window'"):
            call()
    broken = Decoder(model.config)
    torch.nn.init.constant_(broken.norm.weight, float("nan"))
    with pytest.raises(DataError, match="not finite"):
        Engine(broken).generate([[1]], Sampling())
