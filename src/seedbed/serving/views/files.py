"""The page itself, its files, and what it shares with the reports. What browsers may do with them, the guard says."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

from ...reports.look import properties_css, theme
from ...reports.page import vega_bundle

_WEB = Path(__file__).parents[1] / "web"
# Browsers ask whether a file has changed, so that a newer version is seen at once.
_HEADERS = {"cache-control": "no-cache"}

router = APIRouter(include_in_schema=False)


class _Files(StaticFiles):
    def file_response(self, *args: object, **keywords: object) -> Response:
        response = super().file_response(*args, **keywords)  # type: ignore[arg-type]
        response.headers.update(_HEADERS)
        return response


@router.get("/")
def page() -> FileResponse:
    return FileResponse(_WEB / "index.html", headers=_HEADERS)


@router.get("/web/properties.css")
def properties(request: Request) -> Response:
    return _made(request, properties_css().encode(), "text/css")


@router.get("/web/theme.json")
def chart_theme() -> JSONResponse:
    return JSONResponse(theme(), headers=_HEADERS)


@router.get("/web/vega.js")
def vega(request: Request) -> Response:
    return _made(request, _vega(), "text/javascript")


@functools.cache
def _vega() -> bytes:
    return vega_bundle().encode()


def _made(request: Request, data: bytes, kind: str) -> Response:
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = _HEADERS | {"etag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=kind, headers=headers)


def mount_files(router: APIRouter) -> None:
    """Behind all that is made, since a mount answers for everything below its path."""
    router.mount("/web", _Files(directory=_WEB), name="web")
