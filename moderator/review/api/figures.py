"""/dashboards, /verdicts, /audit, /retention."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime
from sqlalchemy import select
from starlette.responses import JSONResponse, Response, StreamingResponse

from moderator.errors import INPUT_INVALID, ModeratorError
from moderator.review import audit, dashboards, retention
from moderator.review.api import paging
from moderator.review.api.idempotency import IdempotentRoute
from moderator.review.api.schemas import (
    AuditOut,
    AuditPageOut,
    DashboardOut,
    RetentionIn,
    RetentionOut,
    VerificationOut,
)
from moderator.review.api.security import HouseDep, Needs
from moderator.review.models import AuditEntry
from moderator.review.permissions import Permission, Principal

router = APIRouter(route_class=IdempotentRoute)

Reader = Annotated[Principal, Depends(Needs(Permission.DASHBOARDS_READ))]
Trainer = Annotated[Principal, Depends(Needs(Permission.VERDICTS_EXPORT))]
Auditor = Annotated[Principal, Depends(Needs(Permission.AUDIT_READ))]
Keeper = Annotated[Principal, Depends(Needs(Permission.RETENTION))]


def window_query(
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    organisation: str | None = None,
) -> dashboards.Window:
    default = dashboards.Window.last()
    return dashboards.Window(since or default.since, until or default.until, organisation)


WindowQuery = Annotated[dashboards.Window, Depends(window_query)]


@router.get(
    "/dashboards/{name}",
    tags=["figures"],
    response_model=DashboardOut,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
def dashboard(
    name: str,
    who: Reader,
    house: HouseDep,
    window: WindowQuery,
    format: Literal["json", "csv"] = "json",
) -> Response:
    """The figures of one dashboard (the last 30 days by default), as JSON or CSV."""
    with house.database.read() as db:
        shown = dashboards.table(db, who, name, window)
    if format == "csv":
        # A byte order mark, for Excel to read Chinese as UTF-8.
        text = "\ufeff" + dashboards.as_csv(shown)
        disposition = f'attachment; filename="{name}.csv"'
        return Response(
            text.encode(), media_type="text/csv", headers={"Content-Disposition": disposition}
        )
    out = DashboardOut(name=shown.name, columns=shown.columns, rows=shown.rows)
    return JSONResponse(out.model_dump())


@router.get(
    "/verdicts",
    tags=["figures"],
    response_class=StreamingResponse,
    responses={200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}},
)
def verdicts(who: Trainer, house: HouseDep, window: WindowQuery) -> Response:
    """What people judged, as labelled examples: one JSON object a line."""

    def lines() -> Iterator[str]:
        with house.database.read() as db:
            yield from dashboards.verdicts(db, who, window)

    with house.database.write() as db:
        audit.append(db, who.actor, "verdicts.export", "verdicts", "", detail={})
    return StreamingResponse(
        lines(),
        media_type="application/x-ndjson",
        headers={"Content-Disposition": 'attachment; filename="verdicts.jsonl"'},
    )


@router.get("/audit", tags=["audit"])
def entries(
    who: Auditor,
    house: HouseDep,
    object_id: Annotated[str | None, Query(max_length=100)] = None,
    actor_id: Annotated[str | None, Query(max_length=64)] = None,
    action: Annotated[str | None, Query(max_length=50)] = None,
    limit: paging.LimitQuery = 50,
    cursor: paging.CursorQuery = None,
) -> AuditPageOut:
    """The audit log, newest first."""
    query = select(AuditEntry).order_by(AuditEntry.seq.desc()).limit(limit)
    if not who.sees_all:
        query = query.where(AuditEntry.organisation_id == (who.organisation_id or ""))
    for column, value in (
        (AuditEntry.object_id, object_id),
        (AuditEntry.actor_id, actor_id),
        (AuditEntry.action, action),
    ):
        if value is not None:
            query = query.where(column == value)
    if cursor:
        query = query.where(AuditEntry.seq < paging.decode("audit", cursor, int)[0])
    with house.database.read() as db:
        rows = db.scalars(query).all()
    full = len(rows) == limit
    return AuditPageOut(
        items=[AuditOut(**audit.entry_json(row)) for row in rows],
        next_cursor=paging.encode("audit", rows[-1].seq) if full else None,
    )


@router.get("/audit/verify", tags=["audit"])
def verify(
    who: Auditor,
    house: HouseDep,
    head_seq: Annotated[int | None, Query(ge=1, le=2**53)] = None,
    head_hash: Annotated[str | None, Query(pattern="^[0-9a-f]{64}$")] = None,
) -> VerificationOut:
    """Walk the whole chain. With a head that was written down, also that it is still in it."""
    if (head_seq is None) != (head_hash is None):
        raise ModeratorError(INPUT_INVALID, place="head_seq", reason="head_hash?")
    head = (head_seq, head_hash) if head_seq is not None and head_hash is not None else None
    with house.database.read() as db:
        return VerificationOut.model_validate(audit.verify(db, head=head))


@router.post("/retention", tags=["machine"])
def run_retention(body: RetentionIn, who: Keeper, house: HouseDep) -> RetentionOut:
    """Remove what need not be kept any longer; `dry_run` only counts it."""
    if not who.sees_all:
        raise ModeratorError(INPUT_INVALID, place="organisation", reason="platform only")
    removed = retention.run(house.database, house.settings, dry_run=body.dry_run, actor=who.actor)
    return RetentionOut.model_validate(removed)
