"""Errors in the shape that OpenAI's clients read: what is wrong, in which field, and a status that says whose fault."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from ..core.errors import ResourceError, SeedbedError

RETRY_AFTER = 1  # seconds: rows become free within that, mostly

_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    408: "timeout_error", 413: "invalid_request_error", 429: "rate_limit_error", 503: "overloaded_error",
    504: "timeout_error",
}  # fmt: skip


class ErrorBody(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorResponse(BaseModel):
    """What every answer holds that is not a success."""

    error: ErrorBody


class ApiError(Exception):
    """An answer that is an error.

    Args:
        param: the field of the request that is wrong.
        code: by which programs know it.
        retry_after: seconds after which trying again makes sense.
        close: the connection cannot be used for another request.
    """

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None,
        retry_after: int | None = None, close: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.retry_after, self.close = retry_after, close

    @property
    def headers(self) -> dict[str, str]:
        found = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        if self.status == 401:
            found["www-authenticate"] = "Bearer"
        return found | {"connection": "close"} if self.close else found

    def body(self) -> dict[str, Any]:
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body(), self.status, self.headers)


def of(error: SeedbedError) -> ApiError:
    """How clients see one of our errors: without paths of this machine."""
    if isinstance(error, ResourceError):
        return ApiError(503, error.message, code="overloaded", retry_after=RETRY_AFTER)
    text = f"{error.message.rstrip('.')}. {error.hint}" if error.hint else error.message
    where = error.where if error.where and "/" not in error.where and " " not in error.where else None
    return ApiError(
        404 if where == "model" else 400, text, param=where, code="model_not_found" if where == "model" else None
    )


BODY = (400, 408, 413, 415, 500)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of a path, for its description. With `BODY` those of bodies."""
    return {
        status: {"model": ErrorResponse, "description": HTTPStatus(status).phrase}
        for status in (401, 403, 429, 503, *statuses)
    }


def register_errors(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def ours(_: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(SeedbedError)
    async def seedbeds(_: Request, error: SeedbedError) -> JSONResponse:
        return of(error).response()

    @app.exception_handler(TimeoutError)
    async def too_late(_: Request, error: TimeoutError) -> JSONResponse:
        return ApiError(504, "the request took longer than this server allows", code="deadline_exceeded").response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        param = ".".join(str(step) for step in first["loc"] if step not in ("body", "query", "path")) or None
        known = first["type"] != "extra_forbidden"
        message = str(first["msg"]).removeprefix("Value error, ") if known else "there is no such field"
        return ApiError(400, f"{param}: {message}" if param else message, param=param).response()

    @app.exception_handler(HTTPException)
    async def plain(_: Request, error: HTTPException) -> JSONResponse:
        found = ApiError(error.status_code, str(error.detail))
        return JSONResponse(found.body(), found.status, dict(error.headers or {}))
