"""The audit log: who saw or decided what, each entry holding the hash of the one before.

Entries are only ever appended; triggers in the database refuse anything else. Whoever
rewrites the tables in spite of that breaks the chain, and `verify` names the first break.
An entry cut off the end leaves a chain that is sound but shorter: compare its head with
one written down elsewhere (every case bundle carries the head of its moment).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from moderator.review.models import AuditEntry, utcnow

GENESIS = "0" * 64

_APPEND_LOCK = 0x6C6D6175
"""Key of PostgreSQL's advisory lock: two appends at once would fork the chain."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something, and from which address."""

    id: str
    name: str
    address: str = ""


SYSTEM = Actor("system", "system")


@dataclass(frozen=True, slots=True)
class Verification:
    """`first_bad` is the sequence number of the first entry that does not hold, with `reason`."""

    sound: bool
    entries: int
    head: str
    first_bad: int | None = None
    reason: str = ""


def append(
    db: Session,
    actor: Actor,
    action: str,
    object_type: str,
    object_id: str,
    *,
    organisation_id: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> AuditEntry:
    """Append one entry inside the caller's writing transaction: both are kept, or neither."""
    if db.get_bind().dialect.name == "postgresql":
        db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _APPEND_LOCK})
    # Entries of this very transaction count too.
    db.flush()
    last = db.execute(
        select(AuditEntry.seq, AuditEntry.hash).order_by(AuditEntry.seq.desc()).limit(1)
    ).first()
    entry = AuditEntry(
        seq=last.seq + 1 if last else 1,
        at=utcnow().isoformat(timespec="microseconds"),
        actor_id=actor.id,
        actor=actor.name[:200],
        action=action,
        object_type=object_type,
        object_id=object_id[:100],
        organisation_id=organisation_id,
        detail=canonical(detail or {}),
        address=actor.address[:64],
        prev=last.hash if last else GENESIS,
        hash="",
    )
    entry.hash = entry_hash(entry)
    db.add(entry)
    db.flush()
    return entry


def verify(db: Session, *, head: tuple[int, str] | None = None) -> Verification:
    """Walk the whole chain. With `head`, also that entry `head[0]` has the hash `head[1]`."""
    prev, count = GENESIS, 0
    entries = db.scalars(
        select(AuditEntry).order_by(AuditEntry.seq).execution_options(yield_per=1000)
    )
    for entry in entries:
        count += 1
        problem = ""
        if entry.seq != count:
            problem = f"entry {count} is missing"
        elif entry.prev != prev:
            problem = "it does not follow from the entry before"
        elif entry.hash != entry_hash(entry):
            problem = "its content was changed"
        elif head is not None and head[0] == entry.seq and head[1] != entry.hash:
            problem = "it is not the entry that was written down"
        if problem:
            return Verification(False, count, prev, min(entry.seq, count), problem)
        prev = entry.hash
        db.expunge(entry)
    if head is not None and head[0] > count:
        return Verification(False, count, prev, count + 1, "entries are missing at the end")
    return Verification(True, count, prev)


def entry_json(entry: AuditEntry) -> dict[str, Any]:
    """The entry as people and programs read it; `entry_hash` can be recomputed from it."""
    return {**_hashed(entry), "detail": json.loads(entry.detail), "hash": entry.hash}


def entry_hash(entry: AuditEntry) -> str:
    """SHA-256 of the canonical JSON of everything but the hash."""
    return hash_of({**_hashed(entry), "detail": json.loads(entry.detail)})


def hash_of(body: Mapping[str, Any]) -> str:
    """SHA-256 of canonical JSON: sorted keys, no spaces, UTF-8."""
    return hashlib.sha256(canonical(body).encode()).hexdigest()


def _hashed(entry: AuditEntry) -> dict[str, Any]:
    return {
        "seq": entry.seq,
        "at": entry.at,
        "actor_id": entry.actor_id,
        "actor": entry.actor,
        "action": entry.action,
        "object_type": entry.object_type,
        "object_id": entry.object_id,
        "organisation_id": entry.organisation_id,
        "detail": entry.detail,
        "address": entry.address,
        "prev": entry.prev,
    }


def canonical(body: Mapping[str, Any]) -> str:
    """JSON with sorted keys and no spaces: the same content is the same text."""
    return json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
