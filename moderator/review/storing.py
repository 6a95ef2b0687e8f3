"""Evidence that comes from another machine: only what a record names, only with its hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from moderator.errors import INGEST_INVALID, OUT_WRITE, ModeratorError
from moderator.review import audit, evidence, ingest, queue
from moderator.review.database import Database
from moderator.review.events import announce
from moderator.review.models import Broadcast, new_id
from moderator.review.permissions import Principal
from moderator.review.settings import ReviewSettings


@dataclass
class Incoming:
    """A file on its way: `write` pieces, then `keep` it; `close` removes what was not kept."""

    database: Database
    violation_id: str
    broadcast_id: str
    file: evidence.EvidenceFile
    home: Path
    limit_bytes: int
    size: int = 0
    _digest: Any = field(default_factory=hashlib.sha256, repr=False)
    _partial: Path = field(init=False)

    def __post_init__(self) -> None:
        self._partial = self.target.with_name(f".{new_id()}.partial")

    @property
    def target(self) -> Path:
        return self.home / self.file.path

    def write(self, piece: bytes) -> None:
        """Raises LM-502 where the disk refuses."""
        self.size += len(piece)
        self._digest.update(piece)
        try:
            self._partial.parent.mkdir(parents=True, exist_ok=True)
            with self._partial.open("ab") as out:
                out.write(piece)
        except OSError as error:
            reason = error.strerror or error
            raise ModeratorError(OUT_WRITE, path=self.file.path, reason=reason) from None

    def keep(self, who: Principal) -> dict[str, Any]:
        """Put it where the record says. Raises LM-927 where its hash is another."""
        digest = self._digest.hexdigest()
        if digest != self.file.sha256:
            raise ModeratorError(
                INGEST_INVALID, place=self.file.path, reason=f"sha256 {digest} ≠ {self.file.sha256}"
            )
        self._partial.replace(self.target)
        with self.database.write() as db:
            row = queue.get(db, who, self.violation_id)
            broadcast = db.get_one(Broadcast, self.broadcast_id)
            broadcast.folder, broadcast.owned = str(self.home), True
            audit.append(
                db,
                who.actor,
                "evidence.store",
                "violation",
                row.id,
                organisation_id=row.organisation_id,
                detail={"path": self.file.path, "sha256": digest},
            )
            announce(db, "violation.grown", row.id, row.organisation_id, ingest.summary(row))
        return {"path": self.file.path, "sha256": digest, "bytes": self.size}

    def close(self) -> None:
        self._partial.unlink(missing_ok=True)


def open_incoming(
    database: Database, settings: ReviewSettings, who: Principal, violation_id: str, name: str
) -> Incoming:
    """Where a file of the record goes. Raises LM-908, and LM-927 for what no record names."""
    with database.read() as db:
        row = queue.get(db, who, violation_id)
        record = queue.record_of(db, row.id)
        broadcast = db.get_one(Broadcast, row.broadcast_id)
    named = next((file for file in evidence.files_of(record) if file.path == name), None)
    home = Path(broadcast.folder or ingest.home_of(settings.data_dir, broadcast.id))
    # A folder that is not the server's own is read from, never written to.
    foreign = broadcast.folder and not broadcast.owned
    if named is None or not named.sha256 or foreign or not _is_safe(name):
        raise ModeratorError(INGEST_INVALID, place="evidence", reason=ascii(name[:120]))
    limit = settings.evidence_limit_mib << 20
    return Incoming(database, row.id, broadcast.id, named, home, limit)


def _is_safe(name: str) -> bool:
    """A clip or picture, below the broadcast's own folder."""
    path = PurePosixPath(name)
    odd = path.is_absolute() or ".." in path.parts or any(sign in name for sign in "\\\0:")
    kind = evidence.MEDIA_TYPES.get(path.suffix.lower(), "")
    return not odd and kind.startswith(("video/", "audio/", "image/")) and len(name) <= 400
