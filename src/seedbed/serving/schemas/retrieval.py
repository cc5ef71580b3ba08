"""Embeddings in OpenAI's shape, reranking in Cohere's and Jina's, and search."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, JsonValue

from .body import Body, ModelName, TokenId

Text = Annotated[str, Field(min_length=1)]


class EmbeddingRequest(Body):
    model: ModelName
    input: (
        Text
        | Annotated[list[Text], Field(min_length=1)]
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[list[Annotated[list[TokenId], Field(min_length=1)]], Field(min_length=1)]
    )
    """A text, tokens, or several of either."""
    encoding_format: Literal["float", "base64"] | None = None
    """"base64": the bytes of little-endian 32-bit floats."""
    dimensions: Annotated[int, Field(ge=1)] | None = None
    """Only the model's own number; it was not taught to do with fewer."""
    truncate: bool | None = None
    """Whether the ends of texts that are too long may be left out; else such texts are refused."""
    user: str | None = None


class TextUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class Embedding(BaseModel):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingList(BaseModel):
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: TextUsage


class Document(Body):
    text: str


class RerankRequest(Body):
    model: ModelName
    query: Text
    documents: Annotated[list[str | Document], Field(min_length=1)]
    top_n: Annotated[int, Field(ge=1)] | None = None
    return_documents: bool | None = None
    method: Literal["cosine", "maxsim"] | None = None
    """"cosine" of the vectors (as the encoder was trained), or the mean "maxsim" of their tokens."""


class Ranked(BaseModel):
    index: int
    relevance_score: float
    """A cosine, from -1 to 1."""
    document: Document | None = None


class RerankAnswer(BaseModel):
    id: str
    model: str
    results: list[Ranked]
    usage: TextUsage


class SearchRequest(Body):
    query: Text
    k: Annotated[int, Field(ge=1, le=1000)] = 10
    mode: Literal["hybrid", "dense", "bm25", "sparse", "multivector"] = "hybrid"
    filter: Annotated[str, Field(min_length=1)] | dict[str, JsonValue] | None = None
    """Which passages may be found: "source ~ docs/* and year >= 2020", or the same as a mapping."""
    rerank: Literal["maxsim"] | None = None
    """Rank again by late interaction of the encoder's own tokens."""
    explain: bool = False
    """Say of each hit why it was found."""


class Match(BaseModel):
    by: str
    query: str
    text: str
    start: int
    end: int
    weight: float


class Rank(BaseModel):
    rank: int
    score: float


class Why(BaseModel):
    ranks: dict[str, Rank]
    matches: list[Match]


class Hit(BaseModel):
    score: float
    id: str
    title: str
    text: str
    source: str
    language: str
    metadata: dict[str, Any]
    missing: bool
    why: Why | None


class SearchAnswer(BaseModel):
    mode: str
    hits: list[Hit]
    milliseconds: float
    """That the search itself took."""
