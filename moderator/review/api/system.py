"""/events, /meta, /demo, and what watches over the server: /healthz, /readyz, /metrics."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import JSONResponse, Response, StreamingResponse

from moderator.claims.passports import DOCUMENT_NAMES
from moderator.errors import NOT_ALLOWED, ModeratorError
from moderator.outputs import labels
from moderator.outputs.report import tool_version
from moderator.records import CATEGORIES, Disposition, Severity
from moderator.review import dashboards, demo, queue
from moderator.review.api.problems import RESPONSES
from moderator.review.api.schemas import DemoOut, LabelOut, MetaOut
from moderator.review.api.security import HouseDep, Needs, address_of, authenticate
from moderator.review.house import House
from moderator.review.permissions import Permission, Principal, Role

router = APIRouter()
open_router = APIRouter(tags=["machine"])

Anyone = Annotated[Principal, Depends(Needs(Permission.ACCOUNT))]
Manager = Annotated[Principal, Depends(Needs(Permission.USERS_MANAGE))]

STATUS_LABELS = {
    "open": ("待审", "Open"),
    "second_review": ("待复核", "Second review"),
    "needs_proof": ("待举证", "Needs proof"),
    "escalated": ("已升级", "Escalated"),
    "appealed": ("申诉中", "Appealed"),
    "confirmed": ("已确认", "Confirmed"),
    "dismissed": ("已驳回", "Dismissed"),
}

ROLE_LABELS = {
    Role.ADMIN: ("管理员", "Administrator"),
    Role.REVIEWER: ("审核员", "Reviewer"),
    Role.SECOND_REVIEWER: ("复核员", "Second reviewer"),
    Role.STREAMER: ("主播", "Streamer"),
    Role.AUDITOR: ("审计员（只读）", "Auditor (read-only)"),
}


@router.get("/meta", tags=["machine"])
def meta(who: Anyone) -> MetaOut:
    """The words of the lists, in both languages."""
    return MetaOut(
        categories=[_label(name, labels.category(name)) for name in CATEGORIES],
        severities=[_label(name, labels.SEVERITY[name]) for name in reversed(Severity)],
        dispositions=[_label(name, labels.DISPOSITION[name]) for name in reversed(Disposition)],
        statuses=[_label(name, STATUS_LABELS[name]) for name in queue.STATUSES],
        reasons=[_label(name, words) for name, words in queue.DISMISS_REASONS.items()],
        roles=[_label(role, words) for role, words in ROLE_LABELS.items()],
        documents=[_label(kind, words) for kind, words in DOCUMENT_NAMES.items()],
        dashboards=[_label(name, words) for name, words in dashboards.TITLES.items()],
        scopes=sorted(Permission),
        version=tool_version(),
    )


def _label(name: str, words: tuple[str, str]) -> LabelOut:
    return LabelOut(id=str(name), zh=words[0], en=words[1])


@router.get(
    "/events",
    tags=["events"],
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def events(
    request: Request,
    who: Anyone,
    house: HouseDep,
    last_event_id: Annotated[str | None, Header(max_length=18)] = None,
    after: Annotated[int | None, Query(ge=0, le=2**62)] = None,
) -> Response:
    """New and changed violations and rooms as server-sent events, as they happen.

    Events: `violation.new`, `violation.grown`, `violation.updated`, `room.updated`,
    `room.heard`, and `reload` when more was missed than is kept.
    """
    start = int(last_event_id) if last_event_id and last_event_id.isdecimal() else after

    def still() -> bool:
        request.state.principal = None
        try:
            return authenticate(request) is not None
        except (ModeratorError, SQLAlchemyError):
            return False

    return StreamingResponse(
        house.hub.stream(who, still, start),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no", "Cache-Control": "no-store"},
    )


@router.get("/demo", tags=["machine"])
def demo_state(who: Manager, house: HouseDep) -> DemoOut:
    """Which sample rooms there are, and whether they are loaded."""
    return DemoOut(rooms=demo.room_ids(), state=house.demo.state)


@router.post("/demo", tags=["machine"], status_code=202)
def load_demo(who: Manager, house: HouseDep, live: Annotated[bool, Query()] = False) -> DemoOut:
    """Load the sample rooms in the background; with `live`, also play one as if it were live."""
    if not who.sees_all:
        # The samples are rooms of other organisations than one's own.
        raise ModeratorError(NOT_ALLOWED, permission=str(Permission.USERS_MANAGE))
    house.demo.start(live=live)
    return DemoOut(rooms=demo.room_ids(), state=house.demo.state)


# --- for whoever watches over the server ------------------------------------------------


class HealthOut(BaseModel):
    status: Literal["ok"] = "ok"


class ReadyOut(BaseModel):
    """`checks` says what is not ready."""

    status: Literal["ready", "not ready"]
    checks: dict[str, bool]


@open_router.get("/healthz", openapi_extra={"security": []})
async def healthz() -> HealthOut:
    """The process runs."""
    return HealthOut()


@open_router.get("/readyz", openapi_extra={"security": []}, responses={503: {"model": ReadyOut}})
def readyz(house: HouseDep) -> Response:
    """The database answers, its tables are current, evidence can be written. 503 if not."""
    checks = ready_checks(house)
    ready = all(checks.values())
    body = ReadyOut(status="ready" if ready else "not ready", checks=checks)
    return JSONResponse(body.model_dump(), 200 if ready else 503)


def ready_checks(house: House) -> dict[str, bool]:
    """What a request needs, and whether it is there."""
    database = house.database.healthy()
    current = False
    if database:
        try:
            current = house.database.is_current()
        except SQLAlchemyError:
            database = False
    writable = house.data_dir.is_dir() and os.access(house.data_dir, os.W_OK)
    return {"database": database, "tables": current, "data_dir": writable}


@open_router.get(
    "/metrics",
    response_class=Response,
    responses={
        **{status: RESPONSES[status] for status in (401, 403)},
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
    },
)
def metrics(request: Request, house: HouseDep) -> Response:
    """Prometheus text. From this machine itself, or with the right to see dashboards."""
    forwarded = any(name in request.headers for name in ("x-forwarded-for", "forwarded"))
    if forwarded or address_of(request) not in ("127.0.0.1", "::1"):
        Needs(Permission.DASHBOARDS_READ)(request)
    text: Any = house.metrics.render(house)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")
