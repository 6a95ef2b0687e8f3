"""What `moderator check` and `moderator watch` found, into the database.

Everything is idempotent: a record is known by its id, an observation by its session and
key, so that feeding the same again changes nothing but what has grown (an episode that
got longer, evidence cut after its words).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from moderator.errors import INGEST_INVALID, NO_SESSION, ModeratorError
from moderator.media.clips import frame_at, save_frame
from moderator.media.probe import probe
from moderator.media.room_state import RoomState
from moderator.outputs.labels import encodable
from moderator.records import Disposition, Room, Severity
from moderator.review import audit, search
from moderator.review.audit import SYSTEM, Actor
from moderator.review.database import Database
from moderator.review.events import announce
from moderator.review.models import (
    Broadcast,
    ObservationRow,
    Organisation,
    RoomRow,
    SealedEnvelope,
    ViolationRecord,
    ViolationRow,
    new_id,
    utcnow,
)
from moderator.sinks.envelope import Envelope

RISK_OF_DISPOSITION = {
    Disposition.VIOLATION: 1.0,
    Disposition.NEEDS_PROOF: 0.8,
    Disposition.SUSPECT: 0.6,
}
RISK_OF_SEVERITY = {
    Severity.CRITICAL: 1.0,
    Severity.HIGH: 0.75,
    Severity.MEDIUM: 0.5,
    Severity.LOW: 0.25,
}


def risk_of(record: Mapping[str, Any]) -> float:
    """0 to 1: how bad × how firmly accused × how sure. The queue is sorted by it.

    Severity weighs most, and repetition within an episode lifts it a little.
    """
    severity = RISK_OF_SEVERITY[Severity(record["severity"])]
    firmness = RISK_OF_DISPOSITION[Disposition(record["disposition"])]
    often = min(int(record.get("occurrences", 1)), 10)
    sure = 0.5 + 0.5 * float(record["confidence"])
    return round(min(1.0, severity * firmness * sure * (1 + 0.02 * (often - 1))), 6)


LIVE_STATES = frozenset({"connecting", "live", "stalled", "reconnecting"})

_LONGEST = {"platform": 100, "title": 300, "host": 200, "merchant": 200}

# --- rooms and broadcasts -------------------------------------------------------------


def put_room(
    db: Session, room: Room, *, source: str = "", organisation_id: str | None = None
) -> RoomRow:
    """The room's row, made or brought up to date.

    A room belongs to the organisation named like its merchant, which is made where there
    is none, unless `organisation_id` says otherwise; a room keeps the one it has.
    """
    if not 1 <= len(room.id) <= 100 or clean(room.id) != room.id:
        raise ModeratorError(INGEST_INVALID, place="room", reason=ascii(room.id[:120]))
    row = db.get(RoomRow, room.id)
    if row is None:
        row = RoomRow(id=room.id, organisation_id=organisation_id)
        db.add(row)
    for name in ("platform", "title", "host", "merchant"):
        given = getattr(room, name)
        if given:
            setattr(row, name, clean(given)[: _LONGEST[name]])
    if room.products:
        row.products = list(room.products)
    row.ai_host = room.ai_host or bool(row.ai_host)
    row.source = source or row.source or ""
    if row.organisation_id is None and row.merchant:
        row.organisation_id = _organisation(db, row.merchant).id
    db.flush()
    return row


def _organisation(db: Session, name: str) -> Organisation:
    query = select(Organisation).where(Organisation.name == name)
    found = db.scalar(query)
    if found is None:
        found = Organisation(name=name)
        try:
            with db.begin_nested():
                db.add(found)
        except IntegrityError:
            # Another process was quicker.
            return db.scalars(query).one()
    return found


def put_broadcast(
    db: Session,
    room: RoomRow,
    session: str,
    *,
    source: str = "",
    folder: Path | None = None,
    owned: bool = False,
    media: str = "",
    state: str = "ended",
    duration_s: float = 0.0,
    engines: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> Broadcast:
    """The broadcast's row, made or brought up to date; what is not given stays."""
    if not 1 <= len(session) <= 64 or clean(session) != session:
        raise ModeratorError(INGEST_INVALID, place="session", reason=ascii(session[:80]))
    row = db.get(Broadcast, session)
    if row is None:
        row = Broadcast(id=session, room_id=room.id, organisation_id=room.organisation_id)
        db.add(row)
    elif row.room_id != room.id:
        raise ModeratorError(
            INGEST_INVALID, place="session", reason=f"{session}: {row.room_id} ≠ {room.id}"
        )
    row.state = state
    row.source = source or row.source or ""
    row.media = media or row.media or ""
    row.duration_s = max(duration_s, row.duration_s or 0.0)
    if folder is not None:
        row.folder, row.owned = str(folder), owned
    if engines:
        row.engines = dict(engines)
    if notes:
        row.notes = list(notes)
    db.flush()
    return row


