"""The tables. Times are UTC; ids are ULIDs, except `seq` columns, which count arrivals."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from ulid import ULID


def new_id() -> str:
    """A fresh ULID: sortable by the time it was made."""
    return str(ULID())


def utcnow() -> datetime:
    return datetime.now(UTC)


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC time; SQLite keeps it without its zone, PostgreSQL as timestamptz."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        try:
            value = value.astimezone(UTC)
        except OverflowError:
            # The first and the last day of the calendar, in another zone.
            value = (datetime.min if value.year == 1 else datetime.max).replace(tzinfo=UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Json = JSON().with_variant(JSONB(), "postgresql")
JsonOrNull = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
Seq = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite counts by itself only on INTEGER."""

Id = String(26)


class Base(DeclarativeBase):
    pass


# --- people -------------------------------------------------------------------------


class Organisation(Base):
    """A merchant or agency; its people see only rooms that belong to it."""

    __tablename__ = "organisation"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=utcnow)


class User(Base):
    """`organisation_id` None: of the platform, sees every organisation."""

    __tablename__ = "user_account"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    username: Mapped[str] = mapped_column(String(100), unique=True)
    display_name: Mapped[str] = mapped_column(String(200), default="")
    password_hash: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(String(20))
    organisation_id: Mapped[str | None] = mapped_column(ForeignKey("organisation.id"))
    must_change_password: Mapped[bool] = mapped_column(default=True)
    disabled: Mapped[bool] = mapped_column(default=False)
    preferences: Mapped[dict[str, Any]] = mapped_column(Json, default=dict)
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=utcnow)
    last_login_at: Mapped[datetime | None] = mapped_column(UtcTime)


class LoginSession(Base):
    """A browser that is logged in; the cookie's token is kept as its SHA-256 only."""

    __tablename__ = "login_session"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    user_id: Mapped[str] = mapped_column(ForeignKey("user_account.id"), index=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    csrf_token: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=utcnow)
    seen_at: Mapped[datetime] = mapped_column(UtcTime, default=utcnow)
    expires_at: Mapped[datetime] = mapped_column(UtcTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcTime)
    address: Mapped[str] = mapped_column(String(64), default="")
    agent: Mapped[str] = mapped_column(String(300), default="")


class LoginFailure(Base):
    __tablename__ = "login_failure"

    id: Mapped[int] = mapped_column(Seq, primary_key=True, autoincrement=True)
    username: Mapped[str] = mapped_column(String(100))
    address: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime] = mapped_column(UtcTime, default=utcnow)

    __table_args__ = (
        Index("ix_login_failure_name", "username", "at"),
        Index("ix_login_failure_address", "address", "at"),
    )


class ApiToken(Base):
    """A key for programs; `scopes` narrow what its owner's role allows."""

    __tablename__ = "api_token"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    user_id: Mapped[str] = mapped_column(ForeignKey("user_account.id"), index=True)
    name: Mapped[str] = mapped_column(String(100))
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    hint: Mapped[str] = mapped_column(String(12))
    scopes: Mapped[list[str]] = mapped_column(Json)
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=utcnow)
    expires_at: Mapped[datetime | None] = mapped_column(UtcTime)
    used_at: Mapped[datetime | None] = mapped_column(UtcTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcTime)


class SavedFilter(Base):
    __tablename__ = "saved_filter"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    user_id: Mapped[str] = mapped_column(ForeignKey("user_account.id"), index=True)
    name: Mapped[str] = mapped_column(String(100))
    query: Mapped[dict[str, Any]] = mapped_column(Json)
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=utcnow)

    __table_args__ = (UniqueConstraint("user_id", "name"),)


# --- rooms and what was seen in them --------------------------------------------------


class RoomRow(Base):
    """A live room as the wall shows it."""

    __tablename__ = "room"

    id: Mapped[str] = mapped_column(String(100), primary_key=True)
    organisation_id: Mapped[str | None] = mapped_column(ForeignKey("organisation.id"), index=True)
    platform: Mapped[str] = mapped_column(String(100), default="")
    title: Mapped[str] = mapped_column(String(300), default="")
    host: Mapped[str] = mapped_column(String(200), default="")
    merchant: Mapped[str] = mapped_column(String(200), default="")
    products: Mapped[list[str]] = mapped_column(Json, default=list)
    ai_host: Mapped[bool] = mapped_column(default=False)
    source: Mapped[str] = mapped_column(Text, default="")
    state: Mapped[str] = mapped_column(String(20), default="idle")
    state_reason: Mapped[str] = mapped_column(String(300), default="")
    lag_s: Mapped[float | None] = mapped_column(Float)
    last_words: Mapped[str] = mapped_column(Text, default="")
    last_frame: Mapped[str] = mapped_column(Text, default="")
    broadcast_id: Mapped[str | None] = mapped_column(String(64))
    heard_at: Mapped[datetime | None] = mapped_column(UtcTime)
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=utcnow)


