"""/rooms, /broadcasts, /search: the wall, timelines, and words anywhere."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.responses import FileResponse, Response

from moderator.errors import EVIDENCE_GONE, ModeratorError
from moderator.records import Room
from moderator.review import evidence, queue, rooms
from moderator.review.api import paging
from moderator.review.api.idempotency import IdempotentRoute
from moderator.review.api.schemas import (
    BroadcastOut,
    NewRoomIn,
    ObservationOut,
    RoomChange,
    RoomOut,
    SearchOut,
    SpokenOut,
    TimelineOut,
    WatchIn,
)
from moderator.review.api.security import HouseDep, Needs
from moderator.review.api.violations import row_out
from moderator.review.house import House
from moderator.review.models import Broadcast, RoomRow
from moderator.review.permissions import Permission, Principal
from moderator.review.privacy import shown_to

router = APIRouter(tags=["rooms"], route_class=IdempotentRoute)

Reader = Annotated[Principal, Depends(Needs(Permission.ROOMS_READ))]
Searcher = Annotated[Principal, Depends(Needs(Permission.VIOLATIONS_READ))]
Viewer = Annotated[Principal, Depends(Needs(Permission.EVIDENCE_READ))]
Watcher = Annotated[Principal, Depends(Needs(Permission.ROOMS_WATCH))]
Manager = Annotated[Principal, Depends(Needs(Permission.USERS_MANAGE))]


@router.get("/rooms")
def wall(who: Reader, house: HouseDep) -> list[RoomOut]:
    """Every room you see, live ones and risky ones first."""
    with house.database.read() as db:
        return [_room(house, who, row, figures) for row, figures in rooms.wall(db, who)]


def _room(house: House, who: Principal, row: RoomRow, figures: rooms.Figures) -> RoomOut:
    return RoomOut(
        id=row.id,
        organisation_id=row.organisation_id,
        platform=row.platform,
        title=row.title,
        host=row.host,
        merchant=row.merchant,
        products=row.products,
        ai_host=row.ai_host,
        state=row.state,
        state_reason=row.state_reason,
        lag_s=row.lag_s,
        last_words=shown_to(who, row.last_words),
        last_frame_url=f"/api/v1/rooms/{row.id}/frame" if row.last_frame else None,
        broadcast_id=row.broadcast_id,
        heard_at=row.heard_at,
        recent=figures.recent,
        open=figures.open,
        risk=figures.risk,
        watching=house.watchers.is_watching(row.id),
    )


@router.post("/rooms", status_code=201)
def add_room(body: NewRoomIn, who: Watcher, house: HouseDep) -> RoomOut:
    """Make a room known, for it to be watched. It belongs to your organisation, if you have one."""
    with house.database.write() as db:
        row = rooms.add(db, who, Room(**body.model_dump() | {"products": tuple(body.products)}))
        return _room(house, who, row, rooms.Figures())


@router.get("/rooms/{room_id}")
def room(room_id: str, who: Reader, house: HouseDep) -> RoomOut:
    with house.database.read() as db:
        row = rooms.get(db, who, room_id)
        return _room(house, who, row, rooms.figures_of(db, who, room_id))


@router.patch("/rooms/{room_id}")
def change_room(room_id: str, body: RoomChange, who: Manager, house: HouseDep) -> RoomOut:
    """Rename a room, or give it to another organisation with all that it holds."""
    with house.database.write() as db:
        row = rooms.change(db, who, room_id, body.model_dump(exclude_none=True))
        return _room(house, who, row, rooms.figures_of(db, who, room_id))


@router.get("/rooms/{room_id}/frame", response_class=FileResponse)
def frame(room_id: str, who: Viewer, house: HouseDep) -> Response:
    """The last frame that was seen."""
    with house.database.read() as db:
        row = rooms.get(db, who, room_id)
        broadcast = db.get(Broadcast, row.broadcast_id) if row.broadcast_id else None
    if broadcast is None or not row.last_frame:
        raise ModeratorError(EVIDENCE_GONE, path="frame")
    path = evidence.open_path(house.settings, broadcast, row.last_frame)
    return FileResponse(
        path, media_type=evidence.media_type(path), headers={"Cache-Control": "no-cache"}
    )


@router.post("/rooms/{room_id}/watch")
def watch(room_id: str, body: WatchIn, who: Watcher, house: HouseDep) -> RoomOut:
    """Start watching its stream from this server."""
    with house.database.write() as db:
        row = rooms.get(db, who, room_id)
        house.watchers.start(row, body.source, rooms.passports_of(db, row))
        rooms.note_watch(db, who, row, started=True)
        return _room(house, who, row, rooms.figures_of(db, who, room_id))


@router.delete("/rooms/{room_id}/watch")
def stop_watching(room_id: str, who: Watcher, house: HouseDep) -> RoomOut:
    """Stop watching it; what was heard so far is finished first."""
    with house.database.write() as db:
        row = rooms.get(db, who, room_id)
        house.watchers.stop(room_id)
        rooms.note_watch(db, who, row, started=False)
        return _room(house, who, row, rooms.figures_of(db, who, room_id))


@router.get("/rooms/{room_id}/broadcasts")
def broadcasts(room_id: str, who: Reader, house: HouseDep) -> list[BroadcastOut]:
    """The room's sessions, newest first."""
    with house.database.read() as db:
        return [_broadcast(row) for row in rooms.broadcasts(db, who, room_id)]


