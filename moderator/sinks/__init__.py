"""Where records go: into the journal first, from there to every sink, none lost, none twice.

RoomSession ── Journal (SQLite, hash-chained) ──┬─ Delivery ── jsonl
                                                ├─ Delivery ── webhook
                                                └─ …, a thread a sink, each with its own cursor
"""

from __future__ import annotations

from moderator.sinks.envelope import CUSTODY, EVENT_TYPES, SESSION_TYPES, Envelope
from moderator.sinks.journal import Entry, Journal, SessionInfo

__all__ = ["CUSTODY", "EVENT_TYPES", "SESSION_TYPES", "Entry", "Envelope", "Journal", "SessionInfo"]
