"""Sessions that an earlier run left open: gone on with when it was just now, else ended."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import structlog

from moderator.live.config import RoomConfig
from moderator.live.runner import Unfinished
from moderator.media.feed import Resume
from moderator.records import Violation
from moderator.sinks.journal import Journal, SessionInfo

log = structlog.get_logger()

RESUME_WITHIN_S = 900.0
"""A broadcast that was not watched for longer is taken for another one."""


def take_up(
    journal: Journal, rooms: list[RoomConfig], now: datetime | None = None
) -> dict[str, Unfinished]:
    """By room, the session to go on with. Open sessions of every other kind are ended."""
    now = now or datetime.now(UTC)
    watched = {room.id for room in rooms}
    found: dict[str, Unfinished] = {}
    for info in journal.sessions():
        if info.ended or not info.room:
            continue
        unfinished = _unfinished(journal, info, now) if info.room in watched else None
        # Of several the newest goes on.
        earlier = found.pop(info.room, None) if unfinished else None
        if earlier is not None:
            _end(journal, earlier.session, info.room)
        if unfinished is None:
            _end(journal, info.session, info.room)
        else:
            found[info.room] = unfinished
    return found


def _unfinished(journal: Journal, info: SessionInfo, now: datetime) -> Unfinished | None:
    zero: datetime | None = None
    last = datetime.fromisoformat(info.started)
    records: dict[str, Violation] = {}
    for envelope in journal.session(info.session):
        body: dict[str, Any] = envelope.body or {}
        last = datetime.fromisoformat(envelope.time)
        if envelope.type == "session.started" and body.get("media_zero"):
            zero = datetime.fromisoformat(body["media_zero"])
        elif envelope.type == "violation" and body:
            record = Violation.from_json(body)
            if record.channel != "stream":
                records[record.id] = record
        elif envelope.type == "evidence":
            records.pop(body.get("violation", ""), None)
    if zero is None or info.resume_s is None:
        return None
    if (now - last).total_seconds() > RESUME_WITHIN_S:
        return None
    resume = Resume(info.resume_s, zero.timestamp())
    log.info("session.resumed", room=info.room, session=info.session, media_s=info.resume_s)
    return Unfinished(info.session, resume, tuple(records.values()))


def _end(journal: Journal, session: str, room: str) -> None:
    journal.append(session, room, "session.ended", {"reason": "interrupted"}, key="session.ended")