def _broadcast(row: Broadcast) -> BroadcastOut:
    out = BroadcastOut.model_validate(row)
    out.media_url = f"/api/v1/broadcasts/{row.id}/media" if row.media else None
    return out


@router.get("/broadcasts/{broadcast_id}/timeline")
def timeline(
    broadcast_id: str,
    who: Reader,
    house: HouseDep,
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
    cursor: paging.CursorQuery = None,
) -> TimelineOut:
    """What was said, shown and missed, and the violations among it."""
    after = None
    if cursor:
        start, last = paging.decode("timeline", cursor, (float, int), int)
        after = (float(start), int(last))
    with house.database.read() as db:
        row = rooms.broadcast(db, who, broadcast_id)
        seen = rooms.timeline(db, row.id, after=after, limit=limit)
        found = rooms.violations_of(db, row.id) if who.may(Permission.VIOLATIONS_READ) else []
        items = [ObservationOut.model_validate(one) for one in seen]
    for one in items:
        one.text, one.body = shown_to(who, one.text), shown_to(who, one.body)
    full = len(items) == limit
    return TimelineOut(
        broadcast=_broadcast(row),
        observations=items,
        violations=[row_out(who, one) for one in found],
        next_cursor=paging.encode("timeline", items[-1].start, items[-1].id) if full else None,
    )


@router.get("/broadcasts/{broadcast_id}/media", response_class=FileResponse)
def media(broadcast_id: str, who: Viewer, house: HouseDep) -> Response:
    """The whole recording, where it was kept; ranges are honoured."""
    with house.database.read() as db:
        row = rooms.broadcast(db, who, broadcast_id)
    if not row.media:
        raise ModeratorError(EVIDENCE_GONE, path="media")
    path = evidence.open_path(house.settings, row, row.media)
    with house.database.write() as db:
        evidence.note_view(
            db, who.actor, "broadcast", row.id, row.media, organisation_id=row.organisation_id
        )
    return FileResponse(
        path, media_type=evidence.media_type(path), headers={"Cache-Control": "private, no-cache"}
    )


@router.get("/search")
def search(
    who: Searcher,
    house: HouseDep,
    q: Annotated[str, Query(min_length=1, max_length=500, examples=["国家级"])],
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> SearchOut:
    """Violations and transcript lines that hold the words, wherever they stand."""
    with house.database.read() as db:
        found, _ = queue.page(db, who, queue.Filter(q=q), limit=limit)
        spoken = rooms.spoken(db, who, q, limit)
        lines = [SpokenOut.model_validate(one) for one in spoken]
    for line in lines:
        line.text, line.body = shown_to(who, line.text), shown_to(who, line.body)
    return SearchOut(violations=[row_out(who, row) for row in found], transcript=lines)
