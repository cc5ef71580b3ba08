"""What the page asks for, below `/view`."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse
from pydantic import Field

from ...core.errors import ArtifactError
from ..errors import ApiError
from ..schemas.generation import Body
from ..service import Service
from .cutting import Cutting
from .findings import finding, findings
from .heads import Heads
from .materials import Materials
from .overview import overview
from .searching import search
from .space import Space
from .tickets import Tickets

router = APIRouter(prefix="/view", include_in_schema=False)
open_router = APIRouter(include_in_schema=False)  # what needs no key

# A report is a page of its own with scripts of its own (it names their hashes), on an origin of its own.
_REPORT_HEADERS = {
    "content-security-policy": "sandbox allow-scripts; frame-ancestors 'self'",
    "x-frame-options": "SAMEORIGIN",
    "cache-control": "no-store",
}

ShortText = Annotated[str, Field(min_length=1, max_length=2000)]


class Nothing(Body):
    """A question that says all by being asked."""


class SearchQuestion(Body):
    query: ShortText
    modes: Annotated[list[str], Field(min_length=1, max_length=8)]
    k: Annotated[int, Field(ge=1, le=50)] = 5
    filter: Annotated[str, Field(max_length=1000)] = ""


class Text(Body):
    text: Annotated[str, Field(max_length=20_000)]


class LookQuestion(Body):
    model: Annotated[str, Field(max_length=40)]
    text: ShortText


class NeighbourQuestion(Body):
    number: Annotated[int, Field(ge=0, lt=1 << 62)]
    k: Annotated[int, Field(ge=1, le=50)] = 8


class WalkQuestion(Body):
    query: ShortText
    k: Annotated[int, Field(ge=1, le=50)] = 8


class Views:
    """What is shown of a service's run; each part opens what it needs when it is first asked."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.materials = Materials(service.run, service.voices, service.searcher, service.encoder)
        self.tickets = Tickets()
        self.cutting, self.heads, self.space = Cutting(self.materials), Heads(self.materials), Space(self.materials)


def _views(request: Request) -> Views:
    state = request.app.state
    if not hasattr(state, "views"):
        state.views = Views(state.service)
    found: Views = state.views
    return found


TheViews = Annotated[Views, Depends(_views)]


@router.get("/overview")
async def ask_overview(views: TheViews) -> dict[str, Any]:
    return await views.service.work(overview, views.materials)


@router.post("/search")
async def ask_search(question: SearchQuestion, views: TheViews) -> dict[str, Any]:
    work = partial(search, views.materials, question.query, question.modes, question.k, question.filter)
    return {"results": await views.service.work(work)}


@router.post("/tokens")
async def ask_tokens(question: Text, views: TheViews) -> dict[str, Any]:
    return await views.service.work(views.cutting.cut, question.text)


@router.get("/tokens/languages")
async def ask_languages(views: TheViews) -> dict[str, Any]:
    return await views.service.work(views.cutting.languages)


@router.get("/tokens/glitches")
async def ask_glitches(views: TheViews) -> dict[str, Any]:
    return {"tokens": await views.service.work(lambda: views.cutting.glitches)}


@router.get("/attention/models")
async def ask_models(views: TheViews) -> dict[str, Any]:
    return {"models": views.heads.models}


@router.post("/attention")
async def ask_attention(question: LookQuestion, views: TheViews) -> dict[str, Any]:
    return await views.service.work(views.heads.look, question.model, question.text)


@router.get("/space")
async def ask_space(views: TheViews) -> dict[str, Any]:
    return await views.service.work(lambda: views.space.points)


@router.post("/space/neighbours")
async def ask_neighbours(question: NeighbourQuestion, views: TheViews) -> dict[str, Any]:
    return await views.service.work(views.space.neighbours, question.number, question.k)


@router.post("/space/walk")
async def ask_walk(question: WalkQuestion, views: TheViews) -> dict[str, Any]:
    return await views.service.work(views.space.walk, question.query, question.k)


@router.get("/lab")
async def ask_lab(views: TheViews) -> dict[str, Any]:
    return {"findings": await views.service.work(findings, views.service.run.path)}


@router.get("/lab/{name}")
async def ask_finding(name: str, views: TheViews) -> dict[str, Any]:
    return await views.service.work(finding, views.service.run.path, name)


@router.post("/report")
async def ask_report(_: Nothing, views: TheViews) -> dict[str, str]:
    """Where the report can be fetched, once and soon."""
    return {"path": f"/web/report/{views.tickets.new()}"}


@open_router.get("/web/report/{ticket}")
def report(ticket: str, views: TheViews) -> FileResponse:
    if not views.tickets.take(ticket):
        raise ApiError(404, "this ticket is not good, or no longer")
    try:
        path = views.service.run.report
    except ArtifactError as error:
        raise ApiError(404, error.message) from None
    return FileResponse(path, media_type="text/html", headers=_REPORT_HEADERS)
