"""The journal: what a session says is durable here before anyone else hears of it."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from moderator.errors import (
    JOURNAL_DAMAGED,
    JOURNAL_IN_USE,
    MISSING_FILE,
    ModeratorError,
    in_ui_language,
)
from moderator.sinks.envelope import GENESIS, Envelope, clean, parse_line, seal
from moderator.sinks.journal_writer import JournalWriter

Result = TypeVar("Result")

FILE_NAME = "journal.sqlite3"
"""What the journal of an output folder is called."""

APPLICATION_ID = 0x4C4D4A31
"""Marks the SQLite file as ours ("LMJ1")."""

VERSION = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be said; the journal gives it its number, id and hash."""

    type: str
    body: dict[str, Any]
    key: str | None = None
    media_s: float | None = None


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One session in the journal. `next_seq` envelopes were ever written; `head` is the hash of
    the last; `resume_s` is the last checkpoint (media-clock seconds), None before the first."""

    session: str
    room: str
    started: str
    next_seq: int
    head: str
    resume_s: float | None
    ended: bool


class Journal:
    """One SQLite file in WAL mode that several threads append to and several sinks read.

    An append is on disk when it returns: with `sync="full"` it survives a power cut, with
    `"normal"` only the end of the process (`kill -9`), and costs no fsync. Appends that wait at
    the same time share one transaction. Order within a session is the order of the calls.

    Every method may be called from any thread. Other processes may read the file, place holds and
    run the janitor meanwhile; only one may own it (`owner=True`) and deliver from it.
    """

    def __init__(
        self, path: Path, sync: Literal["full", "normal"], owner: bool, patience_s: float
    ) -> None:
        self.path = path
        self._lock_file = _own(path) if owner else None
        try:
            self._reader = _connect(path, sync)
            _create(self._reader, path)
        except sqlite3.Error as error:
            self._unlock()
            raise ModeratorError(JOURNAL_DAMAGED, path=path, reason=error) from None
        except BaseException:
            self._unlock()
            raise
        self._reading = threading.Lock()
        self._writer = JournalWriter(lambda: _connect(path, sync), patience_s=patience_s)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        sync: Literal["full", "normal"] = "full",
        owner: bool = False,
        patience_s: float = 30.0,
    ) -> Journal:
        """Open or create the journal at `path`.

        `patience_s` is how long an append waits for a full disk or a foreign lock to pass before
        it fails. Raises LM-801 (not a journal), LM-802 (owned by another process).
        """
        return cls(Path(path), sync, owner, patience_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- writing --------------------------------------------------------------------

    def append(
        self,
        session: str,
        room: str,
        type: str,
        body: dict[str, Any],
        *,
        key: str | None = None,
        media_s: float | None = None,
        checkpoint_s: float | None = None,
    ) -> Envelope:
        """Say one thing; durable when this returns.

        A `key` that the session already used returns the envelope that is there: the same thing is
        never told under two ids. `checkpoint_s` is written in the same transaction. Raises LM-803
        when it cannot be written, TypeError when `body` is not JSON.
        """
        entry = Entry(type, body, key, media_s)
        return self.append_many(session, room, [entry], checkpoint_s=checkpoint_s)[0]

    def append_many(
        self,
        session: str,
        room: str,
        entries: Sequence[Entry],
        *,
        checkpoint_s: float | None = None,
    ) -> list[Envelope]:
        """Say several things in one transaction: all are durable when this returns, or none."""
        # Cleaned here, so that a body which is no JSON fails its caller before the transaction.
        cleaned = [
            Entry(entry.type, clean(entry.body), entry.key, entry.media_s) for entry in entries
        ]

        def work(connection: sqlite3.Connection) -> list[Envelope]:
            said = [append_in(connection, session, room, entry) for entry in cleaned]
            if checkpoint_s is not None:
                _checkpoint_in(connection, session, checkpoint_s)
            return said

        return self._writer.do(work)

    def checkpoint(self, session: str, media_s: float) -> None:
        """Everything of the session before `media_s` is in the journal. Never moves back."""
        self._writer.do(lambda connection: _checkpoint_in(connection, session, media_s))

    def write(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run `work` in a transaction of the writer; durable when this returns."""
        return self._writer.do(work)

    # --- reading --------------------------------------------------------------------

    def after(
        self, seq_global: int, limit: int, *, types: Collection[str] | None = None
    ) -> list[tuple[int, Envelope]]:
        """Up to `limit` envelopes behind `seq_global` in the order of writing, with their place.

        Places count over all sessions, from 1, with holes. `types` leaves out all others.
        """
        wanted = "" if types is None else f"AND type IN ({','.join('?' * len(types))})"
        rows = self.read(
            f"SELECT n, line FROM events WHERE n > ? {wanted} ORDER BY n LIMIT ?",  # noqa: S608
            (seq_global, *sorted(types or ()), limit),
        )
        return [(n, parse_line(line)) for n, line in rows]

    def last(self) -> int:
        """The place of the newest envelope; 0 when there is none."""
        return int(self.read("SELECT coalesce(max(n), 0) FROM events")[0][0])

    def session(self, session: str, *, types: Collection[str] | None = None) -> Iterator[Envelope]:
        """The envelopes of one session in order, read as they are needed."""
        wanted = "" if types is None else f"AND type IN ({','.join('?' * len(types))})"
        seq = -1
        while True:
            rows = self.read(
                f"SELECT seq, line FROM events WHERE session = ? AND seq > ? {wanted} "  # noqa: S608
                "ORDER BY seq LIMIT 500",
                (session, seq, *sorted(types or ())),
            )
            if not rows:
                return
            for _, line in rows:
                yield parse_line(line)
            seq = rows[-1][0]

    def resume_point(self, session: str) -> float | None:
        """The media-clock second of the last checkpoint; None when there is none."""
        rows = self.read("SELECT resume_s FROM sessions WHERE session = ?", (session,))
        return rows[0][0] if rows else None

    def sessions(self, room: str | None = None) -> list[SessionInfo]:
        """All sessions, oldest first; those of `room` alone when it is given."""
        rows = self.read(
            "SELECT session, room, started, next_seq, head, resume_s, ended FROM sessions "
            "WHERE ? IS NULL OR room = ? ORDER BY started, session",
            (room, room),
        )
        return [
            SessionInfo(session, room, started, next_seq, head, resume_s, bool(ended))
            for session, room, started, next_seq, head, resume_s, ended in rows
        ]

    def read(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        """Rows of a query. Raises LM-801 when the file is damaged."""
        with self._reading:
            try:
                return self._reader.execute(query, values).fetchall()
            except sqlite3.ProgrammingError:
                raise
            except sqlite3.Error as error:
                raise ModeratorError(JOURNAL_DAMAGED, path=self.path, reason=error) from None

    # --- cursors of sinks -----------------------------------------------------------

    def cursor(self, sink: str) -> int | None:
        """The place up to which `sink` has been served; None when it never was."""
        rows = self.read("SELECT n FROM cursors WHERE sink = ?", (sink,))
        return rows[0][0] if rows else None

    def move_cursor(self, sink: str, n: int, *, delivered: int = 0, dead: int = 0) -> None:
        """Remember that `sink` was served up to `n`, and count what became of it."""
        self._writer.do(
            lambda connection: (
                connection.execute(
                    "INSERT INTO cursors (sink, n, delivered, dead) VALUES (?, ?, ?, ?) "
                    "ON CONFLICT (sink) DO UPDATE SET n = max(n, excluded.n), "
                    "delivered = delivered + excluded.delivered, dead = dead + excluded.dead",
                    (sink, n, delivered, dead),
                )
                and None
            )
        )

    def cursors(self) -> dict[str, tuple[int, int, int]]:
        """Each sink's place, and how many envelopes were delivered and given up."""
        rows = self.read("SELECT sink, n, delivered, dead FROM cursors ORDER BY sink")
        return {sink: (n, delivered, dead) for sink, n, delivered, dead in rows}

    # --- state ----------------------------------------------------------------------

    def wait(self, seen: int, timeout_s: float) -> int:
        """Wait until something was written since `seen` (a former result); returns the new one."""
        with self._writer.changed:
            self._writer.changed.wait_for(lambda: self._writer.commits != seen, timeout_s)
            return self._writer.commits

    def wake(self) -> None:
        """Let everyone who waits look again."""
        with self._writer.changed:
            self._writer.commits += 1
            self._writer.changed.notify_all()

    @property
    def trouble(self) -> str | None:
        """Why nothing can be written at the moment; None while all is well."""
        return self._writer.trouble

    def close(self) -> None:
        """Write what was handed in, then let go of the file."""
        self._writer.close()
        with self._reading:
            self._reader.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None


def append_in(connection: sqlite3.Connection, session: str, room: str, entry: Entry) -> Envelope:
    """Append inside a transaction of `Journal.write`; `entry.body` must be `clean`."""
    if entry.key is not None:
        found = connection.execute(
            "SELECT line FROM events WHERE session = ? AND key = ?", (session, clean(entry.key))
        ).fetchone()
        if found:
            return parse_line(found[0])
    # Read again in each transaction: another process may have appended to the same session.
    row = connection.execute(
        "SELECT next_seq, head FROM sessions WHERE session = ?", (session,)
    ).fetchone()
    seq, head = row or (0, GENESIS)
    envelope = seal(
        session=session,
        room=room,
        seq=seq,
        type=entry.type,
        body=entry.body,
        prev=head,
        key=entry.key,
        media_s=entry.media_s,
    )
    connection.execute(
        "INSERT INTO events (session, seq, room, type, key, id, time, record, line) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(session, seq, room, envelope.type, envelope.key, envelope.id, envelope.time),
            envelope.record,
            envelope.line(),
        ),
    )
    connection.execute(
        "INSERT INTO sessions (session, room, started, next_seq, head, ended) "
        "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (session) DO UPDATE SET room = excluded.room, "
        "next_seq = excluded.next_seq, head = excluded.head, ended = ended OR excluded.ended",
        (session, room, envelope.time, seq + 1, envelope.hash, entry.type == "session.ended"),
    )
    return envelope


