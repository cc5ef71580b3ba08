"""The application: what clients reach under which path."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI

from .. import __version__
from .config import ServeConfig
from .description import describe
from .errors import register_errors
from .guard import Guard
from .routes import about, generation, retrieval, tokens
from .service import Service
from .views import router as page

if TYPE_CHECKING:
    from ..run import Run


def create_app(run: Run, config: ServeConfig | None = None) -> FastAPI:
    """An ASGI application that serves a run; its `state.service` is the `Service`.

    Raises:
        ArtifactError: the run has nothing to serve, or something is damaged.
    """
    service = Service(run, config or ServeConfig())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            service.stop()

    app = FastAPI(
        title="Seedbed", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        summary="Chat, completions, embeddings and search of one run, in the shapes that clients already speak.",
    )  # fmt: skip
    app.state.service = service
    app.add_middleware(Guard, service=service)
    register_errors(app)
    for router in (about.router, generation.router, retrieval.router, tokens.router):
        app.include_router(router)
    app.include_router(page)
    describe(app, service)
    return app
