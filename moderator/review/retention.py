"""Removing what need not be kept any longer: records, transcripts, files, uploads.

How long depends on what was decided; a legal hold keeps a violation and its broadcast
for good. The audit log is never shortened; it says what was removed.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import and_, delete, or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from moderator.errors import ModeratorError
from moderator.review import audit, evidence, jobs, search
from moderator.review.appeals import document_path
from moderator.review.audit import SYSTEM, Actor
from moderator.review.database import Database
from moderator.review.events import KEEP_CHANGES
from moderator.review.exporting import path_of
from moderator.review.models import (
    Appeal,
    AppealDocument,
    Broadcast,
    Change,
    Decision,
    Export,
    IdempotentCall,
    Job,
    LoginFailure,
    LoginSession,
    Note,
    ObservationRow,
    SealedEnvelope,
    ViolationRecord,
    ViolationRow,
    utcnow,
)
from moderator.review.settings import ReviewSettings

log = structlog.get_logger("moderator.review.retention")

BATCH = 200


@dataclass
class Removed:
    """What was removed, or would be; `held` is what a legal hold kept."""

    dry_run: bool
    violations: int = 0
    observations: int = 0
    files: int = 0
    uploads: int = 0
    held: int = 0
    _paths: list[Path] = field(default_factory=list, repr=False)


def run(
    database: Database,
    settings: ReviewSettings,
    *,
    dry_run: bool = False,
    actor: Actor = SYSTEM,
    now: datetime | None = None,
) -> Removed:
    """Remove what is due, a batch at a time; with `dry_run` only count it."""
    now = now or utcnow()
    removed = Removed(dry_run)
    with database.read() as db:
        due = _due(settings, now)
        removed.held = len(db.scalars(select(ViolationRow.id).where(due, _held())).all())
        chosen = list(db.scalars(select(ViolationRow.id).where(due, ~_held())))
    if dry_run:
        removed.violations = len(chosen)
        with database.read() as db:
            removed.observations = len(db.scalars(_old_observations(settings, now)).all())
            removed.uploads = len(_old_jobs(db, settings, now))
        return removed
    for at in range(0, len(chosen), BATCH):
        batch = chosen[at : at + BATCH]
        with database.write() as db:
            _remove_violations(db, settings, batch, removed)
            detail = {"kind": "violations", "ids": batch}
            audit.append(db, actor, "retention.remove", "retention", "violations", detail=detail)
        _unlink(removed)
    _remove_transcripts(database, settings, now, actor, removed)
    _remove_uploads(database, settings, now, removed)
    _sweep(database, now)
    return removed


def _due(settings: ReviewSettings, now: datetime) -> Any:
    def older(days: int) -> datetime:
        return now - timedelta(days=days)

    return or_(
        and_(
            ViolationRow.status.in_(("confirmed", "needs_proof", "appealed")),
            ViolationRow.at < older(settings.keep_confirmed_days),
        ),
        and_(
            ViolationRow.status == "dismissed",
            ViolationRow.at < older(settings.keep_dismissed_days),
        ),
        and_(
            ViolationRow.status.in_(("open", "second_review", "escalated")),
            ViolationRow.at < older(settings.keep_undecided_days),
        ),
    )


def _held() -> Any:
    return ViolationRow.held.is_(True)


def _remove_violations(
    db: Session, settings: ReviewSettings, ids: Sequence[str], removed: Removed
) -> None:
    rows = db.scalars(select(ViolationRow).where(ViolationRow.id.in_(ids))).all()
    for row in rows:
        record = db.get(ViolationRecord, row.id)
        broadcast = db.get(Broadcast, row.broadcast_id)
        if record is not None and broadcast is not None and broadcast.owned:
            removed._paths += _own_files(db, settings, row, record.body, broadcast, set(ids))
    appeals = list(db.scalars(select(Appeal.id).where(Appeal.violation_id.in_(ids))))
    documents = db.scalars(select(AppealDocument).where(AppealDocument.appeal_id.in_(appeals)))
    removed._paths += [document_path(settings, document) for document in documents]
    exports = db.scalars(select(Export).where(Export.violation_id.in_(ids)))
    removed._paths += [path_of(settings, made) for made in exports]
    db.execute(delete(AppealDocument).where(AppealDocument.appeal_id.in_(appeals)))
    for table in (Appeal, Decision, Note, Export, SealedEnvelope, ViolationRecord):
        db.execute(delete(table).where(table.violation_id.in_(ids)))
    search.remove(db, search.VIOLATIONS, [row.seq for row in rows])
    db.execute(delete(ViolationRow).where(ViolationRow.id.in_(ids)))
    removed.violations += len(rows)


def _own_files(
    db: Session,
    settings: ReviewSettings,
    row: ViolationRow,
    record: dict[str, object],
    broadcast: Broadcast,
    going: set[str],
) -> Iterable[Path]:
    """The clips and frames that no remaining record names: one clip may serve several."""
    others = db.execute(
        select(ViolationRow.id, ViolationRecord.body)
        .join(ViolationRecord, ViolationRecord.violation_id == ViolationRow.id)
        .where(ViolationRow.broadcast_id == row.broadcast_id)
    )
    kept = {
        file.path
        for violation_id, body in others
        if violation_id not in going
        for file in evidence.files_of(body)
    }
    for file in evidence.files_of(record):
        if file.kind == "transcript" or file.path in kept:
            continue
        try:
            yield evidence.open_path(settings, broadcast, file.path)
        except ModeratorError:
            continue


def _old_observations(settings: ReviewSettings, now: datetime) -> Any:
    held = select(ViolationRow.broadcast_id).where(_held())
    old = select(Broadcast.id).where(
        Broadcast.started_at < now - timedelta(days=settings.keep_transcript_days),
        Broadcast.id.not_in(held),
    )
    return select(ObservationRow.id).where(ObservationRow.broadcast_id.in_(old))


def _remove_transcripts(
    database: Database, settings: ReviewSettings, now: datetime, actor: Actor, removed: Removed
) -> None:
    while True:
        with database.write() as db:
            ids = list(db.scalars(_old_observations(settings, now).limit(5000)))
            if not ids:
                break
            search.remove(db, search.OBSERVATIONS, ids)
            db.execute(delete(ObservationRow).where(ObservationRow.id.in_(ids)))
            removed.observations += len(ids)
            detail = {"kind": "observations", "count": len(ids)}
            audit.append(db, actor, "retention.remove", "retention", "transcripts", detail=detail)
    with database.write() as db:
        held = select(ViolationRow.broadcast_id).where(_held())
        old = db.scalars(
            select(Broadcast).where(
                Broadcast.started_at < now - timedelta(days=settings.keep_transcript_days),
                Broadcast.id.not_in(held),
                Broadcast.owned.is_(True),
                Broadcast.folder != "",
            )
        )
        for broadcast in old:
            for name in (broadcast.media, "transcript.jsonl", "screen.jsonl"):
                if name and evidence.is_there(settings, broadcast, name):
                    removed._paths.append(evidence.open_path(settings, broadcast, name))
            broadcast.media = ""
    _unlink(removed)


def _old_jobs(db: Session, settings: ReviewSettings, now: datetime) -> Sequence[Job]:
    """Uploads that nobody needs: checked, given up, or never finished."""
    return db.scalars(
        select(Job).where(
            Job.created_at < now - timedelta(days=settings.keep_upload_days),
            Job.state != "running",
        )
    ).all()


def _remove_uploads(
    database: Database, settings: ReviewSettings, now: datetime, removed: Removed
) -> None:
    with database.write() as db:
        for job in _old_jobs(db, settings, now):
            jobs.remove_files(settings, job)
            db.delete(job)
            removed.uploads += 1


def _sweep(database: Database, now: datetime) -> None:
    """What the machine keeps for itself, and no longer needs."""
    with database.write() as db:
        db.execute(delete(Change).where(Change.at < now - KEEP_CHANGES))
        db.execute(delete(IdempotentCall).where(IdempotentCall.at < now - timedelta(days=1)))
        db.execute(delete(LoginFailure).where(LoginFailure.at < now - timedelta(days=1)))
        db.execute(delete(LoginSession).where(LoginSession.expires_at < now - timedelta(days=30)))


def _unlink(removed: Removed) -> None:
    """Files go after the rows: a row without its file is worse than a file without its row."""
    for path in removed._paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.is_file():
            path.unlink(missing_ok=True)
            removed.files += 1
    removed._paths.clear()


class Janitor:
    """Runs it now and then, on a thread of its own."""

    def __init__(self, database: Database, settings: ReviewSettings) -> None:
        self._database = database
        self._settings = settings
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="retention", daemon=True)

    def start(self) -> None:
        if self._settings.retention_hours > 0:
            self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def _work(self) -> None:
        # Not at once: a server that was only started by mistake removes nothing.
        wait_s = 300.0
        while not self._stopped.wait(wait_s):
            try:
                removed = run(self._database, self._settings)
                log.info("retention", violations=removed.violations, files=removed.files)
            except SQLAlchemyError as error:
                log.warning("retention failed", reason=type(error).__name__)
            wait_s = self._settings.retention_hours * 3600
