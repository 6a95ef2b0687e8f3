"""/ingest: records, what live sessions say, and the files of their evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool

from moderator.errors import INGEST_INVALID, ModeratorError
from moderator.records import Room
from moderator.review import ingest
from moderator.review.api.idempotency import IdempotentRoute
from moderator.review.api.schemas import EnvelopesIn, IngestedOut, IngestIn, StoredOut
from moderator.review.api.security import HouseDep, Needs, TooLarge
from moderator.review.models import RoomRow
from moderator.review.permissions import Permission, Principal
from moderator.review.storing import Incoming, open_incoming

router = APIRouter(tags=["ingest"], route_class=IdempotentRoute)

Ingester = Annotated[Principal, Depends(Needs(Permission.INGEST))]


@router.post("/ingest/violations")
def ingest_violations(body: IngestIn, who: Ingester, house: HouseDep) -> IngestedOut:
    """Take records from elsewhere; one that is known already changes only if it has grown."""
    with house.database.write() as db:
        for record in body.records:
            _check_room(who, db.get(RoomRow, str(record.get("room"))))
        if body.room is not None:
            room = Room(**body.room.model_dump())
            _check_room(who, db.get(RoomRow, room.id))
            ingest.put_room(db, room, organisation_id=who.organisation_id)
        for record in body.records if not who.sees_all else ():
            ingest.put_room(
                db, Room(id=str(record.get("room"))[:100]), organisation_id=who.organisation_id
            )
        new = ingest.put_violations(db, body.records, actor=who.actor)
    return IngestedOut(received=len(body.records), new=new)


def _check_room(who: Principal, room: RoomRow | None) -> None:
    if room is not None and not who.sees(room.organisation_id):
        raise ModeratorError(INGEST_INVALID, place="room", reason=room.id)


@router.post("/ingest/envelopes")
def ingest_envelopes(body: EnvelopesIn, who: Ingester, house: HouseDep) -> IngestedOut:
    """Take what a live session says (`moderator/event@1`), in order."""
    with house.database.read() as db:
        for number, envelope in enumerate(body.envelopes):
            if not all(isinstance(envelope.get(name), str) for name in ("room", "session", "type")):
                place = f"envelopes[{number}]"
                raise ModeratorError(INGEST_INVALID, place=place, reason="room, session, type")
            _check_room(who, db.get(RoomRow, envelope["room"]))
    if not who.sees_all:
        with house.database.write() as db:
            for envelope in body.envelopes:
                ingest.put_room(db, Room(id=envelope["room"]), organisation_id=who.organisation_id)
    count = ingest.put_envelopes(house.database, body.envelopes)
    return IngestedOut(received=len(body.envelopes), new=count)


_BINARY: Mapping[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.put("/ingest/violations/{violation_id}/evidence/{path:path}", openapi_extra=dict(_BINARY))
async def ingest_evidence(
    violation_id: str, path: str, who: Ingester, house: HouseDep, request: Request
) -> StoredOut:
    """Take a clip or frame that the record names; it must have the hash in the record."""
    incoming = await run_in_threadpool(
        open_incoming, house.database, house.settings, who, violation_id, path
    )
    try:
        await _receive(request, incoming)
        return StoredOut.model_validate(await run_in_threadpool(incoming.keep, who))
    finally:
        await run_in_threadpool(incoming.close)


async def _receive(request: Request, incoming: Incoming) -> None:
    pieces, size = [], 0
    async for piece in request.stream():
        pieces.append(piece)
        size += len(piece)
        if size >= 1 << 20:
            await run_in_threadpool(incoming.write, b"".join(pieces))
            pieces, size = [], 0
        if incoming.size > incoming.limit_bytes:
            raise TooLarge(incoming.limit_bytes)
    await run_in_threadpool(incoming.write, b"".join(pieces))