def prune_in(connection: sqlite3.Connection, session: str, seqs: Sequence[int]) -> None:
    """Remove the bodies of envelopes; their hashes stay and link the chain."""
    for seq in seqs:
        (line,) = connection.execute(
            "SELECT line FROM events WHERE session = ? AND seq = ?", (session, seq)
        ).fetchone()
        connection.execute(
            "UPDATE events SET line = ?, pruned = 1 WHERE session = ? AND seq = ?",
            (replace(parse_line(line), body=None).line(), session, seq),
        )


def _checkpoint_in(connection: sqlite3.Connection, session: str, media_s: float) -> None:
    if not math.isfinite(media_s):
        raise ValueError(f"a checkpoint at {media_s}")
    connection.execute(
        "INSERT INTO sessions (session, room, started, next_seq, head, ended, resume_s) "
        "VALUES (?, '', strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), 0, ?, 0, ?) "
        "ON CONFLICT (session) DO UPDATE SET "
        "resume_s = max(coalesce(resume_s, excluded.resume_s), excluded.resume_s)",
        (session, GENESIS, media_s),
    )


# --- the file -----------------------------------------------------------------------

_TABLES = """
CREATE TABLE IF NOT EXISTS events (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    session TEXT NOT NULL,
    seq INTEGER NOT NULL,
    room TEXT NOT NULL,
    type TEXT NOT NULL,
    key TEXT NOT NULL,
    id TEXT NOT NULL UNIQUE,
    time TEXT NOT NULL,
    line TEXT NOT NULL,
    record TEXT,
    pruned INTEGER NOT NULL DEFAULT 0,
    UNIQUE (session, seq),
    UNIQUE (session, key)
);
CREATE INDEX IF NOT EXISTS events_by_type ON events (type, n);
CREATE INDEX IF NOT EXISTS events_by_record ON events (record) WHERE record IS NOT NULL;
CREATE TABLE IF NOT EXISTS sessions (
    session TEXT PRIMARY KEY,
    room TEXT NOT NULL,
    started TEXT NOT NULL,
    next_seq INTEGER NOT NULL,
    head TEXT NOT NULL,
    resume_s REAL,
    ended INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS cursors (
    sink TEXT PRIMARY KEY,
    n INTEGER NOT NULL,
    delivered INTEGER NOT NULL DEFAULT 0,
    dead INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS holds (
    id TEXT PRIMARY KEY,
    scope TEXT NOT NULL,
    target TEXT NOT NULL,
    reason TEXT NOT NULL,
    placed_by TEXT NOT NULL,
    placed TEXT NOT NULL
);
"""


