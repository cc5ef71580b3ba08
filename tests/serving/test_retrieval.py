"""Embeddings, reranking, search and tokens, beside the run's own."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import openai
import pytest

from seedbed.embeddings import SentenceEncoder
from seedbed.run import Run

from .conftest import Running

_TEXTS = ["read a csv file", "naïve 数据 🙂", "send an e-mail"]


@pytest.fixture(scope="module")
def encoder(tiny_run: Run) -> SentenceEncoder:
    return SentenceEncoder.load(tiny_run.path / "encoder")


def _post(running: Running, path: str, **body: Any) -> Any:
    answer = httpx.post(f"{running.url}/v1/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_embeddings_are_the_encoders(running: Running, encoder: SentenceEncoder) -> None:
    expected, client = encoder.encode(_TEXTS), running.client()
    tokens = encoder.tokenizer.encode(_TEXTS[0]).tolist()
    for form in ({}, {"encoding_format": "float"}):  # left out, the client asks for base64 and reads it
        found = client.embeddings.create(model="encoder", input=_TEXTS, **form)
        np.testing.assert_allclose([one.embedding for one in found.data], expected, atol=1e-6)
    np.testing.assert_allclose(
        client.embeddings.create(model="encoder", input=tokens, dimensions=encoder.dim).data[0].embedding,
        expected[0], atol=1e-6,
    )  # fmt: skip
    with pytest.raises(openai.BadRequestError, match=f"vectors have {encoder.dim} dimensions"):
        client.embeddings.create(model="encoder", input="a", dimensions=2)
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="policy", input="a")


def test_texts_that_are_too_long_are_cut_only_if_that_is_said(running: Running, encoder: SentenceEncoder) -> None:
    long = "word " * 3000
    with pytest.raises(openai.BadRequestError, match="longer than the encoder's"):
        running.client().embeddings.create(model="encoder", input=long)
    found = running.client().embeddings.create(model="encoder", input=long, extra_body={"truncate": True})
    assert found.usage.total_tokens == encoder.max_length


def test_reranking_orders_by_the_encoder(running: Running, encoder: SentenceEncoder) -> None:
    query, documents = "csv", [*_TEXTS, ""]
    vectors = encoder.encode([query, *documents], normalize=True)
    scores = vectors[1:] @ vectors[0]
    found = _post(running, "rerank", model="encoder", query=query, documents=documents, top_n=3, return_documents=True)
    assert [one["index"] for one in found["results"]] == np.argsort(-scores)[:3].tolist()
    assert [one["relevance_score"] for one in found["results"]] == pytest.approx(sorted(scores)[::-1][:3], abs=1e-5)
    assert found["results"][0]["document"]["text"] == documents[int(scores.argmax())]
    by_tokens = _post(running, "rerank", model="encoder", query=query, documents=documents, method="maxsim")
    assert all(-1 <= one["relevance_score"] <= 1.0001 for one in by_tokens["results"])


@pytest.mark.parametrize("mode", ["hybrid", "dense", "bm25"])
def test_search_finds_what_the_run_finds(running: Running, tiny_run: Run, mode: str) -> None:
    given: dict[str, Any] = {"k": 4, "mode": mode, "filter": "title ~ csv*", "explain": True}
    found = _post(running, "search", query="read a csv file", **given)["hits"]
    own = tiny_run.search("read a csv file", **given)
    assert [(one["id"], one["text"]) for one in found] == [(one.id, one.text) for one in own]
    assert [one["score"] for one in found] == pytest.approx([one.score for one in own], abs=1e-5)
    assert found[0]["why"]["ranks"].keys() == own[0].why.ranks.keys()


def test_search_takes_no_paths(running: Running) -> None:
    url = f"{running.url}/v1/search"
    assert httpx.post(url, json={"query": "a", "rerank": "/etc"}).json()["error"]["param"] == "rerank"
    wrong = httpx.post(url, json={"query": "a", "filter": "nothing = 1"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "filter")


def test_tokens_there_and_back(running: Running, tiny_run: Run) -> None:
    tokenizer, text = tiny_run.voice("base").tokenizer, "naïve 数据 🙂 <|endoftext|>"
    found = _post(running, "tokenize", model="base", prompt=text)
    assert found["tokens"] == tokenizer.encode(text, parse_special=False).tolist()
    assert b"".join(bytes(piece["bytes"]) for piece in found["pieces"]).decode() == text
    assert found["pieces"][0]["start"] == 0
    assert found["pieces"][-1]["end"] == len(text)
    assert _post(running, "detokenize", model="base", tokens=found["tokens"])["prompt"] == text
    chat = _post(running, "tokenize", model="policy", messages=[{"role": "user", "content": text}])
    assert chat["tokens"] == tiny_run.voice("policy").encode(text)[0].tolist()
    refused = httpx.post(f"{running.url}/v1/detokenize", json={"model": "base", "tokens": [1 << 20]})
    assert refused.status_code == 400
