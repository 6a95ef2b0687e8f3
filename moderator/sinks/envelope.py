"""The envelope: everything a session says, numbered, dated and chained to what it said before."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ulid import ULID

SCHEMA = "moderator/event@1"

GENESIS = "0" * 64
"""`prev` of the first envelope of a session."""

SESSION_TYPES = (
    "session.started",
    "session.state",
    "session.gap",
    "observation",
    "violation",
    "violation.updated",
    "evidence",
    "alert",
    "degraded",
    "rules.reloaded",
    "session.ended",
)
"""What a room's session says."""

RECORD_TYPES = ("violation", "violation.updated", "evidence")
"""What makes up a record and its evidence."""

CUSTODY_TYPES = ("hold.added", "hold.removed", "retention.removed")
"""What happened to the records later: legal holds, and what was removed when its time was up."""

EVENT_TYPES = (*SESSION_TYPES, *CUSTODY_TYPES)

CUSTODY = "custody"
"""The session that envelopes of `CUSTODY_TYPES` belong to; its room is empty."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """One thing a session said.

    `id` is a ULID and never changes; `key` says what the envelope is about, so that the same thing
    said twice is one envelope. `seq` counts from 0 within the session. `time` is wall clock, RFC
    3339 with milliseconds, UTC; `media_s` is the media-clock second, None where there is none.
    `hash` is the hex SHA-256 of the canonical JSON of all other fields, and `prev` the `hash` of
    the envelope before it in the session. `body` is None once retention removed it.
    """

    id: str
    key: str
    session: str
    room: str
    seq: int
    type: str
    time: str
    media_s: float | None
    body: dict[str, Any] | None
    prev: str
    hash: str

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "id": self.id,
            "key": self.key,
            "session": self.session,
            "room": self.room,
            "seq": self.seq,
            "type": self.type,
            "time": self.time,
            "media_s": self.media_s,
            "body": self.body,
            "prev": self.prev,
            "hash": self.hash,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Envelope:
        """The inverse of `to_json`. Raises ValueError on a foreign document."""
        fields = dict(document)
        if fields.pop("schema", None) != SCHEMA:
            raise ValueError(f"not a {SCHEMA} envelope")
        if set(fields) != _FIELDS:
            raise ValueError(f"fields differ: {', '.join(sorted(set(fields) ^ _FIELDS))}")
        if not all(isinstance(fields[name], str) for name in _TEXTS):
            raise ValueError("a field that holds text does not")
        if type(fields["seq"]) is not int or not isinstance(fields["body"], dict | None):
            raise ValueError("seq or body is of another type")
        return cls(**fields)

    def line(self) -> str:
        """The envelope as one line of canonical JSON, without the line break."""
        return canonical(self.to_json())

    def expected_hash(self) -> str:
        """What `hash` is when nothing was changed."""
        fields = self.to_json()
        del fields["hash"]
        return hashlib.sha256(canonical(fields).encode()).hexdigest()

    @property
    def record(self) -> str | None:
        """The id of the violation that this is or tells more of; None for anything else."""
        if self.body is None or self.type not in RECORD_TYPES:
            return None
        found = self.body.get("violation", self.body.get("id"))
        return found if isinstance(found, str) else None

    @property
    def pruned(self) -> bool:
        """Whether retention removed the body; `hash` still links the chain."""
        return self.body is None


_FIELDS = frozenset(Envelope.__dataclass_fields__)
_TEXTS = ("id", "key", "session", "room", "type", "time", "prev", "hash")


def parse_line(line: str | bytes) -> Envelope:
    """The envelope in a line of JSON. Raises ValueError, also where a name stands twice: readers
    differ in which of the two they take."""
    document = json.loads(line, object_pairs_hook=_named_once)
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    return Envelope.from_json(document)


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return document


def seal(
    *,
    session: str,
    room: str,
    seq: int,
    type: str,
    body: dict[str, Any],
    prev: str,
    key: str | None = None,
    media_s: float | None = None,
    time: datetime | None = None,
) -> Envelope:
    """Make the envelope that follows the one whose hash is `prev`. `body` must be `clean`."""
    id = str(ULID())
    unsealed = Envelope(
        id=id,
        key=id if key is None else clean(key),
        session=session,
        room=room,
        seq=seq,
        type=type,
        time=rfc3339(time or datetime.now(UTC)),
        media_s=clean(media_s),
        body=body,
        prev=prev,
        hash="",
    )
    fields = {name: getattr(unsealed, name) for name in _FIELDS}
    return Envelope(**{**fields, "hash": unsealed.expected_hash()})


def rfc3339(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def canonical(value: Any) -> str:
    """JSON as hashed: sorted keys, no spaces, UTF-8 characters as they are.

    For values that are `clean` this is RFC 8785 (JSON Canonicalization Scheme), so that any
    language can recompute a hash: numbers with at most four decimals print the same everywhere.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


def clean(value: Any) -> Any:
    """`value` in the JSON that an envelope can carry; a record is never lost for its form.

    Floats keep four decimals (a tenth of a millisecond), whole ones become integers, and what is
    not a finite number becomes None. Half characters (lone surrogates) become U+FFFD. Raises
    TypeError for what is no JSON type.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        rounded = round(value, 4)
        whole = rounded.is_integer() and abs(rounded) <= 2**53
        return int(rounded) if whole else rounded
    if isinstance(value, str):
        # str(): enumerations of strings are strings, and JSON must not depend on their repr.
        text = str(value)
        return text if text.isascii() else _HALF_CHARACTER.sub("\ufffd", text)
    if isinstance(value, Mapping):
        return {clean(str(name)): clean(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [clean(item) for item in value]
    raise TypeError(f"{type(value).__name__} is not a JSON type")
