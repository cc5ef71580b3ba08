"""The page itself, its files, what it shares with the reports, and what browsers may do with them."""

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
# Nothing but this server's own files: no inline script, no code made from text, no other origin.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",  # browsers ask whether a file has changed, so that a newer version is seen at once
}
# A report is a page of its own with scripts of its own (it names their hashes), on an origin of its own.
REPORT_HEADERS = HEADERS | {"content-security-policy": "sandbox allow-scripts; frame-ancestors 'self'"}

router = APIRouter(include_in_schema=False)


class _Files(StaticFiles):
    def file_response(self, *args: object, **keywords: object) -> Response:
        response = super().file_response(*args, **keywords)  # type: ignore[arg-type]
        response.headers.update(HEADERS)
        return response


@router.get("/")
def page() -> FileResponse:
    return FileResponse(_WEB / "index.html", headers=HEADERS)


@router.get("/web/properties.css")
def properties(request: Request) -> Response:
    return _made(request, properties_css().encode(), "text/css")


@router.get("/web/theme.json")
def chart_theme() -> JSONResponse:
    return JSONResponse(theme(), headers=HEADERS)


@router.get("/web/vega.js")
def vega(request: Request) -> Response:
    return _made(request, _vega(), "text/javascript")


@functools.cache
def _vega() -> bytes:
    return vega_bundle().encode()


def _made(request: Request, data: bytes, kind: str) -> Response:
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = HEADERS | {"etag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=kind, headers=headers)


def mount_files(router: APIRouter) -> None:
    """Behind all that is made, since a mount answers for everything below its path."""
    router.mount("/web", _Files(directory=_WEB), name="web")
