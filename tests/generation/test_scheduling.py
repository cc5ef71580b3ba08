"""Continuous batching: whoever comes and goes, each request gets what it would get alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seedbed.core.errors import ConfigError, DataError, ResourceError
from seedbed.generation import Engine, Lookup, Request, Sampling
from seedbed.generation.requests import Prompt
from seedbed.generation.scheduling import Scheduler
from seedbed.generation.steps import TorchStep
from seedbed.models import CacheConfig, Decoder, KeyValueCache

from .conftest import ByteTokenizer, sharp

GREEDY = Sampling(temperature=0, max_new_tokens=12)


def requests_for(rng: np.random.Generator, count: int) -> list[tuple[np.ndarray, Sampling]]:
    """Prompts and wishes of all kinds; some prompts come twice."""
    made: list[tuple[np.ndarray, Sampling]] = []
    for number in range(count):
        ids = made[-1][0] if made and rng.random() < 0.3 else rng.integers(1, 257, size=rng.integers(1, 40))
        sampling = Sampling(
            temperature=float(rng.choice([0.0, 0.7, 1.2])),
            top_k=int(rng.choice([0, 20])),
            frequency_penalty=float(rng.choice([0.0, 0.5])),
            max_new_tokens=int(rng.integers(1, 20)),
            seed=number,
        )
        made.append((ids, sampling))
    return made


@settings(max_examples=15, deadline=None)
@given(data=st.data(), seed=st.integers(0, 1000), rows=st.sampled_from([1, 2, 3, 5]), chunk=st.sampled_from([1, 7, 64]))
def test_invariants_under_random_schedules(
    model: Decoder, data: st.DataObject, seed: int, rows: int, chunk: int
) -> None:
    rng = np.random.default_rng(seed)
    wishes = requests_for(rng, data.draw(st.integers(1, 9)))
    drafter = Lookup().drafter(rows, torch.device("cpu")) if data.draw(st.booleans()) else None
    scheduler = Scheduler(model.config, TorchStep(model), 64, rows, chunk=chunk, tokens=64, drafter=drafter)
    cancelled: set[int] = set()
    requests: list[Request] = []
    for ids, sampling in wishes:
        limit = min(sampling.max_new_tokens, 64 - len(ids))
        request = Request(f"request {len(requests)}", Prompt(ids), sampling, (0,), limit, eos_token_ids=range(9))
        requests.append(request)
        scheduler.submit([request])
        for _ in range(data.draw(st.integers(0, 3))):
            scheduler.step()
            invariants(scheduler, rows)
        if data.draw(st.integers(0, 5)) == 0:
            victim = data.draw(st.integers(0, len(requests) - 1))
            if not requests[victim].done:
                cancelled.add(victim)
                requests[victim].cancel()
    for _ in range(400):
        if not scheduler.busy:
            break
        scheduler.step()
        invariants(scheduler, rows)
    assert not scheduler.busy
    assert scheduler._cache is None
    engine = Engine(model, eos_token_ids=range(9))
    for number, (request, (ids, sampling)) in enumerate(zip(requests, wishes, strict=True)):
        (alone,) = engine.generate([ids], [sampling])
        result = request.result()
        if number in cancelled:
            assert result.finish_reason == "cancelled"
            assert result.ids.tolist() == alone.ids[: len(result.ids)].tolist()
        else:
            assert result.ids.tolist() == alone.ids.tolist()
            assert result.finish_reason == alone.finish_reason
            np.testing.assert_allclose(result.logprobs, alone.logprobs, atol=1e-4)


def invariants(scheduler: Scheduler, rows: int) -> None:
    """Rows are neighbours, belong to one living request each, and hold all of it but its newest token."""
    assert scheduler.running <= rows
    living = [one.request for one in scheduler._running]
    assert len({id(request) for request in living}) == len(living)
    assert not any(request.done for request in living)
    cache = scheduler._cache
    if cache is None:
        assert not living
        return
    for one, length in zip(scheduler._running, cache.lengths.tolist(), strict=False):
        if not one.waiting:
            assert length == one.request.length - 1
        elif one.group.requests[0] is one.request:
            assert length == one.group.read


def test_samples_of_one_prompt_read_it_once(model: Decoder, prompts: list[np.ndarray]) -> None:
    sampling = Sampling(temperature=4, max_new_tokens=8, seed=4)
    engine = Engine(model, eos_token_ids=())
    results = engine.generate(prompts[:3], sampling, samples=4)
    read = sum(len(prompt) for prompt in prompts[:3])
    assert engine.statistics.prompt_tokens == read
    assert engine.statistics.shared_tokens == 3 * read
    assert len({tuple(result.ids.tolist()) for result in results}) == 12
    single = engine.generate(prompts[:3], sampling)
    assert [result.ids.tolist() for result in results[::4]] == [result.ids.tolist() for result in single]
    # Equal prompts are one, whoever asks; and fewer rows than samples change nothing.
    again = engine.generate([prompts[0]] * 3, sampling)
    assert engine.statistics.prompt_tokens == len(prompts[0])
    for few in (1, 2):
        narrow = Engine(model, eos_token_ids=(), batch_size=few).generate([prompts[0]] * 3, sampling)
        assert [one.ids.tolist() for one in narrow] == [one.ids.tolist() for one in again]


def test_a_server_drives_requests_one_step_at_a_time(model: Decoder) -> None:
    engine = Engine(model, ByteTokenizer(), eos_token_ids=(), batch_size=2, queue=3)  # type: ignore[arg-type]
    (first,) = engine.submit("hello", GREEDY, name="first")
    pieces = []
    while not first.ids:
        engine.step()
    second, third = engine.submit("abc", Sampling(max_new_tokens=30, seed=2), samples=2)
    (late,) = engine.submit("too late", GREEDY, seconds=0.0)
    engine.step()
    assert late.result().finish_reason == "deadline"
    third.cancel()
    while engine.busy:
        engine.step()
        pieces.append(first.take())
    alone = Engine(model, ByteTokenizer(), eos_token_ids=())  # type: ignore[arg-type]
    assert "".join(pieces) == first.result().text == alone.generate(["hello"], GREEDY)[0].text
    assert second.result().ids.tolist() == alone.generate(["abc"], [second.sampling])[0].ids.tolist()
    assert third.result().finish_reason == "cancelled"
    assert first.started is not None
    assert first.finished is not None
    assert first.submitted <= first.started <= first.finished
    engine.submit("a", GREEDY, samples=3)
    with pytest.raises(ResourceError, match="3 requests are waiting"):
        engine.submit("b", GREEDY)


def test_broken_logits_end_one_request_alone() -> None:
    model = sharp()
    with torch.no_grad():
        model.embedding.weight[9] = float("nan")
    # The output layer has a row of its own, so that only those who read token 9 meet it.
    model.lm_head = torch.nn.Linear(32, 257, bias=False)
    torch.nn.init.normal_(model.lm_head.weight, generator=torch.Generator().manual_seed(1))
    engine = Engine(model, eos_token_ids=())
    (bad,) = engine.submit([3, 9], GREEDY, name="request of mine")
    (good,) = engine.submit([3, 8], GREEDY)
    while engine.busy:
        engine.step()
    with pytest.raises(DataError, match=r"request of mine: .*not finite at token 2"):
        bad.result()
    assert good.result().ids.tolist() == engine.generate([[3, 8]], GREEDY)[0].ids.tolist()
    with pytest.raises(DataError, match=r"prompt 1: .*not finite"):
        engine.generate([[3, 8], [3, 9]], GREEDY)


@pytest.mark.parametrize("kind", ["window", "sinks"])
def test_caches_that_slide_go_on_past_the_context(kind: str) -> None:
    model = sharp()
    cache = CacheConfig(kind=kind, window=10, sinks=3, slack=8)  # type: ignore[arg-type]
    engine = Engine(model, cache=cache, eos_token_ids=())
    long = np.random.default_rng(1).integers(1, 257, size=90)
    greedy = Sampling(temperature=0, max_new_tokens=40)
    results = engine.generate([long, long[:20]], greedy, truncate="slide")
    assert [len(result.ids) for result in results] == [40, 40]
    kept = 10 if kind == "window" else 13
    assert [result.slid for result in results] == [90 + 39 - kept, 20 + 39 - kept]
    ids = long[:20].tolist()
    cached = KeyValueCache(model.config, 1, 1000, layout=cache)
    with torch.no_grad():
        for token in ids[:-1]:
            model(torch.tensor([[token]]), cache=cached)
        for _ in range(40):
            ids.append(int(model(torch.tensor([ids[-1:]]), cache=cached)[0, -1].argmax()))
    assert results[1].ids.tolist() == ids[20:]
    with pytest.raises(DataError, match="prompt 0: 90 tokens leave no room"):
        engine.generate([long], greedy)
    (cut,) = engine.generate([long], greedy, truncate="left")
    assert (cut.dropped, len(cut.ids), cut.slid) == (90 - 24, 40, 24 + 39 - kept)
    with pytest.raises(ConfigError, match="cannot slide"):
        Engine(model).generate([long], greedy, truncate="slide")


@pytest.mark.parametrize("cache", ["full", "window", "sinks", CacheConfig(dtype="int8")])
def test_named_caches_within_the_context_agree(model: Decoder, prompts: list[np.ndarray], cache: Any) -> None:
    results = Engine(model, cache=cache, eos_token_ids=()).generate(prompts, GREEDY)
    expected = Engine(model, eos_token_ids=()).generate(prompts, GREEDY)
    for one, other in zip(results, expected, strict=True):
        if not isinstance(cache, str):
            assert one.ids[0] == other.ids[0]
        else:
            assert one.ids.tolist() == other.ids.tolist()


def test_the_likeliest_tokens_of_each_step_are_reported(model: Decoder, prompts: list[np.ndarray]) -> None:
    sampling = Sampling(temperature=0.7, max_new_tokens=6, top_logprobs=3)
    many, none = Engine(model, eos_token_ids=()).generate(prompts[:2], [sampling, sampling.replace(top_logprobs=0)])
    assert none.top_ids.shape == none.top_logprobs.shape == (6, 0)
    ids = torch.tensor(np.concatenate((prompts[0], many.ids)))
    with torch.no_grad():
        scores = (model(ids[None, :-1])[0, len(prompts[0]) - 1 :] / 0.7).log_softmax(-1)
    best = scores.topk(3)
    assert many.top_ids.tolist() == best.indices.tolist()
    np.testing.assert_allclose(many.top_logprobs, best.values.numpy(), atol=1e-4)
