"""Retention: how long things are kept, and the janitor that removes what is over its time."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from moderator.errors import RETENTION_INVALID, ModeratorError
from moderator.holds import Held, held_in
from moderator.records import Disposition
from moderator.sinks.envelope import CUSTODY, CUSTODY_TYPES, RECORD_TYPES, rfc3339
from moderator.sinks.journal import Entry, Journal, append_in, prune_in

log = structlog.get_logger()

THREE_YEARS_DAYS = 1096
"""Three years with a leap day: the least that 直播电商监督管理办法 article 16 asks of platforms for
replays and 互联网广告管理办法 article 13 of advertisers for their files."""

GROUP = 200
"""Records that one transaction removes, so that rooms need not wait long to write."""

TIMES_RUN_OUT = ("violation", "needs_proof", "suspect", "observation", "event")


class RetentionRules(BaseModel):
    """Days that things are kept after they were last told of; null is for ever."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    violation_days: float | None = Field(
        THREE_YEARS_DAYS, ge=0, title="Violations", description="Records with clips and frames."
    )
    needs_proof_days: float | None = Field(
        THREE_YEARS_DAYS, ge=0, title="Claims that need proof", description="The same for those."
    )
    suspect_days: float | None = Field(
        180, ge=0, title="Suspects", description="The same for those."
    )
    observation_days: float | None = Field(
        180, ge=0, title="Observations", description="What was heard and seen."
    )
    event_days: float | None = Field(
        THREE_YEARS_DAYS, ge=0, title="Events", description="States, gaps, alerts and the like."
    )
    every_s: float = Field(
        3600.0, ge=1, title="Interval", description="Seconds between two rounds of the janitor."
    )

    def days(self, kind: str) -> float | None:
        """Of a disposition, `observation` or `event`."""
        found: float | None = getattr(self, f"{kind}_days")
        return found

    def longest(self) -> float | None:
        every = [self.days(kind) for kind in TIMES_RUN_OUT]
        return None if None in every else max(days for days in every if days is not None)


def load_retention(config: Mapping[str, Any], where: str = "retention") -> RetentionRules:
    """The `retention:` of a configuration. Raises LM-810 naming the field."""
    try:
        return RetentionRules.model_validate(dict(config))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ModeratorError(
            RETENTION_INVALID, place=f"{where}.{field}", reason=first["msg"]
        ) from None


@dataclass(frozen=True, slots=True)
class Removal:
    """What one step removed: the body of its `retention.removed` envelope."""

    kind: str
    session: str
    room: str
    record: str | None
    days: float
    seqs: tuple[tuple[int, int], ...]
    files: Mapping[str, str]

    def body(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "session": self.session,
            "room": self.room,
            "violation": self.record,
            "days": self.days,
            "seqs": [list(pair) for pair in self.seqs],
            "files": dict(self.files),
        }


