"""A database through SQLAlchemy: every envelope, and the records in columns to search by."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.exc import ArgumentError, DataError, IntegrityError, NoSuchModuleError

from moderator.errors import SINK_CONFIG, SINK_PACKAGE, ModeratorError, in_ui_language
from moderator.sinks.config import SinkOptions, SinkPlace, read_options, secret
from moderator.sinks.envelope import (
    EVENT_TYPES,
    RECORD_TYPES,
    Envelope,
    canonical,
    parse_line,
)
from moderator.sinks.sink import Rejected, Unavailable

tables = sa.MetaData()

# MySQL makes no index over text of unbounded length, so what is indexed has a bound.
events = sa.Table(
    "moderator_events",
    tables,
    sa.Column("id", sa.String(26), primary_key=True),
    sa.Column("event_key", sa.Text, nullable=False),
    sa.Column("session", sa.String(100), nullable=False),
    sa.Column("room", sa.String(100), nullable=False),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("type", sa.String(40), nullable=False),
    sa.Column("time", sa.String(32), nullable=False),
    sa.Column("line", sa.Text, nullable=False, comment="the envelope as hashed: canonical JSON"),
    sa.UniqueConstraint("session", "seq", name="moderator_events_place"),
    sa.Index("moderator_events_by_type", "type", "time"),
)

violations = sa.Table(
    "moderator_violations",
    tables,
    sa.Column("id", sa.String(26), primary_key=True),
    sa.Column("session", sa.String(100), nullable=False),
    sa.Column("room", sa.String(100), nullable=False),
    sa.Column("rule", sa.String(200), nullable=False),
    sa.Column("category", sa.String(40), nullable=False),
    sa.Column("disposition", sa.String(20), nullable=False),
    sa.Column("severity", sa.String(20), nullable=False),
    sa.Column("confidence", sa.Float, nullable=False),
    sa.Column("start_s", sa.Float, nullable=False),
    sa.Column("end_s", sa.Float, nullable=False),
    sa.Column("wall_time", sa.String(40), nullable=False),
    sa.Column("quote", sa.Text, nullable=False),
    sa.Column("record", sa.Text, nullable=False, comment="the record, JSON"),
    sa.Column("seq", sa.Integer, nullable=False, comment="of the envelope that last changed it"),
    sa.Index("moderator_violations_by_room", "room", "wall_time"),
)


class DatabaseOptions(SinkOptions):
    url: str = Field(
        "", repr=False, title="URL", description="SQLAlchemy's form, such as sqlite:///records.db."
    )
    url_env: str = Field("", title="URL variable", description="Environment variable with the URL.")


class DatabaseSink:
    """Writes a batch in one transaction. What is there already is left or updated, never doubled.

    `moderator_events` holds every envelope; `moderator_violations` one row a record, changed by
    `violation.updated` and `evidence`. Tables are made where they are missing.
    """

    batch_size = 200

    def __init__(self, name: str, types: frozenset[str], url: sa.URL) -> None:
        self.name = name
        self.types = types
        self._engine = sa.create_engine(url, pool_pre_ping=True, hide_parameters=True)
        self._ready = False

    def send(self, batch: Sequence[Envelope]) -> None:
        with _as_sink_errors(), self._engine.begin() as connection:
            if not self._ready:
                tables.create_all(connection)
            new = _insert_new(connection, batch)
            # In order: an update of a record may be in the batch that brings the record.
            for envelope in new:
                _apply(connection, envelope)
        self._ready = True

    def close(self) -> None:
        self._engine.dispose()


def make(*, place: SinkPlace, options: Mapping[str, Any]) -> DatabaseSink:
    known = read_options(DatabaseOptions, options, place.where)
    if bool(known.url) == bool(known.url_env):
        reason = in_ui_language("give either url or url_env", "请给出 url 或 url_env 之一")
        raise ModeratorError(SINK_CONFIG, place=f"{place.where}.url", reason=reason)
    text = known.url or secret(known.url_env, f"{place.where}.url_env")
    types = frozenset(EVENT_TYPES) if place.types is None else place.types
    try:
        return DatabaseSink(place.name, types, database_url(text))
    except (ArgumentError, NoSuchModuleError):
        reason = in_ui_language("not a database URL", "不是合法的数据库地址")
        raise ModeratorError(SINK_CONFIG, place=f"{place.where}.url", reason=reason) from None
    except ImportError as error:
        raise ModeratorError(
            SINK_PACKAGE,
            place=f"{place.where}.url",
            package=error.name or str(error),
            install="live-stream-moderator[postgres]",
        ) from None


def database_url(text: str) -> sa.URL:
    """`postgresql://` means psycopg 3, the driver that our extra brings. Raises ArgumentError."""
    url = sa.make_url(text)
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def stored_lines(url: sa.URL) -> Iterator[str]:
    """The envelopes of a database in order of sessions, as lines of JSON."""
    engine = sa.create_engine(url, hide_parameters=True)
    try:
        with engine.connect().execution_options(yield_per=500) as connection:
            if sa.inspect(connection).has_table(events.name):
                query = sa.select(events.c.line).order_by(events.c.session, events.c.seq)
                yield from connection.execute(query).scalars()
    finally:
        engine.dispose()


def record_faults(url: sa.URL) -> Iterator[tuple[str, str]]:
    """Records in `moderator_violations` that the envelopes beside them do not give."""
    engine = sa.create_engine(url, hide_parameters=True)
    records: dict[str, dict[str, Any]] = {}
    last: dict[str, Envelope] = {}
    try:
        with engine.connect() as connection:
            told = sa.select(events.c.line).where(events.c.type.in_(RECORD_TYPES))
            for line in connection.execute(told.order_by(events.c.session, events.c.seq)).scalars():
                try:
                    envelope = parse_line(line)
                except (ValueError, TypeError):
                    continue
                id = envelope.record or ""
                if envelope.type == "violation" and envelope.body:
                    records[id] = envelope.body
                elif id in records:
                    records[id] = merged(records[id], envelope)
                else:
                    continue
                last[id] = envelope
            for row in connection.execute(sa.select(violations)).mappings():
                record = records.pop(row["id"], None)
                if record is None:
                    yield row["id"], in_ui_language("no envelope tells of it", "没有对应的记录")
                elif dict(row) != {"id": row["id"], **_columns(last[row["id"]], record)}:
                    yield row["id"], in_ui_language("the record was changed", "记录被改动")
            for id in records:
                yield id, in_ui_language("the record was taken out", "记录被删去")
    finally:
        engine.dispose()


def _insert_new(connection: sa.Connection, batch: Sequence[Envelope]) -> list[Envelope]:
    ids = [envelope.id for envelope in batch]
    there = set(connection.execute(sa.select(events.c.id).where(events.c.id.in_(ids))).scalars())
    new = [envelope for envelope in batch if envelope.id not in there]
    if new:
        connection.execute(
            events.insert(),
            [
                {
                    "id": envelope.id,
                    "event_key": envelope.key,
                    "session": envelope.session,
                    "room": envelope.room,
                    "seq": envelope.seq,
                    "type": envelope.type,
                    "time": envelope.time,
                    "line": envelope.line(),
                }
                for envelope in new
            ],
        )
    return new


def _apply(connection: sa.Connection, envelope: Envelope) -> None:
    body = envelope.body
    if body is None:
        return
    if envelope.type == "violation":
        row = {"id": body["id"], **_columns(envelope, body)}
        connection.execute(violations.delete().where(violations.c.id == body["id"]))
        connection.execute(violations.insert(), [row])
    elif envelope.type in RECORD_TYPES:
        mine = violations.c.id == envelope.record
        text = connection.execute(sa.select(violations.c.record).where(mine)).scalar()
        if text is None:
            return
        record = merged(json.loads(text), envelope)
        connection.execute(violations.update().where(mine).values(_columns(envelope, record)))


def merged(record: Mapping[str, Any], envelope: Envelope) -> dict[str, Any]:
    """`record` after what a later envelope says of it."""
    body = envelope.body or {}
    if envelope.type == "evidence":
        kept = {name: body[name] for name in ("clip", "frames", "sha256") if name in body}
        return {**record, "evidence": {**record.get("evidence", {}), **kept}}
    # An update of the words knows nothing of the evidence that came meanwhile.
    changed = {n: value for n, value in body.items() if n in record and n not in {"id", "evidence"}}
    return {**record, **changed}


def _columns(envelope: Envelope, record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "session": envelope.session,
        "room": envelope.room,
        "rule": record["rule"]["id"],
        "category": record["category"],
        "disposition": record["disposition"],
        "severity": record["severity"],
        "confidence": record["confidence"],
        "start_s": record["start"],
        "end_s": record["end"],
        "wall_time": record["wall_time"],
        # PostgreSQL stores no NUL in text; the record beside it has it escaped.
        "quote": record["quote"].replace("\0", "\ufffd"),
        "record": canonical(record),
        "seq": envelope.seq,
    }


@contextmanager
def _as_sink_errors() -> Iterator[None]:
    try:
        yield
    except (IntegrityError, DataError, KeyError, TypeError) as error:
        raise Rejected(_reason(error)) from None
    except sa.exc.SQLAlchemyError as error:
        raise Unavailable(_reason(error)) from None


def _reason(error: Exception) -> str:
    """The driver's first line; SQLAlchemy's own text repeats statements."""
    cause = getattr(error, "orig", None) or error
    return f"{type(cause).__name__}: {(str(cause).splitlines() or [''])[0][:200]}"
