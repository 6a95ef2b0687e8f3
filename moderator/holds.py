"""Legal holds: what a court, an authority or a dispute asks to be kept is never removed."""

from __future__ import annotations

import getpass
import sqlite3
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

from ulid import ULID

from moderator.errors import HOLD_UNKNOWN, ModeratorError, in_ui_language
from moderator.sinks.envelope import CUSTODY, rfc3339
from moderator.sinks.journal import Entry, Journal, append_in

Scope = Literal["violation", "session", "room"]


@dataclass(frozen=True, slots=True)
class Hold:
    """`target` is kept whole: a record with its evidence and its session's transcript, a session,
    or everything of a room."""

    id: str
    scope: Scope
    target: str
    reason: str
    placed_by: str
    placed: str


@dataclass(frozen=True, slots=True)
class Held:
    """What holds cover, to be asked about one thing at a time."""

    rooms: frozenset[str]
    sessions: frozenset[str]
    records: frozenset[str]
    sessions_of_records: frozenset[str]

    def record(self, record: str, session: str, room: str) -> bool:
        return record in self.records or session in self.sessions or room in self.rooms

    def session(self, session: str, room: str) -> bool:
        """Whether what was said in the session is kept, be it for one record of it."""
        return session in self.sessions or session in self.sessions_of_records or room in self.rooms


def add_hold(journal: Journal, scope: Scope, target: str, reason: str, by: str = "") -> Hold:
    """Place a hold; in force when this returns. Raises LM-811 when there is no such target."""
    hold = Hold(str(ULID()), scope, target, reason, by or _who(), rfc3339(datetime.now(UTC)))

    def work(connection: sqlite3.Connection) -> None:
        if not connection.execute(_EXISTS[scope], (target,)).fetchone():
            what = in_ui_language(
                f"no {scope} '{target}' in {journal.path}, or it was removed already",
                f"{journal.path} 中没有 {scope} '{target}'，或已被清理",
            )
            raise ModeratorError(HOLD_UNKNOWN, what=what)
        connection.execute(
            "INSERT INTO holds (id, scope, target, reason, placed_by, placed) "
            "VALUES (:id, :scope, :target, :reason, :placed_by, :placed)",
            asdict(hold),
        )
        append_in(connection, CUSTODY, "", Entry("hold.added", asdict(hold), f"hold/{hold.id}"))

    journal.write(work)
    return hold


def remove_hold(journal: Journal, id: str, reason: str, by: str = "") -> None:
    """Lift a hold; what it kept goes when its time is up. Raises LM-811."""

    def work(connection: sqlite3.Connection) -> None:
        if not connection.execute("DELETE FROM holds WHERE id = ?", (id,)).rowcount:
            what = in_ui_language(f"no hold '{id}'", f"没有编号为 '{id}' 的保全")
            raise ModeratorError(HOLD_UNKNOWN, what=what)
        body = {"id": id, "reason": reason, "lifted_by": by or _who()}
        append_in(connection, CUSTODY, "", Entry("hold.removed", body, f"hold/{id}/removed"))

    journal.write(work)


def list_holds(journal: Journal) -> list[Hold]:
    """The holds in force, oldest first."""
    rows = journal.read(
        "SELECT id, scope, target, reason, placed_by, placed FROM holds ORDER BY placed, id"
    )
    return [Hold(*row) for row in rows]


def held_in(connection: sqlite3.Connection) -> Held:
    """What is held, as seen by this transaction."""
    targets: dict[str, set[str]] = {"violation": set(), "session": set(), "room": set()}
    for scope, target in connection.execute("SELECT scope, target FROM holds"):
        targets[scope].add(target)
    sessions = connection.execute(
        "SELECT DISTINCT session FROM events WHERE record IN "
        "(SELECT target FROM holds WHERE scope = 'violation')"
    )
    return Held(
        rooms=frozenset(targets["room"]),
        sessions=frozenset(targets["session"]),
        records=frozenset(targets["violation"]),
        sessions_of_records=frozenset(session for (session,) in sessions),
    )


_EXISTS = {
    "violation": "SELECT 1 FROM events WHERE record = ? AND type = 'violation' AND NOT pruned",
    "session": "SELECT 1 FROM events WHERE session = ? AND NOT pruned LIMIT 1",
    "room": "SELECT 1 FROM sessions WHERE room = ? AND room != '' LIMIT 1",
}


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