# --- records --------------------------------------------------------------------------


def put_violations(
    db: Session, records: Iterable[Mapping[str, Any]], *, actor: Actor = SYSTEM
) -> int:
    """Take records in their JSON form; returns how many were new.

    Rooms and broadcasts that are not known are made from what the record says of them.
    Raises LM-927 naming the first record that is none, and then takes nothing.
    """
    checked = [_checked(record, f"record {n}") for n, record in enumerate(records, start=1)]
    rows = _known_rows(db, [record["id"] for record in checked])
    # Held here because a session forgets what nobody holds, and would ask for it again.
    houses: dict[str, tuple[RoomRow, Broadcast]] = {}
    arrived: dict[str, tuple[ViolationRow, Mapping[str, Any], str]] = {}
    bodies: list[ViolationRecord] = []

    def keep() -> None:
        db.flush()  # rows first: their bodies point at them
        db.add_all(bodies)
        bodies.clear()

    new = 0
    for record in checked:
        row = rows.get(record["id"])
        if row is None:
            row = rows[record["id"]] = _new_row(db, record, houses)
            bodies.append(ViolationRecord(violation_id=row.id, body=dict(record)))
            arrived[row.id] = row, record, "violation.new"
            new += 1
            continue
        if row.id in arrived:
            keep()
        if _grow(db, row, record):
            what = arrived[row.id][2] if row.id in arrived else "violation.grown"
            arrived[row.id] = row, record, what
    keep()
    for row, _, what in arrived.values():
        announce(db, what, row.id, row.organisation_id, summary(row))
        action = "violation.arrive" if what == "violation.new" else "violation.grow"
        _audit_arrival(db, actor, row, action)
    documents = [
        search.Document(row.seq, searched_text(record)) for row, record, _ in arrived.values()
    ]
    search.add(db, search.VIOLATIONS, documents)
    return new


_ASKED_AT_ONCE = 500


def _known_rows(db: Session, ids: Sequence[str]) -> dict[str, ViolationRow]:
    found: dict[str, ViolationRow] = {}
    for begin in range(0, len(ids), _ASKED_AT_ONCE):
        asked = ids[begin : begin + _ASKED_AT_ONCE]
        query = select(ViolationRow).where(ViolationRow.id.in_(asked))
        found |= {row.id: row for row in db.scalars(query)}
    return found


def _audit_arrival(db: Session, actor: Actor, row: ViolationRow, action: str) -> None:
    """Only what a person sends in by hand; what the program found is its own record."""
    if actor is not SYSTEM:
        audit.append(db, actor, action, "violation", row.id, organisation_id=row.organisation_id)


def searched_text(record: Mapping[str, Any]) -> str:
    """The words that a search of the queue looks through, apart so that none run together."""
    heard = record.get("heard") or ""
    return "\n".join((record["quote"], heard, record["context"], record["rule"]["title"]))


def summary(row: ViolationRow) -> dict[str, Any]:
    """What the queue shows of a record that has just come in."""
    return {
        "room": row.room_id,
        "host": row.host,
        "category": row.category,
        "severity": row.severity,
        "disposition": row.disposition,
        "risk": row.risk,
        "quote": row.quote,
        "rule": row.rule_id,
        "status": row.status or "open",
        "start": row.start,
    }


def _new_row(
    db: Session, record: Mapping[str, Any], houses: dict[str, tuple[RoomRow, Broadcast]]
) -> ViolationRow:
    house = houses.get(record["session"])
    if house is None or house[0].id != record["room"]:
        room = db.get(RoomRow, record["room"]) or put_room(db, Room(id=record["room"]))
        broadcast = db.get(Broadcast, record["session"]) or put_broadcast(
            db, room, record["session"], source=record["source"], state="live"
        )
        house = houses[record["session"]] = room, broadcast
    room, broadcast = house
    row = ViolationRow(
        id=record["id"],
        broadcast_id=broadcast.id,
        room_id=room.id,
        organisation_id=room.organisation_id,
        host=room.host or "",
        merchant=room.merchant or "",
        at=_time(record["wall_time"]),
        latency_ms=record.get("latency_ms"),
    )
    _fill(row, record)
    db.add(row)
    return row