class Broadcast(Base):
    """One session of a room. `folder` is where its evidence lies, `media` the recording in it."""

    __tablename__ = "broadcast"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    room_id: Mapped[str] = mapped_column(ForeignKey("room.id"), index=True)
    organisation_id: Mapped[str | None] = mapped_column(ForeignKey("organisation.id"))
    source: Mapped[str] = mapped_column(Text, default="")
    folder: Mapped[str] = mapped_column(Text, default="")
    owned: Mapped[bool] = mapped_column(default=False)
    media: Mapped[str] = mapped_column(Text, default="")
    state: Mapped[str] = mapped_column(String(20), default="ended")
    duration_s: Mapped[float] = mapped_column(Float, default=0.0)
    engines: Mapped[dict[str, Any]] = mapped_column(Json, default=dict)
    notes: Mapped[list[str]] = mapped_column(Json, default=list)
    started_at: Mapped[datetime] = mapped_column(UtcTime, default=utcnow)


class ObservationRow(Base):
    """Speech, screen text, a code, or a gap on the timeline; times in media-clock seconds."""

    __tablename__ = "observation"

    id: Mapped[int] = mapped_column(Seq, primary_key=True, autoincrement=True)
    key: Mapped[str] = mapped_column(String(64))
    broadcast_id: Mapped[str] = mapped_column(ForeignKey("broadcast.id"))
    room_id: Mapped[str] = mapped_column(String(100))
    organisation_id: Mapped[str | None] = mapped_column(String(26))
    channel: Mapped[str] = mapped_column(String(10))
    start: Mapped[float] = mapped_column("start_s", Float)
    end: Mapped[float] = mapped_column("end_s", Float)
    text: Mapped[str] = mapped_column(Text)
    body: Mapped[dict[str, Any]] = mapped_column(Json)

    __table_args__ = (
        UniqueConstraint("broadcast_id", "key"),
        Index("ix_observation_time", "broadcast_id", "start_s"),
    )


