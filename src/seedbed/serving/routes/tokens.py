"""`/v1/tokenize` and `/v1/detokenize`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from fastapi import APIRouter

from ...embeddings.sentence import around
from ..errors import BODY, ApiError, responses
from ..schemas.tokens import DetokenizeAnswer, DetokenizeRequest, Token, TokenizeAnswer, TokenizeRequest
from ..service import Service
from .about import TheService

if TYPE_CHECKING:
    from ...tokenizers import Tokenizer

router = APIRouter(tags=["tokens"])

_NOWHERE = (-1, -1)
_FAILURES = responses(404, 504, *BODY)


@router.post("/v1/tokenize", responses=_FAILURES)
async def tokenize(wish: TokenizeRequest, service: TheService) -> TokenizeAnswer:
    """A text or a chat as the tokens of a model."""
    return await service.work(_cut, service, wish)


@router.post("/v1/detokenize", responses=_FAILURES)
async def detokenize(wish: DetokenizeRequest, service: TheService) -> DetokenizeAnswer:
    """Tokens as text."""
    tokenizer, _ = service.tokenizer(wish.model)
    return DetokenizeAnswer(prompt=await service.work(tokenizer.decode, wish.tokens))


def _cut(service: Service, wish: TokenizeRequest) -> TokenizeAnswer:
    tokenizer, length = service.tokenizer(wish.model)
    if (wish.prompt is None) == (wish.messages is None):
        raise ApiError(400, "give either prompt or messages", param="prompt")
    if wish.prompt is not None:
        ids, offsets = tokenizer.encode_with_offsets(wish.prompt, parse_special=False)
        spans = [(int(start), int(end)) for start, end in offsets]
        if wish.add_special_tokens:
            before, behind = around(tokenizer)
            ids = np.concatenate((before, ids, behind))
            spans = [_NOWHERE] * len(before) + spans + [_NOWHERE] * len(behind)
    else:
        if wish.model not in service.voices:
            raise ApiError(400, "this model reads no chats", param="messages")
        ids, _ = service.voices[wish.model].encode([one.as_read() for one in wish.messages or []])
        spans = [_NOWHERE] * len(ids)
    tokens = ids.tolist()
    pieces = [_piece(tokenizer, one, *span) for one, span in zip(tokens, spans, strict=True)]
    return TokenizeAnswer(model=wish.model, count=len(tokens), max_model_len=length, tokens=tokens, pieces=pieces)


def _piece(tokenizer: Tokenizer, number: int, start: int, end: int) -> Token:
    spelled = tokenizer.token_bytes(number)
    return Token(id=number, text=spelled.decode("utf-8", "replace"), bytes=list(spelled), start=start, end=end)
