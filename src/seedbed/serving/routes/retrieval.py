"""`/v1/embeddings`, `/v1/rerank` and `/v1/search`."""

from __future__ import annotations

import base64
import secrets
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import APIRouter, Response
from pydantic import BaseModel

from ...embeddings.rerank import MaxSimReranker, token_vectors
from ..errors import BODY, ApiError, responses
from ..schemas.retrieval import (
    Document,
    Embedding,
    EmbeddingList,
    EmbeddingRequest,
    Hit,
    Ranked,
    RerankAnswer,
    RerankRequest,
    SearchAnswer,
    SearchRequest,
    TextUsage,
)
from ..service import Service
from .about import TheService

if TYPE_CHECKING:
    from ...embeddings import SentenceEncoder

router = APIRouter(tags=["retrieval"])

_FAILURES = responses(404, 504, *BODY)


@router.post("/v1/embeddings", response_model=EmbeddingList, responses=_FAILURES)
async def embeddings(wish: EmbeddingRequest, service: TheService) -> Response:
    """Vectors of texts."""
    encoder = _encoder(service, wish.model)
    return await service.work(lambda: _response(_embed(service, encoder, wish)))


@router.post("/v1/rerank", response_model=RerankAnswer, responses=_FAILURES)
async def rerank(wish: RerankRequest, service: TheService) -> Response:
    """Documents by how well they answer a query, the best first."""
    encoder = _encoder(service, wish.model)
    return await service.work(lambda: _response(_rank(service, encoder, wish)))


@router.post("/v1/search", response_model=SearchAnswer, responses=_FAILURES)
async def search(wish: SearchRequest, service: TheService) -> Response:
    """Passages of the run's documents."""
    return await service.work(lambda: _response(_search(service, wish)))


def _response(answer: BaseModel) -> Response:
    """Written in the worker, as it may be long, and once: FastAPI would check it again in the event loop."""
    return Response(answer.model_dump_json(), media_type="application/json")


def _encoder(service: Service, model: str) -> SentenceEncoder:
    if service.encoder is None or model != "encoder":
        raise ApiError(404, "there is no such model that embeds", param="model", code="model_not_found")
    return service.encoder


def _embed(service: Service, encoder: SentenceEncoder, wish: EmbeddingRequest) -> EmbeddingList:
    if wish.dimensions not in (None, encoder.dim):
        message = f"vectors have {encoder.dim} dimensions; this encoder was not taught to do with others"
        raise ApiError(400, message, param="dimensions", code="unsupported")
    texts = _texts(encoder, wish.input)
    _require_few(service, texts, "input")
    lengths = encoder.tokenizer.encode_batch(texts, add_special_tokens=True).lengths
    if (longest := int(lengths.max())) > encoder.max_length and not wish.truncate:
        raise ApiError(
            400, f"a text of {longest} tokens is longer than the encoder's {encoder.max_length} (truncate allows it)",
            param="input", code="context_length_exceeded",
        )  # fmt: skip
    vectors = _quietly(encoder, texts)
    data = [
        Embedding(object="embedding", index=index, embedding=_written(vector, wish.encoding_format))
        for index, vector in enumerate(vectors)
    ]
    usage = _usage(np.minimum(lengths, encoder.max_length))
    return EmbeddingList(object="list", data=data, model=wish.model, usage=usage)


def _written(vector: np.ndarray, form: str | None) -> list[float] | str:
    if form == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(value) for value in vector]


def _texts(encoder: SentenceEncoder, given: Any) -> list[str]:
    """The texts of an `input`, which may be one or several, as texts or as tokens."""
    several = [given] if isinstance(given, str) or isinstance(given[0], int) else given
    return [one if isinstance(one, str) else encoder.tokenizer.decode(one) for one in several]


def _quietly(encoder: SentenceEncoder, texts: Sequence[str]) -> np.ndarray:
    """Vectors; that texts were cut was asked for, so nobody is warned."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return encoder.encode(texts)


def _require_few(service: Service, texts: Sequence[object], param: str) -> None:
    most = service.config.max_inputs
    if len(texts) > most:
        raise ApiError(400, f"{len(texts)} texts are more than the {most} of one request", param=param)


def _usage(lengths: np.ndarray) -> TextUsage:
    total = int(lengths.sum())
    return TextUsage(prompt_tokens=total, total_tokens=total)


def _rank(service: Service, encoder: SentenceEncoder, wish: RerankRequest) -> RerankAnswer:
    texts = [one if isinstance(one, str) else one.text for one in wish.documents]
    _require_few(service, texts, "documents")
    if wish.method == "maxsim":
        tokens = token_vectors(encoder)
        places = np.arange(len(texts))[None]
        asked = max(1, len(tokens.encode_queries([wish.query])[0]))
        scores = MaxSimReranker(tokens).scores([wish.query], texts.__getitem__, places)[0] / asked
        scores = np.nan_to_num(scores, nan=-1.0, neginf=-1.0)  # a text without tokens is like nothing
    else:
        vectors = _quietly(encoder, [wish.query, *texts])
        lengths = np.linalg.norm(vectors, axis=1)
        scores = (vectors[1:] @ vectors[0]) / np.maximum(lengths[1:] * lengths[0], 1e-12)
    order = np.argsort(-scores, kind="stable")[: wish.top_n or len(texts)]
    results = [
        Ranked(
            index=int(place), relevance_score=float(scores[place]),
            document=Document(text=texts[place]) if wish.return_documents else None,
        )
        for place in order
    ]  # fmt: skip
    lengths = encoder.tokenizer.encode_batch([wish.query, *texts], add_special_tokens=True).lengths
    usage = _usage(np.minimum(lengths, encoder.max_length))
    return RerankAnswer(id=f"rerank-{secrets.token_hex(12)}", model=wish.model, results=results, usage=usage)


def _search(service: Service, wish: SearchRequest) -> SearchAnswer:
    if service.searcher is None:
        raise ApiError(404, "this run has no index to search", code="no_index")
    started = time.perf_counter()
    found = service.searcher.search(
        wish.query, wish.k, wish.mode, filter=wish.filter, rerank=wish.rerank, explain=wish.explain
    )
    milliseconds = (time.perf_counter() - started) * 1000
    return SearchAnswer(mode=wish.mode, hits=[_hit(one) for one in found], milliseconds=milliseconds)


def _hit(hit: Any) -> Hit:
    found = asdict(hit)
    if (why := found["why"]) is not None:
        why["ranks"] = {mode: {"rank": rank, "score": score} for mode, (rank, score) in why["ranks"].items()}
    return Hit.model_validate(found)