def _grow(db: Session, row: ViolationRow, record: Mapping[str, Any]) -> bool:
    """An episode went on, or its evidence was cut. A verdict given meanwhile stands."""
    kept = db.get_one(ViolationRecord, row.id)
    merged = dict(record)
    if not merged["evidence"].get("clip") and not merged["evidence"].get("frames"):
        merged["evidence"] = kept.body["evidence"]
    if merged == kept.body:
        return False
    kept.body = merged
    _fill(row, merged)
    return True


def _fill(row: ViolationRow, record: Mapping[str, Any]) -> None:
    row.rule_id = record["rule"]["id"]
    row.rule_title = record["rule"]["title"][:300]
    row.category = record["category"]
    row.disposition = record["disposition"]
    row.severity = record["severity"]
    row.confidence = float(record["confidence"])
    row.risk = risk_of(record)
    row.channel = record["channel"]
    row.start, row.end = float(record["start"]), float(record["end"])
    row.quote = record["quote"]
    row.product = (record.get("product") or "")[:200] or None
    row.occurrences = int(record.get("occurrences", 1))


def _checked(record: Mapping[str, Any], place: str) -> dict[str, Any]:
    problem = best_match(_validator().iter_errors(record))
    if problem is not None:
        at = ".".join(map(str, problem.absolute_path))
        where = f"{place}: {at}" if at else place
        raise ModeratorError(INGEST_INVALID, place=where, reason=problem.message[:300])
    body: dict[str, Any] = clean(dict(record))
    for name, value, longest in (
        ("id", body["id"], 64),
        ("session", body["session"], 64),
        ("room", body["room"], 100),
        ("rule.id", body["rule"]["id"], 100),
    ):
        if not 1 <= len(value) <= longest:
            raise ModeratorError(INGEST_INVALID, place=f"{place}: {name}", reason=value[:120])
    _time(body["wall_time"], place)
    return body


@cache
def _validator() -> Draft202012Validator:
    schema = files("moderator") / "schemas" / "violation.schema.json"
    return Draft202012Validator(json.loads(schema.read_text(encoding="utf-8")))


