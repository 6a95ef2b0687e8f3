"""The wall of rooms, and one broadcast's timeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import case as when
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from moderator.errors import ALREADY_THERE, NO_SUCH, ModeratorError, in_ui_language
from moderator.records import Room
from moderator.review import audit, queue, search
from moderator.review.events import announce
from moderator.review.ingest import LIVE_STATES, put_room
from moderator.review.models import (
    Broadcast,
    ObservationRow,
    Organisation,
    PassportRow,
    RoomRow,
    ViolationRow,
    utcnow,
)
from moderator.review.permissions import Permission, Principal

RECENT = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Figures:
    """Violations of the last minutes, undecided ones, and the highest recent risk."""

    recent: int = 0
    open: int = 0
    risk: float = 0.0


def wall(db: Session, who: Principal) -> list[tuple[RoomRow, Figures]]:
    """Every room that `who` sees: live ones first, riskiest first."""
    query = select(RoomRow).order_by(RoomRow.id)
    if not who.sees_all:
        query = query.where(RoomRow.organisation_id == (who.organisation_id or ""))
    figures = _figures(db, who)
    found = [(row, figures.get(row.id, Figures())) for row in db.scalars(query)]
    found.sort(key=lambda one: (one[0].state not in LIVE_STATES, -one[1].risk, -one[1].open))
    return found


def _figures(db: Session, who: Principal) -> dict[str, Figures]:
    recent = ViolationRow.arrived_at >= utcnow() - RECENT
    undecided = ViolationRow.status.in_(queue.UNDECIDED)
    query = (
        select(
            ViolationRow.room_id,
            func.sum(when((recent, 1), else_=0)),
            func.sum(when((undecided, 1), else_=0)),
            func.max(when((recent, ViolationRow.risk), else_=0.0)),
        )
        .where(*queue.visible(who), recent | undecided)
        .group_by(ViolationRow.room_id)
    )
    return {
        room: Figures(int(new or 0), int(left or 0), float(risk or 0))
        for room, new, left, risk in db.execute(query)
    }


def get(db: Session, who: Principal, room_id: str) -> RoomRow:
    """Raises LM-908."""
    row = db.get(RoomRow, room_id)
    if row is None or not who.sees(row.organisation_id):
        raise ModeratorError(NO_SUCH, kind=in_ui_language("room", "直播间"), id=room_id)
    return row


def figures_of(db: Session, who: Principal, room_id: str) -> Figures:
    return _figures(db, who).get(room_id, Figures())


def add(db: Session, who: Principal, room: Room) -> RoomRow:
    """A room that is new. Raises LM-924 for an id that is taken, whoever's it is."""
    if db.get(RoomRow, room.id) is not None:
        kind = in_ui_language("room", "直播间")
        raise ModeratorError(ALREADY_THERE, kind=kind, name=room.id)
    row = put_room(db, room, organisation_id=who.organisation_id)
    audit.append(db, who.actor, "room.create", "room", row.id, organisation_id=row.organisation_id)
    announce(db, "room.updated", row.id, row.organisation_id, {"state": row.state})
    return row


def passports_of(db: Session, row: RoomRow) -> list[dict[str, Any]]:
    """Passports of what is on sale in the room; all its organisation has where it does not say."""
    query = select(PassportRow.body).where(
        or_(
            PassportRow.organisation_id.is_(None),
            PassportRow.organisation_id == (row.organisation_id or ""),
        )
    )
    if row.products:
        query = query.where(PassportRow.id.in_(row.products))
    return list(db.scalars(query.order_by(PassportRow.id).limit(5000)))


def change(db: Session, who: Principal, room_id: str, changes: dict[str, Any]) -> RoomRow:
    """Rename it, or move it to another organisation with all that it holds. LM-902, LM-908."""
    who.need(Permission.USERS_MANAGE)
    row = get(db, who, room_id)
    organisation = changes.get("organisation_id")
    if organisation is not None and (
        not who.sees(organisation) or db.get(Organisation, organisation) is None
    ):
        kind = in_ui_language("organisation", "机构")
        raise ModeratorError(NO_SUCH, kind=kind, id=organisation)
    for name, value in changes.items():
        if value is not None:
            setattr(row, name, value)
    if organisation is not None:
        for table in (Broadcast, ObservationRow, ViolationRow):
            db.query(table).where(table.room_id == room_id).update(
                {"organisation_id": organisation}, synchronize_session=False
            )
    audit.append(
        db,
        who.actor,
        "room.update",
        "room",
        room_id,
        organisation_id=row.organisation_id,
        detail=changes,
    )
    announce(db, "room.updated", row.id, row.organisation_id, {"state": row.state})
    return row


def broadcasts(db: Session, who: Principal, room_id: str) -> Sequence[Broadcast]:
    """Newest first."""
    get(db, who, room_id)
    return db.scalars(
        select(Broadcast)
        .where(Broadcast.room_id == room_id)
        .order_by(Broadcast.started_at.desc(), Broadcast.id.desc())
        .limit(200)
    ).all()


def broadcast(db: Session, who: Principal, broadcast_id: str) -> Broadcast:
    """Raises LM-908."""
    row = db.get(Broadcast, broadcast_id)
    if row is None or not who.sees(row.organisation_id):
        raise ModeratorError(NO_SUCH, kind=in_ui_language("broadcast", "场次"), id=broadcast_id)
    return row


def timeline(
    db: Session, broadcast_id: str, *, after: tuple[float, int] | None, limit: int
) -> list[ObservationRow]:
    """What was said and shown, gaps included, in order of time."""
    query = select(ObservationRow).where(ObservationRow.broadcast_id == broadcast_id)
    if after is not None:
        start, last = after
        query = query.where(
            (ObservationRow.start > start)
            | ((ObservationRow.start == start) & (ObservationRow.id > last))
        )
    return list(db.scalars(query.order_by(ObservationRow.start, ObservationRow.id).limit(limit)))


def violations_of(db: Session, broadcast_id: str) -> list[ViolationRow]:
    return list(
        db.scalars(
            select(ViolationRow)
            .where(ViolationRow.broadcast_id == broadcast_id)
            .order_by(ViolationRow.start, ViolationRow.seq)
            .limit(5000)
        )
    )


def spoken(db: Session, who: Principal, words: str, limit: int) -> list[ObservationRow]:
    """Where words were said or shown, newest first."""
    private = who.may(Permission.PRIVATE_DATA)
    condition = search.holds(db, search.OBSERVATIONS, ObservationRow.id, words, private=private)
    if condition is None:
        return []
    query = select(ObservationRow).where(condition)
    if not who.sees_all:
        query = query.where(ObservationRow.organisation_id == (who.organisation_id or ""))
    return list(db.scalars(query.order_by(ObservationRow.id.desc()).limit(limit)))


def note_watch(db: Session, who: Principal, row: RoomRow, *, started: bool) -> None:
    """Write down that `who` started or stopped watching the room."""
    row.state = "connecting" if started else row.state
    audit.append(
        db,
        who.actor,
        "room.watch" if started else "room.unwatch",
        "room",
        row.id,
        organisation_id=row.organisation_id,
    )
    announce(db, "room.updated", row.id, row.organisation_id, {"state": row.state})
