"""Recorded observations of old sessions through other rules, without listening again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from moderator.claims.engine import ClaimEngine, ClaimSession
from moderator.claims.passports import Passport
from moderator.episodes import Provenance, to_violations
from moderator.errors import NO_SESSION, ModeratorError, in_ui_language
from moderator.live.observations import observation_of
from moderator.records import Observation, Room, Violation
from moderator.sinks.envelope import Envelope
from moderator.sinks.journal import FILE_NAME, Journal


@dataclass(frozen=True, slots=True)
class RecordedSession:
    """What the journal holds of one session: its observations in order, and its records."""

    session: str
    room: Room
    source: str
    engines: dict[str, str]
    observations: tuple[Observation, ...]
    records: tuple[Violation, ...]
    duration_s: float
    complete: bool
    """The broadcast ended by itself, so notices that were owed can be judged."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where the rules disagree: `before` or `after` is None where there was nothing."""

    session: str
    room: str
    before: Violation | None
    after: Violation | None

    @property
    def kind(self) -> str:
        """`found`, `gone` or `changed`."""
        if self.before is None:
            return "found"
        return "gone" if self.after is None else "changed"

    @property
    def shown(self) -> Violation:
        one = self.after or self.before
        assert one is not None
        return one


def recorded_sessions(path: Path, session: str | None = None) -> Iterator[RecordedSession]:
    """The sessions in a folder that `watch --out` wrote (or its journal), oldest first.

    Raises LM-703 when there is none, LM-801 when the journal is damaged.
    """
    file = path / FILE_NAME if path.is_dir() else path
    if not file.is_file():
        reason = in_ui_language(f"there is no {FILE_NAME}", f"没有 {FILE_NAME}")
        raise ModeratorError(NO_SESSION, path=path, reason=reason)
    found = False
    with Journal.open(file) as journal:
        for info in journal.sessions():
            if not info.room or (session is not None and info.session != session):
                continue
            found = True
            yield _recorded(info.session, journal.session(info.session))
    if not found:
        reason = in_ui_language(
            f"no session {session}" if session else "it is empty",
            f"没有场次 {session}" if session else "其中为空",
        )
        raise ModeratorError(NO_SESSION, path=path, reason=reason)


def replay(
    recorded: RecordedSession, engine: ClaimEngine, passports: Sequence[Passport] = ()
) -> list[Violation]:
    """The records that `engine` makes of what was observed, in order of time."""
    known = [p for p in passports if p.id in recorded.room.products] or list(passports)
    engines = {**recorded.engines, **engine.versions}
    provenance = Provenance(recorded.room, recorded.session, recorded.source, engines)
    session = ClaimSession(engine, recorded.room, known)
    sightings = [found for seen in recorded.observations for found in session.observe(seen)]
    absences = session.finish() if recorded.complete else []
    return to_violations(sightings, absences, provenance, recorded.duration_s)


def differences(recorded: RecordedSession, replayed: Iterable[Violation]) -> list[Difference]:
    """What other rules change, in order of time.

    Records are the same when rule and channel agree and their times touch; they are changed when
    disposition or severity differ.
    """
    left = list(recorded.records)
    found: list[Difference] = []
    for after in replayed:
        before = next((one for one in left if _same(one, after)), None)
        if before is not None:
            left.remove(before)
        if before is None or (before.disposition, before.severity) != (
            after.disposition,
            after.severity,
        ):
            found.append(Difference(recorded.session, recorded.room.id, before, after))
    found += [Difference(recorded.session, recorded.room.id, before, None) for before in left]
    return sorted(found, key=lambda one: one.shown.start)


TOUCH_S = 2.0


def _same(one: Violation, other: Violation) -> bool:
    return (
        (one.rule.id, one.channel) == (other.rule.id, other.channel)
        and one.start <= other.end + TOUCH_S
        and other.start <= one.end + TOUCH_S
    )


def _recorded(session: str, envelopes: Iterable[Envelope]) -> RecordedSession:
    room = Room(id="")
    source, engines, complete, duration_s = "", {}, False, 0.0
    observations: list[Observation] = []
    records: dict[str, Violation] = {}
    for envelope in envelopes:
        body: dict[str, Any] = envelope.body or {}
        room = replace(room, id=envelope.room) if not room.id else room
        duration_s = max(duration_s, envelope.media_s or 0.0)
        if not body:
            continue  # retention removed it
        if envelope.type == "session.started":
            source, engines = body.get("source", ""), dict(body.get("engines", {}))
            room = _room(envelope.room, body)
        elif envelope.type == "observation":
            observations.append(observation_of(body))
        elif envelope.type in ("violation", "violation.updated"):
            records[body["id"]] = Violation.from_json(body)
        elif envelope.type == "session.ended":
            complete = body.get("reason") == "ended"
    return RecordedSession(
        session,
        room,
        source,
        engines,
        tuple(observations),
        tuple(sorted(records.values(), key=lambda record: record.start)),
        duration_s,
        complete,
    )


def _room(room_id: str, body: dict[str, Any]) -> Room:
    texts = {name: str(body.get(name, "")) for name in ("platform", "title", "host", "merchant")}
    return Room(
        id=room_id,
        products=tuple(body.get("products", ())),
        ai_host=bool(body.get("ai_host", False)),
        **texts,
    )
