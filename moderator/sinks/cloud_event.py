"""Envelopes as CloudEvents 1.0, for webhooks and Kafka."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import quote

from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from moderator.sinks.envelope import Envelope

CONTENT_TYPE = "application/cloudevents+json"


def cloud_event(envelope: Envelope) -> CloudEvent:
    """`id` is the envelope's and so never changes; `data` is the whole envelope, so that a
    receiver holds the hashes of the chain too.

    `type` is `moderator.<type>`; an alert's is its event, such as `moderator.room.warn`. The
    extensions `partitionkey` (the room), `sequence` (within the session) and `idempotencykey`
    are strings as the CloudEvents specification asks.
    """
    type = envelope.type
    if type == "alert" and envelope.body and isinstance(envelope.body.get("event"), str):
        type = envelope.body["event"]
    room, session = quote(envelope.room or "-", safe=""), quote(envelope.session, safe="")
    attributes: dict[str, Any] = {
        "specversion": "1.0",
        "id": envelope.id,
        "source": f"/rooms/{room}/sessions/{session}",
        "type": f"moderator.{type}",
        "time": datetime.fromisoformat(envelope.time),
        "datacontenttype": "application/json",
        "subject": envelope.key,
        "sequence": str(envelope.seq),
        "idempotencykey": envelope.key,
    }
    if envelope.room:
        attributes["partitionkey"] = envelope.room
    return CloudEvent(attributes, envelope.to_json())


def structured(envelope: Envelope) -> bytes:
    """The event in CloudEvents' structured JSON form."""
    return JSONFormat().write(cloud_event(envelope))