def _connect(path: Path, sync: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=2.0, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # In WAL mode FULL is what syncs the log at every commit; NORMAL only at its checkpoints.
        connection.execute(f"PRAGMA synchronous = {'FULL' if sync == 'full' else 'NORMAL'}")
    except BaseException:
        connection.close()
        raise
    return connection


def journal_at(path: Path) -> Path:
    """The journal of an output folder, or `path` itself when it is a file. Raises LM-101."""
    found = path / FILE_NAME if path.is_dir() else path
    if not found.is_file():
        raise ModeratorError(MISSING_FILE, path=found)
    return found


def _create(connection: sqlite3.Connection, path: Path) -> None:
    try:
        (ours,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if (tables and ours != APPLICATION_ID) or version > VERSION:
            raise ModeratorError(JOURNAL_DAMAGED, path=path, reason=_foreign(version))
        if not tables:
            connection.executescript(
                f"BEGIN IMMEDIATE; {_TABLES} PRAGMA application_id = {APPLICATION_ID}; "
                f"PRAGMA user_version = {VERSION}; COMMIT;"
            )
    except BaseException:
        connection.close()
        raise


def _foreign(version: int) -> str:
    if version > VERSION:
        return in_ui_language(
            f"its version {version} is newer than this program", f"版本 {version} 比本程序新"
        )
    return in_ui_language("a database of another program", "这是其他程序的数据库")


def _own(path: Path) -> int:
    """Lock the journal for this process; the system lets go when the process ends, however."""
    file = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise ModeratorError(JOURNAL_IN_USE, path=path) from None
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(file)
        raise
    return file
