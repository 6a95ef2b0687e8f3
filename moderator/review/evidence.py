"""Evidence files: found without ever leaving their folder, and every view written down."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from moderator.errors import EVIDENCE_GONE, ModeratorError
from moderator.review import audit
from moderator.review.audit import Actor
from moderator.review.models import AuditEntry, Broadcast, utcnow
from moderator.review.settings import ReviewSettings

Kind = Literal["clip", "frame", "transcript"]

MEDIA_TYPES = {
    ".mp4": "video/mp4",
    ".m4a": "audio/mp4",
    ".mp3": "audio/mpeg",
    ".wav": "audio/wav",
    ".ogg": "audio/ogg",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".flv": "video/x-flv",
    ".mov": "video/quicktime",
    ".ts": "video/mp2t",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".jsonl": "application/x-ndjson",
    ".pdf": "application/pdf",
}
"""What is served under its own type; anything else is bytes to save."""

SAME_VIEW = timedelta(minutes=15)
"""A player asks for many pieces of one clip: within this time that is one view."""


@dataclass(frozen=True, slots=True)
class EvidenceFile:
    """One file that a record names; `path` is as the record writes it."""

    kind: Kind
    path: str
    sha256: str


def files_of(record: Mapping[str, Any]) -> list[EvidenceFile]:
    """What the record names: clip, frames, transcript."""
    evidence = record["evidence"]
    sums: Mapping[str, str] = evidence.get("sha256") or {}
    named: list[tuple[Kind, str]] = []
    if evidence.get("clip"):
        named.append(("clip", evidence["clip"]))
    named += [("frame", path) for path in evidence.get("frames") or ()]
    if evidence.get("transcript"):
        named.append(("transcript", evidence["transcript"]))
    return [EvidenceFile(kind, path, sums.get(path, "")) for kind, path in named]


def open_path(settings: ReviewSettings, broadcast: Broadcast, name: str) -> Path:
    """The file `name` of the broadcast's folder.

    Raises LM-925 alike for what is not there, what lies outside the folder (by `..`, an
    absolute path or a link), and for a folder outside the server's own places.
    """
    gone = ModeratorError(EVIDENCE_GONE, path=name)
    if not broadcast.folder or not name or "\0" in name or "\\" in name:
        raise gone
    home = Path(broadcast.folder)
    try:
        home = home.resolve(strict=True)
        path = (home / name).resolve(strict=True)
        roots = [root.resolve() for root in (settings.data_dir, *settings.evidence_roots)]
    except (OSError, ValueError, RuntimeError):
        raise gone from None
    inside = path.is_relative_to(home) and any(home.is_relative_to(root) for root in roots)
    if not inside or not path.is_file() or path == home:
        raise gone
    return path


def is_there(settings: ReviewSettings, broadcast: Broadcast | None, name: str) -> bool:
    if broadcast is None:
        return False
    try:
        open_path(settings, broadcast, name)
    except ModeratorError:
        return False
    return True


def media_type(path: Path) -> str:
    """A type from our own list: what the file says of itself is never believed."""
    return MEDIA_TYPES.get(path.suffix.lower(), "application/octet-stream")


def extension_of(media: str) -> str:
    return mimetypes.guess_extension(media) or ".bin"


def note_view(
    db: Session,
    actor: Actor,
    object_type: str,
    object_id: str,
    path: str,
    *,
    organisation_id: str | None,
) -> None:
    """Write down that `actor` looked at a file; the pieces of one view are written once."""
    since = (utcnow() - SAME_VIEW).isoformat(timespec="microseconds")
    detail = {"path": path}
    recent = db.scalars(
        select(AuditEntry.detail)
        .where(
            AuditEntry.object_type == object_type,
            AuditEntry.object_id == object_id,
            AuditEntry.action == "evidence.view",
            AuditEntry.actor_id == actor.id,
            AuditEntry.address == actor.address[:64],
            AuditEntry.at >= since,
        )
        .limit(200)
    )
    if audit.canonical(detail) in set(recent):
        return
    audit.append(
        db,
        actor,
        "evidence.view",
        object_type,
        object_id,
        organisation_id=organisation_id,
        detail=detail,
    )


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
