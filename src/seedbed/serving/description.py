"""The API's description (OpenAPI), completed by what only a server knows: its models, and whether it takes keys."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from .service import Service


def describe(app: FastAPI, service: Service) -> None:
    """Let the application's description name the models of each path, and the key."""
    plain = app.openapi

    def complete() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = plain()
            schemas = found["components"]["schemas"]
            for name, models in _models(service).items():
                if models:
                    schemas[name]["properties"]["model"] = {"type": "string", "enum": models, "title": "Model"}
            if service.config.keys is not None:
                _take_keys(found)
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = complete  # type: ignore[method-assign]


def _models(service: Service) -> dict[str, list[str]]:
    """The models that each kind of request may name."""
    writing = list(service.voices)
    chatting = [name for name, voice in service.voices.items() if voice.chats]
    reading = ["encoder"] if service.encoder is not None else []
    return {
        "ChatRequest": chatting, "CompletionRequest": writing, "EmbeddingRequest": reading, "RerankRequest": reading,
        "TokenizeRequest": writing + reading, "DetokenizeRequest": writing + reading,
    }  # fmt: skip


def _take_keys(found: dict[str, Any]) -> None:
    found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, operations in found["paths"].items():
        if path != "/health":
            for operation in operations.values():
                operation["security"] = [{"key": []}]