class ViolationRow(Base):
    """What the queue lists and filters by; the whole record is in `ViolationRecord`."""

    __tablename__ = "violation"

    seq: Mapped[int] = mapped_column(Seq, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    broadcast_id: Mapped[str] = mapped_column(ForeignKey("broadcast.id"), index=True)
    room_id: Mapped[str] = mapped_column(String(100))
    organisation_id: Mapped[str | None] = mapped_column(String(26))
    host: Mapped[str] = mapped_column(String(200), default="")
    merchant: Mapped[str] = mapped_column(String(200), default="")
    rule_id: Mapped[str] = mapped_column(String(200))
    rule_title: Mapped[str] = mapped_column(String(300), default="")
    category: Mapped[str] = mapped_column(String(50))
    disposition: Mapped[str] = mapped_column(String(20))
    severity: Mapped[str] = mapped_column(String(10))
    confidence: Mapped[float] = mapped_column(Float)
    risk: Mapped[float] = mapped_column(Float)
    channel: Mapped[str] = mapped_column(String(10))
    start: Mapped[float] = mapped_column("start_s", Float)
    end: Mapped[float] = mapped_column("end_s", Float)
    quote: Mapped[str] = mapped_column(Text)
    product: Mapped[str | None] = mapped_column(String(200))
    occurrences: Mapped[int] = mapped_column(Integer, default=1)
    latency_ms: Mapped[float | None] = mapped_column(Float)
    at: Mapped[datetime] = mapped_column(UtcTime)
    arrived_at: Mapped[datetime] = mapped_column(UtcTime, default=utcnow)

    status: Mapped[str] = mapped_column(String(20), default="open")
    version: Mapped[int] = mapped_column(Integer, default=1)
    assignee_id: Mapped[str | None] = mapped_column(String(26))
    claimed_by: Mapped[str | None] = mapped_column(String(26))
    claimed_until: Mapped[datetime | None] = mapped_column(UtcTime)
    decided_at: Mapped[datetime | None] = mapped_column(UtcTime)
    exported_at: Mapped[datetime | None] = mapped_column(UtcTime)
    held: Mapped[bool] = mapped_column(default=False)

    __table_args__ = (
        Index("ix_violation_queue", "status", "risk", "seq"),
        Index("ix_violation_risk", "risk", "seq"),
        Index("ix_violation_at", "at", "seq"),
        Index("ix_violation_organisation", "organisation_id", "status", "risk", "seq"),
        Index("ix_violation_room", "room_id", "at"),
        Index("ix_violation_rule", "rule_id", "status"),
        Index("ix_violation_host", "host", "at"),
        Index("ix_violation_assignee", "assignee_id", "status"),
    )


class ViolationRecord(Base):
    """The record as it was emitted, `moderator/violation@1`; it only grows with its episode."""

    __tablename__ = "violation_record"

    violation_id: Mapped[str] = mapped_column(ForeignKey("violation.id"), primary_key=True)
    body: Mapped[dict[str, Any]] = mapped_column(Json)


class SealedEnvelope(Base):
    """What a live session's journal said of a violation, as it was sealed there: a line of
    canonical JSON whose hash links it to the session's other envelopes (`moderator/event@1`)."""

    __tablename__ = "sealed_envelope"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    violation_id: Mapped[str] = mapped_column(ForeignKey("violation.id"), index=True)
    seq: Mapped[int] = mapped_column(Integer)
    line: Mapped[str] = mapped_column(Text)


# --- what people decide ---------------------------------------------------------------


class Decision(Base):
    """`status_before` is what undo goes back to; `stage` 2 is the second pair of eyes."""

    __tablename__ = "decision"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    violation_id: Mapped[str] = mapped_column(ForeignKey("violation.id"), index=True)
    user_id: Mapped[str | None] = mapped_column(String(26), index=True)
    user_name: Mapped[str] = mapped_column(String(200), default="")
    action: Mapped[str] = mapped_column(String(20))
    reason: Mapped[str] = mapped_column(String(50), default="")
    comment: Mapped[str] = mapped_column(Text, default="")
    stage: Mapped[int] = mapped_column(Integer, default=1)
    status_before: Mapped[str] = mapped_column(String(20))
    status_after: Mapped[str] = mapped_column(String(20))
    at: Mapped[datetime] = mapped_column(UtcTime, default=utcnow, index=True)
    undone_at: Mapped[datetime | None] = mapped_column(UtcTime)


class Note(Base):
    __tablename__ = "note"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    violation_id: Mapped[str] = mapped_column(ForeignKey("violation.id"), index=True)
    user_id: Mapped[str] = mapped_column(String(26))
    user_name: Mapped[str] = mapped_column(String(200), default="")
    text: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(UtcTime, default=utcnow)


class Appeal(Base):
    """What the merchant says to a decision. States: invited, submitted, accepted, rejected,
    revoked."""

    __tablename__ = "appeal"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    violation_id: Mapped[str] = mapped_column(ForeignKey("violation.id"), index=True)
    state: Mapped[str] = mapped_column(String(20), default="invited")
    invited_by: Mapped[str] = mapped_column(String(26))
    invited_at: Mapped[datetime] = mapped_column(UtcTime, default=utcnow)
    expires_at: Mapped[datetime] = mapped_column(UtcTime)
    name: Mapped[str] = mapped_column(String(200), default="")
    contact: Mapped[str] = mapped_column(String(200), default="")
    text: Mapped[str] = mapped_column(Text, default="")
    submitted_at: Mapped[datetime | None] = mapped_column(UtcTime)
    answer: Mapped[str] = mapped_column(Text, default="")
    answered_by: Mapped[str | None] = mapped_column(String(26))
    answered_at: Mapped[datetime | None] = mapped_column(UtcTime)


class AppealDocument(Base):
    __tablename__ = "appeal_document"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    appeal_id: Mapped[str] = mapped_column(ForeignKey("appeal.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    media_type: Mapped[str] = mapped_column(String(100))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime] = mapped_column(UtcTime, default=utcnow)


class Export(Base):
    """A case bundle or a report that somebody took away."""

    __tablename__ = "export"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    violation_id: Mapped[str] = mapped_column(ForeignKey("violation.id"), index=True)
    user_id: Mapped[str] = mapped_column(String(26))
    user_name: Mapped[str] = mapped_column(String(200), default="")
    kind: Mapped[str] = mapped_column(String(10))
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[datetime] = mapped_column(UtcTime, default=utcnow)


# --- pre-check ------------------------------------------------------------------------


class PassportRow(Base):
    """A product passport that people can pick; `organisation_id` None: for everybody."""

    __tablename__ = "passport"

    id: Mapped[str] = mapped_column(String(100), primary_key=True)
    organisation_id: Mapped[str | None] = mapped_column(ForeignKey("organisation.id"), index=True)
    name: Mapped[str] = mapped_column(String(200), default="")
    category: Mapped[str] = mapped_column(String(50), default="other")
    body: Mapped[dict[str, Any]] = mapped_column(Json)
    changed_at: Mapped[datetime] = mapped_column(UtcTime, default=utcnow)


class Job(Base):
    """An upload to check. States: uploading, queued, running, done, failed, cancelled."""

    __tablename__ = "job"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    user_id: Mapped[str] = mapped_column(ForeignKey("user_account.id"), index=True)
    organisation_id: Mapped[str | None] = mapped_column(String(26))
    name: Mapped[str] = mapped_column(String(200))
    room_id: Mapped[str] = mapped_column(String(100), default="")
    products: Mapped[list[str]] = mapped_column(Json, default=list)
    state: Mapped[str] = mapped_column(String(20), default="uploading", index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    received_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    done_s: Mapped[float] = mapped_column(Float, default=0.0)
    total_s: Mapped[float] = mapped_column(Float, default=0.0)
    error: Mapped[dict[str, Any] | None] = mapped_column(JsonOrNull)
    summary: Mapped[dict[str, Any] | None] = mapped_column(JsonOrNull)
    broadcast_id: Mapped[str | None] = mapped_column(String(64))
    worker: Mapped[str] = mapped_column(String(64), default="")
    beat_at: Mapped[datetime | None] = mapped_column(UtcTime)
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=utcnow)
    finished_at: Mapped[datetime | None] = mapped_column(UtcTime)


# --- the machine's own ----------------------------------------------------------------


class AuditEntry(Base):
    """One link of the chain: `hash` is over everything else in it, `prev` included."""

    __tablename__ = "audit_entry"

    seq: Mapped[int] = mapped_column(Seq, primary_key=True, autoincrement=False)
    at: Mapped[str] = mapped_column(String(40))
    actor_id: Mapped[str] = mapped_column(String(64), index=True)
    actor: Mapped[str] = mapped_column(String(200))
    action: Mapped[str] = mapped_column(String(50), index=True)
    object_type: Mapped[str] = mapped_column(String(30))
    object_id: Mapped[str] = mapped_column(String(100))
    organisation_id: Mapped[str | None] = mapped_column(String(26), index=True)
    detail: Mapped[str] = mapped_column(Text)
    address: Mapped[str] = mapped_column(String(64), default="")
    prev: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))

    __table_args__ = (Index("ix_audit_object", "object_type", "object_id"),)


class Change(Base):
    """What open consoles are told: a violation arrived or changed, a room changed."""

    __tablename__ = "change"

    id: Mapped[int] = mapped_column(Seq, primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(UtcTime, default=utcnow, index=True)
    kind: Mapped[str] = mapped_column(String(30))
    object_id: Mapped[str] = mapped_column(String(100))
    organisation_id: Mapped[str | None] = mapped_column(String(26))
    body: Mapped[dict[str, Any]] = mapped_column(Json, default=dict)


class IdempotentCall(Base):
    """The answer to a call with an Idempotency-Key; `status` 0 while it runs."""

    __tablename__ = "idempotent_call"

    user_id: Mapped[str] = mapped_column(String(26), primary_key=True)
    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    status: Mapped[int] = mapped_column(Integer, default=0)
    body: Mapped[str] = mapped_column(Text, default="")
    at: Mapped[datetime] = mapped_column(UtcTime, default=utcnow, index=True)


class Setting(Base):
    """What is made once and kept, such as the key that signs appeal links."""

    __tablename__ = "setting"

    key: Mapped[str] = mapped_column(String(50), primary_key=True)
    value: Mapped[str] = mapped_column(Text)
