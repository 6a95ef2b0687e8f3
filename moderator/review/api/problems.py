"""Every error as RFC 9457 problem details, in the reader's language."""

from __future__ import annotations

import secrets
import traceback
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import DataError, SQLAlchemyError
from starlette.exceptions import HTTPException

from moderator.errors import (
    DATABASE_AWAY,
    INPUT_INVALID,
    NO_ROUTE,
    UNEXPECTED,
    UPLOAD_TOO_LARGE,
    ErrorSpec,
    ModeratorError,
)
from moderator.review.api.headers import HEADERS
from moderator.review.database import is_away

log = structlog.get_logger("moderator.review.api")

MEDIA_TYPE = "application/problem+json"

RETRY_AFTER_S = 3

STATUS: dict[str, int] = {
    "LM-502": 503,
    "LM-603": 413,
    "LM-901": 401,
    "LM-902": 403,
    "LM-903": 401,
    "LM-904": 429,
    "LM-905": 403,
    "LM-907": 403,
    "LM-908": 404,
    "LM-910": 409,
    "LM-911": 409,
    "LM-912": 409,
    "LM-913": 403,
    "LM-914": 409,
    "LM-915": 404,
    "LM-916": 409,
    "LM-917": 413,
    "LM-918": 415,
    "LM-919": 409,
    "LM-920": 409,
    "LM-921": 429,
    "LM-922": 409,
    "LM-924": 409,
    "LM-925": 404,
    "LM-926": 501,
    "LM-928": 409,
    "LM-929": 404,
    "LM-930": 503,
    "LM-932": 503,
    "LM-933": 503,
    "LM-936": 404,
    "LM-937": 500,
}
"""HTTP status by code; whatever else the caller can mend is 422."""


class FieldProblem(BaseModel):
    """One field that is not as it must be."""

    place: str = Field(examples=["body.reason"])
    reason: str


class Problem(BaseModel):
    """RFC 9457 problem details. `code` is stable; texts are in the language asked for."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:moderator:problem:LM-910",
                    "title": "Conflict",
                    "status": 409,
                    "code": "LM-910",
                    "detail": "小陈 is working on this until 2026-03-01T10:12:00+00:00",
                    "mend": "take another, or wait until it is free",
                    "instance": "/api/v1/violations/01J…/claim",
                }
            ]
        }
    )

    type: str
    title: str
    status: int
    code: str
    detail: str
    mend: str = ""
    instance: str = ""
    errors: list[FieldProblem] = []


TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}

RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {
        "description": TITLES[status],
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status in (400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 503)
}
"""What every route may answer instead of its result."""


def language(request: Request) -> str:
    """`zh` or `en`: the console's cookie, then the browser's first choice, then the setting."""
    chosen = request.cookies.get("moderator_lang", "")
    if chosen in ("zh", "en"):
        return chosen
    for part in request.headers.get("accept-language", "").lower().split(","):
        if part.strip().startswith("zh"):
            return "zh"
        if part.strip().startswith("en"):
            return "en"
    return str(request.app.state.house.settings.lang)


def problem_of(error: ModeratorError, request: Request) -> Problem:
    """The error as a problem, in the reader's language."""
    status = STATUS.get(error.code, 422)
    head, _, mend = error.text(language(request)).partition("\n  → ")
    return Problem(
        type=f"urn:moderator:problem:{error.code}",
        title=TITLES.get(status, ""),
        status=status,
        code=error.code,
        detail=head.removeprefix(error.code).strip(),
        mend=mend,
        instance=request.url.path,
    )


def problem_response(
    problem: Problem, request: Request, headers: dict[str, str] | None = None
) -> Response:
    """As JSON for programs; where the console has a page for it, as that page."""
    page = getattr(request.app.state, "error_page", None)
    api = request.url.path.startswith(("/api/", "/healthz", "/readyz", "/metrics", "/openapi"))
    wants_page = "text/html" in request.headers.get("accept", "")
    if page is not None and wants_page and not api:
        shown: Response = page(request, problem)
        shown.headers.update(headers or {})
        return shown
    body = problem.model_dump(exclude_defaults=False)
    if not problem.errors:
        body.pop("errors")
    return JSONResponse(body, problem.status, headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Register the handlers."""

    @app.exception_handler(ModeratorError)
    def moderator_error(request: Request, error: ModeratorError) -> Response:
        headers = {}
        if error.code == "LM-901":
            headers["WWW-Authenticate"] = 'Bearer realm="moderator"'
        if error.code == "LM-904":
            headers["Retry-After"] = str(error.fields["seconds"])
        if STATUS.get(error.code) == 503:
            headers["Retry-After"] = str(RETRY_AFTER_S)
        return problem_response(problem_of(error, request), request, headers)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        fields = [
            FieldProblem(place=".".join(map(str, one["loc"])), reason=str(one["msg"]))
            for one in error.errors()[:20]
        ]
        place, reason = (fields[0].place, fields[0].reason) if fields else ("body", "invalid")
        problem = problem_of(_error(INPUT_INVALID, place=place, reason=reason), request)
        problem.errors = [_printable(field) for field in fields]
        problem.detail = problem.detail.encode("utf-8", "replace").decode()
        return problem_response(problem, request)

    @app.exception_handler(HTTPException)
    def http_error(request: Request, error: HTTPException) -> Response:
        if error.status_code in (404, 405):
            spec = _error(NO_ROUTE, method=request.method, path=request.url.path)
        elif error.status_code == 413:
            spec = _error(UPLOAD_TOO_LARGE, name="body", limit=str(error.detail))
        else:
            spec = _error(INPUT_INVALID, place="request", reason=str(error.detail))
        problem = problem_of(spec, request)
        problem.status = error.status_code
        problem.title = TITLES.get(error.status_code, "")
        return problem_response(problem, request, dict(error.headers or {}))

    @app.exception_handler(SQLAlchemyError)
    def database_error(request: Request, error: SQLAlchemyError) -> Response:
        if isinstance(error, DataError):
            # Longer or larger than the column that would hold it.
            spec = _error(INPUT_INVALID, place="request", reason="does not fit the database")
            return problem_response(problem_of(spec, request), request)
        if not is_away(error):
            return _unexpected(request, error)
        log.warning("database away", path=request.url.path, error=type(error).__name__)
        problem = problem_of(_error(DATABASE_AWAY), request)
        return problem_response(problem, request, {"Retry-After": str(RETRY_AFTER_S)})

    @app.exception_handler(Exception)
    def unexpected(request: Request, error: Exception) -> Response:
        return _unexpected(request, error)


def _unexpected(request: Request, error: Exception) -> Response:
    reference = secrets.token_hex(4)
    # The bare traceback: some renderers print local variables, and passwords with them.
    trace = "".join(traceback.format_exception(error))
    log.error("unexpected", reference=reference, path=request.url.path, trace=trace)
    problem = problem_of(_error(UNEXPECTED, reference=reference), request)
    # This answer is made outside of the layer that adds them to all others.
    return problem_response(problem, request, dict(HEADERS))


def _error(spec: ErrorSpec, **fields: object) -> ModeratorError:
    return ModeratorError(spec, **fields)


def _printable(field: FieldProblem) -> FieldProblem:
    return FieldProblem(
        place=field.place.encode("utf-8", "replace").decode(),
        reason=field.reason.encode("utf-8", "replace").decode(),
    )