class Janitor:
    """Removes what is over its time and held by nobody, and writes down what it removed.

    Of an envelope the body goes and the hash stays, so the chain still proves that nothing else is
    missing. What is removed is written to the journal first, as `retention.removed` in the session
    `custody`, in one transaction with the removal and under a look at the holds; files go after
    that. A file that also belongs to a record that stays, stays.
    """

    def __init__(self, journal: Journal, out: Path, rules: RetentionRules) -> None:
        self._journal = journal
        self._out = out
        self._rules = rules
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Run now and every `every_s` on a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="janitor", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def run(self, now: datetime | None = None) -> list[Removal]:
        """One round; returns what was removed. Raises LM-803 when the journal cannot be written."""
        now = now or datetime.now(UTC)
        self._finish_earlier()
        removed = [*self._records(now), *self._rest(now), *self._set_aside(now)]
        if removed:
            files = sum(len(one.files) for one in removed)
            log.info("retention.removed", items=len(removed), files=files)
        return removed

    def _run(self) -> None:
        while True:
            try:
                self.run()
            except Exception:
                log.exception("janitor_failed")
            if self._stop.wait(self._rules.every_s):
                return

    def _cutoff(self, kind: str, now: datetime) -> str:
        """The RFC 3339 time before which `kind` is over its time; "" when it never is."""
        days = self._rules.days(kind)
        return "" if days is None else rfc3339(now - timedelta(days=days))

    # --- records and their evidence -------------------------------------------------

    def _records(self, now: datetime) -> Iterator[Removal]:
        due = [
            (record, kind)
            for record, kind, last in self._firmest()
            if last < self._cutoff(kind, now)
        ]
        shared = self._shared_files() if due else frozenset()
        for begin in range(0, len(due), GROUP):
            group = due[begin : begin + GROUP]
            removed = self._journal.write(partial(self._remove_records, group, shared))
            self._unlink(removed)
            yield from removed

    def _shared_files(self) -> frozenset[str]:
        """Files that several envelopes name; looked up here once, and not for each record."""
        rows = self._journal.read(
            "SELECT json_extract(line, '$.body.sha256') FROM events "
            "WHERE type = 'evidence' AND NOT pruned"
        )
        named = Counter(name for (sums,) in rows if sums for name in json.loads(sums))
        return frozenset(name for name, times in named.items() if times > 1)

    def _firmest(self) -> list[tuple[str, str, str]]:
        """Each record that is there: its id, the firmest it ever was, and when it last changed."""
        rows = self._journal.read(
            "SELECT record, json_extract(line, '$.body.disposition'), time FROM events "
            "WHERE record IS NOT NULL AND NOT pruned"
        )
        found: dict[str, tuple[Disposition | None, str]] = {}
        for record, disposition, time in rows:
            firmest, last = found.get(record, (None, ""))
            if disposition in list(Disposition):
                told = Disposition(disposition)
                firmest = told if firmest is None or told.rank > firmest.rank else firmest
            found[record] = (firmest, max(last, time))
        # What does not say how firm it is, is kept like the firmest.
        return [
            (record, str(firmest or Disposition.VIOLATION), last)
            for record, (firmest, last) in found.items()
        ]

    def _remove_records(
        self, due: Sequence[tuple[str, str]], shared: Set[str], connection: sqlite3.Connection
    ) -> list[Removal]:
        held = held_in(connection)
        removed = []
        for record, kind in due:
            rows = connection.execute(
                "SELECT session, room, seq, json_extract(line, '$.body.sha256') FROM events "
                "WHERE record = ? AND NOT pruned ORDER BY seq",
                (record,),
            ).fetchall()
            if not rows or held.record(record, rows[0][0], rows[0][1]):
                continue
            session, room = rows[0][0], rows[0][1]
            seqs = [row[2] for row in rows]
            files = {
                name: digest
                for row in rows
                if row[3]
                for name, digest in json.loads(row[3]).items()
            }
            prune_in(connection, session, seqs)
            # Asked after the pruning: only records that stay can still name the file.
            alone = {
                name: digest
                for name, digest in files.items()
                if name not in shared or not _named_elsewhere(connection, name)
            }
            removal = Removal(
                kind, session, room, record, self._rules.days(kind) or 0.0, _ranges(seqs), alone
            )
            _write_down(connection, removal)
            removed.append(removal)
        return removed

    # --- observations and events ----------------------------------------------------

    def _rest(self, now: datetime) -> Iterator[Removal]:
        kept = ", ".join(f"'{name}'" for name in (*RECORD_TYPES, *CUSTODY_TYPES))
        choices = {
            "observation": "type = 'observation'",
            "event": f"type NOT IN ({kept}, 'observation')",
        }
        for kind, choice in choices.items():
            cutoff = self._cutoff(kind, now)
            for (session,) in self._journal.read(
                f"SELECT DISTINCT session FROM events WHERE {choice} "  # noqa: S608
                "AND time < ? AND NOT pruned AND session != ?",
                (cutoff, CUSTODY),
            ):
                removal = self._journal.write(
                    partial(self._remove_rest, session, kind, choice, cutoff)
                )
                if removal is not None:
                    yield removal

    def _remove_rest(
        self,
        session: str,
        kind: str,
        choice: str,
        cutoff: str,
        connection: sqlite3.Connection,
    ) -> Removal | None:
        (room,) = connection.execute(
            "SELECT room FROM sessions WHERE session = ?", (session,)
        ).fetchone()
        if held_in(connection).session(session, room):
            return None
        seqs = [
            seq
            for (seq,) in connection.execute(
                f"SELECT seq FROM events WHERE session = ? AND {choice} "  # noqa: S608
                "AND time < ? AND NOT pruned ORDER BY seq",
                (session, cutoff),
            )
        ]
        prune_in(connection, session, seqs)
        days = self._rules.days(kind) or 0.0
        removal = Removal(kind, session, room, None, days, _ranges(seqs), {})
        _write_down(connection, removal)
        return removal

    # --- files of lines that were set aside -----------------------------------------

    def _set_aside(self, now: datetime) -> Iterator[Removal]:
        observations, longest = self._rules.observation_days, self._rules.longest()
        for name, days in {
            "transcript": observations,
            "screen": observations,
            "violations": longest,
            "events": longest,
        }.items():
            if days is None:
                continue
            limit = (now - timedelta(days=days)).timestamp()
            for path in sorted(self._out.glob(f"{name}-*.jsonl")):
                if path.stat().st_mtime >= limit:
                    continue
                about = _who_is_in(path)
                removed = self._journal.write(partial(_remove_file, path, about, days))
                if removed is not None:
                    self._unlink([removed])
                    yield removed

    # --- files ----------------------------------------------------------------------

    def _unlink(self, removed: Iterable[Removal]) -> None:
        for removal in removed:
            for name in removal.files:
                path = self._out / name
                # A name comes from the journal; it must not lead anywhere else.
                if path.resolve().is_relative_to(self._out.resolve()):
                    path.unlink(missing_ok=True)

    def _finish_earlier(self) -> None:
        """Files that an earlier round wrote down and was killed before it removed."""
        for envelope in self._journal.session(CUSTODY, types=["retention.removed"]):
            body = envelope.body or {}
            left = {n: d for n, d in body["files"].items() if (self._out / n).is_file()}
            if left:
                self._unlink([Removal("", "", "", None, 0.0, (), left)])


