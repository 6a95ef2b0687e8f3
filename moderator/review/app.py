"""The application: API, console and what watches over it, put together."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware.trustedhost import TrustedHostMiddleware

from moderator.outputs.report import tool_version
from moderator.review.api import (
    appeals,
    auth,
    check,
    figures,
    filters,
    ingest,
    people,
    problems,
    rooms,
    system,
    violations,
)
from moderator.review.api.problems import RESPONSES, FieldProblem, Problem
from moderator.review.api.security import COOKIE, CSRF_HEADER, Guard
from moderator.review.house import House
from moderator.review.jobs import Checker
from moderator.review.metrics import Measured
from moderator.review.settings import ReviewSettings, load_review_settings
from moderator.review.signing import Signer

API = "/api/v1"

MODULES = (auth, people, violations, appeals, filters, rooms, check, figures, ingest, system)

DESCRIPTION = """Violations in live rooms: the queue, decisions, evidence, appeals, figures.

Programs send `Authorization: Bearer lm_…`, an API token made in the console. Browsers have
a session cookie and send its CSRF token in X-CSRF-Token. Lists are paged by `cursor`; a POST
with an `Idempotency-Key` can be sent again safely; errors are RFC 9457 problem details
whose `code` (LM-9xx) is stable.
"""


def create_app(
    settings: ReviewSettings | None = None,
    *,
    checker: Checker | None = None,
    background: bool = True,
) -> FastAPI:
    """The server. `checker` stands in for `moderator.check` in jobs; `background` runs them.

    The database is brought up to date when the application starts.
    """
    settings = settings or load_review_settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        house: House = app.state.house
        prepare(house)
        if background:
            house.start()
        yield
        await house.stop()

    app = FastAPI(
        title="moderator",
        version=tool_version(),
        description=DESCRIPTION,
        lifespan=lifespan,
        # Their pages load scripts from elsewhere; the console has its own.
        docs_url=None,
        redoc_url=None,
    )
    app.state.house = House(settings, checker)
    problems.install(app)
    for module in MODULES:
        app.include_router(module.router, prefix=API, responses=RESPONSES)
    app.include_router(system.open_router)
    _add_console(app)
    if settings.allowed_hosts != ("*",):
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(settings.allowed_hosts))
    app.add_middleware(Measured, metrics=app.state.house.metrics)
    app.add_middleware(Guard, settings=settings)
    _describe(app)
    return app


def prepare(house: House) -> None:
    """Folders, tables, and the key that signs; raises LM-931 or LM-932."""
    house.data_dir.mkdir(parents=True, exist_ok=True)
    house.database.migrate()
    house.signer = Signer.of(house.database, house.settings)


def _add_console(app: FastAPI) -> None:
    """The pages, where they are installed: `web.install(app)` adds routes and the error page."""
    try:
        web = importlib.import_module("moderator.review.web")
    except ModuleNotFoundError:
        return
    install = getattr(web, "install", None)
    if install is not None:
        install(app)


def _describe(app: FastAPI) -> None:
    """OpenAPI with both ways to log in, and the problem that any route may answer."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            components = schema.setdefault("components", {})
            components["securitySchemes"] = {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
                "csrf": {"type": "apiKey", "in": "header", "name": CSRF_HEADER},
            }
            schema["security"] = [{"token": []}, {"session": [], "csrf": []}]
            schemas = components.setdefault("schemas", {})
            template = "#/components/schemas/{model}"
            for model in (Problem, FieldProblem):
                body = model.model_json_schema(ref_template=template)
                body.pop("$defs", None)
                schemas[model.__name__] = body
            for path in schema["paths"].values():
                for operation in path.values():
                    _problems_only(operation)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _problems_only(operation: dict[str, Any]) -> None:
    """FastAPI's own form of validation errors is not what we answer."""
    for status in RESPONSES:
        answer = operation.get("responses", {}).get(str(status))
        if answer is not None and problems.MEDIA_TYPE in answer.get("content", {}):
            answer["content"] = RESPONSES[status]["content"]