def clean(value: Any) -> Any:
    """What no database keeps, replaced: NUL characters and halves of surrogate pairs."""
    if isinstance(value, str):
        return encodable(value).replace("\0", "\ufffd")
    if isinstance(value, Mapping):
        return {str(key): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    return value


def _time(value: str, place: str = "wall_time") -> datetime:
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        raise ModeratorError(INGEST_INVALID, place=place, reason=value[:60]) from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


# --- observations ---------------------------------------------------------------------


def put_observations(
    db: Session, broadcast: Broadcast, observations: Iterable[Mapping[str, Any]]
) -> int:
    """Speech, screen text, codes and gaps of a broadcast; returns how many were new."""
    wanted = {_key(body): body for body in map(clean, observations)}
    known = set(
        db.scalars(select(ObservationRow.key).where(ObservationRow.broadcast_id == broadcast.id))
    )
    rows = [_row(broadcast, key, body) for key, body in wanted.items() if key not in known]
    db.add_all(rows)
    db.flush()
    spoken = [search.Document(row.id, row.text) for row in rows if row.text]
    search.add(db, search.OBSERVATIONS, spoken)
    return len(rows)


def _row(broadcast: Broadcast, key: str, body: Mapping[str, Any]) -> ObservationRow:
    return ObservationRow(
        key=key,
        broadcast_id=broadcast.id,
        room_id=broadcast.room_id,
        organisation_id=broadcast.organisation_id,
        channel=str(body.get("channel", "speech"))[:10],
        start=_seconds(body.get("start", 0.0)),
        end=_seconds(body.get("end", 0.0)),
        text=str(body.get("text", "")),
        body=body,
    )


def _seconds(value: Any) -> float:
    """A finite number of seconds; ValueError or TypeError for anything else."""
    seconds = float(value)
    if not math.isfinite(seconds):
        raise ValueError(f"{seconds} seconds")
    return seconds


def _key(body: Mapping[str, Any]) -> str:
    """Where and what; how sure the recogniser was may change from one run to the next."""
    where = [body.get("channel"), body.get("start"), body.get("text"), body.get("line")]
    return hashlib.sha256(json.dumps(where, ensure_ascii=False).encode()).hexdigest()


# --- folders of `check --out` ---------------------------------------------------------


def put_folder(
    database: Database,
    folder: Path,
    data_dir: Path,
    *,
    room: Room | None = None,
    media: Path | None = None,
    organisation_id: str | None = None,
    copy: bool = True,
) -> str:
    """Take a folder as `moderator check --out` writes it; returns the broadcast's id.

    With `copy` the evidence is copied into the data folder (hard links where the disk
    allows), so that it stays when the folder goes; else it is served from where it lies.
    Raises LM-703 where there is no such folder, LM-927 for records that are none.
    """
    manifest = _json(folder / "manifest.json")
    records = _lines(folder / "violations.jsonl")
    if not isinstance(manifest, dict):
        raise ModeratorError(NO_SESSION, path=folder, reason="manifest.json")
    session = str(manifest.get("session") or (records[0]["session"] if records else new_id()))
    if room is None:
        room = Room(id=str(records[0]["room"]) if records else "local")
    home = keep_files(folder, data_dir, session, manifest, media) if copy else folder
    observations = [*_lines(folder / "transcript.jsonl"), *_lines(folder / "screen.jsonl")]
    source = str(manifest.get("source", ""))
    picture = _last_frame(records, home) or _middle_frame(media if copy else None, home)
    with database.write() as db:
        row = put_room(db, room, source=source, organisation_id=organisation_id)
        broadcast = put_broadcast(
            db,
            row,
            session,
            source=source,
            folder=home,
            owned=copy,
            media=f"media/{media.name}" if media is not None and copy else "",
            duration_s=max((float(body.get("end", 0)) for body in observations), default=0.0),
            engines=manifest.get("engines") or {},
            notes=manifest.get("notes") or (),
        )
        put_observations(db, broadcast, observations)
        put_violations(db, [{**record, "room": room.id} for record in records])
        if row.state not in LIVE_STATES:
            row.broadcast_id = broadcast.id
            row.last_frame = picture
            spoken = [body["text"] for body in observations if body.get("channel") == "speech"]
            row.last_words = str(spoken[-1]) if spoken else ""
        announce(db, "room.updated", row.id, row.organisation_id, {"state": row.state})
    return session


def _last_frame(records: Sequence[Mapping[str, Any]], home: Path) -> str:
    """The newest picture there is of the room: the frame of its last violation that has one."""
    for record in sorted(records, key=lambda one: float(one["start"]), reverse=True):
        for name in reversed(record["evidence"].get("frames") or ()):
            if (home / name).is_file():
                return str(name)
    return ""


def _middle_frame(media: Path | None, home: Path) -> str:
    """A picture of a recording in which nothing was found; none of sound alone."""
    if media is None:
        return ""
    name = "frames/middle.jpg"
    (home / "frames").mkdir(parents=True, exist_ok=True)
    with suppress(ModeratorError, OSError):
        save_frame(frame_at(media, 0.5 * (probe(media).duration_s or 0.0)), [], home / name)
        return name
    return ""


def keep_files(
    folder: Path,
    data_dir: Path,
    session: str,
    manifest: Mapping[str, Any],
    media: Path | None = None,
) -> Path:
    """Copy what the manifest names, and the recording, to where the server keeps evidence."""
    home = home_of(data_dir, session)
    for name in (*manifest.get("files", {}), "manifest.json"):
        source = (folder / name).resolve()
        if not source.is_relative_to(folder.resolve()) or not source.is_file():
            continue
        _link(source, home / name)
    if media is not None:
        _link(media, home / "media" / media.name)
    return home


def home_of(data_dir: Path, session: str) -> Path:
    """Where the server keeps a broadcast's evidence; ids may hold what file names may not."""
    return data_dir / "evidence" / hashlib.sha256(session.encode()).hexdigest()[:16]


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and target.samefile(source):
        return
    partial = target.with_name(target.name + ".partial")
    with suppress(FileNotFoundError):
        partial.unlink()
    try:
        os.link(source, partial)
    except OSError:
        shutil.copyfile(source, partial)
    partial.replace(target)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModeratorError(NO_SESSION, path=path.parent, reason=f"{path.name}: {error}") from None


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8") as file:
            return [json.loads(line) for line in file if line.strip()]
    except (OSError, ValueError, RecursionError) as error:
        raise ModeratorError(NO_SESSION, path=path.parent, reason=f"{path.name}: {error}") from None


# --- what a live session says ---------------------------------------------------------


def put_envelopes(
    database: Database, envelopes: Iterable[Mapping[str, Any]], *, folder: Path | None = None
) -> int:
    """Take what a live session wrote to its journal, in order (`moderator/event@1`).

    `folder` is where its evidence is written. Returns how many were understood; types
    nobody knows yet, and envelopes whose body retention removed, are passed over. Raises
    LM-927 for a sealed envelope whose content no longer has its hash.
    """
    count = 0
    with database.write() as db:
        for number, envelope in enumerate(envelopes):
            handler = _HANDLERS.get(str(envelope.get("type")))
            if handler is None:
                continue
            try:
                sealed = Envelope.from_json(envelope) if "schema" in envelope else None
                if sealed is not None and not _is_genuine(sealed):
                    continue
                handler(db, envelope, folder)
                if sealed is not None:
                    _keep_sealed(db, sealed)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                place, reason = f"envelopes[{number}]", f"{type(error).__name__}: {error}"
                raise ModeratorError(INGEST_INVALID, place=place, reason=reason[:200]) from None
            count += 1
    return count


def _is_genuine(envelope: Envelope) -> bool:
    """False for one without a body; ValueError where its content is not what was sealed."""
    if envelope.pruned:
        return False
    if envelope.hash != envelope.expected_hash():
        raise ValueError(f"{envelope.id}: hash")
    return True


def _keep_sealed(db: Session, envelope: Envelope) -> None:
    """What a case bundle proves its record with; nothing for what is not about a record."""
    record = envelope.record
    if record is None or db.get(SealedEnvelope, envelope.id) is not None:
        return
    if db.get(ViolationRecord, record) is None:
        return
    db.add(
        SealedEnvelope(id=envelope.id, violation_id=record, seq=envelope.seq, line=envelope.line())
    )


def _session_of(
    db: Session, envelope: Mapping[str, Any], folder: Path | None
) -> tuple[RoomRow, Broadcast]:
    room_id, session = str(envelope["room"]), str(envelope["session"])
    room = db.get(RoomRow, room_id) or put_room(db, Room(id=room_id))
    broadcast = db.get(Broadcast, session)
    if broadcast is None:
        broadcast = put_broadcast(db, room, session, folder=folder, state="live")
        if "time" in envelope:
            broadcast.started_at = _time(str(envelope["time"]), "time")
    if room.broadcast_id != broadcast.id and _is_on(broadcast):
        # What was seen of the broadcast before says nothing of this one.
        room.broadcast_id, room.last_frame, room.last_words = broadcast.id, "", ""
    return room, broadcast


def _is_on(broadcast: Broadcast) -> bool:
    """What is delivered late, after the end, changes nothing on the wall of rooms."""
    return broadcast.state == "live"


def _started(db: Session, envelope: Mapping[str, Any], folder: Path | None) -> None:
    body = clean(envelope.get("body") or {})
    fields = ("platform", "title", "host", "merchant", "products", "ai_host")
    given = {name: body[name] for name in fields if body.get(name)}
    given["products"] = tuple(map(str, given.get("products", ())))
    put_room(db, Room(id=str(envelope["room"]), **given), source=str(body.get("source", "")))
    room, broadcast = _session_of(db, envelope, folder)
    if not _is_on(broadcast):
        return
    if body.get("media_zero"):
        broadcast.started_at = _time(str(body["media_zero"]), "media_zero")
    put_broadcast(
        db,
        room,
        broadcast.id,
        source=str(body.get("source", "")),
        state="live",
        engines=body.get("engines") or {},
    )
    _room_state(db, room, "live", "")


def _state(db: Session, envelope: Mapping[str, Any], folder: Path | None) -> None:
    """The input went over to another state, or something is wrong with it while it stays."""
    room, broadcast = _session_of(db, envelope, folder)
    if not _is_on(broadcast):
        return
    body = clean(envelope.get("body") or {})
    if "problem" in body:
        reason = f"{body['problem']} {body.get('detail') or ''}".strip()
        _room_state(db, room, room.state, reason if body.get("active") else "")
        return
    state = str(body["after"])
    well = state == RoomState.LIVE
    reason = f"{body.get('reason') or ''} {body.get('detail') or ''}".strip()
    _room_state(db, room, state, "" if well else reason)


def _gap(db: Session, envelope: Mapping[str, Any], folder: Path | None) -> None:
    _, broadcast = _session_of(db, envelope, folder)
    body = clean(envelope.get("body") or {})
    gap = {**body, "channel": "gap", "text": ""}
    put_one_observation(db, broadcast, gap)


def _observation(db: Session, envelope: Mapping[str, Any], folder: Path | None) -> None:
    room, broadcast = _session_of(db, envelope, folder)
    body = clean(envelope.get("body") or {})
    put_one_observation(db, broadcast, body)
    if not _is_on(broadcast):
        return
    room.heard_at = utcnow()
    if body.get("channel") == "speech" and body.get("text"):
        room.last_words = str(body["text"])
    announce(db, "room.heard", room.id, room.organisation_id, {"last_words": room.last_words or ""})


def put_one_observation(db: Session, broadcast: Broadcast, body: Mapping[str, Any]) -> None:
    """One at a time, as live sessions speak: without reading the others of the broadcast."""
    body = clean(dict(body))
    key = _key(body)
    there = select(ObservationRow.id).where(
        ObservationRow.broadcast_id == broadcast.id, ObservationRow.key == key
    )
    if db.scalar(there) is not None:
        return
    row = _row(broadcast, key, body)
    db.add(row)
    broadcast.duration_s = max(broadcast.duration_s or 0.0, row.end)
    db.flush()
    if row.text:
        search.add(db, search.OBSERVATIONS, [search.Document(row.id, row.text)])


def _violation(db: Session, envelope: Mapping[str, Any], folder: Path | None) -> None:
    _session_of(db, envelope, folder)
    put_violations(db, [envelope["body"]])


def _updated(db: Session, envelope: Mapping[str, Any], folder: Path | None) -> None:
    """The body is the whole record, or the id and the fields that changed."""
    body = clean(dict(envelope["body"]))
    kept = db.get(ViolationRecord, str(body.get("id") or body.get("violation")))
    if kept is not None:
        changed = {name: value for name, value in body.items() if name in kept.body}
        put_violations(db, [{**kept.body, **changed, "id": kept.violation_id}])


def _evidence(db: Session, envelope: Mapping[str, Any], folder: Path | None) -> None:
    body = clean(dict(envelope["body"]))
    kept = db.get(ViolationRecord, str(body.get("violation") or body.get("id")))
    if kept is None:
        return
    room, broadcast = _session_of(db, envelope, folder)
    if folder is not None and not broadcast.folder:
        broadcast.folder = str(folder)
    given = body.get("evidence") if isinstance(body.get("evidence"), dict) else body
    fields = {
        name: given[name] for name in ("clip", "frames", "transcript", "sha256") if name in given
    }
    evidence = {**kept.body["evidence"], **fields}
    put_violations(db, [{**kept.body, "evidence": evidence}])
    if evidence.get("frames") and room.broadcast_id == broadcast.id:
        room.last_frame = str(evidence["frames"][-1])


def _ended(db: Session, envelope: Mapping[str, Any], folder: Path | None) -> None:
    room, broadcast = _session_of(db, envelope, folder)
    if not _is_on(broadcast):
        return
    broadcast.state = "ended"
    if room.broadcast_id == broadcast.id and room.state != RoomState.FAILED:
        reason = str((envelope.get("body") or {}).get("reason", ""))
        _room_state(db, room, RoomState.ENDED, "" if reason in _EXPECTED_ENDS else reason)


_EXPECTED_ENDS = ("ended", "stopped")


def _room_state(db: Session, room: RoomRow, state: str, reason: str) -> None:
    room.state, room.state_reason = state[:20], reason[:300]
    room.heard_at = utcnow()
    announce(
        db, "room.updated", room.id, room.organisation_id, {"state": room.state, "reason": reason}
    )


_HANDLERS = {
    "session.started": _started,
    "session.state": _state,
    "session.gap": _gap,
    "observation": _observation,
    "violation": _violation,
    "violation.updated": _updated,
    "evidence": _evidence,
    "session.ended": _ended,
}
