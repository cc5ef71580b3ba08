"""`/v1/models` and `/health`: what is served, and how it is."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from ..errors import ApiError, responses
from ..schemas.about import Health, ModelList, ServedModel
from ..service import Service

router = APIRouter()


def service_of(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


TheService = Annotated[Service, Depends(service_of)]


@router.get("/v1/models", responses=responses(), tags=["models"])
async def models(service: TheService) -> ModelList:
    """The models that are served."""
    return ModelList(object="list", data=_models(service))


@router.get("/v1/models/{model}", responses=responses(404), tags=["models"])
async def model(model: str, service: TheService) -> ServedModel:
    """One model."""
    for one in _models(service):
        if one.id == model:
            return one
    raise ApiError(404, "there is no such model", param="model", code="model_not_found")


@router.get("/health", responses={503: {"model": Health, "description": "Draining or failed"}}, tags=["health"])
async def health(service: TheService, response: Response) -> Health:
    """Whether the server takes requests on: 200, or 503 while it stops and after its engine has ended."""
    status = "ok" if service.ready else "draining" if service.draining else "failed"
    response.status_code = 200 if status == "ok" else 503
    loads = {name: driver.engine.load for name, driver in service.drivers.items()}
    return Health(
        status=status,
        waiting={name: load.waiting for name, load in loads.items()},
        running={name: load.running for name, load in loads.items()},
    )


def _models(service: Service) -> list[ServedModel]:
    found = [
        ServedModel(
            id=stage, object="model", created=service.created, owned_by="seedbed",
            kind="chat" if voice.chats else "completion", context_length=voice.engine.max_length,
            parameters=sum(one.numel() for one in voice.engine.model.parameters()),
        )
        for stage, voice in service.voices.items()
    ]  # fmt: skip
    if (encoder := service.encoder) is not None:
        found.append(
            ServedModel(
                id="encoder", object="model", created=service.created, owned_by="seedbed", kind="embedding",
                context_length=encoder.max_length, parameters=sum(one.numel() for one in encoder.model.parameters()),
            )
        )  # fmt: skip
    return found


@router.get(
    "/metrics",
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **responses()},
    response_class=PlainTextResponse,
    tags=["health"],
)
async def metrics(service: TheService) -> Response:
    """For Prometheus."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)