def _named_elsewhere(connection: sqlite3.Connection, name: str) -> bool:
    rows = connection.execute(
        "SELECT line FROM events WHERE type = 'evidence' AND NOT pruned AND instr(line, ?)",
        (json.dumps(name, ensure_ascii=False),),
    )
    return any(name in json.loads(line)["body"].get("sha256", {}) for (line,) in rows)


def _write_down(connection: sqlite3.Connection, removal: Removal) -> None:
    append_in(connection, CUSTODY, "", Entry("retention.removed", removal.body()))


def _ranges(seqs: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Sorted numbers as first and last of each run."""
    runs: list[tuple[int, int]] = []
    for seq in seqs:
        if runs and runs[-1][1] == seq - 1:
            runs[-1] = (runs[-1][0], seq)
        else:
            runs.append((seq, seq))
    return tuple(runs)


@dataclass(frozen=True, slots=True)
class _Lines:
    """Whom a file of lines tells of, and its SHA-256."""

    about: frozenset[tuple[str, str]]
    digest: str


def _who_is_in(path: Path) -> _Lines:
    about = set()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for line in file:
            digest.update(line)
            try:
                document = json.loads(line)
                about.add((str(document["session"]), str(document["room"])))
            except (ValueError, KeyError, TypeError):
                continue
    return _Lines(frozenset(about), digest.hexdigest())


def _remove_file(
    path: Path, lines: _Lines, days: float, connection: sqlite3.Connection
) -> Removal | None:
    held: Held = held_in(connection)
    if any(held.session(session, room) for session, room in lines.about):
        return None
    removal = Removal("file", "", "", None, days, (), {path.name: lines.digest})
    _write_down(connection, removal)
    return removal
